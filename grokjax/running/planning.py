"""What a sweep will take, before its first step: operations, memory, disk, time."""

import dataclasses
from collections.abc import Iterator, Mapping

import jax

from grokjax.running import storage
from grokjax.running.progress import duration, seconds_since_start
from grokjax.running.rates import Rates
from grokjax.running.storage import Disk, Parts, size
from grokjax.settings.config import SweepConfig
from grokjax.store.checkpoints import Reader, RunBatch
from grokjax.training import mapped, work
from grokjax.training.step import Program

_PAGE = 25_000_000  # bytes, at most


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
    free: float
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
        mesh = mapped.runs_mesh(len(batch))
        slots = -(-len(batch) // mesh.size) * mesh.size
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
        disk=storage.needed(parts, rates.rows, [sum(took.values()) for took in times]),
        there=sum(storage.there(folder) for folder in parts),
        free=storage.free(next(iter(parts))),
        seconds={"start": start, "compiling": sum(programs.values()), **seconds},
        done=done / padded,
        beside=not in_turn,
    )


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def lines(found: Plan, config: SweepConfig) -> Iterator[str]:
    """A plan in words."""
    varied = {name: values for name, values in config.trained().items() if isinstance(values, list)}
    axes = [f"--{k}={','.join(map(str, v))}" for k, v in varied.items() if len(v) > 1]
    each = f"{config.train.steps:,} steps, {len(config.train.checkpoint_steps):,} checkpoints"
    yield f"{_count(found.n_runs, 'run')} of {each}: {' '.join(axes) or 'one setting'}"
    number, most = len(found.batches), max(found.batches)
    yield (
        f"{_count(found.n_programs, 'program')}, {_count(number, 'batch', 'batches')} of at most "
        f"{_count(most, 'run')}; {found.operations:.2g} operations, {found.padding:.1%} of padding"
    )
    whose = "of each device" if found.beside else "of this process"
    yield f"memory {whose}: {size(found.memory)} of {size(found.memory_available)} free"
    kept, own = config.saving.keep, found.disk
    yield (
        f"disk: {size(own.total)}, of which {size(found.there)} is there and {size(found.free)} "
        f"is free: parameters {size(own.checkpoints)} (--keep={kept}), optimiser states "
        f"{size(own.states)}, tables {size(own.tables)}; besides a page of at most {size(_PAGE)}"
    )
    parts = ", ".join(f"{name} {duration(took)}" for name, took in found.seconds.items())
    done = f" ({found.done:.0%} is done)" if found.done else ""
    yield f"time: {duration(found.total_seconds)}{done}: {parts}; then the page"
