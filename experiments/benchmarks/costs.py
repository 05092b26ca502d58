"""Cost of each lens, against the 500 steps before a checkpoint.

Claim: at p = 113 each takes less than 2 % of the time of 500 training steps of the same run, on
average over checkpoints, but those whose help says that they cost more (``MORE``).
Command: python -m experiments.benchmarks.costs [--models transformer mlp] [--prime P] [--repeats N]
[--output FILE]; on 2 quiet cores five minutes, most of it ablation and
sharpness.
Expected: below 1 % for persistence, ranks, participation, crocker, landscapes and clock_pizza, 2 to
4 % for fourier, dimension, weights and coordinates. Found: as expected, but clock_pizza 2 %, and
homology_dimension, which was thought to be below 2 %, 4 to 6 %.

Wall time on all cores, through the tables' own code (``measure`` of each with its default options,
on a view of its own, so that each pays for the states, logits and gradients that it needs), warm.
Steps and lenses take turns within each repeat, so that a busy machine slows them alike: read the
ratios rather than the times. A lens whose first call takes more than ten seconds is not called
again: that call counts, with what it compiled. A lens that measures every k-th checkpoint counts a
k-th. The network is the study's after a few hundred steps.
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

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "gudhi", "redzed-tda")
STEPS, REQUIRED_SHARE = 500, 0.02
LONG = 10.0  # seconds of a call that is not repeated
# What --help says costs more, at --diagnostics or where the lens's own checkpoints are chosen.
MORE = ("fourier", "dimension", "coordinates", "weights", "clock_pizza", "homology_dimension",
        "ablation", "holes", "sharpness", "surrogates")  # fmt: skip
CHECKPOINTS = range(0, 60_500, STEPS)


def measure(kind: str, prime: int, repeats: int) -> dict[str, Any]:
    """Medians of the milliseconds of a step and of each lens, and of its share of 500 steps."""
    (run,) = batches.runs(kind, prime, 1)
    batch = batches.Batch(kind, prime, 1, batches.steps_a_turn())
    options = Options(ph_threads=os.cpu_count() or 1)  # as commands have it
    names = diagnostics.names()
    steps: list[float] = []
    lenses: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 1):  # the first compiles
        steps.append(batch.seconds() / batch.n_steps)
        params = batch.params()
        for name, seconds in lenses.items():
            if seconds and seconds[0] > LONG:
                continue
            view = views.view(run, params, repeat, TrainConfig(), options)
            begun = time.perf_counter()
            diagnostics.get(name).measure([view], options)
            seconds.append(time.perf_counter() - begun)
    often = {
        name: len(diagnostics.steps(name, CHECKPOINTS, options)) / len(CHECKPOINTS)
        for name in names
    }
    return {
        "model": kind,
        "prime": prime,
        "step_milliseconds": 1e3 * statistics.median(steps[1:]),
        "milliseconds": {name: 1e3 * statistics.median(_counted(s)) for name, s in lenses.items()},
        "share_of_checkpoints": often,
        "share_of_steps": {
            name: often[name]
            * statistics.median(
                lens / (STEPS * step)
                for lens, step in zip(_counted(seconds), steps[1:], strict=False)
            )
            for name, seconds in lenses.items()
        },
    }


def _counted(seconds: list[float]) -> list[float]:
    """Without the first call, which compiles, unless it is the only one."""
    return seconds[1:] or seconds


def main() -> None:
    """Measure, print the shares, and append a JSON line where asked."""
    parser = environment.parser(__doc__, repeats=3)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--prime", type=int, default=113)
    options = parser.parse_args()

    results = []
    for kind in options.models:
        result = measure(kind, options.prime, options.repeats)
        results.append(result)
        print(f"{kind}, p = {options.prime}, a step takes {result['step_milliseconds']:.1f} ms")
        for name, share in result["share_of_steps"].items():
            verdict = "PASS" if share < REQUIRED_SHARE else "above"
            verdict = "" if name in MORE else verdict
            milliseconds = result["milliseconds"][name]
            print(f"  {name:20} {milliseconds:8.1f} ms, {share:6.2%} {verdict}", flush=True)
    environment.append(options.output, PACKAGES, benchmark="costs", results=results)


if __name__ == "__main__":
    main()
