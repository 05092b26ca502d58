"""Committed checkpoints → rows of the diagnostics' tables.

The one code path for a sweep in progress, a later ``grokjax.analyze`` and another machine: what
is to do is read off the checkpoints that are there and the rows that are not. Beside a sweep a
thread reads checkpoints back from disk, so nothing queues in memory.
"""

import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from grokjax import diagnostics
from grokjax.diagnostics import Options, RunView
from grokjax.measuring import isolation
from grokjax.measuring.views import measures, settings_of, tables_of, view
from grokjax.models import network
from grokjax.models.network import Model
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store.checkpoints import Reader, RunBatch
from grokjax.store.errors import CheckpointError
from grokjax.store.results import Results
from grokjax.training import data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What diagnostics found at a checkpoint: plain values, fit to travel."""

    step: int
    run_ids: dict[str, tuple[str, ...]]  # diagnostic → runs measured
    rows: dict[str, isolation.Rows] = dataclasses.field(default_factory=dict)
    failures: list[isolation.Failure] = dataclasses.field(default_factory=list)


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
        self._options = options = options or config.options
        self._reader = Reader(workdir / "checkpoints")
        self._tables = tables_of(options)
        self.results = Results(workdir, list(self._runs))
        self.failures = isolation.Failures(workdir / "results" / "failures.json")
        self._done: dict[str, set[tuple[str, int]]] = {}
        every = config.train.checkpoint_steps
        self._steps = {name: diagnostics.steps(name, every, options) for name in self._tables}

    def prepare(self) -> list[str]:
        """Makes the tables ready; returns what is worth telling.

        A table measured under other settings is set aside, not overwritten; so is a damaged one,
        and what it held is measured again, as is what a diagnostic failed on before.
        """
        messages = []
        failed_before = self.failures.read()
        for name, tables in self._tables.items():
            settings = settings_of(name, self._options)
            done: set[tuple[str, int]] | None = None
            for key, table in tables.items():
                damage = self.results.recover(key, table)
                messages += damage
                new = bool(damage) or not self.results.path(key).exists()
                if not new and self.results.settings(key) != settings:
                    kept = self.results.set_aside(key, table)
                    messages.append(f"{key}.parquet had other settings; it is kept as {kept}")
                self.results.compact(key, table, settings)
                frame = self.results.read(key, table)[["run_id", "step"]]
                units = set(frame.itertuples(index=False, name=None))
                # What a diagnostic commits last is its first table: a unit there is in all of
                # them, but for those that have lost rows or never had any.
                if done is None:
                    done = units
                elif new:
                    done &= units
            again = {(f.run_id, f.step) for f in failed_before if f.diagnostic == name}
            self._done[name] = (done or set()) - again
        self.failures.clear(self._tables)
        return messages

    def committed(self) -> Iterator[tuple[RunBatch, int]]:
        """Every committed checkpoint of the grid's runs."""
        for name, batch in self._reader.batches().items():
            if set(batch.run_ids) <= self._runs.keys():
                for step in self._reader.steps(name):
                    yield batch, step

    @property
    def unreadable(self) -> dict[str, CheckpointError]:
        """Batches whose checkpoints ``committed`` last found not to say whose they are."""
        return self._reader.unreadable

    def pending(self, batch: RunBatch, step: int) -> dict[str, list[str]]:
        """Diagnostic → ids of the batch's runs that it has not measured at this step."""
        waiting: dict[str, list[str]] = {}
        for name, done in self._done.items():
            for run_id in batch.run_ids if step in self._steps[name] else ():
                run = self._runs[run_id]
                if (run_id, step) not in done and measures(name, run, self._options):
                    waiting.setdefault(name, []).append(run_id)
        return waiting

    def measure(self, batch: RunBatch, step: int) -> int:
        """Measures what is pending at a checkpoint and commits it; returns how many run views."""
        waiting = self.pending(batch, step)
        views = self.views(batch, step, waiting)
        self.commit(self.compute(step, waiting, views))
        return len(views)

    def batch(self, name: str) -> RunBatch:
        """The batch whose checkpoints lie in that folder; raises KeyError."""
        return self._reader.batches()[name]

    def views(
        self, batch: RunBatch, step: int, waiting: Mapping[str, Sequence[str]]
    ) -> dict[str, RunView]:
        """Run id → what diagnostics see of it, of all runs that any diagnostic waits for."""
        wanted = {run_id for run_ids in waiting.values() for run_id in run_ids}
        if not wanted:
            return {}
        runs = [self._runs[run_id] for run_id in batch.run_ids]
        stacked = read_params(self._reader, batch, step, runs)
        return {
            run.run_id: view(run, own_params(stacked, i, run), step, self._train, self._options)
            for i, run in enumerate(runs)
            if run.run_id in wanted
        }

    def compute(
        self, step: int, waiting: Mapping[str, Sequence[str]], views: Mapping[str, RunView]
    ) -> Measured:
        """Runs each diagnostic on the runs that wait for it; writes nothing."""
        measured = Measured(step=step, run_ids={k: tuple(v) for k, v in waiting.items()})
        for name, run_ids in waiting.items():
            rows, failures = isolation.measure(name, [views[i] for i in run_ids], self._options)
            measured.rows[name] = rows
            measured.failures.extend(failures)
        return measured

    def commit(self, measured: Measured) -> None:
        """Adds rows to the tables."""
        self.failures.add(measured.failures)
        for name, run_ids in measured.run_ids.items():
            for key, table in reversed(self._tables[name].items()):
                self.results.append(key, table, measured.rows[name][key])
            self._done[name] |= {(run_id, measured.step) for run_id in run_ids}

    def compact(self) -> None:
        """Writes the tables with everything committed."""
        for name, tables in self._tables.items():
            for key, table in tables.items():
                self.results.compact(key, table, settings_of(name, self._options))

    def measure_all(self, progress: Callable[[int, int], None]) -> None:
        """Measures everything committed; ``progress(done, total)`` after each checkpoint."""
        work = [item for item in self.committed() if self.pending(*item)]
        for i, (batch, step) in enumerate(work):
            self.measure(batch, step)
            progress(i + 1, len(work))


class Follower:
    """A thread that measures what is committed and not measured, until it is told to finish.

    ``tell`` hears how many run checkpoints are measured and the seconds the last ones took;
    ``damaged`` are checkpoints that could not be read, to be made anew by whoever trains.
    """

    def __init__(self, analyst: Analyst, tell: Callable[[int, float], None]):
        self._analyst, self._tell = analyst, tell
        self._finish, self._abandon = threading.Event(), threading.Event()
        self._measured = 0
        self._error: BaseException | None = None
        self.damaged: dict[tuple[str, int], CheckpointError] = {}
        self._thread = threading.Thread(target=self._run, name="diagnostics", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits until everything committed is measured; raises what the stage died of."""
        self._finish.set()
        self._thread.join()
        self.check()

    def abandon(self) -> None:
        """Stops after the checkpoint in hand; what is left is measured another time."""
        self._abandon.set()
        self._thread.join()

    def check(self) -> None:
        """Raises the error that ended the stage, if one did."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._abandon.is_set():
                last_look = self._finish.is_set()
                if not self._look():
                    if last_look:
                        return
                    self._finish.wait(0.5)
        except BaseException as error:
            self._error = error

    def _look(self) -> int:
        """Measures what is committed now; returns how many run checkpoints that was."""
        before = self._measured
        for batch, step in list(self._analyst.committed()):
            if self._abandon.is_set():
                break
            if (batch.name, step) in self.damaged:
                continue
            begun = time.perf_counter()
            try:
                n_measured = self._analyst.measure(batch, step)
            except CheckpointError as error:
                self.damaged[error.batch, error.step] = error
                continue
            if n_measured:
                self._measured += n_measured
                self._tell(self._measured, time.perf_counter() - begun)
        for unreadable in self._analyst.unreadable.values():
            self.damaged[unreadable.batch, unreadable.step] = unreadable
        return self._measured - before
