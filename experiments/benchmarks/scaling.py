"""Cost of a run-step against the number of runs a batch.

Claim: a run-step of 45 runs a batch costs no more than one of 5 (on a CPU: within 10 %).
Command: python -m experiments.benchmarks.scaling [--models …] [--runs …] [--output FILE]; on 2
cores about eight minutes.
Expected: level on a CPU, which takes its runs one after the other; falling on an accelerator until
it is full.

The batches are of the study's size, warm, and take turns, so that a busy machine slows them alike.
"""

import statistics
from typing import Any

from experiments.benchmarks import batches, environment
from experiments.benchmarks.turns import Worker, median_ratio, take_turns

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
SMALL, LARGE, MOST = 5, 45, 1.10


def measure(
    kind: str, prime: int, sizes: list[int], repeats: int, steps: int | None
) -> dict[str, Any]:
    """Milliseconds a run-step by batch size."""
    with Worker(batches.make, kind, prime, sizes, steps) as worker:
        seconds = take_turns([worker], repeats)
        n_steps = worker.told["n_steps"]
    times = {n: [1e3 * s / (n * n_steps) for s in seconds[batches.name_of(n)]] for n in sizes}
    result = {
        "model": kind,
        "prime": prime,
        "milliseconds_per_run_step": {str(n): statistics.median(v) for n, v in times.items()},
    }
    if {SMALL, LARGE} <= times.keys():
        result["ratio"] = median_ratio(times[LARGE], times[SMALL])
    return result


def main() -> None:
    """Measure, print the costs, and append a JSON line where asked."""
    parser = environment.parser(__doc__, repeats=5)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--prime", type=int, default=113)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, SMALL, 15, LARGE])
    parser.add_argument("--steps", type=int, help="steps a turn; default: 25, on a GPU 500")
    options = parser.parse_args()

    results = []
    for kind in options.models:
        result = measure(kind, options.prime, options.runs, options.repeats, options.steps)
        results.append(result)
        print(f"{kind}, p = {options.prime}:")
        for n_runs, milliseconds in result["milliseconds_per_run_step"].items():
            print(f"  {n_runs:>3} runs a batch {milliseconds:8.3f} ms a run-step")
        if "ratio" in result:
            verdict = "PASS" if result["ratio"] <= MOST else "above"
            print(
                f"  {verdict}: {LARGE} runs a batch cost {result['ratio']:.2f} times what {SMALL} "
                f"do (at most {MOST})",
                flush=True,
            )
    environment.append(options.output, PACKAGES, benchmark="scaling", results=results)


if __name__ == "__main__":
    main()
