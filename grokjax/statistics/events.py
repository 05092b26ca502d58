"""One event a run: when a statistic steps, whether two events keep together, which comes first.

An event time is a step (of training), NaN where the event never came. Tests are over seeds: one
event time a seed, of runs that differ in the seed alone.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from grokjax.statistics.association import Floats, complete_pairs, other_orders, series
from grokjax.statistics.effects import GENERALISED_ACCURACY, Interval, checkpoints


class EventTimeTest(NamedTuple):
    """How far lags stray from their median (steps), its one-sided p-value, seeds with both."""

    statistic: float
    p_value: float
    n: int


class LeadTest(NamedTuple):
    """Lag of y behind x over seeds: its median (steps), interval, p-value, and seeds each way."""

    median: float  # of y - x: positive if x comes first
    interval: Interval  # of the median, exact; NaN ends where there are too few seeds for one
    p_value: float
    n_x_first: int
    n_y_first: int
    n_tied: int


class Survival(NamedTuple):
    """Kaplan-Meier estimate of the share of runs that have not got there yet; m steps."""

    steps: Floats  # (m,) at which runs got there or were last seen
    share: Floats  # (m,) not there yet after this step
    low: Floats  # (m,) pointwise interval, NaN where the share is 0 or 1
    high: Floats  # (m,)
    median: float  # first step with a share of at most a half, NaN if it never came to that
    median_interval: Interval  # steps at which low and high come to a half, NaN likewise
    n: int
    n_events: int


class LogRank(NamedTuple):
    """Standardised difference of two groups (positive: x gets there earlier), two-sided p-value."""

    statistic: float
    p_value: float


class FallingBack(NamedTuple):
    """What test accuracy did after generalisation."""

    share: float  # of the checkpoints after it, below the threshold
    deepest: float  # lowest accuracy after it
    falls: int  # how often it went below


def half_rise_step(steps: ArrayLike, values: ArrayLike) -> float:
    """Step at which a statistic has gone half of the way from its level before to that after.

    Levels are the medians on both sides of the cut in two, at least two checkpoints a side, that
    leaves the least squares. The half is crossed by the isotonic regression of the values, rising
    or falling as the levels do, linearly between checkpoints: it averages noise and crosses once.
    NaN unless the cut explains half of the variance: of 121 checkpoints of noise without a step,
    no white noise does, AR(1) noise of coefficient 0.9 in 1 case of 10. A straight ramp does, and
    is half-way in its middle.

    Any series will do: accuracy, -log loss, restricted accuracy and loss, or a statistic of
    persistence. A test accuracy is done when -log loss still rises, so the half-ways of the two
    differ, and a lead over one is none over the other: ask for both. How fine a lead can be seen
    is up to how fine the checkpoints are. NaN values are left out.

    Args:
        steps: (n,) strictly increasing.
        values: (n,).

    Raises:
        ValueError: steps not increasing, shapes that differ, infinite values.
    """
    steps_n, values_n = checkpoints(steps, values)
    kept = ~np.isnan(values_n)
    at, y = steps_n[kept].astype(np.float64), values_n[kept].astype(np.float64)
    n = len(y)
    if n < 4:
        return math.nan
    y = y - y.mean()
    first = np.arange(2, n - 1)
    sums = y.cumsum()[first - 1]
    before, after = sums / first, -sums / (n - first)
    explained = first * (n - first) / n * (after - before) ** 2
    cut = explained.argmax()
    # Equal values leave rounding behind, which is no variation.
    if explained[cut] <= max(0.5 * (y @ y), n * (1e-12 * np.abs(values_n[kept]).max()) ** 2):
        return math.nan
    rising = y if after[cut] > before[cut] else -y
    fit = scipy.optimize.isotonic_regression(rising).x
    half = (np.median(rising[: first[cut]]) + np.median(rising[first[cut] :])) / 2
    i = int(np.argmax(fit >= half))
    if i == 0:  # Medians so far from the means that nothing crosses between them.
        return math.nan
    return float(at[i - 1] + (half - fit[i - 1]) / (fit[i] - fit[i - 1]) * (at[i] - at[i - 1]))


def event_time_test(
    events_x: ArrayLike, events_y: ArrayLike, n_permutations: int = 9999, seed: int = 0
) -> EventTimeTest:
    """Whether two events keep to each other within a run, whichever seed it is.

    The statistic is the mean distance of the lags y - x from their median: 0 if y follows x at the
    same distance in every run. It is small if an event of x goes with one of y in the same run;
    the null pairs x with the y of other seeds, so it holds wherever runs of this kind usually have
    their events. p is the share of permutations with a statistic as small: of all k! if these are
    at most n_permutations, otherwise of so many drawn and the seeds as they are. So with k seeds p
    cannot go below 1 / k!, 0.008 for five. Which comes first is for `lead_test`.

    Seeds without both events are left out; both numbers are NaN below two.
    Raises ValueError for partners of different length, infinite times or n_permutations below 1.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations is {n_permutations}; it must be at least 1")
    x, y = complete_pairs(events_x, events_y)
    k = len(x)
    if k < 2:
        return EventTimeTest(math.nan, math.nan, k)
    others = np.vstack([np.arange(k), other_orders(k, n_permutations, seed)])
    lags = y[others] - x
    strays = np.abs(lags - np.median(lags, axis=1, keepdims=True)).mean(axis=1)
    # The first is the seeds as they are. Equal statistics may differ in their last bits.
    as_small = strays <= strays[0] + 1e-12 * np.abs(lags).max()
    return EventTimeTest(float(strays[0]), float(as_small.mean()), k)


def lead_test(events_x: ArrayLike, events_y: ArrayLike, confidence: float = 0.95) -> LeadTest:
    """Which of two events comes first over seeds: exact sign test, and by how much.

    Seeds where both come at the same step are ties and left out of the p-value, two-sided
    binomial; seeds without both events are left out of all. With k seeds p cannot go below
    2^(1 - k): six are the fewest for 0.05, and for a 95 % interval of the median (from order
    statistics, ties included). Checkpoints should be fine beside the lag: see `half_rise_step`.
    NaN where there is no seed left.
    """
    x, y = complete_pairs(events_x, events_y)
    lags = y - x
    x_first, y_first = int((lags > 0).sum()), int((lags < 0).sum())
    tied, untied = len(lags) - x_first - y_first, x_first + y_first
    p_value = scipy.stats.binomtest(x_first, untied).pvalue if untied else math.nan
    median, interval = math.nan, Interval(math.nan, math.nan)
    if len(lags):
        median = float(np.median(lags))
        found = scipy.stats.quantile_test(lags, q=0, p=0.5).confidence_interval(confidence)
        interval = Interval(float(found.low), float(found.high))
    return LeadTest(median, interval, float(p_value), x_first, y_first, tied)


def survival(steps: ArrayLike, horizon: ArrayLike, confidence: float = 0.95) -> Survival:
    """How many runs have not got there yet, step by step; runs that never do count in full.

    SciPy's Kaplan-Meier estimate with log-log intervals (`scipy.stats.ecdf`), and the median with
    the interval of Brookmeyer and Crowley (Biometrics 38, 1982).

    Args:
        steps: (n,) at which each run got there, NaN where it had not by its horizon.
        horizon: last step at which runs were looked at, one for all or (n,).
        confidence: of the intervals.

    Raises:
        ValueError: no runs, or a step beyond its horizon.
    """
    data, n_events = _censored(steps, horizon)
    found = scipy.stats.ecdf(data).sf
    with warnings.catch_warnings():
        # SciPy warns where the share is 0 or 1 and has no log-log.
        warnings.simplefilter("ignore", RuntimeWarning)
        ends = found.confidence_interval(confidence, method="log-log")
    at, share = found.quantiles, found.probabilities
    low, high = (
        np.where(share % 1 == 0, np.nan, end.probabilities) for end in (ends.low, ends.high)
    )
    median, *interval = (_first(at, line) for line in (share, low, high))
    return Survival(at, share, low, high, median, Interval(*interval), len(data), n_events)


def _first(at: Floats, line: Floats) -> float:
    reached = np.flatnonzero(line <= 0.5 + 1e-9)  # a product of shares, rounded
    return float(at[reached[0]]) if reached.size else math.nan


def logrank(
    steps_x: ArrayLike,
    steps_y: ArrayLike,
    horizon_x: ArrayLike,
    horizon_y: ArrayLike | None = None,
) -> LogRank:
    """Whether two groups of runs get there at the same steps: SciPy's log-rank test.

    Arguments are those of `survival`, a group each; horizon_y is horizon_x unless given. The
    p-value is that of a normal limit. Both are NaN where no run of either group gets there.
    """
    x, came_x = _censored(steps_x, horizon_x)
    y, came_y = _censored(steps_y, horizon_x if horizon_y is None else horizon_y)
    if not came_x + came_y:
        return LogRank(math.nan, math.nan)
    found = scipy.stats.logrank(x, y)
    return LogRank(float(found.statistic), float(found.pvalue))


def _censored(steps: ArrayLike, horizon: ArrayLike) -> tuple[scipy.stats.CensoredData, int]:
    """Steps for SciPy, those that never came at their horizon; and how many came."""
    came = series(steps, "steps")
    if not came.size:
        raise ValueError("there are no runs")
    last = np.broadcast_to(np.asarray(horizon, np.float64), came.shape)
    never = np.isnan(came)
    beyond = ~never & ~(came <= last)
    if beyond.any() or not np.isfinite(last).all():
        raise ValueError(f"steps {came[beyond]} lie beyond their horizon {last[beyond]}")
    return scipy.stats.CensoredData.right_censored(np.where(never, last, came), never), int(
        (~never).sum()
    )


def falling_back(
    steps: ArrayLike,
    accuracy: ArrayLike,
    generalisation_step: float | None,
    threshold: float = GENERALISED_ACCURACY,
) -> FallingBack:
    """How much a run falls back after it has generalised.

    Args:
        steps: (n,) strictly increasing.
        accuracy: (n,) on test data, NaN where it was not measured.
        generalisation_step: of the run, None or NaN if it never generalised.
        threshold: below which it has fallen back.

    Returns:
        Of the checkpoints after generalisation: the share below the threshold, the lowest accuracy,
        and how many times accuracy fell below. NaN and 0 falls without such a checkpoint.
    """
    steps_n, accuracy_n = checkpoints(steps, accuracy)
    start = math.nan if generalisation_step is None else generalisation_step
    after = accuracy_n[(steps_n > start) & ~np.isnan(accuracy_n)]
    if not after.size:
        return FallingBack(math.nan, math.nan, 0)
    below = after < after.dtype.type(threshold)
    falls = np.count_nonzero(np.diff(below, prepend=False) & below)
    return FallingBack(float(below.mean()), float(after.min()), int(falls))
