"""A sweep: batches through training to checkpoints and tables, measured along the way."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator, Sequence

from grokjax.measuring.analyst import Analyst, Follower
from grokjax.running.progress import Display
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store import checkpoints
from grokjax.store import runs as runs_table
from grokjax.store.errors import OtherConfigurationError, storage_errors, storage_problem
from grokjax.store.results import METRICS, Results
from grokjax.training.stopping import StopRequest
from grokjax.training.trainer import BatchTrainer

# Tables are rewritten when at least this many times the last rewriting's time has gone by.
_SHARE = 50


class _Tables:
    """Rewrites the tables now and then, at a small share of the time."""

    def __init__(self, results: Results, analyst: Analyst, config: SweepConfig):
        self._results, self._analyst, self._config = results, analyst, config
        self._next = 0.0

    def write(self, failed: Sequence[str] = ()) -> None:
        """Writes all tables now."""
        begun = time.monotonic()
        self._results.compact("metrics", METRICS)
        self._analyst.compact()
        metrics = self._results.read("metrics", METRICS)
        frame = runs_table.table(self._config.runs, metrics, self._config.train.steps, failed)
        runs_table.write(self._results.path("runs"), frame)
        now = time.monotonic()
        self._next = now + _SHARE * (now - begun)

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Writes in the background, so that the tables are never far behind."""
        ended = threading.Event()

        def loop() -> None:
            while not ended.wait(1.0):
                if time.monotonic() >= self._next:
                    with contextlib.suppress(OSError):  # a full disk stops the sweep elsewhere
                        self.write()

        thread = threading.Thread(target=loop, name="tables", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def sweep(
    config: SweepConfig,
    batches: Sequence[Sequence[Run]],
    workdir: pathlib.Path,
    display: Display,
    stop: StopRequest,
) -> list[str]:
    """Trains and measures everything that is not there yet; returns what failed, as sentences.

    Raises ``Stopped`` if asked to stop, ``EngineMismatch`` if the engines disagree,
    ``OtherConfigurationError`` if a batch's checkpoints are of another, and ``StorageError`` if
    the disk takes no more. The same call resumes where this one ended.
    """
    results = Results(workdir, [run.run_id for run in config.runs])
    analyst = Analyst(workdir, config)
    results.clean()
    for message in [*results.recover("metrics", METRICS), *analyst.prepare()]:
        display.note(message)
    tables = _Tables(results, analyst, config)
    failed: dict[str, str] = {}  # id of a run whose training failed → why
    with storage_errors(workdir):
        tables.write()
        n_checkpoints = len(config.train.checkpoint_steps) * len(config.runs)
        display.started(config.runs, config.train.steps * len(config.runs), n_checkpoints)
        trainers = [
            BatchTrainer(number, batch, config.train, workdir, results, display, stop)
            for number, batch in enumerate(batches)
        ]
        try:
            with tables.followed():
                _train_and_measure(trainers, analyst, results, workdir, display, failed)
        except BaseException:
            with contextlib.suppress(OSError):  # of a full disk: the error under way says it
                tables.write(tuple(failed))
            raise
        tables.write(tuple(failed))
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
        follower = Follower(analyst, display.measured)
        try:
            for trainer in trainers:
                metrics = results.read("metrics", METRICS)
                measured = set(metrics[["run_id", "step"]].itertuples(index=False, name=None))
                try:
                    trainer.run(measured)
                except Exception as error:
                    if storage_problem(error) or isinstance(error, OtherConfigurationError):
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
            root = workdir / "checkpoints"
            kept = checkpoints.set_aside(root, damage.batch, "params", damage.step)
            display.note(f"{damage}; it is kept as {kept} and made anew")
        damaged = {batch for batch, _ in follower.damaged}
        trainers = [trainer for trainer in trainers if trainer.batch.name in damaged]
