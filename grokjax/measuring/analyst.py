"""Committed checkpoints → rows of the diagnostics' tables.

The one code path for a sweep in progress, a later ``grokjax.analyze`` and another machine: what
is to do is read off the checkpoints that are there and the rows that are not. Beside a sweep a
thread reads checkpoints back from disk, so nothing queues in memory.
"""

import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Self

from grokjax import diagnostics
from grokjax.diagnostics import Options, RunView
from grokjax.measuring import isolation
from grokjax.measuring.views import measures, settings_of, tables_of, view
from grokjax.models import network
from grokjax.models.network import Model
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store.checkpoints import Reader, RunBatch
from grokjax.store.errors import CheckpointError, LetGoError
from grokjax.store.results import Results, places
from grokjax.training import data

Waiting = dict[str, list[str]]  # diagnostic → ids of the runs that it has to measure
Found = dict[str, tuple[isolation.Rows, list[isolation.Failure]]]  # by diagnostic


def read_params(reader: Reader, batch: RunBatch, step: int, runs: Sequence[Run]) -> network.Params:
    """Parameters of all runs of a batch at a step, (R, …) NumPy arrays with padding."""
    padded = Model(config=runs[0].static.model, sizes=data.sizes(runs))
    template = network.stacked(padded.template(), len(runs))
    return reader.params(batch, step, template)


def own_params(stacked: network.Params, index: int, run: Run) -> network.Params:
    """One run's parameters out of those of its batch, without padding."""
    return network.row(run.model, stacked, index, data.sizes([run]))


class Analyst:
    """Measures a work directory's checkpoints, as ``options``, or those of its sweep, say."""

    def __init__(self, workdir: pathlib.Path, config: SweepConfig, options: Options | None = None):
        self._runs = {run.run_id: run for run in config.runs}
        self._train = config.train
        self.workdir = workdir
        self.options = options = options or config.options
        self.reader = Reader(workdir / "checkpoints")
        self._tables = tables_of(options)
        self.results = Results(workdir, list(self._runs))
        self.failures: list[isolation.Failure] = []
        self._done: dict[str, set[tuple[str, int]]] = {}
        every = config.train.checkpoint_steps
        self._steps = {name: diagnostics.steps(name, every, options) for name in self._tables}

    def prepare(self) -> list[str]:
        """Makes the tables ready; returns what is worth telling.

        A table measured under other settings is set aside, not overwritten; so is a damaged one,
        and what it held is measured again, as is what a diagnostic failed on before.
        """
        messages = []
        failed_before = isolation.read(self.workdir)
        for name, tables in self._tables.items():
            settings = settings_of(name, self.options)
            done: set[tuple[str, int]] | None = None
            for key, table in tables.items():
                damage = self.results.recover(key, table)
                messages += damage
                new = bool(damage) or not self.results.path(key).exists()
                if not new and self.results.settings(key) != settings:
                    kept = self.results.set_aside(key, table)
                    messages.append(f"{key}.parquet had other settings; it is kept as {kept}")
                self.results.compact(key, table, settings)
                units = set(places(self.results.read(key, table)))
                # What a diagnostic commits last is its first table: a unit there is in all of
                # them, but for those that have lost rows or never had any.
                if done is None:
                    done = units
                elif new:
                    done &= units
            again = {(f.run_id, f.step) for f in failed_before if f.diagnostic == name}
            self._done[name] = (done or set()) - again
        self.failures = [f for f in failed_before if f.diagnostic not in self._tables]
        isolation.write(self.workdir, self.failures)
        return messages + self._lost()

    def gone(self) -> Iterator[tuple[RunBatch, int]]:
        """Every checkpoint of the grid's runs whose parameters were let go."""
        for name, batch in self.reader.batches().items():
            if set(batch.run_ids) <= self._runs.keys():
                for step in self.reader.gone(name):
                    yield batch, step

    def _lost(self) -> list[str]:
        """What was let go before it was measured in this way, a sentence a diagnostic."""
        lost: dict[str, list[tuple[str, int]]] = {}
        for batch, step in self.gone():
            for name, run_ids in self.pending(batch, step).items():
                lost.setdefault(name, []).extend((run_id, step) for run_id in run_ids)
        return [
            f"{name}: {len(own):,} run checkpoints at steps {self._span(own)} are not measured: "
            "their parameters were let go (--keep)"
            for name, own in lost.items()
        ]

    def _span(self, own: Sequence[tuple[str, int]]) -> str:
        steps = sorted({step for _, step in own})
        named = [f"{step:,}" for step in steps]
        return ", ".join(named if len(named) < 9 else [*named[:4], "…", *named[-4:]])

    def committed(self) -> Iterator[tuple[RunBatch, int]]:
        """Every committed checkpoint of the grid's runs."""
        for name, batch in self.reader.batches().items():
            if set(batch.run_ids) <= self._runs.keys():
                for step in self.reader.steps(name):
                    yield batch, step

    def pending(self, batch: RunBatch, step: int) -> Waiting:
        """What diagnostics have not measured of a batch at this step."""
        waiting: Waiting = {}
        for name, done in self._done.items():
            for run_id in batch.run_ids if step in self._steps[name] else ():
                run = self._runs[run_id]
                if (run_id, step) not in done and measures(name, run, self.options):
                    waiting.setdefault(name, []).append(run_id)
        return waiting

    def measure(self, batch: RunBatch, step: int) -> int:
        """Measures what is pending at a checkpoint and commits it; returns how many run views."""
        waiting = self.pending(batch, step)
        try:
            views = self.views(batch, step, waiting)
        except LetGoError:
            return 0  # by the sweep that this goes on beside
        self.commit(step, waiting, self.compute(waiting, views))
        return len(views)

    def views(self, batch: RunBatch, step: int, waiting: Waiting) -> dict[str, RunView]:
        """Run id → what diagnostics see of it, of all runs that any diagnostic waits for."""
        wanted = {run_id for run_ids in waiting.values() for run_id in run_ids}
        if not wanted:
            return {}
        runs = [self._runs[run_id] for run_id in batch.run_ids]
        stacked = read_params(self.reader, batch, step, runs)
        return {
            run.run_id: view(run, own_params(stacked, i, run), step, self._train, self.options)
            for i, run in enumerate(runs)
            if run.run_id in wanted
        }

    def compute(self, waiting: Waiting, views: Mapping[str, RunView]) -> Found:
        """Runs each diagnostic on the runs that wait for it; writes nothing."""
        return {
            name: isolation.measure(name, [views[run_id] for run_id in run_ids], self.options)
            for name, run_ids in waiting.items()
        }

    def commit(self, step: int, waiting: Waiting, found: Found) -> None:
        """Adds rows to the tables."""
        failures = [failure for _, own in found.values() for failure in own]
        if failures:
            self.failures += failures
            isolation.write(self.workdir, self.failures)
        for name, (rows, _) in found.items():
            for key, table in reversed(self._tables[name].items()):
                self.results.append(key, table, rows[key])
            self._done[name] |= {(run_id, step) for run_id in waiting[name]}

    def compact(self) -> None:
        """Writes the tables with everything committed."""
        for name, tables in self._tables.items():
            for key, table in tables.items():
                self.results.compact(key, table, settings_of(name, self.options))

    def measure_all(self, progress: Callable[[int, int], None]) -> None:
        """Measures everything committed; ``progress(done, total)`` after each checkpoint."""
        work = [item for item in self.committed() if self.pending(*item)]
        for i, (batch, step) in enumerate(work):
            self.measure(batch, step)
            progress(i + 1, len(work))


class Follower:
    """A thread that measures what is committed and not measured, for as long as the block runs.

    Leaving the block waits until all is measured; after an error, for the checkpoint in hand alone.
    ``tell`` hears how many run checkpoints are measured and the seconds the last ones took;
    ``damaged`` are checkpoints that could not be read, to be made anew by whoever trains.
    """

    def __init__(self, analyst: Analyst, tell: Callable[[int, float], None]):
        self._analyst, self._tell = analyst, tell
        self._finish, self._abandon = threading.Event(), threading.Event()
        self._measured = 0
        self.damaged: dict[tuple[str, int], CheckpointError] = {}
        executor = futures.ThreadPoolExecutor(1, thread_name_prefix="diagnostics")
        self._ended = executor.submit(self._run)
        executor.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        (self._abandon if kind else self._finish).set()
        futures.wait([self._ended])
        if not kind:
            self.check()

    def check(self) -> None:
        """Raises the error that ended the stage, if one did."""
        if self._ended.done():
            self._ended.result()

    def _run(self) -> None:
        while not self._abandon.is_set():
            last_look = self._finish.is_set()
            before = self._measured
            for batch, step in list(self._analyst.committed()):
                if not self._abandon.is_set() and (batch.name, step) not in self.damaged:
                    self._measure(batch, step)
            for unreadable in self._analyst.reader.unreadable.values():
                self.damaged[unreadable.batch, unreadable.step] = unreadable
            if self._measured == before:
                if last_look:
                    return
                self._finish.wait(0.5)

    def _measure(self, batch: RunBatch, step: int) -> None:
        begun = time.perf_counter()
        try:
            n_measured = self._analyst.measure(batch, step)
        except CheckpointError as error:
            self.damaged[error.batch, error.step] = error
            return
        if n_measured:
            self._measured += n_measured
            self._tell(self._measured, time.perf_counter() - begun)
