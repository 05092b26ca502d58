"""Where the time of the whole quick sweep goes, cold and on a warm compilation cache.

Claim: training steps are at least 85 % of the wall time between the first step and the last
checkpoint, compilation left out; on a warm cache the first step comes within 10 s.
Command: python -m experiments.benchmarks.sweep [--output FILE] [flags of grokjax.sweep…]; on 2
cores about six minutes.
Expected: 85 to 90 % training. On 2 cores the diagnostics beside it slow the steps down: their time
is shown as well, and how long the sweep waits for the last of them.

Two starts of the same sweep, each a process of its own in a fresh work directory, with one
compilation cache that is empty before the first.
"""

import collections
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks import environment

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")
REQUIRED_SHARE, MOST_SECONDS = 0.85, 10.0
FLAGFILE = Path(__file__).parent.parent / "quick.flags"


class Clock:
    """A display that keeps times and shows nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.first_step_after: float | None = None
        self.first_step_at = self.last_checkpoint_at = 0.0
        self.compiled_before = 0.0

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, *_: Any) -> None:
        """See ``progress.Display``; so with the others."""

    def spent(self, what: str, seconds: float) -> None:
        """Keeps it."""
        from grokjax.running.progress import seconds_since_start

        if what == "compiling training" and self.first_step_after is None:
            self.first_step_after = seconds_since_start()
            self.first_step_at = time.perf_counter()
            self.seconds.clear()
            return
        self.seconds[what] += seconds

    def trained(self, batch: int, step: int, run_steps: int, seconds: float) -> None:
        """Keeps it."""
        self.seconds["training"] += seconds

    def evaluated(self, batch: int, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """A checkpoint ends with this."""
        self.last_checkpoint_at = time.perf_counter()

    def measured(self, done: int, seconds: float) -> None:
        """Nothing to keep."""

    def note(self, text: str) -> None:
        """Shows it."""
        print(text)


def start(folder: str, cache: str, flags: list[str], pipe: Any) -> None:
    """Runs a sweep in this process and sends what its clock says."""
    from grokjax import cli, sweep
    from grokjax.running import progress

    clock = Clock()
    progress.Display = lambda: clock
    arguments = [f"--flagfile={FLAGFILE}", *flags, f"--workdir={folder}"]
    try:
        cli.run(sweep.main, sweep.define, ["sweep", *arguments, f"--compilation_cache={cache}"])
    except SystemExit as end:
        ended = time.perf_counter()
        took = clock.last_checkpoint_at - clock.first_step_at
        took -= sum(s for what, s in clock.seconds.items() if what.startswith("compiling"))
        pipe.send(
            {
                "exit_code": end.code or 0,
                "first_step_after": clock.first_step_after,
                "seconds": dict(clock.seconds),
                "from_first_step_to_last_checkpoint": took,
                "until_everything_is_written": ended - clock.last_checkpoint_at,
            }
        )


def measure(flags: list[str]) -> list[dict[str, Any]]:
    """What the clocks of a cold and a warm start say."""
    context = multiprocessing.get_context("spawn")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            ours, theirs = context.Pipe()
            given = (f"{folder}/{name}", f"{folder}/cache", flags, theirs)
            process = context.Process(target=start, args=given)
            process.start()
            theirs.close()
            found.append({"start": name} | ours.recv())
            process.join()
            if found[-1]["exit_code"]:
                raise SystemExit(f"the {name} sweep ended with {found[-1]['exit_code']}")
    return found


def show(result: dict[str, Any]) -> None:
    """Prints one start."""
    took, seconds = result["from_first_step_to_last_checkpoint"], result["seconds"]
    first = result["first_step_after"]
    print(f"{result['start']}: first step after {first:.1f} s; then {took:.1f} s without compiling")
    if result["start"] == "warm":
        verdict = "PASS" if first <= MOST_SECONDS else "above"
        print(f"  {verdict}: first step within {MOST_SECONDS:.0f} s on a warm cache")
    parts = ("training", "evaluation", "lenses", "checkpoints")
    for part in parts:
        print(f"  {part:12} {seconds.get(part, 0):7.1f} s {seconds.get(part, 0) / took:6.1%}")
    rest = took - sum(seconds.get(part, 0) for part in parts)
    print(f"  {'other':12} {rest:7.1f} s {rest / took:6.1%}")
    print(f"  {'diagnostics':12} {seconds.get('diagnostics', 0):7.1f} s beside it")
    print(f"  {result['until_everything_is_written']:.1f} s from the last checkpoint to the report")
    share = seconds["training"] / took
    verdict = "PASS" if share >= REQUIRED_SHARE else "below"
    print(f"  {verdict}: {share:.1%} training steps (required: {REQUIRED_SHARE:.0%})", flush=True)


def main() -> None:
    """Measure, print the shares, and append a JSON line where asked."""
    parser = environment.parser(__doc__)
    options, flags = parser.parse_known_args()
    results = measure(flags)
    for result in results:
        show(result)
    environment.append(options.output, PACKAGES, benchmark="sweep", flags=flags, results=results)


if __name__ == "__main__":
    main()
