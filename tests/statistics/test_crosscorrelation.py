import numpy as np
import pytest
from scipy import stats

from grokjax import statistics
from tests.statistics.series import (
    step_series,
)


class TestCcf:
    @pytest.mark.parametrize("rise", [1.0, -70.0], ids=["rising", "falling"])
    @pytest.mark.parametrize("later_by", [-2, 2])
    def test_recovers_a_planted_lag_of_1000_steps(self, later_by, rise):
        rng = np.random.default_rng(20)
        lags = []
        for _ in range(20):
            at = rng.uniform(25, 80)
            # As in a real run: accuracy goes from 0.4 to 0.99 in two checkpoints of 500 steps.
            accuracy = step_series(rng, at, width=0.5, noise=0.01)
            topology = step_series(rng, at + later_by, width=1.0, noise=0.03 * abs(rise), rise=rise)
            peak = statistics.ccf_peak(accuracy, topology, max_lag=20)
            assert np.sign(peak.value) == np.sign(rise)
            lags.append(peak.lag)
        # y later by 2 checkpoints: x moves first, a peak at lag -2.
        assert np.median(lags) == -later_by
        low, high = statistics.bootstrap_interval(lags, np.mean)
        assert low - 0.5 <= -later_by <= high + 0.5
        assert high < 0 if later_by > 0 else low > 0

    def test_is_the_stated_sum(self):
        rng = np.random.default_rng(21)
        x, y = rng.normal(size=(2, 12))
        lags, values = statistics.ccf(x, y, max_lag=4)
        dx, dy = np.diff(x) - np.diff(x).mean(), np.diff(y) - np.diff(y).mean()
        norm = np.sqrt((dx**2).sum() * (dy**2).sum())
        for lag, value in zip(lags, values, strict=True):
            pairs = [(t + lag, t) for t in range(11) if 0 <= t + lag < 11]
            assert value == pytest.approx(sum(dx[i] * dy[t] for i, t in pairs) / norm)
        np.testing.assert_array_equal(lags, np.arange(-4, 5))
        np.testing.assert_allclose(values[4], stats.pearsonr(np.diff(x), np.diff(y)).statistic)

    def test_exact_shift_and_exchange_of_roles(self):
        rng = np.random.default_rng(22)
        changes = np.concatenate([np.zeros(10), rng.normal(size=30), np.zeros(10)])
        x, y = np.cumsum(changes), np.cumsum(np.roll(changes, 3))  # y later by 3
        assert statistics.ccf_peak(x, y, 10).lag == -3
        assert statistics.ccf_peak(y, x, 10).lag == 3
        _, forth = statistics.ccf(x, y, 10)
        _, back = statistics.ccf(y, x, 10)
        np.testing.assert_allclose(forth, back[::-1], atol=1e-14)

    def test_label_says_who_moves_first(self):
        label = statistics.CCF_LAG_LABEL.format(x="accuracy", y="H0 total")
        assert "negative: accuracy moves first; positive: H0 total moves first" in label

    @pytest.mark.parametrize(("rises", "lag"), [([6, 8], -1), ([5, 8], -1), ([6, 9], 1)])
    def test_equal_peaks_go_to_the_lag_nearest_zero_then_the_negative(self, rises, lag):
        dx, dy = np.zeros((2, 15))
        dx[[0, 7, 14]] = -0.5, 1, -0.5
        dy[[3, 11]] = -1
        dy[rises] = 1
        x, y = (np.concatenate([[0.0], np.cumsum(changes)]) for changes in (dx, dy))
        assert statistics.ccf_peak(x, y, 2).lag == lag

    def test_a_gap_does_not_move_the_lag(self):
        rng = np.random.default_rng(23)
        x, y = step_series(rng, 50, width=0.5), step_series(rng, 55, width=0.5)
        x[20:30] = np.nan
        y[90:] = np.nan
        assert statistics.ccf_peak(x, y, 20).lag == -5

    @pytest.mark.parametrize("flat", [np.ones(30), 0.1 * np.arange(30), np.full(30, np.nan)])
    def test_no_changes_is_nan(self, flat):
        x = np.random.default_rng(24).normal(size=30)
        assert np.isnan(statistics.ccf(x, flat, 5)[1]).all()
        assert np.isnan(statistics.ccf_peak(flat, x, 5)).all()
        assert np.isnan(statistics.ccf_surrogate_band(x, flat, 5, n_surrogates=9)[1]).all()

    @pytest.mark.parametrize("method", statistics.SURROGATE_METHODS)
    def test_band_is_the_quantiles_over_surrogates(self, method):
        rng = np.random.default_rng(26)
        x, y = rng.normal(size=(2, 25)).cumsum(axis=1)
        rows = statistics.surrogates(y, method, 40, np.random.default_rng(3))
        expected = np.quantile([statistics.ccf(x, row, 4)[1] for row in rows], [0.1, 0.9], axis=0)
        lags, band = statistics.ccf_surrogate_band(x, y, 4, method, 40, 3, (0.1, 0.9))
        np.testing.assert_array_equal(lags, np.arange(-4, 5))
        np.testing.assert_allclose(band, expected, atol=1e-12)

    @pytest.mark.parametrize("method", statistics.SURROGATE_METHODS)
    def test_band_holds_unrelated_and_not_coupled_steps(self, method):
        rng = np.random.default_rng(25)
        x = step_series(rng, 60, width=0.5, noise=0.02)
        coupled = step_series(rng, 62, width=0.5, noise=0.02)
        lags, band = statistics.ccf_surrogate_band(
            x, coupled, 20, method, quantiles=(0, 0.5, 0.975)
        )
        assert band.shape == (3, 41)
        assert (np.diff(band, axis=0) >= 0).all()
        _, values = statistics.ccf(x, coupled, 20)
        assert values[lags == -2] > band[2, lags == -2]
        unrelated = step_series(rng, 100, width=0.5, noise=0.02)
        _, (low, high) = statistics.ccf_surrogate_band(x, unrelated, 20, method)
        _, values = statistics.ccf(x, unrelated, 20)
        assert np.mean((values >= low) & (values <= high)) > 0.85

    def test_rejects(self):
        x = np.arange(10.0) ** 2
        assert len(statistics.ccf(x, x, 8)[0]) == 17
        with pytest.raises(ValueError, match="max_lag is 9; 10 checkpoints allow 0 to 8"):
            statistics.ccf(x, x, 9)
        with pytest.raises(ValueError, match="max_lag is -1"):
            statistics.ccf(x, x, -1)
        with pytest.raises(ValueError, match=r"quantiles are \[2\]"):
            statistics.ccf_surrogate_band(x, x, 2, quantiles=[2])


class TestPooledCcf:
    def pairs(self, later_by=2, n=6):
        """Seeds whose topology steps two checkpoints after accuracy, each at a time of its own."""
        rng = np.random.default_rng(27)
        times = rng.uniform(30, 90, n)
        xs = [step_series(rng, at, width=0.5, noise=0.02) for at in times]
        return xs, [step_series(rng, at + later_by, width=0.5, noise=0.02) for at in times]

    def test_is_the_mean_and_spread_of_the_seeds_and_their_peaks(self):
        xs, ys = self.pairs()
        found = statistics.pooled_ccf(xs, ys, 20, n_surrogates=19)
        own = [statistics.ccf(x, y, 20)[1] for x, y in zip(xs, ys, strict=True)]
        np.testing.assert_array_equal(found.lags, np.arange(-20, 21))
        np.testing.assert_allclose(found.mean, np.mean(own, axis=0))
        np.testing.assert_allclose(found.sd, np.std(own, axis=0, ddof=1))
        peaks = [statistics.ccf_peak(x, y, 20).lag for x, y in zip(xs, ys, strict=True)]
        np.testing.assert_array_equal(found.peak_lags, peaks)
        assert np.median(peaks) == -2
        assert found.peak_interval == statistics.bootstrap_interval(peaks)

    def test_band_narrows_with_seeds_and_only_what_steps_together_leaves_it(self):
        xs, ys = self.pairs(n=12)
        found = statistics.pooled_ccf(xs, ys, 20)
        one = statistics.pooled_ccf(xs[:1], ys[:1], 20)
        assert np.isnan(one.sd).all()
        width = (found.band[1] - found.band[0]).mean()
        assert width < 0.6 * (one.band[1] - one.band[0]).mean()
        at = found.lags == -2
        assert found.mean[at] > 3 * found.band[1, at]
        # Partners of other seeds step at times of their own.
        apart = statistics.pooled_ccf(xs, ys[1:] + ys[:1], 20)
        inside = (apart.mean >= apart.band[0]) & (apart.mean <= apart.band[1])
        assert inside.mean() > 0.8

    def test_a_seed_without_changes_is_left_out(self):
        xs, ys = self.pairs()
        whole = statistics.pooled_ccf(xs, ys, 10, n_surrogates=9)
        more = statistics.pooled_ccf([*xs, xs[0]], [*ys, np.ones(len(ys[0]))], 10, n_surrogates=9)
        np.testing.assert_array_equal(more.mean, whole.mean)
        np.testing.assert_array_equal(more.band, whole.band)
        assert np.isnan(more.peak_lags[-1])
        none = statistics.pooled_ccf(xs[:1], [np.ones(len(xs[0]))], 10, n_surrogates=9)
        assert np.isnan(none.mean).all()
        assert np.isnan(none.band).all()
        assert none.band.shape == (2, 21)

    def test_rejects(self):
        x = np.arange(10.0) ** 2
        with pytest.raises(ValueError, match="2 xs and 1 ys"):
            statistics.pooled_ccf([x, x], [x], 2)
        with pytest.raises(ValueError, match="0 xs"):
            statistics.pooled_ccf([], [], 2)
        with pytest.raises(ValueError, match="quantiles"):
            statistics.pooled_ccf([x], [x], 2, quantiles=(0, 2))
