"""``python -m grokjax.report``: draws figures and the page of a work directory."""

from absl import flags

from grokjax import cli, progress, reporting

flags.DEFINE_string("workdir", None, "work directory of a sweep")


def main(values: flags.FlagValues) -> int:
    """Redraws the report; returns the exit code."""
    folder = cli.existing_workdir(values)
    progress.print_summary(reporting.summary(folder))
    print(f"report: {reporting.write(folder)}")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
