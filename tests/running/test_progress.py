"""What the display of a sweep says."""

import time

import pytest

from grokjax.running import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock set by hand."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "seconds_since_start", lambda: 2.5 + now[0])
    return now


def test_the_first_step_is_told_once_and_the_shares_at_the_end(clock, capsys):
    with progress.Display() as display:
        display.spent("compiling evaluation", 1.0)
        clock[0] = 4.0
        display.spent("compiling training", 2.0)
        assert capsys.readouterr().out == "first step after 6.5 s\n"
        clock[0] = 104.0
        display.trained(0, 100, 500, 80.0)
        display.spent("compiling training", 0.0)
        display.spent("evaluation", 5.0)
        display.spent("lenses", 3.0)
        display.spent("checkpoints", 10.0)
        display.spent("diagnostics", 30.0)
    assert capsys.readouterr().out == (
        "of 1:40 after compilation: training 80%, evaluation 5%, lenses 3%, checkpoints 10%, "
        "other 2%; diagnostics took 0:30 beside it\n"
    )


def test_nothing_is_said_of_a_sweep_without_a_step(clock, capsys):
    with progress.Display() as display:
        display.spent("evaluation", 1.0)
    assert capsys.readouterr().out == ""


def test_the_process_began_before_now():
    before = progress.seconds_since_start()
    assert 0 < before <= progress.seconds_since_start() < 7 * 86_400
