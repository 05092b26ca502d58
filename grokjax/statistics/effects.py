"""When runs memorise and generalise, how quantities change over seeds, and what seeds can show."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from grokjax.statistics.association import complete_pairs, mean_or_nan, refuse_infinite, series

MEMORISED_ACCURACY = 0.99
GENERALISED_ACCURACY = 0.9


class Interval(NamedTuple):
    """Lower and upper end of an interval."""

    low: float
    high: float


class SeedContrast(NamedTuple):
    """After against before over seeds: geometric mean ratio, mean difference, their intervals."""

    ratio: float
    ratio_interval: Interval
    difference: float
    difference_interval: Interval
    n_seeds: int


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    n_resamples: int = 9999,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic (np.mean, np.median …) of (n,) seeds' values.

    The percentile method is defined for any statistic and for equal values, where BCa is not; it
    is narrow for few seeds (of 5 normal values, 95 % intervals hold the mean in 84 % of cases).
    NaN values are left out; both ends are NaN below two others.
    Raises ValueError for confidence not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be at least 1")
    kept = series(values, "values")
    kept = kept[~np.isnan(kept)]
    if len(kept) < 2:
        return Interval(np.nan, np.nan)
    rng, how = np.random.default_rng(seed), {"n_resamples": n_resamples, "method": "percentile"}
    found = scipy.stats.bootstrap((kept,), statistic, confidence_level=confidence, rng=rng, **how)
    low, high = found.confidence_interval
    return Interval(float(low), float(high))


def before_after(
    steps: ArrayLike,
    values: ArrayLike,
    memorisation_step: int | None,
    generalisation_step: int | None,
    *,
    after_share: float = 0.2,
    split_step: int | None = None,
) -> tuple[float, float]:
    """Means of a quantity over two windows that are fixed before looking at it.

    *Before* runs from memorisation up to but excluding generalisation; from the first checkpoint
    if the run never memorised, or not before it generalised. *After* is the last `after_share`
    of the steps, without what lies before generalisation. For a run that never generalised,
    `split_step` stands in for generalisation, such as the median of the runs it is compared
    with; by default it is where the last share begins.

    Returns:
        Mean before and after, without NaN values; NaN for an empty window, such as *before* in
        a run that generalises at its first checkpoint.

    Raises:
        ValueError: no checkpoints, steps not increasing, or a share not between 0 and 1.
    """
    steps_n, values_n = checkpoints(steps, values)
    if not steps_n.size:
        raise ValueError("there are no checkpoints to average over")
    if not 0 < after_share < 1:
        raise ValueError(f"after_share is {after_share}; it must lie between 0 and 1")
    last_share = steps_n[-1] - after_share * (steps_n[-1] - steps_n[0])
    split = split_step if generalisation_step is None else generalisation_step
    split = last_share if split is None else split
    start = memorisation_step
    if start is None or start >= split:
        start = steps_n[0]
    before = (steps_n >= start) & (steps_n < split)
    after = steps_n >= max(last_share, split)
    return mean_or_nan(values_n[before]), mean_or_nan(values_n[after])


def ratio_over_seeds(
    before: ArrayLike,
    after: ArrayLike,
    seed: int = 0,
    n_resamples: int = 9999,
    confidence: float = 0.95,
) -> SeedContrast:
    """How much a quantity changed: each seed's mean after against its own before, both (n,).

    Geometric mean of after / before and mean of after - before, each with its
    `bootstrap_interval` over seeds; a seed with a NaN on either side is dropped. The ratio is NaN
    unless all means are positive.
    """
    first, last = complete_pairs(before, after)
    difference = last - first
    ratio, ratio_interval = np.nan, Interval(np.nan, np.nan)
    if len(first) and min(first.min(), last.min()) > 0:
        logs = np.log(last) - np.log(first)
        ratio = float(np.exp(logs.mean()))
        low, high = bootstrap_interval(logs, np.mean, n_resamples, confidence, seed)
        ratio_interval = Interval(float(np.exp(low)), float(np.exp(high)))
    interval = bootstrap_interval(difference, np.mean, n_resamples, confidence, seed)
    return SeedContrast(ratio, ratio_interval, mean_or_nan(difference), interval, len(first))


def smallest_detectable_effect(
    n_seeds: int, sd: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Mean difference that a two-sided paired t-test over seeds finds with the given power.

    Solves for the non-centrality of Student's t with n_seeds - 1 degrees of freedom. In the units
    of sd, the standard deviation of the differences over seeds.
    Raises ValueError for n_seeds below 2, sd negative or not finite, or not 0 < alpha < power < 1.
    """
    if n_seeds < 2:
        raise ValueError(f"n_seeds is {n_seeds}; it must be at least 2")
    if not (np.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd is {sd}; it must be finite and not negative")
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha is {alpha} and power {power}; 0 < alpha < power < 1 must hold")
    df = n_seeds - 1
    critical = scipy.stats.t.isf(alpha / 2, df)

    def shortfall(noncentrality: float) -> float:
        # Far out scipy's lower tail turns NaN; above 5 it is below 3e-7 and does not matter.
        lower = scipy.stats.nct.cdf(-critical, df, noncentrality) if noncentrality < 5 else 0.0
        return float(scipy.stats.nct.sf(critical, df, noncentrality) + lower - power)

    high = 1.0
    while shortfall(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(shortfall, 0.0, high) * sd / np.sqrt(n_seeds))


def smallest_detectable_fold(
    n_seeds: int, sd_log: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """`smallest_detectable_effect` as a fold change, from the SD of log(after / before)."""
    return float(np.exp(smallest_detectable_effect(n_seeds, sd_log, power, alpha)))


def first_step(steps: ArrayLike, values: ArrayLike, threshold: float) -> int | None:
    """First of the strictly increasing (n,) steps whose value is at or above the threshold.

    None if there is no such checkpoint; NaN never counts. Single-precision values are compared
    in single precision, so that an accuracy of exactly 9/10 reaches 0.9 there too.
    Raises ValueError for steps not increasing, or a threshold not finite.
    """
    steps_n, values_n = checkpoints(steps, values)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold is {threshold}; it must be finite")
    reached = np.flatnonzero(values_n >= values_n.dtype.type(threshold))
    return int(steps_n[reached[0]]) if reached.size else None


def memorisation_step(
    steps: ArrayLike, train_accuracy: ArrayLike, threshold: float = MEMORISED_ACCURACY
) -> int | None:
    """First checkpoint with train accuracy at or above 0.99 (see `first_step`)."""
    return first_step(steps, train_accuracy, threshold)


def generalisation_step(
    steps: ArrayLike, test_accuracy: ArrayLike, threshold: float = GENERALISED_ACCURACY
) -> int | None:
    """First checkpoint with test accuracy at or above 0.9 (see `first_step`)."""
    return first_step(steps, test_accuracy, threshold)


def threshold_sensitivity(
    steps: ArrayLike, values: ArrayLike, thresholds: Sequence[float] = (0.5, 0.8, 0.9, 0.95, 0.99)
) -> dict[float, int | None]:
    """`first_step` at each threshold: how far a step depends on where the line is drawn."""
    return {float(t): first_step(steps, values, t) for t in thresholds}


def checkpoints(steps: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Strictly increasing (n,) steps and (n,) values, finite or NaN, in their own precision."""
    steps_n, values_n = np.asarray(steps), np.asarray(values)
    if not np.issubdtype(values_n.dtype, np.floating):
        values_n = values_n.astype(np.float64)
    refuse_infinite(values_n, "values")
    if steps_n.ndim != 1 or steps_n.shape != values_n.shape:
        shapes = f"{steps_n.shape} and {values_n.shape}"
        must = "they must be one-dimensional and of equal length"
        raise ValueError(f"steps and values have shapes {shapes}; {must}")
    if not (np.diff(steps_n) > 0).all():
        raise ValueError("steps must be strictly increasing")
    return steps_n, values_n
