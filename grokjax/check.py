"""``python -m grokjax.check``: audits a work directory; exit code 1 if anything is wrong.

python -m grokjax.check --workdir=work/first
python -m grokjax.check --workdir=work/first --repair
for folder in work/*/; do python -m grokjax.check --workdir=$folder; done
"""

import contextlib
import sys

from absl import flags

from grokjax import cli
from grokjax.settings import flags as ours
from grokjax.settings.fields import lazy
from grokjax.store import locks

audit = lazy("grokjax.running.audit")  # which takes seconds to import, and --help needs it not


def define() -> None:
    """The flags of this command."""
    ours.define("workdir", None, "work directory of a sweep")
    text = "move damaged checkpoints aside, so that the sweep's command makes them anew"
    ours.define("repair", False, text)


def main(values: flags.FlagValues) -> int:
    """Reads everything and says what it found; returns the exit code."""
    folder = cli.existing_workdir(values)
    with locks.owning(folder, *locks.LOCKS) if values.repair else contextlib.nullcontext():
        found = audit.audit(folder, values.repair)
    print(f"{folder}: {found.n_runs:,} runs, {found.n_checkpoints:,} run checkpoints read whole")
    if found.n_gone:
        print(f"{found.n_gone:,} run checkpoints measured and let go (--keep)")
    print("rows: " + ", ".join(f"{name} {n:,}" for name, n in found.n_rows.items()))
    for text in found.remarks:
        print(f"note: {text}")
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
    cli.run(main, define)
