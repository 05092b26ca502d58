"""What the display of a sweep says."""

import time

import pandas as pd
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


def test_what_earlier_starts_did_is_not_left(clock, capsys):
    """After a resume: steps and checkpoints that are left, outcomes of all starts."""
    rows = [
        {"run_id": run_id, "train_accuracy": accuracy, "test_accuracy": accuracy, "train_loss": 1.0}
        for run_id, accuracy in (("a", 1.0), ("b", 0.5))
    ]
    with progress.Display() as display:
        # Of 1,000 run-steps 200 are left, of 10 run checkpoints 3, of which one has its metrics.
        before = pd.DataFrame([rows[0]] * 4 + [rows[1]] * 4)
        display.started([None, None], (1000, 200), (10, 3), before)
        display.spent("compiling training", 1.0)
        clock[0] = 10.0
        display.trained(0, 450, 100, 10.0)
        display.measured(1, 1.0)
        display.evaluated(0, 450, [rows[1], rows[1]])
        bars = display._bars.tasks
        assert [(bar.completed, bar.total) for bar in bars] == [(900, 1000), (8, 10)]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "step 450" in line)
    assert "of 2 runs: 1 memorised, 1 generalised" in line
    assert "8 checkpoints measured, 2 waiting | 0:10 left" in line


def test_nothing_is_said_of_a_sweep_without_a_step(clock, capsys):
    with progress.Display() as display:
        display.spent("evaluation", 1.0)
    assert capsys.readouterr().out == ""


def test_the_process_began_before_now():
    before = progress.seconds_since_start()
    assert 0 < before <= progress.seconds_since_start() < 7 * 86_400
