"""Asking a sweep to stop: in time for a checkpoint, or at once.

A sweep looks at its ``StopRequest`` between calls to the device.
"""

import time

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
        left = self._grace_left()
        return left is not None and (seconds_to_checkpoint <= 0 or seconds_to_checkpoint > left)

    def seconds_left(self) -> float | None:
        """Until the process has to be gone; None while nobody has asked it to stop."""
        left = self._grace_left()
        return None if left is None else max(0.0, left + _SECONDS_TO_COMMIT)

    def _grace_left(self) -> float | None:
        now = time.monotonic()
        if self._deadline is not None and now > self._deadline:
            self.request("--max_seconds")
        return None if self._requested_at is None else self._requested_at + self._grace - now
