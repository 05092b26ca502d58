"""A sweep: batches through training to checkpoints and tables, measured along the way."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from grokjax.measuring import isolation
from grokjax.measuring.analyst import Analyst, Follower
from grokjax.running.keeping import Keeper
from grokjax.running.progress import Display
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store import folders, record
from grokjax.store import runs as runs_table
from grokjax.store.errors import OtherConfigurationError, storage_errors, storage_problem
from grokjax.store.results import METRICS, places, write_parquet
from grokjax.training.stopping import StopRequest
from grokjax.training.trainer import BatchTrainer

# Tables are rewritten when at least this many times the last rewriting's time has gone by.
_SHARE = 50


@contextlib.contextmanager
def _kept_written(write: Callable[[], None]) -> Iterator[None]:
    """Writes the tables at once, in the background at a small share of the time, and at the end."""
    ended = threading.Event()

    def timed() -> float:
        begun = time.monotonic()
        write()
        return time.monotonic() - begun

    def loop(seconds: float) -> None:
        while not ended.wait(max(1.0, _SHARE * seconds)):
            with contextlib.suppress(OSError):  # a full disk stops the sweep elsewhere
                seconds = timed()

    thread = threading.Thread(target=loop, args=[timed()], name="tables", daemon=True)
    thread.start()
    tolerated: list[type[OSError]] = [OSError]  # of a full disk the error under way says it
    try:
        yield
        tolerated.clear()
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(*tolerated):
            write()


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
    analyst = Analyst(workdir, config)
    results = analyst.results
    results.clean()
    for message in [*results.recover("metrics", METRICS), *analyst.prepare()]:
        display.note(message)
    keeper = Keeper(analyst, config, batches)
    failed: dict[str, str] = {}  # id of a run whose training failed → why

    def write() -> None:
        results.compact("metrics", METRICS)
        analyst.compact()
        metrics = results.read("metrics", METRICS)
        frame = runs_table.table(config.runs, metrics, config.train.steps, failed)
        write_parquet(results.path("runs"), frame)
        keeper.let_go(set(places(metrics)))  # of which every row is on disk by now

    with storage_errors(workdir), _kept_written(write):
        made_by = record.made_by(workdir, config)
        trainers = [
            BatchTrainer(
                number,
                batch,
                config.train,
                config.saving,
                workdir,
                results,
                display,
                stop,
                made_by,
            )
            for number, batch in enumerate(batches)
        ]
        _tell_what_is_left(config, trainers, analyst, display)
        _train_and_measure(trainers, analyst, display, failed)
    return [*dict.fromkeys(failed.values()), *isolation.sentences(analyst.failures)]


def _tell_what_is_left(
    config: SweepConfig, trainers: Sequence[BatchTrainer], analyst: Analyst, display: Display
) -> None:
    steps = config.train.steps * len(config.runs), sum(own.run_steps_left() for own in trainers)
    n_checkpoints = len(config.train.checkpoint_steps) * len(config.runs)
    there = [*analyst.committed(), *analyst.gone()]
    n_done = sum(len(batch.run_ids) for batch, step in there)
    n_done -= sum(len({*chain(*analyst.pending(*own).values())}) for own in there)
    metrics = analyst.results.read("metrics", METRICS)
    display.started(config.runs, steps, (n_checkpoints, n_checkpoints - n_done), metrics)


def _train_and_measure(
    trainers: Sequence[BatchTrainer], analyst: Analyst, display: Display, failed: dict[str, str]
) -> None:
    """Trains batch after batch with a follower beside; again, where checkpoints were damaged."""
    seen: set[tuple[str, int]] = set()
    while trainers:
        with Follower(analyst, display.measured) as follower:
            for trainer in trainers:
                measured = set(places(analyst.results.read("metrics", METRICS)))
                try:
                    trainer.run(measured, follower if analyst.options.diagnostics else None)
                except Exception as error:
                    if storage_problem(error) or isinstance(error, OtherConfigurationError):
                        raise
                    # Other batches do not depend on this one; what it committed stays.
                    n_runs = len(trainer.batch.run_ids)
                    text = f"batch {trainer.number} failed, {n_runs} runs: {error!r}"
                    failed |= dict.fromkeys(trainer.batch.run_ids, text)
                    display.note(text)
                follower.check()
        names = {trainer.batch.name for trainer in trainers}
        for key, damage in follower.damaged.items():
            if key in seen or damage.batch not in names:
                raise damage
            seen.add(key)
            root = analyst.workdir / "checkpoints"
            kept = folders.set_aside(root, damage.batch, "params", damage.step)
            display.note(f"{damage}; it is kept as {kept} and made anew")
        damaged = {batch for batch, _ in follower.damaged}
        trainers = [trainer for trainer in trainers if trainer.batch.name in damaged]
