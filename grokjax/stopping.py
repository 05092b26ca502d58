"""Asking a sweep to stop: by signal or time limit, in time for a checkpoint, or at once.

A sweep looks at its ``StopRequest`` between calls to the device. A thread listens for signals
beside it, because Python's own handlers wait for such a call to return, and a scheduler that is
about to take the machine does not.
"""

import contextlib
import os
import select
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator

# Once the grace period is over, what is being written gets this many seconds more.
_SECONDS_TO_COMMIT = 10.0


class Stopped(BaseException):  # not an error, and not to be caught as one
    """The sweep stopped before its end, at a checkpoint, as it was asked to."""


class StopRequest:
    """Whether to stop, why, and until when; set from any thread.

    Args:
        max_seconds: stop by itself after so many seconds.
        grace: seconds from the request in which the next checkpoint may still be reached.
    """

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

    def seconds_left(self) -> float | None:
        """Until the process has to be gone; None while nobody has asked it to stop."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.request("--max_seconds")
        if self._requested_at is None:
            return None
        until = self._requested_at + self._grace + _SECONDS_TO_COMMIT
        return max(0.0, until - time.monotonic())


@contextlib.contextmanager
def listening(stop: StopRequest, leave: Callable[[str], None]) -> Iterator[None]:
    """Turns SIGINT and SIGTERM into a request to stop, for as long as the block runs.

    Args:
        stop: what the first signal sets.
        leave: ends the process at once; called with the reason on a second signal, or when a
            request has not been met in time. Committed checkpoints and tables are safe then.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ended = threading.Event()

    def ignore(number: int, frame: types.FrameType | None) -> None:
        """Python's part of a handler; the byte in the pipe is what counts."""

    def listen() -> None:
        while not ended.is_set():
            ready, _, _ = select.select([reader], [], [], 0.2)
            for number in os.read(reader, 64) if ready else b"":
                if number not in signals:
                    continue
                if stop.reason and stop.reason != "--max_seconds":
                    leave(f"a second signal, {signal.Signals(number).name}")
                stop.request(signal.Signals(number).name)
            left = stop.seconds_left()
            if left == 0 and not ended.is_set():
                leave(f"{stop.reason}, and no checkpoint came within --grace_seconds")

    before = {number: signal.signal(number, ignore) for number in signals}
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
