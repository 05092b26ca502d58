import itertools

import numpy as np
import pytest
from scipy import stats

from grokjax import statistics
from grokjax.statistics import association
from tests.statistics.series import (
    N_CHECKPOINTS,
    coupled_seeds,
    share_below,
    step_series,
    unrelated_pairs,
)


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
        tails = np.mean(null >= rho - 1e-12), np.mean(null <= rho + 1e-12)
        share = min(1, 2 * min(tails))
        assert n == N_CHECKPOINTS
        np.testing.assert_allclose(rho, stats.spearmanr(x, y).statistic, atol=1e-14)
        assert abs(p_value - share) < 8 * np.sqrt(0.25 / 500)
        assert (p_value * 2001) == pytest.approx(round(p_value * 2001))

    def test_resolution_is_that_of_the_rotations(self):
        x = step_series(np.random.default_rng(8), 60)
        p_value = statistics.spearman_surrogate(x, x, n_surrogates=100_000).p_value
        np.testing.assert_allclose(p_value, 2 / (N_CHECKPOINTS - 1), rtol=0.15)

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


def too_far_apart(seed, n_seeds=5):
    """All curves rise, so that any two correlate, but y where x has long been done."""
    rng = np.random.default_rng(seed)
    xs = [step_series(rng, rng.uniform(55, 65), width=5, noise=0.02) for _ in range(n_seeds)]
    return xs, [step_series(rng, 115, noise=0.02) for _ in range(n_seeds)]


class TestEqualTails:
    @pytest.mark.parametrize("method", statistics.SURROGATE_METHODS)
    def test_finds_a_rho_far_below_a_null_whose_mean_is_above_0(self, method):
        found, larger = [], []
        for seed in range(40):
            xs, ys = too_far_apart(seed)
            test = statistics.pooled_surrogate(xs, ys, method, n_surrogates=199)
            null = np.zeros(199)
            for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
                rows = statistics.surrogates(y, method, 199, np.random.default_rng(i))
                ranks = stats.zscore(stats.rankdata(rows, axis=1), axis=1)
                null += ranks @ stats.zscore(stats.rankdata(x)) / N_CHECKPOINTS / 5
            assert abs(test.mean_rho) < null.mean()
            found.append(test.p_value)
            larger.append((1 + np.sum(np.abs(null) >= abs(test.mean_rho))) / 200)
        assert np.sum(np.array(found) <= 0.05) == 40
        assert np.sum(np.array(larger) <= 0.05) == 0  # the share of |rho| as large

    def test_by_hand(self):
        # Of two pairings one tail holds one and twice its share is 1.
        xs, ys = coupled_seeds(4, n_seeds=2)
        assert statistics.pooled_exchange(xs, ys).p_value == 1
        xs, ys = coupled_seeds(0, n_seeds=5, earliest=20, latest=100)
        table = np.array([[statistics.spearman(x, y)[0] for y in ys] for x in xs])
        means = [table[range(5), order].mean() for order in itertools.permutations(range(5))]
        largest = np.sum(np.array(means) >= means[0] - 1e-12)
        assert statistics.pooled_exchange(xs, ys).p_value == pytest.approx(2 * largest / 120)
        # Drawn, where there are more pairings than draws.
        drawn = statistics.pooled_exchange(xs, ys, n_surrogates=119).p_value
        assert abs(drawn - 2 * largest / 120) < 8 * np.sqrt(largest / 120 / 119)


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
        assert result.p_value == 2 / 1000

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

    def test_exchange_with_a_value_missing_is_that_of_the_pairs_left(self):
        xs, ys = coupled_seeds(5, n_seeds=4)
        whole = statistics.pooled_exchange(xs, ys)
        # At the end of a plateau a value more or less changes next to nothing.
        ys[1][0] = np.nan
        gappy = statistics.pooled_exchange(xs, ys)
        assert gappy.per_series_rho[1] == statistics.spearman(xs[1][1:], ys[1][1:])[0]
        assert gappy.mean_rho == pytest.approx(whole.mean_rho, abs=0.01)
        assert gappy.p_value == pytest.approx(whole.p_value, abs=0.05)

    def test_all_orders_are_gone_through_where_there_are_no_more_than_asked_for(self):
        others = {order for order in itertools.permutations(range(4)) if order != (0, 1, 2, 3)}
        assert {*map(tuple, association.other_orders(4, 24, 0))} == others
        assert association.other_orders(4, 23, 0).shape == (23, 4)

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

    def test_both_ends_of_the_interval_are_p_values(self):
        assert statistics.benjamini_hochberg([0.0, 1.0]).tolist() == [0.0, 1.0]

    @pytest.mark.parametrize("bad", [-0.1, 1.1, np.inf])
    def test_rejects(self, bad):
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            statistics.benjamini_hochberg([0.5, bad])
