"""Signals become requests to stop.

A thread listens beside the sweep, because Python's own handlers wait for a call to the device to
return, and a scheduler that is about to take the machine does not.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator

from grokjax.training.stopping import StopRequest


@contextlib.contextmanager
def listening(stop: StopRequest, leave: Callable[[str], None]) -> Iterator[None]:
    """Turns SIGINT and SIGTERM into a request to stop, for as long as the block runs.

    ``leave`` ends the process at once: it is called with the reason on a second signal, or when a
    request has not been met in time.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            ready, _, _ = select.select([reader], [], [], 0.2)
            for number in os.read(reader, 64) if ready else b"":
                if number not in signals:
                    continue
                if stop.reason and stop.reason != "--max_seconds":
                    leave(f"a second signal, {signal.Signals(number).name}")
                stop.request(signal.Signals(number).name)
            if stop.seconds_left() == 0 and not ended.is_set():
                leave(f"{stop.reason}, and no checkpoint came within --grace_seconds")

    # Python's part of a handler does nothing; the byte in the pipe is what counts.
    before = {number: signal.signal(number, lambda *_: None) for number in signals}
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
