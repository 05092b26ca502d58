"""Cost of all Fourier measures of one checkpoint, against the training steps between two.

Claim: at p = 113 they take less than 5 % of the time of 500 training steps of the same run.
Command: python -m experiments.benchmarks.fourier [--step_ms MS] [--output FILE]; two minutes.
Expected: about 3 %, two thirds of it the forward pass over all p² pairs; a little more early in
training, when nearly every frequency is key and each is restricted and excluded alone. At
p = 197, where there are three times as many pairs, about 10 %.

Wall time on all cores, warm, of the paper's transformer and split (α = 0.3). Steps and measures
take turns within each repeat, so that a busy machine slows them alike: read the ratios rather than
the times. ``--step_ms`` puts a step's time measured elsewhere, as on an accelerator, in place.

"early" measures the network after a few steps; "generalised" measures closed-form neurons and
logits with six key frequencies and noise. Both include the forward pass over all p² pairs.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.benchmarks import environment
from experiments.benchmarks.batches import Batch
from grokjax.diagnostics import Options, fourier
from grokjax.measuring import views
from grokjax.settings.config import TrainConfig

STEPS = 500
REQUIRED_PRIME, REQUIRED_SHARE = 113, 0.05
TIMED_STEPS = 25
N_KEYS = 6
PACKAGES = ("jax", "jaxlib", "numpy")


class Checkpoint(NamedTuple):
    """What the measures are taken of."""

    neurons: NDArray[np.float32]  # (p², w)
    logits: NDArray[np.float32]  # (p², p)
    labels: NDArray[np.int32]  # (p²,)
    train_mask: NDArray[np.bool_]  # (p²,)
    embedding: NDArray[np.float32]  # (p, d)
    head_rows: Mapping[str, Any]  # name → (p, h, d_head)


def early(batch: Batch) -> Checkpoint:
    """The network as it is."""
    view = views.view(batch.runs[0], batch.params(), 0, TrainConfig(), Options())
    return Checkpoint(
        view.neurons(),
        view.logits(),
        view.labels,
        view.train_mask,
        view.embedding,
        view.head_rows(),
    )


def generalised(checkpoint: Checkpoint, rng: np.random.Generator) -> Checkpoint:
    """The same with neurons and logits on six frequencies, and noise."""
    p, width = checkpoint.logits.shape[1], checkpoint.neurons.shape[1]
    keys = rng.choice(np.arange(1, p // 2 + 1), N_KEYS, replace=False)
    a, b = np.divmod(np.arange(p * p), p)
    w = 2 * np.pi * np.resize(keys, width) / p
    phi, psi = rng.uniform(0, 2 * np.pi, (2, width))
    neurons = np.maximum(np.cos(np.outer(a, w) + phi) + np.cos(np.outer(b, w) + psi), 0)
    angles = 2 * np.pi * (((a + b)[:, None] - np.arange(p)) % p) / p
    logits = sum(5 * np.cos(k * angles) for k in keys) + rng.normal(size=checkpoint.logits.shape)
    return checkpoint._replace(neurons=neurons.astype(np.float32), logits=logits.astype(np.float32))


def measures(
    checkpoint: Checkpoint, forward: Callable[[], object]
) -> tuple[dict[str, float], tuple[int, ...]]:
    """Wall seconds of each measure, and the key frequencies."""
    seconds: dict[str, float] = {}

    def timed(name: str, compute: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = compute()
        seconds[name] = time.perf_counter() - start
        return result

    timed("forward pass", forward)
    keys = timed("key frequencies", lambda: fourier.key_frequencies(checkpoint.neurons))
    logits = (checkpoint.logits, checkpoint.labels, checkpoint.train_mask, keys)
    timed("restricted, excluded", lambda: fourier.restricted_and_excluded(*logits))
    timed("one by one", lambda: fourier.restricted_and_excluded(*logits, each=True))

    def spectra() -> None:
        for rows in (checkpoint.embedding, *checkpoint.head_rows.values()):
            fourier.spectrum(rows)
        fourier.concentration(fourier.spectrum(checkpoint.embedding))
        fourier.circularity(checkpoint.embedding)

    timed("spectra, circularity", spectra)
    return seconds, keys


def measure(prime: int, repeats: int, step_ms: float | None) -> dict[str, Any]:
    """Medians of times, and of the share of 500 steps in each repeat."""
    batch = Batch("transformer", prime, 1, TIMED_STEPS)
    params = batch.params()
    now = early(batch)
    states = {"early": now, "generalised": generalised(now, np.random.default_rng(prime))}
    steps_ms: list[float] = []
    times: dict[str, list[dict[str, float]]] = {name: [] for name in states}
    n_keys = {}
    for _ in range(repeats):
        steps_ms.append(1e3 * batch.seconds() / TIMED_STEPS)
        for name, checkpoint in states.items():
            seconds, keys = measures(
                checkpoint, views.view(batch.runs[0], params, 0, TrainConfig(), Options()).logits
            )
            times[name].append(seconds)
            n_keys[name] = len(keys)
    result: dict[str, Any] = {"prime": prime, "step_ms": step_ms or statistics.median(steps_ms)}
    for name, repeated in times.items():
        steps = [step_ms] * repeats if step_ms else steps_ms
        shares = [
            1e3 * sum(seconds.values()) / (STEPS * step)
            for seconds, step in zip(repeated, steps, strict=True)
        ]
        result[name] = {
            "n_key_frequencies": n_keys[name],
            "milliseconds": {
                part: 1e3 * statistics.median(seconds[part] for seconds in repeated)
                for part in repeated[0]
            },
            "share_of_steps": statistics.median(shares),
        }
    return result


def main() -> None:
    """Measure, print the shares, and append a JSON line where asked."""
    parser = environment.parser(__doc__, repeats=5)
    parser.add_argument("--primes", type=int, nargs="+", default=[REQUIRED_PRIME, 197])
    parser.add_argument("--step_ms", type=float, help="time of a training step measured elsewhere")
    options = parser.parse_args()

    results = []
    for prime in options.primes:
        result = measure(prime, options.repeats, options.step_ms)
        results.append(result)
        print(f"p = {prime}, a step takes {result['step_ms']:.1f} ms")
        for name in ("early", "generalised"):
            state = result[name]
            print(f"  {name}, {state['n_key_frequencies']} key frequencies")
            for part, milliseconds in state["milliseconds"].items():
                print(f"    {part:22} {milliseconds:8.1f} ms")
            share = state["share_of_steps"]
            verdict = "PASS" if share < REQUIRED_SHARE else "above"
            required = f" ({verdict}; required: below {REQUIRED_SHARE:.0%})"
            print(
                f"    all: {share:.1%} of {STEPS} steps"
                + (required if prime == REQUIRED_PRIME else ""),
                flush=True,
            )
    environment.append(options.output, PACKAGES, benchmark="fourier", results=results)


if __name__ == "__main__":
    main()
