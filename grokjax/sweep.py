"""``python -m grokjax.sweep``: trains a grid of runs, measures the checkpoints, reports."""

import contextlib
import dataclasses
import os
import pathlib
import sys

import jax
from absl import flags

from grokjax import (
    cli,
    distributed,
    grid,
    merging,
    pipeline,
    progress,
    stopping,
    train,
    workdir,
)
from grokjax.diagnostics.persistence import EngineMismatch
from grokjax.distributed import SharedStop
from grokjax.grid import InvalidSettingError
from grokjax.models import Model
from grokjax.sharding import Shard
from grokjax.stopping import Stopped, StopRequest
from grokjax.workdir import SweepConfig

cli.define_grid_flags()
cli.define_option_flags()
cli.define_workdir_flag("work directory; default: work/<hash of what is trained>")
flags.DEFINE_float("max_seconds", None, "stop as by SIGTERM after so many seconds", lower_bound=0)
flags.DEFINE_float("grace_seconds", 30, "time to reach a checkpoint when asked to stop", 0)
flags.DEFINE_list("allow", [], f"changes since the last start, of {', '.join(workdir.ALLOWED)}")
flags.DEFINE_string(
    "distributed",
    "auto",
    "join the other processes of this job: auto (where a launcher started several), yes, no",
)
flags.DEFINE_string("coordinator", None, "host:port of process 0, where no launcher tells it")
flags.DEFINE_integer("num_processes", None, "how many processes there are, likewise")
flags.DEFINE_integer("process_id", None, "which of them this is, from 0, likewise")


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


def _sweep(
    values: flags.FlagValues, config: SweepConfig, folder: pathlib.Path, stop: StopRequest
) -> int:
    """Runs or resumes a sweep in one work directory; returns the exit code."""
    runs_per_batch = _runs_per_batch(config, values.runs_per_batch)
    workdir.check_usable(folder, config, values.allow)
    told = cli.resolved_flags(values, __name__)
    if config.shard is not None:
        told |= {"shard": str(config.shard)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(workdir.storage_errors(folder))
        stack.enter_context(workdir.owning(folder))
        if config.options.diagnostics:
            stack.enter_context(workdir.owning(folder, workdir.ANALYSIS_LOCK))
        batches = workdir.prepare(folder, config, told, runs_per_batch, values.allow)
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
    return cli.tell_failures(failed)


def _report(folder: pathlib.Path) -> None:
    # Here, because nothing of it (plotly, matplotlib) is needed before the first step.
    from grokjax import reporting

    with workdir.storage_errors(folder):
        progress.print_summary(reporting.summary(folder))
        print(f"report: {reporting.write(folder)}")


def _parts(config: SweepConfig, folder: pathlib.Path) -> list[SweepConfig]:
    """The sweep as it is, or as the shards that are there, or one for each process of the job.

    How a sweep is cut is decided by its first start. Any number of processes can go on with it.
    """
    if config.shard is not None and jax.process_count() > 1:
        raise InvalidSettingError(
            "shard",
            config.shard,
            f"is not cut again among the {jax.process_count()} processes of one job; start each "
            "shard as one process, or the whole grid (--shard=none) as one job",
        )
    if config.shard is not None or (folder / "sweep.json").exists():
        return [config]
    counts = {
        shard.count
        for found in merging.find_sources(folder)
        if (shard := workdir.read_config(found).shard) is not None
    }
    if len(counts) > 1:
        raise InvalidSettingError(
            "workdir", folder, f"holds shards of different splits, {sorted(counts)}; merge one"
        )
    count = counts.pop() if counts else min(jax.process_count(), len(config.runs))
    if count == 1 and not merging.find_sources(folder):
        return [config]
    return [
        dataclasses.replace(config, shard=Shard(index=index, count=count)) for index in range(count)
    ]


def _sweep_all(
    values: flags.FlagValues, config: SweepConfig, folder: pathlib.Path, stop: StopRequest
) -> int:
    """Sweeps this process's parts; the first process then joins all parts and reports."""
    parts = _parts(config, folder)
    codes = [cli.EXIT_OK]
    for part in parts[jax.process_index() :: jax.process_count()]:
        own = folder if part.shard is None else folder / part.shard.folder
        codes.append(_sweep(values, part, own, stop))
        if codes[-1] == cli.EXIT_STOPPED:
            return cli.EXIT_STOPPED
    if isinstance(stop, SharedStop):
        try:
            stop.finish()
        except Stopped as stopped:
            print(f"stopped ({stopped}); the same command goes on with the other parts")
            return cli.EXIT_STOPPED
    if not distributed.is_first():
        return max(codes)
    if config.shard is None and parts[0].shard is not None:
        with (
            workdir.storage_errors(folder),
            merging.holding([folder, *merging.find_sources(folder)]),
        ):
            merged = merging.merge(folder, merging.find_sources(folder), mixed_code=True)
        print(f"{merged.runs} runs of {len(parts)} parts joined: {folder}")
    _report(folder if config.shard is None else folder / config.shard.folder)
    return max(codes)


def main(values: flags.FlagValues) -> int:
    """Runs or resumes the sweep that the flags describe; returns the exit code."""
    train.use_every_core()
    told = distributed.start(
        values.distributed, values.coordinator, values.num_processes, values.process_id
    )
    config = cli.sweep_config_from(values)
    train.check_precision(config.train.precision)
    folder = pathlib.Path(values.workdir or f"work/{config.name}")
    for name in values.allow:
        grid.check(name in workdir.ALLOWED, "allow", name, f"of {', '.join(workdir.ALLOWED)}")
    if told:
        print(told)
    if config.shard is not None:
        source = cli.shard_from(values)[1]
        print(f"shard {config.shard} (from {source}): {len(config.runs)} runs of the grid")
    kind = SharedStop if jax.process_count() > 1 else StopRequest
    stop = kind(values.max_seconds, values.grace_seconds)
    with stopping.listening(stop, _leave):
        return _sweep_all(values, config, folder, stop)


if __name__ == "__main__":
    cli.run(main)
