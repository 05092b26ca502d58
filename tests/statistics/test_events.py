import itertools
import math

import numpy as np
import pytest
from scipy import stats

from grokjax import statistics
from tests.statistics.series import N_CHECKPOINTS, share_below, step_series

STEPS = np.arange(N_CHECKPOINTS)


class TestHalfRiseStep:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0, 0, 0, 1, 1, 1], 1250),
            ([0, 0, 1, 2, 2, 2], 1000),
            ([5, 5, 5, 5, 2, 2, 2], 1750),
            ([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1], 2000),
            # The peak is averaged with what follows, 0.6 / 5, and crosses nothing.
            ([0, 0.6, 0, 0, 0, 0, 1, 1, 1, 1], 2500 + 500 * (0.5 - 0.12) / (1 - 0.12)),
            ([0, 0, np.nan, 1, 1, 1], 1000),
        ],
        ids=["between", "at", "fall", "ramp", "peak", "gap"],
    )
    def test_by_hand(self, values, expected):
        steps = 500 * np.arange(len(values))
        assert statistics.half_rise_step(steps, values) == pytest.approx(expected)

    @pytest.mark.parametrize("rise", [1.0, -70.0], ids=["rising", "falling"])
    @pytest.mark.parametrize(("noise", "error"), [(0.02, 0.2), (0.05, 0.5), (0.2, 2.0)])
    def test_finds_a_planted_step_in_autocorrelated_noise(self, rise, noise, error):
        rng = np.random.default_rng(60)
        errors = []
        for at in rng.uniform(15, 105, 100):
            values = step_series(rng, at, noise=noise * abs(rise), rise=rise)
            errors.append(statistics.half_rise_step(500 * STEPS, values) / 500 - at)
        assert np.median(np.abs(errors)) < error
        assert abs(np.median(errors)) < error / 2

    def test_units_do_not_matter(self):
        values = step_series(np.random.default_rng(61), 40, noise=0.1)
        at = statistics.half_rise_step(STEPS, values)
        assert statistics.half_rise_step(STEPS, 1e6 - 3e4 * values) == pytest.approx(at)
        assert statistics.half_rise_step(100 + 500 * STEPS, values) == pytest.approx(100 + 500 * at)
        single = statistics.half_rise_step(STEPS, values.astype(np.float32))
        assert single == pytest.approx(at, abs=1e-4)

    @pytest.mark.parametrize(
        "values", [[], [0, 1, 1], [0.1] * 50, [np.nan] * 6, [0.0] * 20, [0, 1] * 20]
    )
    def test_no_step_is_nan(self, values):
        assert math.isnan(statistics.half_rise_step(range(len(values)), values))

    def test_noise_has_no_step_as_often_as_stated(self):
        rng = np.random.default_rng(62)
        white = [statistics.half_rise_step(STEPS, rng.normal(size=121)) for _ in range(200)]
        assert np.isnan(white).all()
        red = [statistics.half_rise_step(STEPS, step_series(rng, 60, rise=0)) for _ in range(400)]
        assert 0.05 < np.mean(np.isfinite(red)) < 0.16

    def test_rejects(self):
        with pytest.raises(ValueError, match="strictly increasing"):
            statistics.half_rise_step([0, 0, 1, 2], [0, 0, 1, 1])
        with pytest.raises(ValueError, match="infinite at position 2"):
            statistics.half_rise_step([0, 1, 2, 3], [0, 0, np.inf, 1])


def late_steps(rng, n_seeds, *, shared):
    """Accuracy and a noisy statistic that follows it 8 checkpoints later, or steps on its own.

    All runs step within 20 of 121 checkpoints, so that any two curves correlate, and the noise of
    the plateaus ranks as the step does.
    """
    own, other = rng.uniform(50, 70, (2, n_seeds))
    later = (own if shared else other) + 8 + rng.uniform(-0.5, 0.5, n_seeds)
    xs = [step_series(rng, at, width=0.5) for at in own]
    return xs, [step_series(rng, at, width=1.0, noise=0.2) for at in later]


def half_rises(curves):
    return [statistics.half_rise_step(STEPS, curve) for curve in curves]


class TestEventTimeTest:
    @pytest.mark.parametrize("k", [2, 3, 4, 5])
    def test_is_the_share_of_all_permutations(self, k):
        rng = np.random.default_rng(k)
        for _ in range(10):
            x, y = rng.integers(0, 8, (2, k)) * 500.0  # ties among events and among statistics
            strays = []
            for order in itertools.permutations(range(k)):
                lags = [y[j] - x[i] for i, j in enumerate(order)]
                strays.append(sum(abs(lag - np.median(lags)) for lag in lags) / k)
            found = statistics.event_time_test(x, y)
            assert found.statistic == pytest.approx(strays[0])
            assert found.p_value == pytest.approx(np.mean(np.array(strays) <= strays[0] + 1e-6))
            assert found.n == k

    def test_drawn_permutations_give_about_the_same(self):
        rng = np.random.default_rng(63)
        x = rng.normal(size=7)
        y = x + rng.normal(size=7)
        exact = statistics.event_time_test(x, y)  # 5040 permutations
        drawn = statistics.event_time_test(x, y, n_permutations=5000)
        assert exact.statistic == drawn.statistic
        assert exact.p_value != drawn.p_value
        assert abs(exact.p_value - drawn.p_value) < 4 * math.sqrt(exact.p_value / 5000)
        assert drawn == statistics.event_time_test(x, y, 5000, seed=0)
        assert drawn.p_value != statistics.event_time_test(x, y, 5000, seed=1).p_value

    def test_smallest_p(self):
        assert statistics.event_time_test(range(5), range(5)).p_value == pytest.approx(1 / 120)
        # Of 10! = 3.6 million permutations none of 999 drawn is likely to be the seeds as they are.
        assert statistics.event_time_test(range(10), range(10), 999).p_value == 1 / 1000

    def test_a_constant_lag_does_not_matter(self):
        rng = np.random.default_rng(64)
        x = rng.uniform(0, 100, 6)
        y = x + rng.uniform(-9, 9, 6)
        near, far = (statistics.event_time_test(x, y + lag) for lag in (0, 1000))
        assert far.p_value == near.p_value
        assert far.statistic == pytest.approx(near.statistic)

    def test_power_where_exchange_has_next_to_none(self):
        rng = np.random.default_rng(65)
        runs = [late_steps(rng, 5, shared=True) for _ in range(200)]
        events = [
            statistics.event_time_test(half_rises(xs), half_rises(ys)).p_value for xs, ys in runs
        ]
        assert np.mean(np.array(events) <= 0.05) >= 0.85
        exchange = [statistics.pooled_exchange(xs, ys, 199).p_value for xs, ys in runs]
        assert np.mean(np.array(exchange) <= 0.05) <= 0.12

    def test_keeps_its_level(self):
        rng = np.random.default_rng(66)
        p_values = []
        for _ in range(300):
            xs, ys = late_steps(rng, 5, shared=False)
            p_values.append(statistics.event_time_test(half_rises(xs), half_rises(ys)).p_value)
        assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
        assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 0.001

    def test_runs_where_an_event_never_came_are_left_out(self):
        found = statistics.event_time_test([1, 2, np.nan, 5, 9], [2, 3, 4, np.nan, 10])
        assert found == statistics.event_time_test([1, 2, 9], [2, 3, 10])
        assert found.n == 3
        none = statistics.event_time_test([1, np.nan], [1, 2])
        assert none.n == 1 and np.isnan(none[:2]).all()

    def test_equal_times_tell_nothing(self):
        assert statistics.event_time_test([5, 5, 5, 5], [7, 7, 7, 7]).p_value == 1

    def test_rejects(self):
        with pytest.raises(ValueError, match="3 and 2 values"):
            statistics.event_time_test([1, 2, 3], [1, 2])
        with pytest.raises(ValueError, match="n_permutations is 0"):
            statistics.event_time_test([1, 2], [1, 2], 0)
        with pytest.raises(ValueError, match="infinite at position 1"):
            statistics.event_time_test([1, np.inf], [1, 2])


class TestLeadTest:
    def test_by_hand(self):
        # 7 of 8 untied runs: 2 (1 + 8) / 256. Sorted lags: -1 0 1 1 2 2 3 4 5.
        x = np.zeros(9)
        y = [3, -1, 0, 1, 5, 1, 2, 4, 2]
        found = statistics.lead_test(x, y)
        assert (found.n_x_first, found.n_y_first, found.n_tied) == (7, 1, 1)
        assert found.p_value == pytest.approx(18 / 256)
        assert found.median == 2
        # Second from both ends: covers in 1 - 2 (1 + 9) / 512 = 96 %.
        assert found.interval == (0, 4)
        mirrored = statistics.lead_test(y, x)
        assert (mirrored.median, mirrored.interval) == (-2, (-4, 0))
        assert mirrored.p_value == found.p_value

    def test_six_seeds_are_the_fewest(self):
        for k in (5, 6):
            found = statistics.lead_test(range(k), np.arange(k) + 0.5)
            assert found.p_value == pytest.approx(2.0 ** (1 - k))
            assert np.isnan(found.interval).all() == (k == 5)

    def test_missing_and_nothing(self):
        found = statistics.lead_test([1, np.nan, 3], [2, 5, 4])
        assert found[:1] + found[2:] == (1, 0.5, 2, 0, 0)
        none = statistics.lead_test([np.nan], [1])
        assert np.isnan([none.median, *none.interval, none.p_value]).all()
        tied = statistics.lead_test([1, 2], [1, 2])
        assert math.isnan(tied.p_value) and tied.n_tied == 2 and tied.median == 0

    def test_interval_covers_and_test_keeps_its_level(self):
        rng = np.random.default_rng(67)
        found = [statistics.lead_test(np.zeros(10), rng.exponential(1, 10)) for _ in range(500)]
        covered = [f.interval.low <= math.log(2) <= f.interval.high for f in found]
        assert np.mean(covered) >= 0.95
        null = [statistics.lead_test(*rng.normal(size=(2, 10))).p_value for _ in range(500)]
        assert share_below(null) <= 0.05

    def test_finds_a_lead_of_one_fine_checkpoint_of_loss_before_accuracy(self):
        rng = np.random.default_rng(68)
        times = rng.uniform(30, 90, 10)
        loss = [-np.log(1.2 - step_series(rng, at - 2, noise=0.02)) for at in times]
        accuracy = [step_series(rng, at, noise=0.02) for at in times]
        found = statistics.lead_test(half_rises(loss), half_rises(accuracy))
        # -log loss rises convexly, so its half comes a little after that of the loss itself.
        assert found.p_value <= 0.05
        assert 0 < found.interval.low <= found.median < 3


# Weeks in remission (Freireich et al., Blood 21, 1963), + where it still lasted.
MERCAPTOPURINE = ("6 6 6 7 10 13 16 22 23 6+ 9+ 10+ 11+ 17+ 19+ 20+ 25+ 32+ 32+ 34+ 35+").split()
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
HORIZON = [float(week.rstrip("+")) for week in MERCAPTOPURINE]
CAME = [np.nan if week.endswith("+") else float(week) for week in MERCAPTOPURINE]


class TestSurvival:
    def test_is_the_textbooks_estimate(self):
        found = statistics.survival(CAME, HORIZON)
        shares = dict(zip(found.steps, found.share, strict=True))
        expected = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
        for week, share in expected.items():
            assert shares[week] == pytest.approx(share, abs=5e-4)
        assert (found.n, found.n_events) == (21, 9)
        # As SAS and Stata print them: 23 (13, .) and 8 (4, 11).
        assert (found.median, found.median_interval.low) == (23, 13)
        assert math.isnan(found.median_interval.high)
        placebo = statistics.survival(PLACEBO, 35)
        assert (placebo.median, placebo.median_interval) == (8, (4, 11))

    def test_interval_by_hand(self):
        # Greenwood at 7: two steps with 3 of 21 and 1 of 17.
        found = statistics.survival(CAME, HORIZON)
        at = list(found.steps).index(7)
        share = 18 / 21 * 16 / 17
        error = math.sqrt(3 / (21 * 18) + 1 / (17 * 16)) / abs(math.log(share))
        expected = [share ** math.exp(sign * 1.959964 * error) for sign in (1, -1)]
        np.testing.assert_allclose([found.low[at], found.high[at]], expected, rtol=1e-6)

    def test_runs_that_never_came_count(self):
        came = [100.0, 200.0, 300.0]
        assert statistics.survival(came, 1000).median == 200
        assert statistics.survival([*came, np.nan, np.nan], 1000).median == 300
        never = statistics.survival([*came, *[np.nan] * 4], 1000)
        assert math.isnan(never.median)
        assert never.share[-1] == pytest.approx(4 / 7)

    def test_the_median_is_there_whenever_exactly_half_came(self):
        for n in range(2, 60, 2):  # the product of shares is 0.5, or the next float above it
            steps = [*range(n // 2), *[np.nan] * (n // 2)]
            assert statistics.survival(steps, 100).median == n // 2 - 1, n

    def test_without_events_or_without_survivors(self):
        never = statistics.survival([np.nan, np.nan], 500)
        assert (list(never.steps), list(never.share), never.n_events) == ([500], [1], 0)
        assert np.isnan([never.median, *never.median_interval, *never.low, *never.high]).all()
        every = statistics.survival([100, 100], 500)
        assert (list(every.share), every.median) == ([0], 100)

    def test_rejects(self):
        with pytest.raises(ValueError, match="no runs"):
            statistics.survival([], 100)
        with pytest.raises(ValueError, match="beyond their horizon"):
            statistics.survival([50, 150], 100)
        with pytest.raises(ValueError, match="beyond their horizon"):
            statistics.survival([50, np.nan], np.nan)


class TestLogRank:
    def test_is_the_textbooks_statistic(self):
        found = statistics.logrank(CAME, PLACEBO, HORIZON, 35)
        assert found.statistic**2 == pytest.approx(16.79, abs=5e-3)
        assert found.statistic < 0  # remission lasts longer in the first group
        assert found.p_value == pytest.approx(stats.chi2.sf(found.statistic**2, 1))
        mirrored = statistics.logrank(PLACEBO, CAME, 35, HORIZON)
        assert mirrored.statistic == pytest.approx(-found.statistic)

    def test_by_hand(self):
        # Steps 1, 2, 3: expected events of x 1/2, 1/3, 1/2 and variances 1/4, 2/9, 1/4.
        found = statistics.logrank([1, 3], [2, np.nan], 4)
        assert found.statistic == pytest.approx((2 - 4 / 3) / math.sqrt(13 / 18))

    def test_sees_runs_that_never_come_where_mean_steps_do_not(self):
        x, y = [100.0] * 10, [100.0] * 3 + [np.nan] * 7
        assert statistics.logrank(x, y, 1000).p_value < 0.01

    def test_no_events(self):
        assert np.isnan(statistics.logrank([np.nan], [np.nan, np.nan], 100)).all()


class TestFallingBack:
    steps = np.arange(0, 4000, 500)

    def test_by_hand(self):
        accuracy = [0.1, 0.95, 0.9, 0.8, 0.7, 0.95, 0.2, 1.0]
        found = statistics.falling_back(self.steps, accuracy, 500)
        assert found == (3 / 6, 0.2, 2)
        assert statistics.falling_back(self.steps, accuracy, 500, threshold=0.5) == (1 / 6, 0.2, 1)
        assert statistics.falling_back(self.steps, accuracy, 3000) == (0, 1.0, 0)

    def test_missing_values_do_not_count_and_single_precision_reaches_the_threshold(self):
        accuracy = np.array([0, 1, 0.5, np.nan, 0.5, 0.9, 0.9, 0.9], np.float32)
        assert statistics.falling_back(self.steps, accuracy, 500) == (2 / 5, 0.5, 1)

    @pytest.mark.parametrize("never", [None, np.nan, 3500])
    def test_nothing_after(self, never):
        share, deepest, falls = statistics.falling_back(self.steps, np.ones(8), never)
        assert math.isnan(share) and math.isnan(deepest) and falls == 0
