"""Cost of every lens on one checkpoint of the study's size, against the 500 steps before it.

Claim: embedding persistence, all Fourier measures, TwoNN on 2,000 states and persistence of every
hidden layer on 256 states take less than 10 % of the time of 500 training steps of the same run.
Command: python -m experiments.benchmarks.checkpoint [--prime P] [--output FILE]; on 2 cores two
minutes.
Expected: 3 to 6 %, half of it the Fourier measures.

Wall time on all cores, through the tables' own code (``measure`` of each diagnostic on a run view,
states and logits included), warm. Steps and lenses take turns within each repeat, so that a busy
machine slows them alike: read the ratios rather than the times. The network is the study's
transformer (or MLP) after a few hundred steps. Persistence of its hidden layers is dearest then: it
has no structure yet.
"""

import os
import statistics
import time
from typing import Any

from experiments.benchmarks import batches, environment
from grokjax import diagnostics
from grokjax.diagnostics import Options
from grokjax.measuring import views
from grokjax.settings.config import TrainConfig

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "redzed-tda")
STEPS, REQUIRED_SHARE = 500, 0.10


def measure(kind: str, prime: int, repeats: int) -> dict[str, Any]:
    """Medians of the milliseconds of a step and of each lens, and of the share of 500 steps."""
    (run,) = batches.runs(kind, prime, 1)
    batch = batches.Batch(kind, prime, 1, batches.steps_a_turn())
    options = Options(
        diagnostics=("persistence", "fourier", "dimension"),
        clouds=("all",),
        cloud_points=256,
        ph_threads=os.cpu_count() or 1,
    )
    steps: list[float] = []
    lenses: dict[str, list[float]] = {name: [] for name in options.diagnostics}
    for repeat in range(repeats + 1):  # the first compiles
        steps.append(batch.seconds() / batch.n_steps)
        view = views.view(run, batch.params(), repeat, TrainConfig(), options)
        for name, seconds in lenses.items():
            begun = time.perf_counter()
            diagnostics.get(name).measure([view], options)
            seconds.append(time.perf_counter() - begun)
    shares = [
        sum(parts) / (STEPS * step)
        for step, *parts in zip(steps[1:], *(s[1:] for s in lenses.values()), strict=True)
    ]
    return {
        "model": kind,
        "prime": prime,
        "step_milliseconds": 1e3 * statistics.median(steps[1:]),
        "milliseconds": {name: 1e3 * statistics.median(s[1:]) for name, s in lenses.items()},
        "share_of_steps": statistics.median(shares),
    }


def main() -> None:
    """Measure, print the shares, and append a JSON line where asked."""
    parser = environment.parser(__doc__, repeats=7)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--prime", type=int, default=113)
    options = parser.parse_args()

    results = []
    for kind in options.models:
        result = measure(kind, options.prime, options.repeats)
        results.append(result)
        print(f"{kind}, p = {options.prime}, a step takes {result['step_milliseconds']:.1f} ms")
        for name, milliseconds in result["milliseconds"].items():
            print(f"  {name:12} {milliseconds:8.1f} ms")
        share = result["share_of_steps"]
        verdict = "PASS" if share < REQUIRED_SHARE else "above"
        print(
            f"  {verdict}: all together {share:.1%} of {STEPS} steps (required: below "
            f"{REQUIRED_SHARE:.0%})",
            flush=True,
        )
    environment.append(options.output, PACKAGES, benchmark="checkpoint", results=results)


if __name__ == "__main__":
    main()
