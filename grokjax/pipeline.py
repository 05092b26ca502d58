"""A sweep: batches through training to checkpoints and tables, measured along the way.

Training never waits for diagnostics: a thread follows the committed checkpoints and reads them
back from disk, as a later analysis would.
"""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import pandas as pd

from grokjax import models, statistics, tasks, train
from grokjax.analysis import Analyst
from grokjax.checkpoints import Batch, Reader, Writer
from grokjax.grid import ModelConfig, RunSpec, TrainConfig, digest
from grokjax.models import Model
from grokjax.results import METRICS, Results
from grokjax.train import Evaluation, Program, State
from grokjax.workdir import SweepConfig

# The device is handed this many steps at a time at most: fine enough for a live display and a
# quick stop, coarse enough that handing over costs nothing.
_MOST_STEPS_A_CALL = 100

# Merged tables are rewritten when at least this many times the last rewriting's time has gone by.
_MERGE_SHARE = 50


class Display(Protocol):
    """What a sweep tells while it runs."""

    def started(self, runs: Sequence[RunSpec], run_steps: int, checkpoints: int) -> None:
        """The grid, the run-steps in all and the run checkpoints to be measured."""

    def trained(self, batch: int, step: int, run_steps: int, seconds: float) -> None:
        """A batch has come to ``step``; so many run-steps took so many seconds."""

    def evaluated(self, batch: int, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Metrics of a checkpoint."""

    def measured(self, done: int) -> None:
        """How many run checkpoints have been through all diagnostics."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class Stopped(BaseException):  # not an error, and not to be caught as one
    """The sweep stopped before its end, at a checkpoint, as it was asked to."""


class StopRequest:
    """Set by a signal or a time limit; looked at between calls to the device."""

    def __init__(self, max_seconds: float | None = None, grace: float = 30.0):
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._grace = grace
        self._requested_at: float | None = None
        self.reason = ""

    def request(self, reason: str) -> None:
        """Asks the sweep to stop."""
        if self._requested_at is None:
            self._requested_at, self.reason = time.monotonic(), reason

    def due(self, seconds_to_checkpoint: float) -> bool:
        """Whether to stop now; finishing a checkpoint within the grace period comes first."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.request("--max_seconds")
        if self._requested_at is None:
            return False
        left = self._requested_at + self._grace - time.monotonic()
        return seconds_to_checkpoint <= 0 or seconds_to_checkpoint > left


# --------------------------------------------------------------------------- one batch


def config_hash(runs: Sequence[RunSpec], config: ModelConfig, settings: TrainConfig) -> str:
    """What parameters of a batch depend on, as one hash; steps are not among it."""
    optimiser = (train.BETA1, train.BETA2, train.EPSILON, train.WARMUP_STEPS)
    return digest(
        [run.run_id for run in runs], config, settings.batch_size, settings.precision, optimiser
    )


def _rows(runs: Sequence[RunSpec], step: int, evaluation: Evaluation) -> list[dict[str, Any]]:
    columns = train.metrics(evaluation)
    return [
        {"run_id": run.run_id, "step": step}
        | {name: float(column[i]) for name, column in columns.items()}
        for i, run in enumerate(runs)
    ]


class BatchTrainer:
    """Takes one batch from where its checkpoints are to the last step."""

    def __init__(
        self,
        number: int,
        runs: Sequence[RunSpec],
        config: ModelConfig,
        settings: TrainConfig,
        workdir: pathlib.Path,
        results: Results,
        display: Display,
        stop: StopRequest,
    ):
        self._number, self._runs, self._settings = number, runs, settings
        self._results, self._display, self._stop = results, display, stop
        self._model = Model(config=config, n_tokens=max(run.prime for run in runs))
        self._program = Program.of(self._model, settings)
        self._root = workdir / "checkpoints"
        self.batch = Batch(
            run_ids=tuple(run.run_id for run in runs),
            config_hash=config_hash(runs, config, settings),
        )

    def run(self, measured: set[tuple[str, int]]) -> None:
        """Trains to the end; ``measured`` are the (run_id, step) that metrics already hold.

        Raises:
            Stopped: if asked to stop; every checkpoint passed is committed with its metrics.
        """
        last = self._settings.steps
        reader = Reader(self._root)
        start = reader.resumable_step(self.batch.name)
        steps = set(reader.steps(self.batch.name))
        missing = [
            step
            for step in sorted(steps)
            if any((run.run_id, step) not in measured for run in self._runs)
        ]
        if start == last and not missing:
            return
        self._mesh = train.runs_mesh()
        self._data = train.place(self._mesh, tasks.stack(self._runs))
        for step in missing:
            self._evaluate(step, self._restore(reader, step, "params"))
        if start == last:
            return
        if start is None:
            state = train.init(self._program, self._mesh, self._data)
            start = 0
            resumed = False
        else:
            state = State(
                self._restore(reader, start, "params"), self._restore(reader, start, "opt_state")
            )
            resumed = True
            self._display.note(f"batch {self._number + 1}: resumed at step {start}")
        with Writer(self._root, self.batch) as writer:
            if not resumed:
                self._checkpoint(writer, 0, state)
            while start < last:
                state = self._train_to(start + self._settings.checkpoint_every, start, state)
                start += self._settings.checkpoint_every
                self._checkpoint(writer, start, state)
                if self._stop.due(0):
                    raise Stopped(self._stop.reason)

    def _train_to(self, target: int, step: int, state: State) -> State:
        n_steps = max(
            n for n in range(1, _MOST_STEPS_A_CALL + 1) if self._settings.checkpoint_every % n == 0
        )
        while step < target:
            begun = time.perf_counter()
            state, losses = train.train_chunk(
                self._program, self._mesh, n_steps, state, self._data, step
            )
            jax.block_until_ready(losses)
            seconds = time.perf_counter() - begun
            step += n_steps
            self._display.trained(self._number, step, n_steps * len(self._runs), seconds)
            if step < target and self._stop.due(seconds * (target - step) / n_steps):
                raise Stopped(self._stop.reason)
        return state

    def _checkpoint(self, writer: Writer, step: int, state: State) -> None:
        # Copies, because the next step overwrites the state while it is still being written.
        n_runs = len(self._runs)
        params, opt_state = jax.tree.map(lambda leaf: np.array(leaf)[:n_runs], tuple(state))
        writer.save(step, params, opt_state)
        self._evaluate(step, state.params)

    def _evaluate(self, step: int, params: models.Params) -> None:
        sums = train.evaluate(self._program, self._mesh, params, self._data)
        rows = _rows(self._runs, step, jax.device_get(sums))
        self._results.append("metrics", METRICS, rows)
        self._display.evaluated(self._number, step, rows)

    def _restore(self, reader: Reader, step: int, item: str) -> Any:
        shapes = jax.eval_shape(
            lambda data: train.init(self._program, self._mesh, data), self._data
        )
        n_runs = len(self._runs)
        cut = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((n_runs, *leaf.shape[1:]), leaf.dtype), shapes
        )
        read = reader.params if item == "params" else reader.opt_state
        return train.place(self._mesh, read(self.batch, step, getattr(cut, item)))


# --------------------------------------------------------------------------- following


class Follower:
    """A thread that measures checkpoints as they are committed."""

    def __init__(self, analyst: Analyst, display: Display):
        self._analyst, self._display = analyst, display
        self._finish, self._abandon = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="diagnostics", daemon=True)
        self._measured = 0
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begins following."""
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
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._abandon.is_set():
                last_look = self._finish.is_set()
                idle = True
                for batch, step in list(self._analyst.committed()):
                    if self._abandon.is_set():
                        return
                    n_measured = self._analyst.measure(batch, step)
                    if n_measured:
                        idle = False
                        self._measured += n_measured
                        self._display.measured(self._measured)
                if last_look and idle:
                    return
                if idle:
                    self._finish.wait(0.5)
        except BaseException as error:
            self.error = error


# --------------------------------------------------------------------------- the tables of runs


def runs_table(
    runs: Sequence[RunSpec], metrics: pd.DataFrame, steps: int, failed: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows of ``runs.parquet``: what each run is, how far it came, when it memorised and grokked.

    Args:
        runs: the grid.
        metrics: the metrics table so far.
        steps: the step at which a run is done.
        failed: ids of runs that an error took down.
    """
    grouped = dict(list(metrics.groupby("run_id", sort=False)))
    rows = []
    for run in runs:
        own = grouped.get(run.run_id)
        row: dict[str, Any] = {name: getattr(run, name) for name in _SPEC_FIELDS}
        row |= {"run_id": run.run_id, "n_train": run.n_train, "status": "running"}
        row |= {"memorisation_step": pd.NA, "generalisation_step": pd.NA}
        if own is not None:
            own = own.sort_values("step")
            step = own["step"].to_numpy()
            memorised = statistics.memorisation_step(step, own["train_accuracy"].to_numpy())
            grokked = statistics.generalisation_step(step, own["test_accuracy"].to_numpy())
            row["memorisation_step"] = pd.NA if memorised is None else memorised
            row["generalisation_step"] = pd.NA if grokked is None else grokked
            if own["train_loss"].isna().any():
                row["status"] = "diverged"
            elif step[-1] >= steps:
                row["status"] = "done"
        if run.run_id in failed and row["status"] == "running":
            row["status"] = "failed"
        rows.append(row)
    return rows


_SPEC_FIELDS = tuple(RunSpec.__dataclass_fields__)


# --------------------------------------------------------------------------- the sweep


class Merger:
    """Rewrites the merged tables now and then, at a small share of the time."""

    def __init__(self, results: Results, analyst: Analyst, config: SweepConfig):
        self._results, self._analyst, self._config = results, analyst, config
        self._next = 0.0

    def merge(self, failed: Sequence[str] = ()) -> None:
        """Writes all merged tables now."""
        begun = time.monotonic()
        self._results.merge("metrics", METRICS)
        self._analyst.merge()
        metrics = self._results.read("metrics", METRICS)
        self._results.write_runs(
            runs_table(self._config.runs, metrics, self._config.train.steps, failed)
        )
        took = time.monotonic() - begun
        self._next = time.monotonic() + _MERGE_SHARE * took

    def merge_if_due(self) -> None:
        """Writes them if the last time is long enough ago."""
        if time.monotonic() >= self._next:
            self.merge()


@contextlib.contextmanager
def _merging(merger: Merger) -> Iterator[threading.Event]:
    """Merges in the background, so that the tables are never far behind."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(1.0):
            merger.merge_if_due()

    thread = threading.Thread(target=loop, name="tables", daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        ended.set()
        thread.join()


def sweep(
    config: SweepConfig,
    batches: Sequence[Sequence[RunSpec]],
    workdir: pathlib.Path,
    display: Display,
    stop: StopRequest,
) -> list[str]:
    """Trains and measures everything that is not there yet; returns the ids of runs that failed.

    Raises:
        Stopped: if asked to stop; the same call goes on where this one ended.
        diagnostics.persistence.EngineMismatch: if the engines disagree.
    """
    runs = config.runs
    results = Results(workdir, [run.run_id for run in runs])
    analyst = Analyst(workdir, runs, config.models, config.train.precision, config.options)
    for message in analyst.prepare():
        display.note(message)
    merger = Merger(results, analyst, config)
    merger.merge()
    n_checkpoints = len(config.train.checkpoint_steps) * len(runs)
    display.started(runs, config.train.steps * len(runs), n_checkpoints)
    follower = Follower(analyst, display)
    follower.start()
    failed: list[str] = []
    try:
        with _merging(merger):
            metrics = results.read("metrics", METRICS)
            measured = set(metrics[["run_id", "step"]].itertuples(index=False, name=None))
            for number, batch in enumerate(batches):
                trainer = BatchTrainer(
                    number,
                    batch,
                    config.models[batch[0].model],
                    config.train,
                    workdir,
                    results,
                    display,
                    stop,
                )
                try:
                    trainer.run(measured)
                except Exception as error:
                    # Other batches do not depend on this one; what it committed stays.
                    failed += trainer.batch.run_ids
                    display.note(f"batch {number + 1} failed: {error!r}")
                follower.check()
            follower.finish()
    except BaseException:
        follower.abandon()
        merger.merge(failed)
        raise
    merger.merge(failed)
    return failed
