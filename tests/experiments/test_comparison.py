"""The study's numbers beside ours: what counts as agreement, and rows for everything."""

import numpy as np
import pytest

from experiments import claims, comparison, registry
from experiments.comparison import AGREE, DIFFER, NOT_RUN, OTHER, SAME, UNCLEAR


@pytest.mark.parametrize(
    ("low", "high", "mean", "widening", "expected"),
    [
        (0.2, 0.25, 0.22, 0.0, AGREE),
        (0.2, 0.25, 0.3, 0.04, DIFFER),
        (0.2, 0.25, 0.3, 0.05, AGREE),  # at the edge, which rounding must not decide
        (0.2, 0.25, 0.15, 0.05, AGREE),
        (-1000, -1000, -800, 250, AGREE),
        (-1000, -1000, 0, 250, DIFFER),
        (0.2, 0.25, np.nan, 1.0, DIFFER),
    ],
)
def test_agreement_is_the_interval_widened_by_the_spread(low, high, mean, widening, expected):
    assert comparison.verdict(low, high, mean, widening) == expected


def test_by_how_much():
    assert comparison.outside(0.2, 0.25, 0.22) == 0
    assert comparison.outside(0.2, 0.25, 0.3) == pytest.approx(0.05)
    assert comparison.outside(0.2, 0.25, 0.1) == pytest.approx(-0.1)
    assert np.isnan(comparison.outside(0.2, 0.25, np.nan))


@pytest.mark.parametrize(
    ("amounts", "expected", "tolerance", "found"),
    [
        ([1.0, 1.2], 1, 0.0, SAME),
        ([1.0, 1.2], -1, 0.0, OTHER),
        ([1.0, -0.9], 1, 0.0, UNCLEAR),
        ([-3.0], -1, 0.0, SAME),
        ([-3.0], -1, 5.0, UNCLEAR),
        ([2.0, np.nan], 0, 3.0, SAME),
        ([4.0], 0, 3.0, OTHER),
        ([np.nan], 1, 0.0, UNCLEAR),
        ([], 1, 0.0, UNCLEAR),
    ],
)
def test_direction(amounts, expected, tolerance, found):
    assert comparison.direction(np.array(amounts), expected, tolerance) == found


@pytest.mark.parametrize(
    ("text", "half"), [("0.075", 0.0005), ("20", 0.5), ("-1000", 0.5), ("0.4", 0.05)]
)
def test_what_a_printed_number_leaves_open(text, half):
    assert comparison.printed_resolution(text) == pytest.approx(half)


def test_a_row_for_everything_the_study_states_and_none_run(tmp_path):
    frame = comparison.compare(tmp_path, "paper")
    assert frame["source"].value_counts()[["table1", "table2"]].tolist() == [60, 80]
    assert len(frame) == 21 + 60 + 80
    assert set(frame["verdict"]) == {NOT_RUN}
    assert frame["ours_mean"].isna().all()


def test_every_claim_is_of_one_artefact():
    sources = [source for one in registry.ARTEFACTS.values() for source in one.sources]
    assert len(sources) == len(set(sources))
    assert set(claims.reference()["artefact"]) <= set(sources)


def test_at_the_papers_scale_numbers_decide():
    row = {"paper_low": 0.2, "paper_high": 0.25}
    measured = claims.Measured(
        values=np.array([0.28, 0.32, np.nan]), direction=np.array([1.0, 1.0]), expected=1
    )
    found = comparison._found(row, measured, 0.005, "paper")
    assert (found["verdict"], found["n"]) == (DIFFER, 2)
    assert found["ours_mean"] == pytest.approx(0.3)
    assert found["ours_sd"] == pytest.approx(np.std([0.28, 0.32], ddof=1))
    assert found["outside"] == pytest.approx(0.05)
    assert found["difference"] == pytest.approx(0.075)
    small = comparison._found(row, measured, 0.005, "small")
    assert small["verdict"] == SAME
