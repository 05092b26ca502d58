"""Requests to stop: in time for a checkpoint, by signal while the device works, at once."""

import os
import signal
import threading
import time

from grokjax.running.signals import listening
from grokjax.training import stopping
from grokjax.training.stopping import StopRequest


class Clock:
    """Stands in for time.monotonic."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(stopping.time, "monotonic", lambda: self.now)


def test_a_checkpoint_within_the_grace_period_is_waited_for(monkeypatch):
    clock = Clock(monkeypatch)
    stop = StopRequest(grace=30)
    assert not stop.due(0)
    stop.request("SIGTERM")
    assert not stop.due(29)
    assert stop.due(31)
    assert stop.due(0)
    clock.now += 20
    assert not stop.due(9)
    assert stop.due(11)
    assert stop.reason == "SIGTERM"


def test_a_time_limit_is_a_request(monkeypatch):
    clock = Clock(monkeypatch)
    stop = StopRequest(max_seconds=100, grace=5)
    clock.now += 99
    assert not stop.due(0)
    assert stop.seconds_left() is None
    clock.now += 2
    assert stop.due(6)
    assert not stop.due(4)
    assert stop.reason == "--max_seconds"
    assert stop.seconds_left() == 15


def listen(stop, act, seconds=5.0):
    """Runs ``act`` under a listener; returns with what it asked to leave, None if not in time."""
    reasons, left = [], threading.Event()

    def leave(reason):
        reasons.append(reason)
        left.set()

    with listening(stop, leave):
        act()
        left.wait(seconds)
    return reasons[0] if reasons else None


def test_signals_are_heard_beside_a_main_thread_that_never_returns():
    stop = StopRequest(grace=100)

    def act():
        os.kill(os.getpid(), signal.SIGTERM)
        # As long as this holds the main thread, no Python handler runs there: it is one call.
        threading.Event().wait(0.7)

    assert listen(stop, act, seconds=0) is None
    assert stop.reason == "SIGTERM"


def test_a_second_signal_leaves_at_once():
    def act():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    assert listen(StopRequest(grace=100), act) == "a second signal, SIGTERM"


def test_a_request_that_is_not_met_in_time_leaves(monkeypatch):
    monkeypatch.setattr(stopping, "_SECONDS_TO_COMMIT", 0.2)
    stop = StopRequest(max_seconds=0.1, grace=0.1)
    reason = listen(stop, lambda: None)
    assert reason == "--max_seconds, and no checkpoint came within --grace_seconds"


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with listening(StopRequest(), lambda reason: None):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
