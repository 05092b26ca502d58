"""Weak scaling: run-steps a second of one core, of two virtual devices, of two processes.

Claim: splitting a batch over two devices, or a sweep over two processes of one job, costs less
than 5 % of what two jobs that know nothing of each other get out of the same two cores.
Command: python -m experiments.benchmarks.devices [--models …] [--runs N] [--output FILE]; on 2
cores about 15 minutes.
Expected: overheads within a few per cent of nothing, on either side of it. On a machine that
others share, single turns of two devices differ by ten per cent and more: a turn of theirs ends
with the slower core. The quartiles of turns are shown for that.

Every core has --runs runs of the study's size and, but for one row, is a device. The processes of
one job are joined by JAX, as a sweep's are on a TPU slice and nowhere else. Two jobs at once are
the measure, for two busy cores share caches, memory and clock rate, which no sharding can change;
what they reach of twice one core is shown too. All take turns, so that a busy machine slows them
alike.
"""

import contextlib
import os
import socket
import statistics
from collections.abc import Sequence
from typing import Any

from experiments.benchmarks import batches, environment
from experiments.benchmarks.turns import Contestants, Worker, median_ratio, quartiles_of_ratio

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
MOST_OVERHEAD = 0.05
ONE, DEVICES = "1 process, 1 device", "1 process, 2 devices"
BOTH = "1 process, 1 device of 2 cores"
COUPLED, APART = "2 processes of one job", "2 jobs"


def make(
    kind: str,
    prime: int,
    n_runs: int,
    cores: Sequence[int],
    n_devices: int,
    job: tuple[str, int] | None,
) -> tuple[Contestants, int]:
    """One batch of n_runs a core; in a job of two, the job's address and the rank.

    Must be the first in its process to use JAX.
    """
    os.sched_setaffinity(0, cores)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={n_devices}"
    if job is not None:
        import jax

        jax.distributed.initialize(job[0], num_processes=2, process_id=job[1])
    batch = batches.Batch(kind, prime, n_runs * len(cores), batches.steps_a_turn())
    return {"turn": batch.seconds}, batch.n_steps


def _free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def measure(kind: str, prime: int, n_runs: int, repeats: int) -> dict[str, Any]:
    """Run-steps a second, and the overheads, of one model."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("two cores are needed, and this process may use one")
    address = _free_address()
    places: dict[str, list[tuple[Sequence[int], int, tuple[str, int] | None]]] = {
        ONE: [(cores[:1], 1, None)],
        BOTH: [(cores, 1, None)],
        DEVICES: [(cores, 2, None)],
        COUPLED: [([core], 1, (address, rank)) for rank, core in enumerate(cores)],
        APART: [([core], 1, None) for core in cores],
    }
    times: dict[str, list[float]] = {name: [] for name in places}
    with contextlib.ExitStack() as stack:
        groups = {
            name: [Worker(make, kind, prime, n_runs, *place) for place in own]
            for name, own in places.items()
        }
        workers = [worker for group in groups.values() for worker in group]
        for worker in workers:
            stack.enter_context(worker)
        for worker in workers:
            stack.callback(worker.dismiss)
        n_steps = max(worker.told for worker in workers)  # waits until all are made
        for _ in range(repeats):
            for name, group in groups.items():
                for worker in group:
                    worker.begin("turn")
                times[name].append(max(worker.ended() for worker in group))
    work = {name: n_runs * n_steps * (1 if name == ONE else 2) for name in places}
    return {
        "model": kind,
        "prime": prime,
        "runs_per_device": n_runs,
        "run_steps_per_second": {n: work[n] / statistics.median(s) for n, s in times.items()},
        "overhead": {
            name: median_ratio(times[name], times[APART]) - 1 for name in (DEVICES, COUPLED)
        },
        "quartiles": {
            name: [ratio - 1 for ratio in quartiles_of_ratio(times[name], times[APART])]
            for name in (DEVICES, COUPLED)
        },
        "of_twice_one_core": {
            name: median_ratio(times[ONE], times[name]) for name in (BOTH, DEVICES, COUPLED, APART)
        },
        "gain": median_ratio(times[BOTH], times[DEVICES]),
    }


def show(result: dict[str, Any]) -> None:
    """Prints one model's table."""
    print(f"{result['model']}, p = {result['prime']}, {result['runs_per_device']} runs a device:")
    for name, rate in result["run_steps_per_second"].items():
        share = result["of_twice_one_core"].get(name)
        more = "" if share is None else f", {share:.1%} of twice one core"
        print(f"  {name:24} {rate:8.1f} run-steps a second{more}")
    print(f"  a core a device: {result['gain']:.2f} times the rate of both cores as one device")
    for name, overhead in result["overhead"].items():
        low, high = result["quartiles"][name]
        verdict = "PASS" if overhead < MOST_OVERHEAD else "above"
        print(
            f"  {verdict}: {name}, overhead {overhead:+.1%} over {APART} (quartiles of turns "
            f"{low:+.1%} to {high:+.1%}; required: below {MOST_OVERHEAD:.0%})",
            flush=True,
        )


def main() -> None:
    """Measure, print the table, and append a JSON line where asked."""
    parser = environment.parser(__doc__, repeats=15)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--prime", type=int, default=113)
    parser.add_argument("--runs", type=int, default=4, help="runs a device")
    options = parser.parse_args()
    results = []
    for kind in options.models:
        results.append(measure(kind, options.prime, options.runs, options.repeats))
        show(results[-1])
    environment.append(options.output, PACKAGES, benchmark="devices", results=results)


if __name__ == "__main__":
    main()
