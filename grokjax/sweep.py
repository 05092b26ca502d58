"""``python -m grokjax.sweep``: trains a grid of runs, measures the checkpoints, reports.

python -m grokjax.sweep --primes=31 --train_fractions=0.5 --steps=5000 --workdir=work/first
python -m grokjax.sweep --models=transformer,mlp --seeds=0:10 --clouds=all --workdir=work/study
python -m grokjax.sweep --flagfile=experiments/quick.flags --weight_decays=0.3,1 --workdir=work/two
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from grokjax import cli
from grokjax.running import sharding, signals
from grokjax.settings import flags as ours
from grokjax.settings.config import Shard, SweepConfig
from grokjax.settings.fields import check, lazy
from grokjax.store import errors, locks
from grokjax.training.stopping import Stopped, StopRequest

# What takes seconds to import, and --help needs none of.
persistence, views = lazy("grokjax.diagnostics.persistence"), lazy("grokjax.measuring.views")
distributed, joining = lazy("grokjax.running.distributed"), lazy("grokjax.running.joining")
pipeline, progress = lazy("grokjax.running.pipeline"), lazy("grokjax.running.progress")
planning, storage = lazy("grokjax.running.planning"), lazy("grokjax.running.storage")
mapped, work = lazy("grokjax.training.mapped"), lazy("grokjax.training.work")
record = lazy("grokjax.store.record")


def define() -> None:
    """The flags of this command."""
    ours.define_grid_flags()
    ours.define_source_flags()
    ours.define_option_flags()
    cli.define_compilation_flag()
    ours.define("workdir", None, "work directory; default: work/<hash of what is trained>")
    ours.define("max_seconds", None, "stop as by SIGTERM after so many seconds", float)
    ours.define("grace_seconds", 30.0, "time to reach a checkpoint when asked to stop")
    text = "changes since the last start: a flag of the grid that gains values, steps, precision, "
    text += "code, packages; disk: start although it has not the space (comma list)"
    ours.define("allow", "", text)
    text = "print what the sweep will take (operations, memory, disk, time) and end; nothing is "
    ours.define("plan", False, text + "written to --workdir")
    text = "join the other processes of this job: auto (where a launcher started several), yes, no"
    ours.define("distributed", "auto", text)
    text = "host:port of process 0, on a TPU slice where JAX does not find it"
    ours.define("coordinator", None, text)
    text = "how many processes there are, where no launcher tells it"
    ours.define("num_processes", None, text, int)
    ours.define("process_id", None, "which of them this is, from 0, likewise", int)


def _leave(reason: str) -> None:
    print(f"ended at once ({reason}); the same command resumes from the last optimiser state")
    sys.stdout.flush()
    os._exit(cli.EXIT_STOPPED)


def _batched(values: flags.FlagValues, config: SweepConfig) -> Callable[[Any], Any]:
    """How runs of a sweep are batched; raises ``InvalidSettingError``."""
    most = values.runs_per_batch
    if most is None:
        most = work.runs_that_fit(config.runs, config.train)
    check(most >= 1, "runs_per_batch", most, "must be an integer of at least 1")
    return lambda runs: work.plan_batches(runs, config.train, most)


def _sweep(
    values: flags.FlagValues,
    config: SweepConfig,
    folder: pathlib.Path,
    process: Any,
    stop: StopRequest,
) -> int:
    """Runs or resumes a sweep in one work directory; returns the exit code."""
    own = values.get_flags_for_module(ours.__name__) + values.get_flags_for_module(__name__)
    told = {flag.name: flag.value for flag in own if flag.value is not None}
    told |= {} if config.shard is None else {"shard": str(config.shard)}
    held = locks.LOCKS if config.options.diagnostics else [locks.LOCK]
    with errors.storage_errors(folder), locks.owning(folder, *held):
        if (folder / "sweep.json").exists():
            before, now = (own.saving.keep for own in (record.read_config(folder), config))
            if before != now:
                print(f"--keep={now} from now on, {before} before: what was let go does not return")
        allowed, batched = ours.names(values.allow), _batched(values, config)
        batches = record.prepare(folder, config, told, batched, allowed, str(process))
        print(f"{len(config.runs)} runs in {len(batches)} batch(es), work directory {folder}")
        try:
            with progress.Display() as display:
                failed = pipeline.sweep(config, batches, folder, display, stop)
        except Stopped as stopped:
            print(f"stopped ({stopped}); the same command resumes from the last checkpoint")
            return cli.EXIT_STOPPED
        except persistence.EngineMismatch as mismatch:
            print(f"stopped, because the numbers are in doubt: {mismatch}", file=sys.stderr)
            return cli.EXIT_FAILED
        if config.shard is not None:
            record.finish(folder, config)
    return cli.tell_failures(failed)


def _parts(
    config: SweepConfig, folder: pathlib.Path, n_processes: int
) -> dict[pathlib.Path, SweepConfig]:
    """Work directory → the sweep as it is, or each shard that is there, or one for each process.

    How a sweep is cut is decided by its first start. Any number of processes can go on with it.
    """
    if config.shard is not None:
        message = (
            f"is not cut again among the {n_processes} processes of one job; start each "
            "shard as one process, or the whole grid (--shard=none) as one job"
        )
        check(n_processes == 1, "shard", config.shard, message)
        cut = [config.shard]
    elif (folder / "sweep.json").exists():
        return {folder: config}
    else:
        there = joining.find_sources(folder)
        shards = [record.read_config(found).shard for found in there]
        counts = {shard.count for shard in shards if shard is not None}
        message = f"holds shards of different splits, {sorted(counts)}; merge one"
        check(len(counts) <= 1, "workdir", folder, message)
        count = counts.pop() if counts else min(n_processes, len(config.grid))
        if count == 1 and not there:
            return {folder: config}
        cut = [Shard(index=index, count=count) for index in range(count)]
    parts = sharding.split(config.grid, work.costs(config.grid, config.train), cut[0].count)
    members = [frozenset(run.run_id for run in runs) for runs in parts]
    return {
        folder / shard.folder: dataclasses.replace(
            config, shard=shard, members=members[shard.index]
        )
        for shard in cut
    }


def _sweep_all(
    values: flags.FlagValues,
    config: SweepConfig,
    folder: pathlib.Path,
    process: Any,
    stop: StopRequest,
) -> int:
    """Sweeps this process's parts; the first process then joins all parts and reports."""
    parts = _parts(config, folder, process.count)
    codes, allowed = [cli.EXIT_OK], ours.names(values.allow)
    mine = list(parts.items())[process.index :: process.count]
    mine = [(own, record.adopted(own, part, allowed)) for own, part in mine]
    planned = {
        own: (part, record.batches_of(own, part, _batched(values, part))) for own, part in mine
    }
    if values.plan:
        for text in planning.lines(planning.plan(planned), config) if planned else ():
            print(text)
        return cli.EXIT_OK
    if planned and "disk" not in allowed:
        storage.check_disk(planned, len(parts) / len(planned))
    for own, part in mine:
        codes.append(_sweep(values, part, own, process, stop))
        if codes[-1] == cli.EXIT_STOPPED:
            return cli.EXIT_STOPPED
    if process.index > 0:  # the first process speaks for all
        return max(codes)
    try:
        distributed.wait(parts, process, stop)
    except Stopped as stopped:
        print(f"stopped ({stopped}); the same command resumes the other parts")
        return cli.EXIT_STOPPED
    # Here, because nothing of it (plotly, matplotlib) is needed before the first step.
    from grokjax.report import drawing

    reported = folder if config.shard is None else folder / config.shard.folder
    with errors.storage_errors(reported):
        if reported not in parts:
            with joining.holding([folder, *parts]):
                merged = joining.merge(folder, list(parts), mixed_code=True)
            print(f"{merged.runs} runs of {len(parts)} parts joined: {folder}")
        progress.print_summary(drawing.summary(reported))
        print(f"report: {drawing.write(reported)}")
    return max(codes)


def main(values: flags.FlagValues) -> int:
    """Runs or resumes the sweep that the flags describe; returns the exit code."""
    mapped.use_every_core()
    for name in ("max_seconds", "grace_seconds"):
        check((values[name].value or 0) >= 0, name, values[name].value, "must be at least 0")
    address = values.coordinator, values.num_processes, values.process_id
    process = distributed.find(values.distributed, *address)
    config = ours.sweep_config_from(values)
    asked = [name for name in values if values[name].present]
    options = views.fitting(config.options, config.grid, asked, print)
    config = dataclasses.replace(config, options=options)
    mapped.check_precision(config.train.precision)
    folder = pathlib.Path(values.workdir or f"work/{config.name}")
    known = (*record.allowed_changes(), "disk")
    for name in ours.names(values.allow):
        check(name in known, "allow", name, f"of {', '.join(known)}")
    if process.source:
        print(f"process {process}, {process.source}")
    shard, source = sharding.chosen(values.shard, os.environ)
    if shard is not None:
        config = dataclasses.replace(config, shard=shard)
        print(f"shard {shard} (from {source})")
    stop = StopRequest(values.max_seconds, values.grace_seconds)
    with signals.listening(stop, _leave):
        return _sweep_all(values, config, folder, process, stop)


if __name__ == "__main__":
    cli.run(main, define)
