"""Committed checkpoints → rows of the diagnostics' tables.

The one code path for a sweep in progress, a later ``grokjax.analyze`` and another machine: what
is to do is read off the checkpoints that are there and the rows that are not. Beside a sweep a
thread reads committed checkpoints back from disk; what lenses saw of them on the devices, between
two chunks of training, waits for it in memory, of at most two checkpoints.
"""

import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Self

import jax

from grokjax.diagnostics import Options, RunView
from grokjax.measuring import isolation
from grokjax.measuring.lenses import Lenses, Seen
from grokjax.measuring.views import settings_of, tables_of, view
from grokjax.models import network
from grokjax.models.network import Model
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run, digest
from grokjax.store import folders
from grokjax.store.checkpoints import Reader, RunBatch
from grokjax.store.errors import CheckpointError, LetGoError
from grokjax.store.results import Results, places
from grokjax.training import data
from grokjax.training.evaluation import Answers
from grokjax.training.evaluator import Chunk, Evaluator

# Checkpoints of a batch whose views wait in memory at most; training waits for more to be measured.
_MOST_SEEN = 2
_NICENESS = 10  # of what is measured beside training

Waiting = dict[str, list[str]]  # diagnostic → ids of the runs that it has to measure
Found = dict[str, tuple[isolation.Rows, isolation.Failures]]  # by diagnostic


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
        self.failures: isolation.Failures = {}  # on record
        self._done: dict[str, set[tuple[str, int]]] = {}
        self.lenses = Lenses(options, config.train)
        self._evaluators: dict[str, Evaluator] = {}

    def prepare(self) -> list[str]:
        """Makes the tables ready; returns what is worth telling.

        A table measured under other settings is set aside, not overwritten; so is a damaged one,
        and what it held is measured again, as is what a diagnostic failed on before.
        """
        messages = []
        self.failures = isolation.read(self.workdir)
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
            if not done:  # it measures everything anew
                self.failures = {u: own for u, own in self.failures.items() if u[0] != name}
            again = {unit[1:] for unit in self.failures if unit[0] == name}
            self._done[name] = (done or set()) - again
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
            for run_id in batch.run_ids:
                new = (run_id, step) not in done
                if new and self.lenses.measures(name, step, self._runs[run_id]):
                    waiting.setdefault(name, []).append(run_id)
        return waiting

    def needs_device(self, waiting: Waiting, step: int) -> bool:
        """Whether anything of what waits is seen on a device."""
        run_ids = {run_id for own in waiting.values() for run_id in own}
        return any(self.lenses.needs_device(step, self._runs[run_id]) for run_id in run_ids)

    def measure(self, batch: RunBatch, step: int, seen: Mapping[str, Seen] | None = None) -> int:
        """Measures what is pending at a checkpoint and commits it; returns how many run views.

        Without what was ``seen`` of it, it is seen now.
        """
        waiting = self.pending(batch, step)
        try:
            views = self.views(batch, step, waiting, seen)
        except LetGoError:
            return 0  # by the sweep that this goes on beside
        self.commit(step, waiting, self.compute(waiting, views))
        return len(views)

    def views(
        self,
        batch: RunBatch,
        step: int,
        waiting: Waiting,
        seen: Mapping[str, Seen] | None = None,
    ) -> dict[str, RunView]:
        """Run id → what diagnostics see of it, of all runs that any diagnostic waits for."""
        wanted = {run_id for run_ids in waiting.values() for run_id in run_ids}
        if not wanted:
            return {}
        runs = [self._runs[run_id] for run_id in batch.run_ids]
        stacked = read_params(self.reader, batch, step, runs)
        folders.flush(self.workdir / "checkpoints", batch.name)
        if seen is None:
            index = [i for i, run in enumerate(runs) if run.run_id in wanted]
            own = [runs[i] for i in index]
            key = digest(*(run.run_id for run in own))
            if key not in self._evaluators:
                self._evaluators = {key: self.lenses.evaluator(own)}
            some = jax.tree.map(lambda leaf: leaf[index], stacked)
            seen = self.lenses.of_batch(self._evaluators[key], step, some)
        settings = step, self._train, self.options
        return {
            run.run_id: view(run, own_params(stacked, i, run), *settings, seen.get(run.run_id))
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
        failed = {unit: errors for _, own in found.values() for unit, errors in own.items()}
        units = {(name, run_id, step) for name, run_ids in waiting.items() for run_id in run_ids}
        mended = (self.failures.keys() & units) - failed.keys()
        # Killed in between, what has no rows is known to have failed, or is not done.
        isolation.append(self.workdir, failed)
        self.failures |= failed
        for name, (rows, _) in found.items():
            for key, table in reversed(self._tables[name].items()):
                self.results.append(key, table, rows[key])
            self._done[name] |= {(run_id, step) for run_id in waiting[name]}
        isolation.append(self.workdir, {unit: {} for unit in mended})
        for unit in mended:
            del self.failures[unit]

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

    It is a ``Watch`` of training: what lenses saw waits for the commit of its checkpoint. What was
    not seen, because it was committed by an earlier start, is seen once the block ends, so that the
    devices are training's alone. Leaving the block waits until all is measured; after an error,
    for the checkpoint in hand alone. ``tell`` hears how many run checkpoints are measured and the
    seconds the last ones took; ``damaged`` are unreadable checkpoints, for training to make anew.
    """

    def __init__(self, analyst: Analyst, tell: Callable[[int, float], None]):
        self._analyst, self._tell = analyst, tell
        self._finish, self._abandon, self._news = (threading.Event() for _ in range(3))
        self._looked: dict[str, Seen] = {}  # at the checkpoint in training's hand
        self._seen: dict[tuple[str, int], dict[str, Seen]] = {}
        self._measured = 0
        self.damaged: dict[tuple[str, int], CheckpointError] = {}
        executor = futures.ThreadPoolExecutor(1, thread_name_prefix="diagnostics")
        self._ended = executor.submit(self._run)
        executor.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        (self._abandon if kind else self._finish).set()
        self._news.set()
        futures.wait([self._ended])
        if not kind:
            self.check()

    def check(self) -> None:
        """Raises the error that ended the stage, if one did."""
        if self._ended.done():
            self._ended.result()

    def group(self, run: Run) -> Hashable:
        """See ``Watch``; so with the others."""
        return self._analyst.lenses.group(run)

    def wants(self, step: int, runs: Sequence[Run]) -> bool:
        """Whether diagnostics look at answers."""
        return self._analyst.lenses.wants(step, runs)

    def look(self, step: int, chunk: Chunk, answers: Answers | None) -> None:
        """Looks through all lenses."""
        self._looked |= self._analyst.lenses.look(step, chunk, answers)

    def seen(self, batch: str, step: int, given_up: Callable[[], bool]) -> None:
        """Keeps what was seen; waits while there is too much, unless it has been ``given_up``."""
        self._seen[batch, step], self._looked = self._looked, {}
        self._news.set()
        while len(self._seen) > _MOST_SEEN and not self._ended.done() and not given_up():
            time.sleep(0.01)

    def _run(self) -> None:
        if sys.platform == "linux":
            # There it is this thread's alone, and that of those it starts: training goes first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
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
                # What was seen is about to be committed.
                self._news.wait(0.1 if self._seen else 0.5)
                self._news.clear()

    def _measure(self, batch: RunBatch, step: int) -> None:
        begun = time.perf_counter()
        waiting, seen = self._analyst.pending(batch, step), self._seen.get((batch.name, step))
        busy = not self._finish.is_set()
        if busy and seen is None and self._analyst.needs_device(waiting, step):
            return
        try:
            n_measured = self._analyst.measure(batch, step, seen)
        except CheckpointError as error:
            self.damaged[error.batch, error.step] = error
            return
        finally:
            self._seen.pop((batch.name, step), None)
        if n_measured:
            self._measured += n_measured
            self._tell(self._measured, time.perf_counter() - begun)
