"""What ``--plan`` says of a sweep, against what the sweep takes.

Claim: time within 25 %, disk within 10 %, memory within 30 %, for sweeps of three kinds.
Command: python -m experiments.benchmarks.plan [--only KIND…] [--output FILE]; on 2 cores about five
minutes.
Expected: all three within these; time is the hardest where a checkpoint is not much work.

Plan and sweep are a process each, with one compilation cache that is empty before the plan. Time is
from the start of the process to the last checkpoint measured and every table written, the page left
out; disk is what parameters, optimiser states and tables take then; memory is the most that the
process had.
"""

import multiprocessing
import pathlib
import resource
import tempfile
from typing import Any

from experiments.benchmarks import environment

PACKAGES = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy", "pyarrow")
REQUIRED = {"seconds": 0.25, "disk": 0.10, "memory": 0.30}
SWEEPS = {
    "transformer, few runs": "--primes=59 --train_fractions=0.4 --seeds=46:50 --batch_size=256 "
    "--steps=1600 --checkpoint_every=200 --diagnostics=persistence,fourier,dimension "
    "--lid_neighbors=32",
    "small MLP, many runs": "--models=mlp --primes=23 --train_fractions=0.5 --seeds=0:80 "
    "--d_model=32 --mlp_width=64 --mlp_depth=2 --batch_size=64 --steps=2000 "
    "--checkpoint_every=100 --diagnostics=persistence,fourier --keep=measured",
    "two networks and sizes, full batches": "--models=transformer,mlp --primes=17,23 "
    "--train_fractions=0.5 --seeds=46:49 --batch_size=full --d_model=64 --d_ff=64 --mlp_width=128 "
    "--steps=1200 --checkpoint_every=100 --diagnostics=persistence --clouds=all "
    "--cloud_points=128 --save_diagrams --keep=every:4",
}


def start(arguments: list[str], pipe: Any) -> None:
    """Runs the command in this process; sends what it planned, and what it took."""
    from grokjax import cli, sweep
    from grokjax.report import drawing
    from grokjax.running import pipeline, planning, progress

    told: dict[str, Any] = {}
    say, run = planning.lines, pipeline.sweep

    def planned(found: Any, config: Any) -> Any:
        told["disk"], told["memory"] = found.disk.total, found.memory
        told["seconds"], told["parts"] = found.total_seconds, dict(found.seconds)
        return say(found, config)

    def swept(*given: Any) -> list[str]:
        failed = run(*given)
        told["seconds"] = progress.seconds_since_start()
        return failed

    planning.lines, pipeline.sweep, drawing.write = planned, swept, lambda *_: None
    try:
        cli.run(sweep.main, sweep.define, ["sweep", *arguments])
    except SystemExit as end:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send({"exit_code": end.code or 0, "peak": peak} | told)


def run(arguments: list[str]) -> dict[str, Any]:
    """What a command in a process of its own sends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=start, args=(arguments, theirs))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    if found["exit_code"]:
        raise SystemExit(f"{' '.join(arguments)} ended with {found['exit_code']}")
    return found


def size(folder: pathlib.Path) -> int:
    """Bytes of the files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(flags: str) -> dict[str, Any]:
    """Planned and measured, and by how much the first is off."""
    with tempfile.TemporaryDirectory() as name:
        workdir = pathlib.Path(name) / "w"
        arguments = [*flags.split(), f"--workdir={workdir}", f"--compilation_cache={name}/cache"]
        planned = run([*arguments, "--plan"])
        assert not workdir.exists()
        swept = run(arguments)
        measured = {
            "seconds": swept["seconds"],
            "disk": size(workdir / "checkpoints") + size(workdir / "results"),
            "memory": swept["peak"],
        }
    off = {key: planned[key] / value - 1 for key, value in measured.items()}
    kept = {key: planned[key] for key in (*measured, "parts")}
    return {"planned": kept, "measured": measured, "off": off}


def main() -> None:
    """Compare, print, and append a JSON line where asked."""
    parser = environment.parser(__doc__)
    parser.add_argument("--only", nargs="*", choices=SWEEPS, default=list(SWEEPS))
    options = parser.parse_args()
    results = []
    for kind in options.only:
        result = {"sweep": kind, "flags": SWEEPS[kind]} | compare(SWEEPS[kind])
        results.append(result)
        print(f"{kind}:", flush=True)
        for key, required in REQUIRED.items():
            planned, measured = (result[which][key] for which in ("planned", "measured"))
            off = result["off"][key]
            verdict = "PASS" if abs(off) <= required else "OUTSIDE"
            print(f"  {verdict} {key:8} {planned:.4g} for {measured:.4g}: {off:+.1%}", flush=True)
    environment.append(options.output, PACKAGES, benchmark="plan", results=results)


if __name__ == "__main__":
    main()
