"""``python -m grokjax.check``: audits a work directory; exit code 1 if anything is wrong."""

import sys

from absl import flags

from grokjax import auditing, cli

cli.define_workdir_flag("work directory of a sweep")


def main(values: flags.FlagValues) -> int:
    """Reads everything and says what it found; changes nothing; returns the exit code."""
    folder = cli.existing_workdir(values)
    found = auditing.audit(folder)
    rows = ", ".join(f"{name} {n:,}" for name, n in found.n_rows.items())
    print(f"{folder}: {found.n_runs:,} runs, {found.n_checkpoints:,} run checkpoints read whole")
    print(f"rows: {rows}")
    for text in found.unfinished:
        print(f"unfinished: {text}")
    for text in found.findings:
        print(f"wrong: {text}", file=sys.stderr)
    if found.findings:
        print(
            f"{len(found.findings)} findings; the sweep's command makes good what it can",
            file=sys.stderr,
        )
        return cli.EXIT_FAILED
    print("nothing is wrong")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
