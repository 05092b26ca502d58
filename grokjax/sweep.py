"""``python -m grokjax.sweep``: trains a grid of runs, measures the checkpoints, reports."""

import contextlib
import pathlib
import signal
import sys
import types
from collections.abc import Iterator

from absl import flags

from grokjax import cli, pipeline, progress, reporting, train, workdir
from grokjax.diagnostics.persistence import EngineMismatch
from grokjax.grid import InvalidSettingError
from grokjax.models import Model
from grokjax.workdir import SweepConfig

cli.define_grid_flags()
cli.define_option_flags()
cli.define_workdir_flag("work directory; default: work/<hash of what is trained>")
flags.DEFINE_float("max_seconds", None, "stop as by SIGTERM after so many seconds", lower_bound=0)
flags.DEFINE_float("grace_seconds", 30, "time to reach a checkpoint when asked to stop", 0)


def _runs_per_batch(config: SweepConfig, asked: int | None) -> int:
    if asked is not None:
        if asked < 1:
            raise InvalidSettingError("runs_per_batch", asked, "must be an integer of at least 1")
        return asked
    return min(
        train.runs_that_fit(
            train.Program.of(Model(config=model, n_tokens=max(config.axes["prime"])), config.train),
            max(run.n_train for run in config.runs),
            config.train.checkpoint_every,
        )
        for model in config.models.values()
    )


@contextlib.contextmanager
def _stopping_on_signals(stop: pipeline.StopRequest) -> Iterator[None]:
    def handler(number: int, frame: types.FrameType | None) -> None:
        stop.request(signal.Signals(number).name)
        # A second one ends the process at once; committed checkpoints are safe.
        signal.signal(number, signal.SIG_DFL)

    before = {n: signal.signal(n, handler) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def main(values: flags.FlagValues) -> int:
    """Runs or resumes the sweep that the flags describe; returns the exit code."""
    config = cli.sweep_config_from(values)
    folder = pathlib.Path(values.workdir or f"work/{config.name}")
    runs_per_batch = _runs_per_batch(config, values.runs_per_batch)
    workdir.check_usable(folder, config)
    stop = pipeline.StopRequest(values.max_seconds, values.grace_seconds)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_stopping_on_signals(stop))
        stack.enter_context(workdir.owning(folder))
        if config.options.diagnostics:
            stack.enter_context(workdir.owning(folder, workdir.ANALYSIS_LOCK))
        batches = workdir.prepare(
            folder, config, cli.resolved_flags(values, __name__), runs_per_batch
        )
        print(f"{len(config.runs)} runs in {len(batches)} batch(es), work directory {folder}")
        try:
            with progress.display() as display:
                failed = pipeline.sweep(config, batches, folder, display, stop)
        except pipeline.Stopped as stopped:
            print(f"stopped ({stopped}); the same command goes on from the last checkpoint")
            return cli.EXIT_STOPPED
        except EngineMismatch as mismatch:
            print(f"stopped, because the numbers are in doubt: {mismatch}", file=sys.stderr)
            return cli.EXIT_FAILED
        progress.print_summary(reporting.summary(folder))
        print(f"report: {reporting.write(folder)}")
    if failed:
        print(f"{len(failed)} runs failed; the same command tries them again", file=sys.stderr)
        return cli.EXIT_FAILED
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
