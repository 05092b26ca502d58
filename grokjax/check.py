"""``python -m grokjax.check``: audits a work directory; exit code 1 if anything is wrong."""

import contextlib
import sys

from absl import flags

from grokjax import auditing, cli, workdir

cli.define_workdir_flag("work directory of a sweep")
flags.DEFINE_boolean(
    "repair", False, "move damaged checkpoints aside, so that the sweep's command makes them anew"
)


def main(values: flags.FlagValues) -> int:
    """Reads everything and says what it found; returns the exit code."""
    folder = cli.existing_workdir(values)
    with contextlib.ExitStack() as stack:
        if values.repair:
            for lock in (workdir.LOCK, workdir.ANALYSIS_LOCK):
                stack.enter_context(workdir.owning(folder, lock))
        found = auditing.audit(folder, values.repair)
    rows = ", ".join(f"{name} {n:,}" for name, n in found.n_rows.items())
    print(f"{folder}: {found.n_runs:,} runs, {found.n_checkpoints:,} run checkpoints read whole")
    print(f"rows: {rows}")
    for text in found.unfinished:
        print(f"unfinished: {text}")
    for text in found.findings:
        print(f"wrong: {text}", file=sys.stderr)
    if found.findings:
        way = "now run the sweep's command again" if values.repair else "make good: --repair"
        print(f"{len(found.findings)} findings; {way}", file=sys.stderr)
        return cli.EXIT_FAILED
    print("nothing is wrong")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
