import math

import numpy as np
import pytest
from scipy import signal, stats

from grokjax import statistics

N_CHECKPOINTS = 121


def step_series(rng, at, *, width=2.0, noise=0.05, rise=1.0):
    """(121,) sigmoid step at checkpoint `at` plus AR(1) noise of coefficient 0.9."""
    innovations = rng.normal(size=N_CHECKPOINTS) * np.sqrt(1 - 0.9**2)
    innovations[0] /= np.sqrt(1 - 0.9**2)
    ar1 = signal.lfilter([1.0], [1.0, -0.9], innovations)
    step = 1 / (1 + np.exp(-(np.arange(N_CHECKPOINTS) - at) / width))
    return rise * step + noise * ar1


def unrelated_pairs(seed, n_pairs, earliest=10, latest=110):
    rng = np.random.default_rng(seed)
    return [
        tuple(step_series(rng, rng.uniform(earliest, latest)) for _ in range(2))
        for _ in range(n_pairs)
    ]


def coupled_seeds(seed, n_seeds, earliest=30, latest=90):
    """Series of n_seeds runs whose two steps lie within 3 checkpoints of each other."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(earliest, latest, n_seeds)
    xs = [step_series(rng, t) for t in times]
    return xs, [step_series(rng, t + rng.uniform(-3, 3)) for t in times]


def share_below(p_values, level=0.05):
    return np.mean(np.array(p_values) < level)


class TestSteps:
    steps = np.arange(0, 3000, 500)

    def test_first_at_or_above_even_if_it_falls_again(self):
        values = [0.1, 0.89, 0.9, 0.2, 0.95, 1.0]
        assert statistics.first_step(self.steps, values, 0.9) == 1000
        assert isinstance(statistics.first_step(self.steps, values, 0.9), int)

    def test_never_reached(self):
        assert statistics.first_step(self.steps, np.full(6, 0.5), 0.9) is None
        assert statistics.first_step([], [], 0.9) is None

    def test_nan_never_counts(self):
        values = [np.nan, np.nan, 0.95, np.nan, 1.0, np.nan]
        assert statistics.first_step(self.steps, values, 0.9) == 1000
        assert statistics.first_step(self.steps, np.full(6, np.nan), 0.9) is None

    def test_single_precision_reaches_the_threshold_it_equals(self):
        for threshold in (0.9, 0.99):
            values = np.array([0, 0, threshold, 1, 1, 1], np.float32)
            assert statistics.first_step(self.steps, values, threshold) == 1000

    def test_default_thresholds(self):
        accuracy = [0.1, 0.89, 0.9, 0.98, 0.99, 1.0]
        assert statistics.generalisation_step(self.steps, accuracy) == 1000
        assert statistics.memorisation_step(self.steps, accuracy) == 2000

    def test_threshold_sensitivity(self):
        accuracy = [0.1, 0.6, 0.9, 0.92, 0.96, 0.96]
        assert statistics.threshold_sensitivity(self.steps, accuracy) == {
            0.5: 500,
            0.8: 1000,
            0.9: 1000,
            0.95: 2000,
            0.99: None,
        }

    def test_rejects(self):
        with pytest.raises(ValueError, match="strictly increasing"):
            statistics.first_step([0, 500, 500], [0, 0, 1], 0.9)
        with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\)"):
            statistics.first_step([0, 500, 1000], [0, 1], 0.9)
        with pytest.raises(ValueError, match="threshold is nan"):
            statistics.first_step([0, 500], [0, 1], np.nan)
        with pytest.raises(ValueError, match="infinite at position 1"):
            statistics.first_step([0, 500], [0, np.inf], 0.9)


class TestSpearman:
    def test_equals_scipy_with_ties(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            x, y = rng.integers(0, 8, (2, 50))
            rho, n = statistics.spearman(x, y)
            assert n == 50
            np.testing.assert_allclose(rho, stats.spearmanr(x, y).statistic, atol=1e-14)

    def test_pairs_with_nan_are_removed(self):
        x = np.array([1, 2, np.nan, 4, 5, 3.5])
        y = np.array([2, 1, 7, 4, np.nan, 5])
        expected = stats.spearmanr([1, 2, 4, 3.5], [2, 1, 4, 5]).statistic
        rho, n = statistics.spearman(x, y)
        assert n == 4
        np.testing.assert_allclose(rho, expected, atol=1e-14)

    @pytest.mark.parametrize(
        ("x", "y"),
        [([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3], [np.nan, 1, 2]), ([], [])],
        ids=["constant", "two pairs", "empty"],
    )
    def test_undefined_is_nan(self, x, y):
        rho, n = statistics.spearman(x, y)
        assert np.isnan(rho)
        assert n == np.sum(~np.isnan(y))
        assert np.isnan(statistics.spearman_surrogate(x, y).p_value)

    def test_rejects(self):
        with pytest.raises(ValueError, match="3 and 2 values"):
            statistics.spearman([1, 2, 3], [1, 2])
        with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
            statistics.spearman([[1, 2], [3, 4]], [1, 2])
        with pytest.raises(ValueError, match="infinite at position 2"):
            statistics.spearman([1, 2, 3], [1, 2, -np.inf])


class TestSurrogates:
    @pytest.mark.parametrize("method", statistics.SURROGATE_METHODS)
    @pytest.mark.parametrize("n", [20, 21])
    def test_keep_the_ends_and_the_spread_of_changes(self, method, n):
        x = np.random.default_rng(1).normal(size=n).cumsum()
        rows = statistics.surrogates(x, method, 50, np.random.default_rng(2))
        assert rows.shape == (50, n)
        np.testing.assert_allclose(rows[:, 0], x[0], atol=1e-12)
        np.testing.assert_allclose(rows[:, -1], x[-1], atol=1e-12)
        changes = np.diff(rows, axis=1)
        energy = np.sum(np.diff(x) ** 2)
        np.testing.assert_allclose(np.sum(changes**2, axis=1), energy, rtol=1e-12)
        assert len(np.unique(rows.round(9), axis=0)) > 10

    def test_shift_gives_rotations_of_the_changes(self):
        x = np.array([0.0, 1.0, 3.0, 6.0, 10.0])
        rows = statistics.surrogates(x, "shift", 200, np.random.default_rng(0))
        expected = {tuple(np.roll([1.0, 2.0, 3.0, 4.0], k)) for k in range(4)}
        assert {tuple(changes) for changes in np.diff(rows, axis=1)} == expected

    def test_block_keeps_runs_of_changes_together(self):
        x = np.concatenate([[0.0], np.arange(1.0, 101.0)]).cumsum()
        rows = statistics.surrogates(x, "block", 20, np.random.default_rng(0))
        changes = np.diff(rows, axis=1)
        np.testing.assert_array_equal(np.sort(changes, axis=1), np.tile(np.diff(x), (20, 1)))
        in_order = np.isin(np.diff(changes, axis=1), [1, -99]).sum(axis=1)
        # 10 blocks of 10 changes each: at most 9 joins of the 99 can be out of order.
        assert (in_order >= 90).all()
        assert (in_order < 99).any()

    def test_phase_keeps_the_amplitude_spectrum(self):
        x = np.random.default_rng(3).normal(size=40).cumsum()
        rows = statistics.surrogates(x, "phase", 10, np.random.default_rng(4))
        spectra = np.abs(np.fft.rfft(np.diff(rows, axis=1), axis=1))
        expected = np.abs(np.fft.rfft(np.diff(x)))
        np.testing.assert_allclose(spectra, np.tile(expected, (10, 1)), atol=1e-12)

    def test_rejects(self):
        rng = np.random.default_rng(0)
        with pytest.raises(ValueError, match="'twist'; it must be one of shift, block, phase"):
            statistics.surrogates([1, 2, 3], "twist", 9, rng)
        with pytest.raises(ValueError, match="n_surrogates is 0"):
            statistics.surrogates([1, 2, 3], "shift", 0, rng)
        with pytest.raises(ValueError, match="at least 3 values"):
            statistics.surrogates([1, 2], "shift", 9, rng)
        with pytest.raises(ValueError, match="none of them NaN"):
            statistics.surrogates([1, np.nan, 2, 3], "shift", 9, rng)


class TestSpearmanSurrogate:
    def test_shift_is_honest_where_ordinary_spearman_is_not(self):
        pairs = unrelated_pairs(seed=0, n_pairs=1000)
        p_values = [
            statistics.spearman_surrogate(x, y, seed=i)[1] for i, (x, y) in enumerate(pairs)
        ]
        assert 0.03 <= share_below(p_values) <= 0.07
        assert share_below([stats.spearmanr(x, y).pvalue for x, y in pairs[:300]]) > 0.75

    @pytest.mark.parametrize("method", ["block", "phase"])
    def test_block_and_phase_do_not_reject_too_often(self, method):
        p_values = [
            statistics.spearman_surrogate(x, y, method, n_surrogates=99, seed=i).p_value
            for i, (x, y) in enumerate(unrelated_pairs(seed=1, n_pairs=200))
        ]
        assert share_below(p_values) <= 0.07

    @pytest.mark.parametrize("method", statistics.SURROGATE_METHODS)
    def test_is_the_stated_share_of_surrogates(self, method):
        rng = np.random.default_rng(5)
        x, y = step_series(rng, 50), step_series(rng, 80)
        rho, p_value, n = statistics.spearman_surrogate(x, y, method, n_surrogates=2000, seed=6)
        rows = statistics.surrogates(y, method, 500, np.random.default_rng(7))
        null = np.array([stats.spearmanr(x, row).statistic for row in rows])
        share = np.mean(np.abs(null) >= abs(rho) - 1e-12)
        assert n == N_CHECKPOINTS
        np.testing.assert_allclose(rho, stats.spearmanr(x, y).statistic, atol=1e-14)
        assert abs(p_value - share) < 4 * np.sqrt(0.25 / 500)
        assert (p_value * 2001) == pytest.approx(round(p_value * 2001))

    def test_resolution_is_that_of_the_rotations(self):
        x = step_series(np.random.default_rng(8), 60)
        p_value = statistics.spearman_surrogate(x, x, n_surrogates=100_000).p_value
        np.testing.assert_allclose(p_value, 1 / (N_CHECKPOINTS - 1), rtol=0.15)

    def test_sign_does_not_matter(self):
        rng = np.random.default_rng(9)
        x, y = step_series(rng, 50), step_series(rng, 53)
        up, down = (statistics.spearman_surrogate(x, s * y) for s in (1, -1))
        assert up.rho == pytest.approx(-down.rho)
        assert up.p_value == down.p_value

    @pytest.mark.parametrize("method", ["shift", "block"])
    def test_tied_values_stay_tied(self, method):
        # Tenths do not add up exactly, whole numbers do: rounding must not break the ties.
        y = np.array([1, 2, 3, 1, 2, 6, 5, 5] * 5)
        exact = statistics.spearman_surrogate(y, y[::-1], method)
        assert statistics.spearman_surrogate(y / 10, y[::-1] / 10, method) == exact

    def test_seed_fixes_the_result(self):
        rng = np.random.default_rng(10)
        x, y = step_series(rng, 40), step_series(rng, 60)
        first, again, other = (statistics.spearman_surrogate(x, y, seed=s) for s in (1, 1, 2))
        assert first == again
        assert first.p_value != other.p_value

    def test_nan_pairs_are_removed(self):
        rng = np.random.default_rng(11)
        x, y = step_series(rng, 40), step_series(rng, 45)
        gappy = y.copy()
        gappy[[3, 70]] = np.nan
        kept = ~np.isnan(gappy)
        with_gaps = statistics.spearman_surrogate(x, gappy)
        assert with_gaps == statistics.spearman_surrogate(x[kept], y[kept])
        assert with_gaps.n == N_CHECKPOINTS - 2

    def test_rejects(self):
        x = np.arange(10.0)
        with pytest.raises(ValueError, match="method is 'rotate'"):
            statistics.spearman_surrogate(x, x, "rotate")
        with pytest.raises(ValueError, match="n_surrogates is 0"):
            statistics.spearman_surrogate(x, x, n_surrogates=0)


class TestPooled:
    def test_sees_what_one_run_cannot(self):
        runs = [coupled_seeds(seed, n_seeds=5) for seed in range(40)]
        pooled = [statistics.pooled_surrogate(xs, ys).p_value for xs, ys in runs]
        single = [statistics.spearman_surrogate(xs[0], ys[0])[1] for xs, ys in runs]
        assert share_below(pooled) >= 0.9
        assert share_below(single) <= 0.5

    def test_pooled_shift_is_honest_if_steps_come_anywhere(self):
        p_values = []
        for seed in range(100):
            xs, ys = zip(*unrelated_pairs(100 + seed, 5, earliest=0, latest=120), strict=True)
            p_values.append(statistics.pooled_surrogate(xs, ys, "shift", 199, seed).p_value)
        # 0.05 and three standard errors of 100 draws.
        assert share_below(p_values) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)

    def test_exchange_stays_honest_if_all_steps_keep_to_the_middle(self):
        shift, exchange = [], []
        for seed in range(40):
            xs, ys = zip(*unrelated_pairs(500 + seed, 5, earliest=30, latest=90), strict=True)
            shift.append(statistics.pooled_surrogate(xs, ys, "shift", 199, seed).p_value)
            exchange.append(statistics.pooled_exchange(xs, ys, seed=seed).p_value)
        assert share_below(exchange) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
        assert share_below(shift) > 0.2  # what the docstring warns of

    def test_exchange_has_power_with_ten_seeds(self):
        runs = [coupled_seeds(seed, n_seeds=10) for seed in range(12)]
        p_values = [statistics.pooled_exchange(xs, ys).p_value for xs, ys in runs]
        assert share_below(p_values) >= 0.8

    def test_each_seed_has_its_own_surrogates(self):
        x = step_series(np.random.default_rng(12), 60)
        # Only if all three rotations are by 0, one draw in 1.7 million, is a surrogate as good;
        # with one rotation for all it would be one in 120.
        result = statistics.pooled_surrogate([x] * 3, [x] * 3)
        assert result.mean_rho == pytest.approx(1)
        assert result.p_value == 1 / 1000

    def test_mean_and_per_seed_rho(self):
        xs, ys = coupled_seeds(0, n_seeds=4)
        expected = [stats.spearmanr(x, y).statistic for x, y in zip(xs, ys, strict=True)]
        for test in (statistics.pooled_surrogate, statistics.pooled_exchange):
            mean_rho, _, n_series, per_series = test(xs, ys)
            np.testing.assert_allclose(per_series, expected, atol=1e-14)
            assert mean_rho == pytest.approx(np.mean(expected))
            assert n_series == 4

    def test_constant_series_is_left_out(self):
        xs, ys = coupled_seeds(1, n_seeds=4)
        ys[2] = np.full(N_CHECKPOINTS, 3.0)
        for test in (statistics.pooled_surrogate, statistics.pooled_exchange):
            result = test(xs, ys)
            assert result.n_series == 3
            np.testing.assert_array_equal(np.isnan(result.per_series_rho), [0, 0, 1, 0])
            assert result.mean_rho == pytest.approx(np.nanmean(result.per_series_rho))
            assert 0 < result.p_value <= 1

    def test_nothing_left(self):
        constant = [np.ones(5), np.ones(5)]
        for test in (statistics.pooled_surrogate, statistics.pooled_exchange):
            result = test(constant, constant)
            assert (result.n_series, len(result.per_series_rho)) == (0, 2)
            assert np.isnan([result.mean_rho, result.p_value]).all()

    def test_one_seed_cannot_be_exchanged(self):
        xs, ys = coupled_seeds(2, n_seeds=1)
        result = statistics.pooled_exchange(xs, ys)
        assert np.isnan(result.p_value)
        assert result.mean_rho == pytest.approx(statistics.spearman(xs[0], ys[0])[0])

    def test_a_seed_of_one_is_the_single_test(self):
        xs, ys = coupled_seeds(3, n_seeds=1)
        pooled = statistics.pooled_surrogate(xs, ys, n_surrogates=20_000)
        single = statistics.spearman_surrogate(xs[0], ys[0], n_surrogates=20_000)
        assert pooled.mean_rho == pytest.approx(single.rho)
        assert abs(pooled.p_value - single.p_value) < 0.02

    def test_rejects(self):
        x = np.arange(5.0)
        for test in (statistics.pooled_surrogate, statistics.pooled_exchange):
            with pytest.raises(ValueError, match="2 xs and 1 ys"):
                test([x, x], [x])
            with pytest.raises(ValueError, match="0 xs and 0 ys"):
                test([], [])
            with pytest.raises(ValueError, match="n_surrogates is -1"):
                test([x], [x], n_surrogates=-1)


class TestFalseDiscovery:
    def test_by_hand(self):
        # Step-up: p(i) * m / i, running minimum from the largest; by: times sum of 1/i = 25/12.
        p = [0.01, 0.04, 0.03, 0.5]
        hochberg = np.array([0.04, 0.16 / 3, 0.16 / 3, 0.5])
        np.testing.assert_allclose(statistics.benjamini_hochberg(p), hochberg, rtol=1e-12)
        yekutieli = np.minimum(hochberg * 25 / 12, 1)
        np.testing.assert_allclose(statistics.benjamini_yekutieli(p), yekutieli, rtol=1e-12)

    def test_nan_passes_through_and_does_not_count(self):
        p = np.array([[0.01, np.nan, 0.04], [0.03, 0.5, np.nan]])
        made = ~np.isnan(p)
        for adjust in (statistics.benjamini_hochberg, statistics.benjamini_yekutieli):
            adjusted = adjust(p)
            np.testing.assert_array_equal(np.isnan(adjusted), ~made)
            np.testing.assert_allclose(adjusted[made], adjust(p[made]))
        assert np.isnan(statistics.benjamini_hochberg([np.nan])).all()

    @pytest.mark.parametrize("bad", [-0.1, 1.1, np.inf])
    def test_rejects(self, bad):
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            statistics.benjamini_hochberg([0.5, bad])


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
