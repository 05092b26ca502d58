"""A thread that measures checkpoints as they are committed.

It reads them back from disk as a later analysis would, so nothing queues in memory and training
never waits for a diagnostic.
"""

import threading
import time
from typing import Protocol

from grokjax.measuring.analyst import Analyst
from grokjax.store.errors import CheckpointError


class MeasuringListener(Protocol):
    """Who is told how far the measuring has come."""

    def measured(self, done: int) -> None:
        """How many run checkpoints have been through all diagnostics."""

    def spent(self, what: str, seconds: float) -> None:
        """So many seconds went into ``diagnostics``, beside the training."""


class Follower:
    """Measures whatever is committed and not measured, until it is told to finish.

    Attributes:
        error: what the stage died of, if it did.
        damaged: checkpoints that could not be read, to be made anew by whoever trains.
    """

    def __init__(self, analyst: Analyst, display: MeasuringListener):
        self._analyst, self._display = analyst, display
        self._finish, self._abandon = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="diagnostics", daemon=True)
        self._measured = 0
        self.error: BaseException | None = None
        self.damaged: dict[tuple[str, int], CheckpointError] = {}

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
                n_measured = self._look()
                if last_look and not n_measured:
                    return
                if not n_measured:
                    self._finish.wait(0.5)
        except BaseException as error:
            self.error = error

    def _look(self) -> int:
        """Measures what is committed now; returns how many run checkpoints that was."""
        found = 0
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
                found += n_measured
                self._measured += n_measured
                self._display.spent("diagnostics", time.perf_counter() - begun)
                self._display.measured(self._measured)
        for unreadable in self._analyst.unreadable.values():
            self.damaged[unreadable.batch, unreadable.step] = unreadable
        return found
