"""Agree, differ, cannot tell: the rule, and each of the study's numbers under planted truths."""

import numpy as np
import pytest

from experiments import claims, comparison, planted, verdicts
from experiments.comparison import OTHER, SAME, UNCLEAR
from experiments.verdicts import AGREE, CANNOT_TELL, DIFFER, Target
from grokjax import statistics

ROWS = planted.rows()
STATED = Target(0.2, 0.25, 0.015)


def test_there_is_a_rule_for_every_number():
    assert len(ROWS) == 21 + 60 + 80
    kinds = [kind for kind, _ in ROWS.values()]
    assert (kinds.count("ρ"), kinds.count(planted.UNCERTAIN)) == (60, 80)


@pytest.mark.parametrize("row", ROWS)
def test_each_row_tells_equal_from_different_and_noise(row):
    kind, draw = ROWS[row]
    seeds = {"equal": 20, "different": 20, "noise": 5}
    equal, different, noise = (planted.rates(draw, *own, 150) for own in seeds.items())
    assert equal[DIFFER] <= 0.05
    # The study's own standard error over five seeds can leave more open than the margin.
    assert kind == planted.UNCERTAIN or equal[AGREE] >= 0.7
    assert different[DIFFER] >= 0.85
    assert noise[CANNOT_TELL] >= 0.85
    assert noise[AGREE] <= 0.01


@pytest.mark.parametrize("number", [16, 17, 18, 19])
@pytest.mark.parametrize("seeds", [5, 50])
def test_random_lags_cannot_agree(number, seeds):
    _, draw = ROWS[f"claim {number}"]
    assert planted.rates(draw, "random lags", seeds, 500)[AGREE] == 0


def test_a_rho_of_nothing_agrees_by_noise_with_no_cell_that_claims_some():
    rng = np.random.default_rng(0)
    for table in ("table1", "table2"):
        for cell in planted.correlations.reference(table).to_dict("records"):
            stated = planted._stated(cell)
            if abs(stated.low) > 0.2:
                words = [verdicts.judge(rng.normal(0, 0.3, 5), stated).word for _ in range(100)]
                assert words.count(AGREE) <= 5


# --------------------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([0.21, 0.22, 0.23, 0.22, 0.22], AGREE),
        ([0.30, 0.31, 0.30, 0.29, 0.31], DIFFER),
        ([0.10, 0.11, 0.10, 0.09, 0.11], DIFFER),
        ([0.207, 0.189, 0.367, 0.213, 0.254], CANNOT_TELL),
        ([0.22], CANNOT_TELL),
        ([], CANNOT_TELL),
        ([np.nan, 0.22], CANNOT_TELL),
    ],
)
def test_a_mean_beside_a_range(values, word):
    assert verdicts.judge(values, STATED).word == word


def test_spread_never_makes_it_agree():
    calm, wild = (0.4 + scale * np.array([-1, -0.5, 0, 0.5, 1]) for scale in (0.01, 0.5))
    assert verdicts.judge(calm, STATED).word == DIFFER
    assert verdicts.judge(wild, STATED).word == CANNOT_TELL


def test_without_the_studys_error_the_rule_is_that_of_equivalence():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        values = rng.normal(0, rng.uniform(0.1, 2), rng.integers(1, 12))
        low = rng.normal()
        target = Target(low, low + rng.integers(0, 2) * rng.random(), rng.random())
        found.append(verdicts.judge(values, target).word)
        assert found[-1] == statistics.equivalence(values, target[:2], target.margin)
    assert min(found.count(word) for word in (AGREE, DIFFER, CANNOT_TELL)) > 20


def test_the_studys_own_error_counts():
    values = 0.5 + 0.01 * np.arange(-2, 3)
    sure, unsure = Target(0.5, 0.5, 0.2, 0.05), Target(0.5, 0.5, 0.2, 0.4)
    assert verdicts.judge(values, sure).word == AGREE
    judged = verdicts.judge(values, unsure)
    assert judged.word == CANNOT_TELL
    assert judged.seeds_needed == np.inf
    # Welch: standard error 0.4 / √5, with hardly more than the study's four degrees of freedom.
    assert judged.high - judged.estimate == pytest.approx(2.132 * 0.4 / 5**0.5, rel=0.01)


def test_equal_values_on_a_grid_are_known_to_the_grid():
    target = Target(0, 0, 250)
    assert verdicts.judge(np.zeros(5), target, grain=500).word == AGREE
    assert verdicts.judge(np.zeros(2), target, grain=500).word == CANNOT_TELL
    assert verdicts.judge(np.full(5, 500.0), target, grain=500).word == DIFFER


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ([15, 16, 17, 18, 19], AGREE),
        ([15, 16, 17, 18, np.nan], CANNOT_TELL),
        ([np.nan] * 5, DIFFER),  # all later than 60
        ([1, 2, 3, 4, 5], DIFFER),
        ([12, 12.5, 13, 15.5, 19], CANNOT_TELL),
        ([15, 16, 17, 18], CANNOT_TELL),
    ],
)
def test_a_median_with_runs_that_never_came(steps, word):
    horizons = np.full(len(steps), 60.0)
    assert verdicts.judge_median(steps, horizons, Target(15, 20, 2.5)).word == word


def test_runs_that_were_too_short_to_come_decide_nothing():
    target = Target(35, 45, 2.5)
    assert verdicts.judge_median([np.nan] * 5, np.full(5, 20.0), target).word == CANNOT_TELL
    assert verdicts.judge_median([np.nan] * 5, np.full(5, 60.0), target).word == DIFFER


def test_a_number_of_all_settings_needs_each():
    agree, differ, open_ = (
        verdicts.judge(at + 0.001 * np.arange(5), STATED)
        if at
        else verdicts.judge([0.1, 0.5, 0.2], STATED)
        for at in (0.22, 0.4, None)
    )
    assert verdicts.all_of([agree, agree]).word == AGREE
    assert verdicts.all_of([agree, open_]).word == CANNOT_TELL
    assert verdicts.all_of([agree, differ, open_]).word == DIFFER
    assert verdicts.all_of([]).word == CANNOT_TELL
    both = verdicts.all_of([agree, differ])
    assert (both.low, both.high, both.n) == (agree.low, differ.high, 10)


@pytest.mark.parametrize(("seeds", "enough"), [(16, False), (17, True)])
def test_seeds_needed_are_those_that_do(seeds, enough):
    target = Target(0, 0, 1.0)
    needed = verdicts.seeds_needed(0.36, 1.0, target)
    assert (seeds >= needed) is enough
    rng = np.random.default_rng(0)
    words = [verdicts.judge(rng.normal(0.36, 1, seeds), target).word for _ in range(4000)]
    assert (words.count(AGREE) / 4000 > 0.78) is enough or not enough


def test_no_number_of_seeds_does_at_the_edge():
    assert verdicts.seeds_needed(1.0, 1.0, Target(0, 0, 1.0)) == np.inf


# --------------------------------------------------------------------------- claims


def judged(number, **sample):
    claim = next(row for row in claims.reference().to_dict("records") if row["id"] == str(number))
    empty = {"direction": np.array([]), "expected": 1, "run_ids": []}
    return claims.judge(claim, claims.Sample(**empty, **sample)).word


@pytest.mark.parametrize(("last", "word"), [(0.05, DIFFER), (0.1, AGREE), (0.2, DIFFER)])
def test_the_last_level_that_generalises(last, word):
    assert judged(20, parts={"": np.full(5, last)}, grain=0.05) == word


@pytest.mark.parametrize("number", [16, 17, 18, 19, 21])
def test_curves_without_peaks_decide_nothing(number):
    at = {16: -1000.0, 17: -500.0, 18: 0.0, 19: 0.0, 21: 30_000.0}[number]
    found = np.full((5, 4), np.nan)
    found[:, :2] = at
    assert judged(number, parts={"": found}, grain=500.0) == CANNOT_TELL
    found[:, 2] = at
    assert judged(number, parts={"": found}, grain=500.0) == AGREE


def test_lags_a_checkpoint_apart_are_told_apart():
    for number, at in ((16, -1000.0), (17, -500.0), (18, 0.0)):
        words = [judged(number, parts={"": np.full((5, 4), own)}, grain=500.0)
                 for own in (-1000.0, -500.0, 0.0)]  # fmt: skip
        assert words == [AGREE if own == at else DIFFER for own in (-1000.0, -500.0, 0.0)]


# --------------------------------------------------------------------------- small scale


@pytest.mark.parametrize(
    ("amounts", "expected", "found"),
    [
        ([1.0, 1.2, 1.1], 1, SAME),
        ([1.0, 1.2, 1.1], -1, OTHER),
        ([1.0, -0.9], 1, UNCLEAR),
        ([-3.0], -1, UNCLEAR),
        ([2.0, np.nan], 1, UNCLEAR),
        ([-1.0, -1.0], -1, SAME),
        ([], 1, UNCLEAR),
    ],
)
def test_direction(amounts, expected, found):
    assert comparison.direction(np.array(amounts), expected) == found


def test_directions_at_their_rates():
    rng = np.random.default_rng(0)
    rise, none = (
        [comparison.direction(rng.normal(mean, 1, 6), 1) for _ in range(1000)] for mean in (2, 0)
    )
    assert rise.count(SAME) > 900
    assert rise.count(OTHER) == 0
    assert 30 < none.count(SAME) < 70
    assert none.count(UNCLEAR) > 850
