"""When a run memorises and generalises, and what its curves have to do with each other.

A grokking run makes every curve step once, and checkpoints are strongly autocorrelated. The
p-value that usually comes with Spearman's rho takes checkpoints for independent draws and calls
most pairs of unrelated step-like curves significant. Here p-values come from surrogates that
keep the step and the autocorrelation (`spearman_surrogate`), pooled over seeds
(`pooled_surrogate`, `pooled_exchange`), with a false-discovery correction over the family tested.

Conventions, the same in every function:
    Series are (n,) values at consecutive, evenly spaced checkpoints, taken as float64. NaN is a
    value that was not measured. Infinite values, series that are not one-dimensional, and
    partners of different length are refused with a ValueError.
    method: how surrogates are made, `shift`, `block` or `phase` (see `surrogates`).
    n_surrogates, n_resamples: how many are drawn, at least 1; otherwise a ValueError.
    seed: of everything random; equal seeds give equal results.
    Two-sided p-values are (1 + #{|s| >= |observed|}) / (1 + n_surrogates).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

MEMORISED_ACCURACY = 0.99
GENERALISED_ACCURACY = 0.9
SURROGATE_METHODS = ("shift", "block", "phase")
CCF_LAG_LABEL = "lag in checkpoints (negative: {x} moves first; positive: {y} moves first)"
"""Axis label for `ccf(x, y)`: format with the names of x and y."""

# Re-cumulating differences rounds at about 1e-16 of the range. Values that were tied must stay
# tied, so surrogates are ranked on a grid far above that and far below single precision.
_RANK_GRID = 1e-12


class SurrogateTest(NamedTuple):
    """Spearman's rho, its two-sided surrogate p-value and the number of checkpoints n."""

    rho: float
    p_value: float
    n: int


class PooledTest(NamedTuple):
    """Mean rho over seeds, its p-value, the number of seeds used, and every seed's rho."""

    mean_rho: float
    p_value: float
    n_series: int
    per_series_rho: Floats


class Peak(NamedTuple):
    """Lag (checkpoints) at which a cross-correlation is largest in size, and its value there."""

    lag: float
    value: float


class Interval(NamedTuple):
    """Lower and upper end of a bootstrap interval."""

    low: float
    high: float


class SeedContrast(NamedTuple):
    """After against before over seeds: geometric mean ratio, mean difference, their intervals."""

    ratio: float
    ratio_interval: Interval
    difference: float
    difference_interval: Interval
    n_seeds: int


def first_step(steps: ArrayLike, values: ArrayLike, threshold: float) -> int | None:
    """First of the strictly increasing (n,) steps whose value is at or above the threshold.

    None if there is no such checkpoint; NaN never counts. Single-precision values are compared
    in single precision, so that an accuracy of exactly 9/10 reaches 0.9 there too.

    Raises:
        ValueError: steps not increasing, or a threshold not finite.
    """
    steps_n, values_n = _checkpoints(steps, values)
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
    steps: ArrayLike,
    values: ArrayLike,
    thresholds: Sequence[float] = (0.5, 0.8, 0.9, 0.95, 0.99),
) -> dict[float, int | None]:
    """`first_step` at each threshold: how far a step depends on where the line is drawn."""
    return {float(t): first_step(steps, values, t) for t in thresholds}


def spearman(x: ArrayLike, y: ArrayLike) -> tuple[float, int]:
    """Spearman's rank correlation, ties at their mean rank, and the number of pairs n.

    Pairs with a NaN are removed. Below three pairs, or if a series is constant, rho is NaN.
    """
    x_n, y_n = _complete_pairs(x, y)
    return float(_rhos(_unit_ranks(x_n[None])[0], y_n[None])[0]), len(x_n)


def surrogates(x: ArrayLike, method: str, n_surrogates: int, rng: np.random.Generator) -> Floats:
    """Series that resemble x but step elsewhere: its first differences rearranged, re-cumulated.

    `shift` rotates the differences, which keeps their order and with it the shape of the step
    and the autocorrelation; rotations are drawn with replacement from all n - 1, the one by 0
    included. `block` cuts the rotated differences into blocks of about sqrt(n - 1) and permutes
    these. `phase` keeps the amplitude spectrum of the differences and draws the phases (Theiler
    et al., Physica D 58, 1992), which spreads a step over the whole series.

    Returns:
        (n_surrogates, n) series, all from x[0] to x[-1] up to rounding.

    Raises:
        ValueError: a method not listed, fewer than 3 values, or NaN.
    """
    x_n = _series(x, "x")
    if len(x_n) < 3 or np.isnan(x_n).any():
        raise ValueError("x must hold at least 3 values, none of them NaN, to make surrogates")
    return _cumulate(x_n[0], _rearranged(np.diff(x_n), method, n_surrogates, rng))


def spearman_surrogate(
    x: ArrayLike, y: ArrayLike, method: str = "shift", n_surrogates: int = 999, seed: int = 0
) -> SurrogateTest:
    """Spearman's rho with a p-value that respects the step and the autocorrelation.

    The null distribution is rho of x with surrogates of y. Draws may repeat and may be y itself;
    counted so, p is valid however few distinct rotations there are (Hemerik and Goeman, TEST 27,
    2018), but `shift` cannot go much below 1 / (n - 1), 0.008 for 121 checkpoints. Leaving out
    the rotation by 0 would claim a resolution that n - 1 rotations do not have.

    The null of `shift` says that y's step could have come anywhere in training. If both steps
    keep to its middle half for unrelated reasons, 7 to 9 % of p-values fall below 0.05.

    Returns:
        rho, p and n. Pairs with a NaN are removed and the gap closed. Both rho and p are NaN
        below three pairs or if a series is constant.
    """
    rho, n, null = _rho_and_null(x, y, method, n_surrogates, np.random.default_rng(seed))
    return SurrogateTest(rho, _two_sided_p(rho, null), n)


def pooled_surrogate(
    xs: Sequence[ArrayLike],
    ys: Sequence[ArrayLike],
    method: str = "shift",
    n_surrogates: int = 999,
    seed: int = 0,
) -> PooledTest:
    """Mean Spearman's rho over seeds against surrogates drawn apart in each seed.

    One run has little power; that x and y step together in each of several runs has much. The
    null rearranges each seed's y on its own, from its own stream, and takes the mean over seeds
    (above 0 for curves that all rise).

    Pooling sharpens the caveat of `spearman_surrogate`: the test also rejects if x and y are
    unrelated but both keep to the middle of training in every seed. Five seeds of unrelated
    steps fall below 0.05 in 5 % of cases if steps come anywhere in training, in 9 % without its
    first and last twelfth, in 37 % within its middle half. `pooled_exchange` does not have this
    fault; report both.

    Args:
        xs: one series a seed; lengths may differ between seeds.
        ys: the partners, in the same order.
        method: see the module's conventions, as for the rest.
        n_surrogates: number of surrogate means.
        seed: of the surrogates.

    Returns:
        A seed whose rho is undefined (see `spearman`) keeps NaN and is left out of the mean;
        without any seed left, mean and p are NaN.
    """
    _check_partners(xs, ys)
    _check_surrogates(method, n_surrogates)
    streams = np.random.default_rng(seed).spawn(len(xs))
    rhos = np.full(len(xs), np.nan)
    null = np.zeros(n_surrogates)
    for i, (x, y, rng) in enumerate(zip(xs, ys, streams, strict=True)):
        rhos[i], _, series_null = _rho_and_null(x, y, method, n_surrogates, rng)
        if np.isfinite(rhos[i]):
            null += series_null
    mean, used = _mean_or_nan(rhos), int(np.isfinite(rhos).sum())
    return PooledTest(mean, _two_sided_p(mean, null / max(used, 1)), used, rhos)


def pooled_exchange(
    xs: Sequence[ArrayLike], ys: Sequence[ArrayLike], n_surrogates: int = 999, seed: int = 0
) -> PooledTest:
    """Mean Spearman's rho over seeds against the y of other seeds: do x and y share their timing?

    The null pairs every x with a y drawn without replacement from the runs (a random
    permutation, the identity included), so it holds for unrelated steps wherever runs of this
    kind usually step. It has nothing to tell where all seeds step at the same checkpoint, and
    with k seeds p cannot go much below 1 / k!, 0.008 for five.

    Args:
        xs: one series a seed, all of the same length and of runs that differ in the seed alone.
        ys: the partners, in the same order.
        n_surrogates: number of permutations.
        seed: of the permutations.

    Returns:
        As `pooled_surrogate`; p is NaN as well if fewer than two seeds are left, or if some x
        and some y have no defined rho.
    """
    _check_partners(xs, ys)
    _check_surrogates("shift", n_surrogates)
    rhos = np.array([spearman(x, y)[0] for x, y in zip(xs, ys, strict=True)])
    kept = [i for i, rho in enumerate(rhos) if np.isfinite(rho)]
    mean, used = _mean_or_nan(rhos), len(kept)
    table = np.array([[spearman(xs[i], ys[j])[0] for j in kept] for i in kept])
    if used < 2 or np.isnan(table).any():
        return PooledTest(mean, np.nan, used, rhos)
    partners = np.tile(np.arange(used), (n_surrogates, 1))
    partners = np.random.default_rng(seed).permuted(partners, axis=1)
    null = table[np.arange(used), partners].mean(axis=1)
    return PooledTest(mean, _two_sided_p(mean, null), used, rhos)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """p-values adjusted for the false-discovery rate, any shape, all tests of the family.

    Holds under independence or positive dependence (Benjamini and Hochberg, JRSS B 57, 1995).
    NaN is a test that could not be made: it stays NaN and does not count.

    Raises:
        ValueError: a value outside [0, 1].
    """
    return _adjusted(p_values, "bh")


def benjamini_yekutieli(p_values: ArrayLike) -> Floats:
    """As `benjamini_hochberg`, under any dependence (Ann. Statist. 29, 2001)."""
    return _adjusted(p_values, "by")


def ccf(x: ArrayLike, y: ArrayLike, max_lag: int) -> tuple[NDArray[np.int64], Floats]:
    """Cross-correlation of the first differences of two series.

    The value at lag k correlates the change in x at checkpoint t + k with the change in y at
    checkpoint t. So a peak at a *negative* lag means that *x moves first*, at a positive lag
    that y does: with x the test accuracy and checkpoints every 500 steps, accuracy first by
    1,000 steps is a peak at lag -2. `CCF_LAG_LABEL` says so on an axis.

    Differences are centred and all lags divided by the same full norms, so values lie in
    [-1, 1] and shrink where little overlaps. A change to or from a NaN counts as the mean
    change; no gap is closed, since that would move the lags.

    Returns:
        (2 max_lag + 1,) lags in checkpoints, ascending, and the correlations there: NaN if all
        changes of a series are equal.

    Raises:
        ValueError: max_lag outside 0 to n - 2.
    """
    dx, dy = _centred_changes(x, y, max_lag)
    return np.arange(-max_lag, max_lag + 1), _lagged(dx, max_lag) @ dy / _norms(dx, dy)


def ccf_peak(x: ArrayLike, y: ArrayLike, max_lag: int) -> Peak:
    """Lag at which `ccf` is largest in absolute value, and the value there, sign kept.

    Of equal ones the lag nearest 0 is taken, of -k and k the negative; both NaN where `ccf` is.
    """
    lags, values = ccf(x, y, max_lag)
    if np.isnan(values).any():
        return Peak(np.nan, np.nan)
    by_size = np.argsort(np.abs(lags), kind="stable")
    peak = by_size[np.argmax(np.abs(values[by_size]))]
    return Peak(float(lags[peak]), float(values[peak]))


def ccf_surrogate_band(
    x: ArrayLike,
    y: ArrayLike,
    max_lag: int,
    method: str = "shift",
    n_surrogates: int = 999,
    seed: int = 0,
    quantiles: Sequence[float] = (0.025, 0.975),
) -> tuple[NDArray[np.int64], Floats]:
    """Quantiles, lag by lag, of `ccf` between x and surrogates of y.

    The band is pointwise: over many lags a curve leaves it somewhere by chance.

    Returns:
        (2 max_lag + 1,) lags and (len(quantiles), 2 max_lag + 1) band, NaN where `ccf` is.

    Raises:
        ValueError: as in `ccf`, or quantiles outside [0, 1].
    """
    levels = np.asarray(quantiles, dtype=float)
    if not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"quantiles are {list(quantiles)}; they must lie in [0, 1]")
    dx, dy = _centred_changes(x, y, max_lag)
    rows = _rearranged(dy, method, n_surrogates, np.random.default_rng(seed))
    values = rows @ _lagged(dx, max_lag).T / _norms(dx, dy)
    return np.arange(-max_lag, max_lag + 1), np.quantile(values, levels, axis=0)


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

    Returns:
        The interval without NaN values; NaN at both ends below two.

    Raises:
        ValueError: confidence not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be at least 1")
    kept = _series(values, "values")
    kept = kept[~np.isnan(kept)]
    if len(kept) < 2:
        return Interval(np.nan, np.nan)
    interval = stats.bootstrap(
        (kept,),
        statistic,
        n_resamples=n_resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(interval.low), float(interval.high))


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
    steps_n, values_n = _checkpoints(steps, values)
    if not steps_n.size:
        raise ValueError("there are no checkpoints to average over")
    if not 0 < after_share < 1:
        raise ValueError(f"after_share is {after_share}; it must lie between 0 and 1")
    last_share = steps_n[-1] - after_share * (steps_n[-1] - steps_n[0])
    split = split_step if generalisation_step is None else generalisation_step
    if split is None:
        split = last_share
    start = steps_n[0] if memorisation_step is None else memorisation_step
    if start >= split:
        start = steps_n[0]
    before = (steps_n >= start) & (steps_n < split)
    after = steps_n >= max(last_share, split)
    return _mean_or_nan(values_n[before]), _mean_or_nan(values_n[after])


def ratio_over_seeds(
    before: ArrayLike,
    after: ArrayLike,
    seed: int = 0,
    n_resamples: int = 9999,
    confidence: float = 0.95,
) -> SeedContrast:
    """How much a quantity changed: each seed's mean after against its own before, both (n,).

    Returns:
        Geometric mean of after / before and mean of after - before, each with its
        `bootstrap_interval` over seeds, and the number of seeds; a seed with a NaN on either
        side is dropped. The ratio is NaN unless all means are positive.
    """
    first, last = _complete_pairs(before, after)
    difference = last - first
    ratio, ratio_interval = np.nan, Interval(np.nan, np.nan)
    if len(first) and min(first.min(), last.min()) > 0:
        logs = np.log(last) - np.log(first)
        ratio = float(np.exp(logs.mean()))
        low, high = bootstrap_interval(logs, np.mean, n_resamples, confidence, seed)
        ratio_interval = Interval(float(np.exp(low)), float(np.exp(high)))
    interval = bootstrap_interval(difference, np.mean, n_resamples, confidence, seed)
    return SeedContrast(ratio, ratio_interval, _mean_or_nan(difference), interval, len(first))


def smallest_detectable_effect(
    n_seeds: int, sd: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Mean difference that a two-sided paired t-test over seeds finds with the given power.

    Solves for the non-centrality of Student's t with n_seeds - 1 degrees of freedom; the normal
    approximation is far too hopeful for five seeds. In the units of sd, the standard deviation
    of the differences over seeds.

    Raises:
        ValueError: n_seeds below 2, sd negative or not finite, or not 0 < alpha < power < 1.
    """
    if n_seeds < 2:
        raise ValueError(f"n_seeds is {n_seeds}; it must be at least 2")
    if not (np.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd is {sd}; it must be finite and not negative")
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha is {alpha} and power {power}; 0 < alpha < power < 1 must hold")
    df = n_seeds - 1
    critical = stats.t.isf(alpha / 2, df)

    def shortfall(noncentrality: float) -> float:
        # Far out scipy's lower tail turns NaN; above 5 it is below 3e-7 and does not matter.
        lower = stats.nct.cdf(-critical, df, noncentrality) if noncentrality < 5 else 0.0
        return float(stats.nct.sf(critical, df, noncentrality) + lower - power)

    high = 1.0
    while shortfall(high) < 0:
        high *= 2
    return float(optimize.brentq(shortfall, 0.0, high) * sd / np.sqrt(n_seeds))


def smallest_detectable_fold(
    n_seeds: int, sd_log: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """`smallest_detectable_effect` as a fold change, from the SD of log(after / before)."""
    return float(np.exp(smallest_detectable_effect(n_seeds, sd_log, power, alpha)))


def _series(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be one-dimensional")
    _refuse_infinite(array, name)
    return array


def _refuse_infinite(array: NDArray[Any], name: str) -> None:
    infinite = np.flatnonzero(np.isinf(array))
    if infinite.size:
        raise ValueError(f"{name} must be finite or NaN, but is infinite at position {infinite[0]}")


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x_n, y_n = _series(x, "the first series"), _series(y, "the second series")
    if len(x_n) != len(y_n):
        raise ValueError(f"the series have {len(x_n)} and {len(y_n)} values; they must be as many")
    return x_n, y_n


def _complete_pairs(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x_n, y_n = _pair(x, y)
    complete = ~(np.isnan(x_n) | np.isnan(y_n))
    return x_n[complete], y_n[complete]


def _checkpoints(steps: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    steps_n, values_n = np.asarray(steps), np.asarray(values)
    if not np.issubdtype(values_n.dtype, np.floating):
        values_n = values_n.astype(np.float64)
    _refuse_infinite(values_n, "values")
    if steps_n.ndim != 1 or steps_n.shape != values_n.shape:
        raise ValueError(
            f"steps and values have shapes {steps_n.shape} and {values_n.shape}; "
            "they must be one-dimensional and of equal length"
        )
    if not (np.diff(steps_n) > 0).all():
        raise ValueError("steps must be strictly increasing")
    return steps_n, values_n


def _mean_or_nan(values: NDArray[Any]) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean(dtype=np.float64)) if kept.size else np.nan


def _unit_ranks(rows: Floats) -> Floats:
    """(r, n) values → (r, n) ranks, centred and of norm 1; NaN in a constant row."""
    ranks = stats.rankdata(rows, axis=1)
    ranks -= (rows.shape[1] + 1) / 2
    norms = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.divide(ranks, norms, out=np.full_like(ranks, np.nan), where=norms > 0)


def _rhos(x_ranks: Floats, rows: Floats) -> Floats:
    """Spearman's rho of a series, given by its unit ranks (n,), with each of rows (r, n).

    NaN below three values.
    """
    if len(x_ranks) < 3:
        return np.full(len(rows), np.nan)
    return np.clip(_unit_ranks(rows) @ x_ranks, -1.0, 1.0)


def _surrogate_rhos(x_ranks: Floats, changes: Floats) -> Floats:
    """`_rhos` with the series whose differences are (r, n - 1) changes."""
    rows = _cumulate(0.0, changes)
    return _rhos(x_ranks, np.rint(rows / np.ptp(rows) / _RANK_GRID))


def _rho_and_null(
    x: ArrayLike, y: ArrayLike, method: str, n_surrogates: int, rng: np.random.Generator
) -> tuple[float, int, Floats]:
    """Rho, number of pairs, and (n_surrogates,) rhos of x with surrogates of y."""
    _check_surrogates(method, n_surrogates)
    x_n, y_n = _complete_pairs(x, y)
    x_ranks = _unit_ranks(x_n[None])[0]
    rho = float(_rhos(x_ranks, y_n[None])[0])
    if np.isnan(rho):
        return rho, len(x_n), np.full(n_surrogates, np.nan)
    changes = np.diff(y_n)
    if method != "shift":
        rows = _rearranged(changes, method, n_surrogates, rng)
        return rho, len(x_n), _surrogate_rhos(x_ranks, rows)
    # Rotations repeat, and ranking is what costs: each distinct one is ranked once.
    shifts, draws = np.unique(rng.integers(len(changes), size=n_surrogates), return_inverse=True)
    null = _surrogate_rhos(x_ranks, _rotated(changes, shifts))
    # The rotation by 0 is y itself, and must count as such whatever rounding did to its ranks.
    return rho, len(x_n), np.where(shifts == 0, rho, null)[draws]


def _two_sided_p(rho: float, null: Floats) -> float:
    if np.isnan(rho):
        return np.nan
    # Equal correlations may differ in their last bits by the order of summation.
    as_large = np.abs(null) >= abs(rho) - 1e-12
    return float((1 + np.count_nonzero(as_large)) / (1 + len(null)))


def _check_partners(xs: Sequence[ArrayLike], ys: Sequence[ArrayLike]) -> None:
    if len(xs) != len(ys) or not len(xs):
        raise ValueError(f"there are {len(xs)} xs and {len(ys)} ys; each x needs its y")


def _check_surrogates(method: str, n_surrogates: int) -> None:
    if method not in SURROGATE_METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(SURROGATE_METHODS)}")
    if n_surrogates < 1:
        raise ValueError(f"n_surrogates is {n_surrogates}; it must be at least 1")


def _cumulate(start: float, changes: Floats) -> Floats:
    """(r, m) differences → (r, m + 1) series from start."""
    series = np.zeros((changes.shape[0], changes.shape[1] + 1))
    np.cumsum(changes, axis=1, out=series[:, 1:])
    return series + start


def _rotated(changes: Floats, shifts: NDArray[np.int64]) -> Floats:
    return changes[(np.arange(len(changes)) + shifts[:, None]) % len(changes)]


def _rearranged(
    changes: Floats, method: str, n_surrogates: int, rng: np.random.Generator
) -> Floats:
    """(m,) differences → (n_surrogates, m) rearranged ones; see `surrogates`."""
    _check_surrogates(method, n_surrogates)
    m = len(changes)
    if method == "phase":
        spectrum = np.fft.rfft(changes)
        phases = rng.uniform(0.0, 2 * np.pi, (n_surrogates, len(spectrum)))
        # The mean keeps the end of the series; the Nyquist term of an even length must stay real.
        phases[:, 0] = 0.0
        if m % 2 == 0:
            phases[:, -1] = np.pi * (phases[:, -1] < np.pi)
        return np.fft.irfft(spectrum * np.exp(1j * phases), n=m, axis=1)
    shifts = rng.integers(m, size=n_surrogates)
    rotated = _rotated(changes, shifts)
    if method == "shift":
        return rotated
    # A random rotation before cutting: no place of the series is always a block's edge.
    length = max(1, round(np.sqrt(m)))
    block_of = np.arange(m) // length
    order = rng.random((n_surrogates, block_of[-1] + 1))[:, block_of]
    return np.take_along_axis(rotated, np.argsort(order, axis=1, kind="stable"), axis=1)


def _adjusted(p_values: ArrayLike, method: str) -> Floats:
    p = np.asarray(p_values, dtype=np.float64)
    made = ~np.isnan(p)
    wrong = p[made & ~((p >= 0) & (p <= 1))]
    if wrong.size:
        raise ValueError(f"p-value {wrong[0]} lies outside [0, 1]")
    adjusted = np.full(p.shape, np.nan)
    if made.any():
        adjusted[made] = stats.false_discovery_control(p[made], method=method)
    return adjusted


def _centred_changes(x: ArrayLike, y: ArrayLike, max_lag: int) -> tuple[Floats, Floats]:
    """First differences of both series less their means, 0 where one is missing."""
    x_n, y_n = _pair(x, y)
    if not 0 <= max_lag <= len(x_n) - 2:
        raise ValueError(f"max_lag is {max_lag}; {len(x_n)} checkpoints allow 0 to {len(x_n) - 2}")
    return _centred(np.diff(x_n)), _centred(np.diff(y_n))


def _centred(changes: Floats) -> Floats:
    centred = changes - _mean_or_nan(changes)
    centred[np.isnan(centred)] = 0.0
    # Equal changes leave rounding behind, which is no variation to correlate with.
    noise = 1e-12 * np.max(np.abs(changes), initial=0.0, where=~np.isnan(changes))
    return np.where(np.abs(centred) <= noise, 0.0, centred)


def _norms(dx: Floats, dy: Floats) -> float:
    product = float(np.linalg.norm(dx) * np.linalg.norm(dy))
    return product if product > 0 else np.nan


def _lagged(changes: Floats, max_lag: int) -> Floats:
    """(m,) → (2 max_lag + 1, m): row for lag k holds changes[t + k] at t, 0 beyond the ends."""
    padded = np.pad(changes, max_lag)
    return np.lib.stride_tricks.sliding_window_view(padded, len(changes))
