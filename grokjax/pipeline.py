"""A sweep: batches through training to checkpoints and tables, measured along the way."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pandas as pd

from grokjax import checkpoints, statistics
from grokjax.analysis import Analyst
from grokjax.batches import BatchTrainer, TrainingListener
from grokjax.following import Follower, MeasuringListener
from grokjax.grid import RunSpec
from grokjax.results import METRICS, Results
from grokjax.stopping import StopRequest
from grokjax.workdir import SweepConfig, storage_errors, storage_problem

# Merged tables are rewritten when at least this many times the last rewriting's time has gone by.
_MERGE_SHARE = 50


class Display(TrainingListener, MeasuringListener, Protocol):
    """What a sweep tells while it runs."""

    def started(self, runs: Sequence[RunSpec], run_steps: int, checkpoints: int) -> None:
        """The grid, the run-steps in all and the run checkpoints to be measured."""


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
            with contextlib.suppress(OSError):  # a full disk stops the sweep elsewhere
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
    """Trains and measures everything that is not there yet; returns what failed, as sentences.

    Raises:
        stopping.Stopped: if asked to stop; the same call goes on where this one ended.
        diagnostics.persistence.EngineMismatch: if the engines disagree.
        workdir.StorageError: if the disk takes no more; what is committed is safe.
    """
    results = Results(workdir, [run.run_id for run in config.runs])
    analyst = Analyst(workdir, config.runs, config.models, config.train.precision, config.options)
    results.clean()
    for message in [*results.recover("metrics", METRICS), *analyst.prepare()]:
        display.note(message)
    merger = Merger(results, analyst, config)
    failed: dict[str, str] = {}  # id of a run whose training failed → why
    with storage_errors(workdir):
        merger.merge()
        n_checkpoints = len(config.train.checkpoint_steps) * len(config.runs)
        display.started(config.runs, config.train.steps * len(config.runs), n_checkpoints)
        trainers = [
            BatchTrainer(
                number,
                batch,
                config.models[batch[0].model],
                config.train,
                workdir,
                results,
                display,
                stop,
            )
            for number, batch in enumerate(batches)
        ]
        try:
            with _merging(merger):
                _train_and_measure(trainers, analyst, results, workdir, display, failed)
        except BaseException:
            with contextlib.suppress(OSError):  # of a full disk: the error under way says it
                merger.merge(tuple(failed))
            raise
        merger.merge(tuple(failed))
    return [*dict.fromkeys(failed.values()), *analyst.failures.told()]


def _train_and_measure(
    trainers: Sequence[BatchTrainer],
    analyst: Analyst,
    results: Results,
    workdir: pathlib.Path,
    display: Display,
    failed: dict[str, str],
) -> None:
    """Trains batch after batch with a follower beside; again, where checkpoints were damaged."""
    seen: set[tuple[str, int]] = set()
    while trainers:
        follower = Follower(analyst, display)
        follower.start()
        try:
            for trainer in trainers:
                metrics = results.read("metrics", METRICS)
                measured = set(metrics[["run_id", "step"]].itertuples(index=False, name=None))
                try:
                    trainer.run(measured)
                except Exception as error:
                    if storage_problem(error):
                        raise
                    # Other batches do not depend on this one; what it committed stays.
                    n_runs = len(trainer.batch.run_ids)
                    text = f"batch {trainer.number} failed, {n_runs} runs: {error!r}"
                    failed |= dict.fromkeys(trainer.batch.run_ids, text)
                    display.note(text)
                follower.check()
            follower.finish()
        except BaseException:
            follower.abandon()
            raise
        names = {trainer.batch.name for trainer in trainers}
        for key, damage in follower.damaged.items():
            if key in seen or damage.batch not in names:
                raise damage
            seen.add(key)
            kept = checkpoints.set_aside(
                workdir / "checkpoints", damage.batch, "params", damage.step
            )
            display.note(f"{damage}; it is kept as {kept} and made anew")
        damaged = {batch for batch, _ in follower.damaged}
        trainers = [trainer for trainer in trainers if trainer.batch.name in damaged]
