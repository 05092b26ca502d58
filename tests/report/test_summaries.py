"""Settings: how runs are grouped, what they are called, what came of them."""

import numpy as np
import pandas as pd
import pytest

import grokjax
from grokjax.report import drawing, summaries
from grokjax.settings import labels


def test_the_summary_counts_and_averages_by_setting(grid):
    frame = drawing.summary(grid)
    sweep = grokjax.load(grid)
    assert frame["label_permutation"].tolist() == [0, 1]
    assert frame["runs"].tolist() == [2, 2]
    assert frame["generalised"].tolist() == [2, 0]
    assert frame["diverged"].tolist() == [0, 1]
    assert "failed" not in frame and "running" not in frame
    steps = sweep.runs["generalisation_step"][:2]
    # By the earlier of two half of them had.
    assert frame["median_step"][0] == steps.min() and pd.isna(frame["median_step"][1])
    own = sweep.persistence.set_index(["run_id", "step"])["h1_max"]
    before = []
    for run_id, step in zip(sweep.runs["run_id"][:2], steps, strict=True):
        series = own[run_id]
        before.append(series[(series.index >= 100) & (series.index < step)].mean())
    assert frame["h1_max_before"][0] == pytest.approx(np.mean(before))
    assert frame["h1_max_after"][0] == pytest.approx(
        np.mean([own[run_id][400] for run_id in sweep.runs["run_id"][:2]])
    )


def test_runs_that_diverged_are_not_averaged(grid):
    frame = summaries.outcomes(grokjax.load(grid))
    assert frame["before"].isna().tolist() == [False, False, False, True]
    only = frame["after"][2]
    assert drawing.summary(grid)["h1_max_after"][1] == pytest.approx(only)


def test_settings_are_told_apart_by_what_differs(grid):
    runs = grokjax.load(grid).runs
    assert labels.settings(runs) == ["model", "prime", "label_permutation"]
    first, second = labels.group(runs)
    assert first.name == "transformer, p = 11, true labels"
    assert second.line == "100 % of labels permuted"
    assert [*first.run_ids, *second.run_ids] == runs["run_id"].tolist()


def test_the_median_step_counts_those_that_never_came_and_those_that_still_run():
    never = np.nan
    for steps, expected in (
        ([100, 200, 300], 200),
        ([100, 200, never, never], 200),
        ([100, never, never], never),
        ([never], never),
    ):
        found = summaries.median_step(steps, 1000)
        np.testing.assert_equal(found, expected)
        # As every run has been looked at to the end: the lower middle one, never being last.
        middle = sorted(np.nan_to_num(steps, nan=np.inf))[(len(steps) - 1) // 2]
        assert found == middle or (np.isnan(found) and np.isinf(middle))
    # One that is running counts up to where it is: (1 - 1/3) (1 - 1/1) after 100 and 300.
    assert summaries.median_step([100, never, 300], [1000, 200, 1000]) == 300
    assert np.isnan(summaries.median_step([100, never, never], [1000, 1000, 1000]))


def test_runs_that_ended_never_come_and_those_running_are_seen_to_their_last_checkpoint():
    runs = pd.DataFrame(
        {"run_id": list("abcd"), "status": ["done", "running", "failed", "running"]}
    )
    metrics = pd.DataFrame({"run_id": ["a", "b", "b", "c"], "step": [400, 0, 200, 100]})
    assert summaries.horizons(runs, metrics, 400).tolist() == [400, 200, 400, 0]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("label_permutation", 0.05, "5 % of labels permuted"),
        ("model", "mlp", "MLP"),
        ("train_fraction", 0.3, "α = 0.3"),
        ("learning_rate", 0.003, "lr 0.003"),
        ("init_scale", 8.0, "init × 8"),
        ("weight_decay", 0.0, "weight decay 0"),
        ("operation", "add", "add"),
    ],
)
def test_settings_in_words(column, value, words):
    assert labels.in_words(column, value) == words
