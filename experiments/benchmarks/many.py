"""A thousand runs of a small network: memory, disk with and without --keep, where the time goes.

Claim: 1,000 runs with 40 checkpoints each need no more than 2 GB of memory, and with
``--keep=measured`` a tenth of the disk that they take with ``--keep=all``.
Command: python -m experiments.benchmarks.many [--runs N] [--steps N] [--output FILE]; on 2 cores
about seven minutes.
Expected: under 1 GB; the disk is then that of the tables. Found: 0.98 GB and 18 % of the disk, so
the second claim does not hold: both optimiser states stay, and they are as large as four
checkpoints. A step of so small a network is so little
work that everything beside it counts: half of the time or more is not training.

Two sweeps one after the other, alike but for --keep, each a process of its own, with a compilation
cache that is empty before the first. The most of the disk is looked up twice a second.
"""

import multiprocessing
import pathlib
import resource
import tempfile
import threading
import time
from typing import Any

from experiments.benchmarks import environment
from experiments.benchmarks.plan import size
from experiments.benchmarks.sweep import Clock

PACKAGES = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy", "pandas", "pyarrow")
MOST_MEMORY, MOST_DISK = 2e9, 0.1
N_CHECKPOINTS = 40
NETWORK = (
    "--models=mlp --primes=11 --train_fractions=0.6 --d_model=16 --mlp_width=32 --mlp_depth=1 "
    "--batch_size=32 --learning_rates=0.001,0.003,0.01,0.03,0.1 --weight_decays=0.3,1 "
    "--diagnostics=persistence,fourier --state_minutes=0.5"
)


def start(arguments: list[str], workdir: pathlib.Path, pipe: Any) -> None:
    """Runs a sweep in this process without its page; sends what it took."""
    from grokjax import cli, sweep
    from grokjax.report import drawing
    from grokjax.running import progress

    clock, ended, disk = Clock(), threading.Event(), [0]
    progress.Display = lambda: clock
    drawing.write = lambda *_: None

    def watch() -> None:
        while not ended.wait(0.5):
            try:
                disk.append(size(workdir / "checkpoints"))
            except OSError:  # went meanwhile
                continue

    threading.Thread(target=watch, daemon=True).start()
    try:
        cli.run(sweep.main, sweep.define, ["sweep", *arguments])
    except SystemExit as end:
        ended.set()
        took = time.perf_counter() - clock.first_step_at
        compiling = sum(s for what, s in clock.seconds.items() if what.startswith("compiling"))
        pipe.send(
            {
                "exit_code": end.code or 0,
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "seconds": took - compiling,
                "spent": dict(clock.seconds),
                "most_disk": max(disk),
            }
        )


def measure(keep: str, flags: list[str], folder: pathlib.Path) -> dict[str, Any]:
    """What a sweep with that --keep took."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    workdir = folder / keep
    arguments = [*flags, f"--keep={keep}", f"--workdir={workdir}"]
    arguments.append(f"--compilation_cache={folder / 'cache'}")
    process = context.Process(target=start, args=(arguments, workdir, theirs))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    if found["exit_code"]:
        raise SystemExit(f"the sweep with --keep={keep} ended with {found['exit_code']}")
    kinds = {"parameters": "*/params", "let go": "*/let_go", "states": "*/optimizer"}
    disk = {
        kind: sum(map(size, (workdir / "checkpoints").glob(pattern)))
        for kind, pattern in kinds.items()
    }
    disk["tables"] = size(workdir / "results")
    return {
        "keep": keep,
        **found,
        "disk": disk,
        "not_training": 1 - found["spent"]["training"] / found["seconds"],
    }


def show(result: dict[str, Any]) -> None:
    """Prints one sweep."""
    disk = ", ".join(f"{kind} {n / 1e6:.1f}" for kind, n in result["disk"].items())
    print(f"--keep={result['keep']}: {result['seconds']:.0f} s without compiling")
    print(f"  not training: {result['not_training']:.1%}")
    print(f"  memory: {result['memory'] / 1e9:.2f} GB at most")
    print(f"  disk: {sum(result['disk'].values()) / 1e6:.1f} MB ({disk})")
    print(f"  checkpoints at most: {result['most_disk'] / 1e6:.1f} MB", flush=True)


def main() -> None:
    """Measure, print the table, and append a JSON line where asked."""
    parser = environment.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="a multiple of ten")
    parser.add_argument("--steps", type=int, default=25, help="between checkpoints")
    options = parser.parse_args()
    flags = [*NETWORK.split(), f"--seeds=0:{options.runs // 10}"]
    flags += [f"--steps={(N_CHECKPOINTS - 1) * options.steps}"]
    flags += [f"--checkpoint_every={options.steps}"]
    with tempfile.TemporaryDirectory() as name:
        results = [measure(keep, flags, pathlib.Path(name)) for keep in ("all", "measured")]
    for result in results:
        show(result)
    every, few = (sum(result["disk"].values()) for result in results)
    memory = max(result["memory"] for result in results)
    met = memory < MOST_MEMORY and few < MOST_DISK * every
    print(f"disk with --keep=measured: {few / every:.1%}; the claim ", end="")
    print("holds" if met else "DOES NOT HOLD")
    own = {"runs": options.runs, "checkpoints": N_CHECKPOINTS, "flags": flags, "met": met}
    environment.append(options.output, PACKAGES, benchmark="many", results=results, **own)


if __name__ == "__main__":
    main()
