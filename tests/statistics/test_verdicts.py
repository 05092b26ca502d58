import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from grokjax import statistics


def rates(mean, n_seeds, *, target=0.0, margin=1.0, sd=1.0, n_times=2000, seed=0):
    """Share of each verdict over simulated sweeps of normal values."""
    draws = np.random.default_rng(seed).normal(mean, sd, (n_times, n_seeds))
    counts = Counter(statistics.equivalence(values, target, margin) for values in draws)
    return {word: count / n_times for word, count in counts.items()}


class TestDifferenceFrom:
    def test_is_the_textbooks_interval(self):
        values = [3.0, 5.0, 4.0, 8.0]
        mean, difference, error, interval, n = statistics.difference_from(values, 4.5)
        assert (mean, difference, n) == (5.0, 0.5, 4)
        assert error == pytest.approx(math.sqrt((4 + 0 + 1 + 9) / 3 / 4))
        # t with 3 degrees of freedom, 97.5 %: 3.18245.
        np.testing.assert_allclose(interval, [5 - 3.18245 * error, 5 + 3.18245 * error], rtol=1e-5)
        expected = stats.t.interval(0.9, 3, 5, error)
        assert statistics.difference_from(values, 4.5, 0.9).interval == pytest.approx(expected)

    def test_of_an_interval_it_is_from_the_nearer_end(self):
        for target, expected in (((4, 6), 0), ((1, 3), 2), ((7, 9), -2), (7, -2)):
            assert statistics.difference_from([4, 6], target).difference == expected

    def test_too_few(self):
        one = statistics.difference_from([np.nan, 2.0], 1.0)
        assert (one.mean, one.difference, one.n) == (2.0, 1.0, 1)
        assert np.isnan([one.standard_error, *one.interval]).all()
        none = statistics.difference_from([], 1.0)
        assert none.n == 0 and math.isnan(none.difference)


class TestEquivalence:
    def test_is_the_contracts_words(self):
        assert statistics.equivalence([0.1, -0.1, 0.05], 0.0, 1.0) == "agree"
        assert statistics.equivalence([5.1, 4.9, 5.05], 0.0, 1.0) == "differ"
        assert statistics.equivalence([5.1, -4.9, 1.0], 0.0, 1.0) == "cannot tell"

    def test_follows_from_the_two_intervals(self):
        rng = np.random.default_rng(1)
        seen = set()
        for _ in range(500):
            values = rng.normal(rng.uniform(-3, 3), 1.0, rng.integers(2, 12))
            low, high = np.sort(rng.uniform(-1, 1, 2))
            word = statistics.equivalence(values, (low, high), 0.7)
            # Agree: both one-sided tests reject at 5 %; differ: one two-sided at 5 % does.
            above = stats.ttest_1samp(values, low - 0.7, alternative="greater").pvalue
            below = stats.ttest_1samp(values, high + 0.7, alternative="less").pvalue
            over = stats.ttest_1samp(values, high + 0.7, alternative="greater").pvalue
            under = stats.ttest_1samp(values, low - 0.7, alternative="less").pvalue
            expected = "agree" if max(above, below) <= 0.05 else "cannot tell"
            assert word == ("differ" if min(over, under) < 0.025 else expected)
            seen.add(word)
        assert seen == {"agree", "differ", "cannot tell"}

    @pytest.mark.parametrize(("n_seeds", "sd"), [(5, 0.3), (10, 0.5), (50, 1.0)])
    def test_planted_equality_agrees(self, n_seeds, sd):
        found = rates(0.0, n_seeds, sd=sd)
        assert found["agree"] >= 0.9
        assert "differ" not in found

    @pytest.mark.parametrize(("n_seeds", "sd"), [(5, 0.3), (10, 0.5), (50, 1.0)])
    def test_planted_difference_differs(self, n_seeds, sd):
        found = rates(2.0, n_seeds, sd=sd)
        assert found["differ"] >= 0.9
        assert "agree" not in found

    @pytest.mark.parametrize("mean", [0.0, 0.5, 2.0])
    def test_noise_cannot_tell(self, mean):
        found = rates(mean, 5, sd=10.0)
        assert found["cannot tell"] >= 0.95
        assert found.get("agree", 0) <= 0.01

    @pytest.mark.parametrize("n_seeds", [2, 5, 20])
    def test_either_word_is_wrong_in_5_percent_at_most(self, n_seeds):
        # On the edge of the margin, either is as nearly right as it can be while wrong.
        found = rates(1.0, n_seeds, sd=0.5, n_times=4000)
        slack = 3 * math.sqrt(0.05 * 0.95 / 4000)
        assert found.get("agree", 0) <= 0.05 + slack
        assert found.get("differ", 0) <= 0.025 + slack

    def test_random_lags_agree_with_nothing(self):
        # Under the rule that widens by the values' own SD, 99 % of such draws agreed.
        lags = np.random.default_rng(2).integers(-20, 21, (500, 10)) * 500.0
        for target in (-1000, -500, 0):
            words = [statistics.equivalence(draw, target, 500) for draw in lags]
            assert "agree" not in words
            assert words.count("cannot tell") >= 0.9 * len(words)

    def test_more_noise_never_makes_it_agree(self):
        values = np.array([-1.0, 0.0, 1.0])
        words = [statistics.equivalence(scale * values, 0.0, 1.0) for scale in (0.1, 0.5, 1, 9)]
        assert words == ["agree", "agree", "cannot tell", "cannot tell"]

    def test_fewer_than_two_seeds_cannot_tell(self):
        assert statistics.equivalence([0.0], 0.0, 1.0) == "cannot tell"
        assert statistics.equivalence([9.0, np.nan], 0.0, 1.0) == "cannot tell"
        assert statistics.equivalence([], 0.0, 1.0) == "cannot tell"

    def test_equal_values_and_a_margin_that_just_holds(self):
        assert statistics.equivalence([0.3, 0.3, 0.3], 0.2, 0.1) == "agree"
        assert statistics.equivalence([0.3, 0.3, 0.3], 0.2, 0.09) == "differ"
        assert statistics.equivalence([0.05] * 3, 0.0, 0.025) == "differ"

    def test_rejects(self):
        for margin in (-1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match="margin is"):
                statistics.equivalence([1, 2], 0.0, margin)
        for target in (math.nan, (2, 1), (0, math.inf)):
            with pytest.raises(ValueError, match="target is"):
                statistics.equivalence([1, 2], target, 1.0)
        with pytest.raises(ValueError, match="infinite at position 1"):
            statistics.equivalence([1, np.inf], 0.0, 1.0)


class TestSeedsNeeded:
    @pytest.mark.parametrize(
        ("sd", "difference"), [(0.5, 0.0), (1.0, 0.0), (1.0, 0.4), (1.0, 3.0), (1.0, 1.6)]
    )
    def test_is_the_fewest_with_the_power(self, sd, difference):
        n_seeds = statistics.seeds_needed(sd, 1.0, difference)
        word = "agree" if difference < 1 else "differ"
        slack = 4 * math.sqrt(0.8 * 0.2 / 4000)
        enough, fewer = (
            rates(difference, n, sd=sd, n_times=4000).get(word, 0) for n in (n_seeds, n_seeds - 1)
        )
        assert enough >= 0.8 - slack
        assert fewer < 0.8 + slack

    def test_what_decides(self):
        wide, narrow = (statistics.seeds_needed(1.0, margin) for margin in (1.0, 0.1))
        assert wide < narrow / 50  # about with the square
        assert statistics.seeds_needed(2.0, 2.0) == wide
        assert statistics.seeds_needed(1.0, 1.0, power=0.95) > wide
        assert statistics.seeds_needed(1.0, 1.0, -0.4) == statistics.seeds_needed(1.0, 1.0, 0.4)
        assert statistics.seeds_needed(0.0, 1.0) == 2

    def test_never(self):
        assert statistics.seeds_needed(1.0, 1.0, 1.0) is None
        assert statistics.seeds_needed(1.0, 0.0) is None
        assert statistics.seeds_needed(1.0, 1e-4) is None

    def test_rejects(self):
        with pytest.raises(ValueError, match="sd is -1"):
            statistics.seeds_needed(-1.0, 1.0)
        with pytest.raises(ValueError, match="power is 80"):
            statistics.seeds_needed(1.0, 1.0, power=80)


class TestFamily:
    @pytest.mark.parametrize(("size", "tails"), [(1, 2), (161, 2), (161, 1), (3000, 2)])
    def test_one_finding_among_many_passes_with_so_many_draws_and_not_with_one_fewer(
        self, size, tails
    ):
        draws = statistics.draws_needed(size, tails=tails)
        for n, found in ((draws, True), (draws - 1, False)):
            family = np.ones(size)
            family[0] = tails / (1 + n)
            assert (statistics.benjamini_hochberg(family)[0] <= 0.05 + 1e-12) == found

    @pytest.mark.parametrize("floor", [0.001, 1 / 120, 2 / 120, 0.0625])
    def test_so_many_at_the_floor_are_found_and_not_one_fewer(self, floor):
        needed = statistics.findings_needed(floor, 140)
        for n in (needed, needed - 1):
            family = np.ones(140)
            family[:n] = floor
            found = statistics.benjamini_hochberg(family) <= 0.05
            assert found.sum() == (n if n == needed <= 140 else 0)
        assert (needed > 140) == (floor > 0.05)
