"""What a sweep will take, before its first step: operations, memory, disk, time.

Disk comes from shapes. Time comes from a small batch of each of a few programs, which is trained
for some steps, evaluated, written and measured in a temporary folder; what that took is kept beside
the compiled programs, and known the next time.
"""

import dataclasses
import itertools
import os
import pathlib
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from grokjax import diagnostics
from grokjax.diagnostics import Table
from grokjax.measuring.analyst import Analyst
from grokjax.measuring.views import choose, measures, tables_of
from grokjax.running.progress import duration, seconds_since_start
from grokjax.settings.config import SweepConfig
from grokjax.settings.fields import check
from grokjax.settings.grid import Run
from grokjax.store.checkpoints import Reader, RunBatch, Writer
from grokjax.store.record import Batches
from grokjax.store.results import METRICS, Results
from grokjax.training import compilation, data, evaluation, mapped, work
from grokjax.training.step import Program
from grokjax.training.trainer import calls

# What Orbax leaves of a byte of trained weights, and its other files of a checkpoint.
_COMPRESSED, _A_CHECKPOINT, _A_META = 0.93, 50_000, 25_000
# Parquet: bytes of a float, of a value of any other kind, of a file and each of its columns.
_A_FLOAT, _A_VALUE, _A_TABLE, _A_COLUMN = 6.5, 0.5, 1_500, 300
_PAGE = 25_000_000  # at most
_MOST_MEASURED = 4  # programs, of each kind the largest
_RUNS_A_DEVICE = 2
_OPERATIONS = 3 * 10**11  # of the steps timed, where they take long; a CPU's three seconds or so

Parts = Mapping[pathlib.Path, tuple[SweepConfig, Batches]]  # by work directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes of a finished sweep."""

    checkpoints: float
    states: float
    tables: float

    @property
    def total(self) -> float:
        """All but the page."""
        return self.checkpoints + self.states + self.tables


def disk(
    config: SweepConfig,
    batches: Batches,
    rows: Mapping[str, float] | None = None,
    seconds: Sequence[float] = (),
) -> Disk:
    """What a finished sweep holds.

    ``rows`` are the tables' rows of a run's checkpoint for each element of its task, guessed where
    they are not given, and ``seconds`` the batches' times, on which it depends how many optimiser
    states they leave: at most two.
    """
    steps, saving = config.train.checkpoint_steps, config.saving
    parameters = states = 0.0
    for batch, took in itertools.zip_longest(batches, seconds, fillvalue=float("inf")):
        shapes = [work.shapes(run, config.train)[0] for run in batch]
        lists = sum(len(run.run_id) for run in batch)
        short = saving.keep == "last" or took < 60 * saving.state_minutes
        n_states = 1 if short else 2
        n_kept = len(saving.stays(steps).union(steps[-n_states:]))
        own = [_COMPRESSED * sum(map(work.n_bytes, part)) for part in zip(*shapes, strict=True)]
        parameters += n_kept * (own[0] + lists + _A_CHECKPOINT)
        parameters += (len(steps) - n_kept) * (lists + _A_META)
        states += n_states * (own[1] + lists + _A_CHECKPOINT)
    return Disk(checkpoints=parameters, states=states, tables=_tables(config, rows or {}))


def _tables(config: SweepConfig, rows: Mapping[str, float]) -> float:
    """Bytes of all tables."""
    steps, options = config.train.checkpoint_steps, config.options
    total = _bytes_of(METRICS, len(config.runs) * len(steps))
    for diagnostic, tables in tables_of(options).items():
        n_steps = len(diagnostics.steps(diagnostic, steps, options))
        own = [run for run in config.runs if measures(diagnostic, run, options)]
        for name, table in tables.items():
            n_rows = sum(_rows(name, table, run, config, rows) for run in own)
            total += _bytes_of(table, n_steps * n_rows)
    return total


def _rows(
    name: str, table: Table, run: Run, config: SweepConfig, rows: Mapping[str, float]
) -> float:
    """Rows of a run at a checkpoint."""
    n_clouds = len(choose(config.options.clouds, run)) if "cloud" in table.unit else 1
    return rows.get(name, n_clouds) * (1 if table.within == () else run.task.n_elements)


def _bytes_of(table: Table, n_rows: float) -> float:
    n_columns = len(table.columns) + 2
    floats = sum(kind.startswith("float") for kind in table.columns.values())
    row = _A_FLOAT * floats + _A_VALUE * (n_columns - floats)
    return n_rows * row + _A_TABLE + _A_COLUMN * n_columns


def there(folder: pathlib.Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free(folder: pathlib.Path) -> int:
    """Bytes that the disk of a folder, there or not, has left."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(nearest).free


# --------------------------------------------------------------------------- rates


def _timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that a call took: on the clock, and of all cores' work on all cores."""
    begun, worked = time.perf_counter(), time.process_time()
    function()
    worked = (time.process_time() - worked) / len(os.sched_getaffinity(0))
    return time.perf_counter() - begun, worked


def _repeated(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds to compile, and of a call after that."""
    first, *others = (_timed(function)[0] for _ in range(3))
    return max(0.0, first - min(others)), sum(others) / len(others)


def measure(sample: Sequence[Run], config: SweepConfig, n_steps: int) -> dict[str, Any]:
    """What a small batch takes: seconds of a run-step, a run's evaluation, and so on."""
    program, mesh = Program.of(sample, config.train), mapped.runs_mesh(len(sample))
    placed = mapped.place(mesh, data.stack(sample))
    state, at = [mapped.init(program, mesh)(placed)], itertools.count(step=n_steps)

    def train() -> None:
        chunk = mapped.train_chunk(program, mesh, n_steps)
        state[0], losses = chunk(state[0], placed, np.int32(next(at)))
        jax.block_until_ready(losses)

    def evaluate() -> None:
        sums = mapped.evaluate(program, mesh)(state[0].params, placed)
        evaluation.metrics(jax.device_get(sums))

    compiling, training = _repeated(train)
    once, evaluating = _repeated(evaluate)
    found = {
        "compiling": compiling + once,
        "training": training / n_steps / len(sample),
        "evaluation": evaluating / len(sample),
    }
    return found | _lenses(sample, config, jax.device_get(tuple(state[0])))


def _lenses(sample: Sequence[Run], config: SweepConfig, state: Any) -> dict[str, Any]:
    """What writing and measuring a checkpoint takes, by diagnostic."""
    steps, batch = config.train.checkpoint_steps, RunBatch.of(sample)
    ends = steps[0], steps[-1]  # which every diagnostic measures
    params, opt_state = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(sample)], state)
    members = frozenset(batch.run_ids)
    own = dataclasses.replace(config, shard=None, members=members)
    compiling, lenses, rows = 0.0, {}, {}
    with tempfile.TemporaryDirectory(prefix="grokjax-plan-") as name:
        folder = pathlib.Path(name)
        with Writer(folder / "checkpoints", batch) as writer:
            for step in ends:
                begun = time.process_time()
                writer.save(step, params, opt_state)
                writer.wait()
                writing = (time.process_time() - begun) / len(os.sched_getaffinity(0))
        for lens in config.options.diagnostics:
            options = dataclasses.replace(config.options, diagnostics=(lens,))
            analyst = Analyst(folder, own, options)
            analyst.prepare()
            first, second = (_timed(partial(analyst.measure, batch, step)) for step in ends)
            compiling += max(0.0, first[0] - second[0])
            lenses[lens] = [seconds / len(sample) for seconds in second]
            for key, table in tables_of(options)[lens].items():
                each = len(analyst.results.read(key, table)) / len(ends) / len(sample)
                rows[key] = each if table.within == () else each / sample[-1].task.n_elements
        metrics = Results(folder, batch.run_ids)
        row = dict.fromkeys(METRICS.columns, 0.1) | {"step": 0}
        lines = [row | {"run_id": run_id} for run_id in members]
        appending, _ = _timed(partial(metrics.append, "metrics", METRICS, lines))
    return {
        "compiling lenses": compiling,
        "lenses": lenses,
        "rows": rows,
        "a checkpoint": writing + appending,
    }


def _base(sample: Sequence[Run], config: SweepConfig) -> float:
    """Bytes of this process at its largest without the batch that it had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(0, peak - work.memory(sample, config.train, len(sample)).of(len(sample)))


class Rates:
    """What programs take, measured of a few of them and scaled by operations for the others."""

    def __init__(self, config: SweepConfig, batches: Batches):
        self._config = config
        self._n_devices = len(jax.local_devices())
        largest: dict[Any, Sequence[Run]] = {}
        for batch in batches:
            there = largest.setdefault(batch[0].static, batch)
            if self.operations(batch)[0] > self.operations(there)[0]:
                largest[batch[0].static] = batch
        ordered = sorted(largest.values(), key=lambda batch: self.operations(batch))
        places = np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_MEASURED)).round()
        self.known = [self._known(ordered[int(place)]) for place in dict.fromkeys(places)]
        self.base = max(found["base"] for _, found in self.known)
        self.rows = {k: v for _, found in self.known for k, v in found["rows"].items()}

    def operations(self, batch: Sequence[Run]) -> tuple[int, int]:
        """Of a step and of an evaluation of a run of a batch, padding included."""
        return work.trace(work.largest(batch), self._config.train).flops

    def _known(self, batch: Sequence[Run]) -> tuple[Sequence[Run], dict[str, Any]]:
        config, n_most = self._config, _RUNS_A_DEVICE * self._n_devices
        if not mapped.takes_runs_in_turn():
            n_most = len(batch)  # which share the device
        by_size = sorted(batch, key=lambda run: (run.task.n_places, run.task.n_train))
        sample = by_size[-n_most:]
        n_steps = max(calls(config.train.checkpoint_every))
        if mapped.takes_runs_in_turn():
            most = _OPERATIONS // (self.operations(batch)[0] * len(sample) or 1)
            n_steps = min(n_steps, max(5, most))

        def make() -> dict[str, Any]:
            found = measure(sample, config, n_steps)
            return found | {"base": _base(sample, config)}

        told = [str(Program.of(sample, config.train)), len(sample), n_steps]
        told += [str(config.options), str(sample[-1].task), len(os.sched_getaffinity(0))]
        return batch, compilation.recalled(("rates", told), make)

    def seconds(self, batch: Sequence[Run]) -> dict[str, float]:
        """Of a whole batch, from step 0 to its last checkpoint measured, by what it goes into."""
        training, evaluating = self.operations(batch)

        def distance(known: tuple[Sequence[Run], Any]) -> tuple[bool, float]:
            ratio = self.operations(known[0])[0] / training
            return known[0][0].static != batch[0].static, max(ratio, 1 / ratio)

        nearest, found = min(self.known, key=distance)
        step, evaluation = self.operations(nearest)
        train, n_runs = self._config.train, len(batch)
        in_turn = mapped.takes_runs_in_turn()
        padded = -(-n_runs // self._n_devices) * self._n_devices if in_turn else n_runs
        n_checkpoints = len(train.checkpoint_steps)
        lenses = 0.0
        for name, (clock, worked) in found["lenses"].items():
            own = sum(measures(name, run, self._config.options) for run in batch)
            steps = diagnostics.steps(name, train.checkpoint_steps, self._config.options)
            lenses += (worked if in_turn else clock) * own * len(steps)
        scale = evaluating / evaluation
        return {
            "training": found["training"] * training / step * train.steps * padded,
            "evaluation": found["evaluation"] * scale * n_checkpoints * n_runs,
            "checkpoints": found["a checkpoint"] * n_checkpoints,
            "diagnostics": lenses * scale,
            "compiling": found["compiling"] + found["compiling lenses"],
        }


# --------------------------------------------------------------------------- the plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep will take."""

    n_runs: int
    n_programs: int
    batches: tuple[int, ...]  # their numbers of runs
    padding: float  # share of the operations
    operations: float
    memory: float  # bytes of a device, or of the process on a CPU
    memory_available: float
    disk: Disk
    there: int  # bytes of it that are there
    free: int
    seconds: Mapping[str, float]  # by what they go into
    done: float  # share of the operations that is made
    beside: bool  # whether diagnostics have a processor that training leaves

    @property
    def total_seconds(self) -> float:
        """Of all that is left, until the last checkpoint is measured."""
        lenses = self.seconds["diagnostics"]
        before = self.seconds["start"] + self.seconds["compiling"]
        training = sum(self.seconds.values()) - before - lenses
        rest = max(training, lenses) if self.beside else training + lenses
        return before + rest * (1 - self.done)


def plan(parts: Parts) -> Plan:
    """What parts of a sweep, one after the other, will take; measures, and writes nothing there."""
    start = seconds_since_start()
    every = [
        (folder, config, batch) for folder, (config, batches) in parts.items() for batch in batches
    ]
    config = every[0][1]
    rates = Rates(config, tuple(batch for *_, batch in every))
    times = [rates.seconds(batch) for *_, batch in every]
    n_devices, in_turn = len(jax.local_devices()), mapped.takes_runs_in_turn()
    padded = own = done = 0.0
    programs: dict[tuple[str, int], float] = {}  # of a number of runs → seconds to compile it
    for (folder, _, batch), took in zip(every, times, strict=True):
        slots = -(-len(batch) // n_devices) * n_devices
        largest = work.costs([work.largest(batch)], config.train)[0]
        padded += slots * largest
        own += sum(work.costs(batch, config.train))
        resumable = Reader(folder / "checkpoints").resumable_steps(RunBatch.of(batch).name)
        done += slots * largest * max(resumable, default=0) / config.train.steps
        programs[str(Program.of(batch, config.train)), len(batch)] = took.pop("compiling")
    seconds = {name: sum(took[name] for took in times) for name in times[0]}
    largest_batch = max(
        work.memory(batch, config.train, len(batch)).of(len(batch)) for *_, batch in every
    )
    return Plan(
        n_runs=sum(len(batch) for *_, batch in every),
        n_programs=len({program for program, _ in programs}),
        batches=tuple(len(batch) for *_, batch in every),
        padding=1 - own / padded,
        operations=padded,
        memory=rates.base + largest_batch if in_turn else largest_batch / n_devices,
        memory_available=2 * work.available() / (1 if in_turn else n_devices),
        disk=needed(parts, rates.rows, [sum(took.values()) for took in times]),
        there=sum(there(folder) for folder in parts),
        free=free(next(iter(parts))),
        seconds={"start": start, "compiling": sum(programs.values()), **seconds},
        done=done / padded,
        beside=not in_turn,
    )


def needed(
    parts: Parts, rows: Mapping[str, float] | None = None, seconds: Sequence[float] = ()
) -> Disk:
    """The disk of all parts of a sweep; see ``disk``."""
    found, left = Disk(checkpoints=0, states=0, tables=0), iter(seconds)
    for config, batches in parts.values():
        own = disk(config, batches, rows, list(itertools.islice(left, len(batches))))
        found = Disk(
            checkpoints=found.checkpoints + own.checkpoints,
            states=found.states + own.states,
            tables=found.tables + own.tables,
        )
    return found


def check_disk(parts: Parts, times: float = 1) -> None:
    """Raises ``InvalidSettingError`` if the disk has not what the rest of a sweep needs.

    Beside these parts of it others come to the same disk, so many times as much with them.
    """
    folder, total = next(iter(parts)), needed(parts).total
    rest, left = times * (total - sum(map(there, parts))), free(folder)
    message = (
        f"the sweep needs {rest:,.0f} bytes ({size(rest)}) and its disk has {left:,} free "
        f"({size(left)}); keep fewer parameters (--keep=last), make fewer checkpoints, take "
        "another disk, or start all the same: --allow=disk"
    )
    check(rest <= left, "workdir", folder, message)


def size(n_bytes: float) -> str:
    """Bytes as a person says them."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while n_bytes >= 999.5 and units[1:]:
        n_bytes, units = n_bytes / 1000, units[1:]
    return f"{n_bytes:.3g} {units[0]}"


def lines(found: Plan, config: SweepConfig) -> Iterator[str]:
    """A plan in words."""
    varied = {name: values for name, values in config.trained().items() if isinstance(values, list)}
    axes = [f"--{k}={','.join(map(str, v))}" for k, v in varied.items() if len(v) > 1]
    yield f"{found.n_runs:,} runs: {' '.join(axes) or 'one setting'}"
    number, most = len(found.batches), max(found.batches)
    yield (
        f"{found.n_programs} programs, {number} batches of at most {most} runs; padding is "
        f"{found.padding:.1%} of {found.operations:.2g} operations"
    )
    yield f"memory: {size(found.memory)} of {size(found.memory_available)} a device"
    kept, own = config.saving.keep, found.disk
    yield (
        f"disk: {size(own.total)}, of which {size(found.there)} is there and {size(found.free)} "
        f"is free: parameters {size(own.checkpoints)} (--keep={kept}), optimiser states "
        f"{size(own.states)}, tables {size(own.tables)}; besides a page of at most {size(_PAGE)}"
    )
    parts = ", ".join(f"{name} {duration(took)}" for name, took in found.seconds.items())
    done = f" ({found.done:.0%} is done)" if found.done else ""
    yield f"time: {duration(found.total_seconds)}{done}: {parts}; then the page"
