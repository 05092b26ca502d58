"""``python -m grokjax.sweep``: trains a grid of runs, measures the checkpoints, reports."""

import contextlib
import os
import pathlib
import sys

from absl import flags

from grokjax import cli, grid, pipeline, progress, reporting, stopping, train, workdir
from grokjax.diagnostics.persistence import EngineMismatch
from grokjax.grid import InvalidSettingError
from grokjax.models import Model
from grokjax.stopping import Stopped, StopRequest
from grokjax.workdir import SweepConfig

cli.define_grid_flags()
cli.define_option_flags()
cli.define_workdir_flag("work directory; default: work/<hash of what is trained>")
flags.DEFINE_float("max_seconds", None, "stop as by SIGTERM after so many seconds", lower_bound=0)
flags.DEFINE_float("grace_seconds", 30, "time to reach a checkpoint when asked to stop", 0)
flags.DEFINE_list("allow", [], f"changes since the last start, of {', '.join(workdir.ALLOWED)}")


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


def _leave(reason: str) -> None:
    print(f"ended at once ({reason}); the same command goes on from the last checkpoint")
    sys.stdout.flush()
    os._exit(cli.EXIT_STOPPED)


def main(values: flags.FlagValues) -> int:
    """Runs or resumes the sweep that the flags describe; returns the exit code."""
    config = cli.sweep_config_from(values)
    train.check_precision(config.train.precision)
    folder = pathlib.Path(values.workdir or f"work/{config.name}")
    if config.shard is not None:
        folder /= config.shard.folder
        source = cli.shard_from(values)[1]
        print(f"shard {config.shard} (from {source}): {len(config.runs)} runs of the grid")
    runs_per_batch = _runs_per_batch(config, values.runs_per_batch)
    for name in values.allow:
        grid.check(name in workdir.ALLOWED, "allow", name, f"of {', '.join(workdir.ALLOWED)}")
    workdir.check_usable(folder, config, values.allow)
    stop = StopRequest(values.max_seconds, values.grace_seconds)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopping.listening(stop, _leave))
        stack.enter_context(workdir.storage_errors(folder))
        stack.enter_context(workdir.owning(folder))
        if config.options.diagnostics:
            stack.enter_context(workdir.owning(folder, workdir.ANALYSIS_LOCK))
        batches = workdir.prepare(
            folder, config, cli.resolved_flags(values, __name__), runs_per_batch, values.allow
        )
        print(f"{len(config.runs)} runs in {len(batches)} batch(es), work directory {folder}")
        try:
            with progress.display() as display:
                failed = pipeline.sweep(config, batches, folder, display, stop)
        except Stopped as stopped:
            print(f"stopped ({stopped}); the same command goes on from the last checkpoint")
            return cli.EXIT_STOPPED
        except EngineMismatch as mismatch:
            print(f"stopped, because the numbers are in doubt: {mismatch}", file=sys.stderr)
            return cli.EXIT_FAILED
        progress.print_summary(reporting.summary(folder))
        print(f"report: {reporting.write(folder)}")
    return cli.tell_failures(failed)


if __name__ == "__main__":
    cli.run(main)
