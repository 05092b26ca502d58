import math

import numpy as np
import pytest
from scipy import stats

from grokjax import statistics


class TestBootstrapInterval:
    def test_covers_as_the_docstring_says(self):
        rng = np.random.default_rng(30)
        intervals = [
            statistics.bootstrap_interval(rng.normal(size=5), n_resamples=499, seed=i)
            for i in range(300)
        ]
        assert 0.78 <= np.mean([low <= 0 <= high for low, high in intervals]) <= 0.9

    def test_many_values_agree_with_the_normal_interval(self):
        values = np.random.default_rng(31).normal(size=400)
        low, high = statistics.bootstrap_interval(values)
        half = 1.96 * values.std() / 20
        np.testing.assert_allclose([low, high], values.mean() + np.array([-half, half]), atol=0.01)

    def test_seed_fixes_the_result(self):
        values = np.random.default_rng(32).normal(size=30)
        first, again, other = (
            statistics.bootstrap_interval(values, n_resamples=99, seed=s) for s in (1, 1, 2)
        )
        assert first == again != other

    def test_median_equal_and_missing_values(self):
        assert statistics.bootstrap_interval([-2, -2, -2], np.median) == (-2, -2)
        values = [1.0, 5.0, 2.0, 8.0]
        expected = statistics.bootstrap_interval(values, np.median, seed=4)
        assert statistics.bootstrap_interval([np.nan, *values], np.median, seed=4) == expected
        assert np.isnan(statistics.bootstrap_interval([1.0, np.nan])).all()

    def test_rejects(self):
        with pytest.raises(ValueError, match="confidence is 95"):
            statistics.bootstrap_interval([1, 2, 3], confidence=95)
        with pytest.raises(ValueError, match="n_resamples is 0"):
            statistics.bootstrap_interval([1, 2, 3], n_resamples=0)


class TestBeforeAfter:
    steps = np.arange(0, 10_500, 500)  # the last fifth begins at 8,000
    values = np.arange(21.0)  # value = step / 500

    def windows(self, memorisation, generalisation, **kwargs):
        return statistics.before_after(
            self.steps, self.values, memorisation, generalisation, **kwargs
        )

    def test_windows(self):
        # 1,000 … 5,500 and 8,000 … 10,000
        assert self.windows(1000, 6000) == (np.mean(range(2, 12)), np.mean(range(16, 21)))

    def test_late_generalisation_shortens_after(self):
        assert self.windows(1000, 9500) == (np.mean(range(2, 19)), np.mean([19, 20]))
        assert self.windows(1000, 10_000)[1] == 20

    @pytest.mark.parametrize("memorisation", [None, 3000, 4000])
    def test_before_starts_at_once_if_memorisation_came_not_before(self, memorisation):
        assert self.windows(memorisation, 3000)[0] == np.mean(range(6))

    def test_generalised_from_the_start_has_no_before(self):
        before, after = self.windows(0, 0)
        assert np.isnan(before)
        assert after == np.mean(range(16, 21))

    def test_never_generalised(self):
        assert self.windows(1000, None) == (np.mean(range(2, 16)), np.mean(range(16, 21)))
        assert self.windows(1000, None, split_step=4000)[0] == np.mean(range(2, 8))
        assert self.windows(1000, 6000, split_step=4000)[0] == np.mean(range(2, 12))
        assert self.windows(9000, None)[0] == np.mean(range(16))

    def test_share_and_nan(self):
        assert self.windows(0, 2000, after_share=0.5)[1] == np.mean(range(10, 21))
        values = self.values.copy()
        values[[2, 20]] = np.nan
        assert statistics.before_after(self.steps, values, 1000, 2500) == (3.5, 17.5)
        assert np.isnan(statistics.before_after(self.steps, values * np.nan, 0, 500)).all()

    def test_rejects(self):
        for share in (0.0, 1.0, 20):
            with pytest.raises(ValueError, match="after_share is"):
                self.windows(0, 500, after_share=share)
        with pytest.raises(ValueError, match="no checkpoints"):
            statistics.before_after([], [], None, None)


class TestRatioOverSeeds:
    def test_ratio_and_difference(self):
        before, after = np.array([1.0, 2.0, 4.0]), np.array([2.0, 6.0, 16.0])
        result = statistics.ratio_over_seeds(before, after, seed=1)
        assert result.ratio == pytest.approx(24 ** (1 / 3))
        assert result.difference == pytest.approx((1 + 4 + 12) / 3)
        assert result.n_seeds == 3
        assert 2 <= result.ratio_interval.low < result.ratio < result.ratio_interval.high <= 4
        assert 1 <= result.difference_interval.low < result.difference_interval.high <= 12
        assert result == statistics.ratio_over_seeds(before, after, seed=1)

    def test_seeds_stay_paired(self):
        rng = np.random.default_rng(40)
        before = rng.uniform(1, 100, 6)
        result = statistics.ratio_over_seeds(before, 3 * before)
        np.testing.assert_allclose([result.ratio, *result.ratio_interval], 3, rtol=1e-12)

    def test_missing_seed_is_dropped(self):
        full = statistics.ratio_over_seeds([1, 2, 3], [2, 3, 5])
        assert statistics.ratio_over_seeds([1, 2, np.nan, 3], [2, 3, 9, 5]) == full

    def test_no_ratio_without_positive_values(self):
        result = statistics.ratio_over_seeds([0, 2, 3], [2, 3, 5])
        assert np.isnan([result.ratio, *result.ratio_interval]).all()
        assert result.difference == pytest.approx(5 / 3)
        assert statistics.ratio_over_seeds([np.nan], [1.0]).n_seeds == 0


class TestSmallestDetectableEffect:
    @pytest.mark.parametrize(("n_seeds", "effect"), [(34, 0.5), (15, 0.8), (10, 1.0), (5, 1.8)])
    def test_just_reaches_the_power_of_simulated_t_tests(self, n_seeds, effect):
        detectable = statistics.smallest_detectable_effect(n_seeds, sd=1.0)
        draws = np.random.default_rng(50).normal(detectable, 1.0, (40_000, n_seeds))
        power = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05)
        assert abs(power - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 40_000)
        # Cohen's tables: this many pairs are the fewest that give 80 % for the rounder effect.
        assert detectable <= effect
        assert statistics.smallest_detectable_effect(n_seeds - 1, sd=1.0) > effect

    @pytest.mark.parametrize("n_seeds", [2, 3, 5, 20, 1000])
    @pytest.mark.parametrize(("power", "alpha"), [(0.5, 0.05), (0.8, 0.05), (0.99, 0.001)])
    def test_is_finite_and_scales(self, n_seeds, power, alpha):
        effect = statistics.smallest_detectable_effect(n_seeds, 1.0, power, alpha)
        assert math.isfinite(effect) and effect > 0
        twice = statistics.smallest_detectable_effect(n_seeds, 2.0, power, alpha)
        assert twice == pytest.approx(2 * effect)

    def test_fold_change(self):
        effect = statistics.smallest_detectable_effect(5, 0.3)
        assert statistics.smallest_detectable_fold(5, 0.3) == pytest.approx(np.exp(effect))
        assert statistics.smallest_detectable_fold(5, 0.0) == 1.0

    def test_rejects(self):
        with pytest.raises(ValueError, match="n_seeds is 1"):
            statistics.smallest_detectable_effect(1, 1.0)
        with pytest.raises(ValueError, match="sd is -1"):
            statistics.smallest_detectable_effect(5, -1.0)
        with pytest.raises(ValueError, match="0 < alpha < power < 1"):
            statistics.smallest_detectable_effect(5, 1.0, power=80)
