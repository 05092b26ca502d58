"""Cross-correlation of the changes of two series: which moves first, and by how much."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.statistics.association import Floats, check_partners, mean_or_nan, pair, rearranged
from grokjax.statistics.effects import Interval, bootstrap_interval

CCF_LAG_LABEL = "lag in checkpoints (negative: {x} moves first; positive: {y} moves first)"
"""Axis label for `ccf(x, y)`: format with the names of x and y."""


class Peak(NamedTuple):
    """Lag (checkpoints) at which a cross-correlation is largest in size, and its value there."""

    lag: float
    value: float


class PooledCcf(NamedTuple):
    """`ccf` over seeds; L = 2 max_lag + 1 lags, k seeds."""

    lags: NDArray[np.int64]  # (L,) in checkpoints
    mean: Floats  # (L,) over the seeds for which it is defined
    sd: Floats  # (L,) sample SD over these; NaN for fewer than two
    band: Floats  # (2, L) quantiles of the mean under the null
    peak_lags: Floats  # (k,) lag of each seed's own `ccf_peak`, NaN where undefined
    peak_interval: Interval  # bootstrap over seeds of the mean of these


def ccf(x: ArrayLike, y: ArrayLike, max_lag: int) -> tuple[NDArray[np.int64], Floats]:
    """Cross-correlation of the first differences of two series.

    The value at lag k correlates the change in x at checkpoint t + k with the change in y at
    checkpoint t. So a peak at a *negative* lag means that *x moves first*, at a positive lag
    that y does.

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
    values = _null(x, y, max_lag, method, n_surrogates, np.random.default_rng(seed))
    return np.arange(-max_lag, max_lag + 1), _band(values, quantiles)


def pooled_ccf(
    xs: Sequence[ArrayLike],
    ys: Sequence[ArrayLike],
    max_lag: int,
    method: str = "shift",
    n_surrogates: int = 999,
    seed: int = 0,
    quantiles: tuple[float, float] = (0.025, 0.975),
) -> PooledCcf:
    """Mean `ccf` over seeds, each seed's peak, and the band that unrelated timing would give.

    The null is that of `pooled_surrogate`, with its caveat, and the band pointwise, as in
    `ccf_surrogate_band`. All is NaN but the lags if no seed has a defined `ccf`.
    Raises ValueError as in `ccf`, for series in unequal number, or quantiles outside [0, 1].
    """
    check_partners(xs, ys)
    lags = np.arange(-max_lag, max_lag + 1)
    own, null = [], np.zeros((n_surrogates, len(lags)))
    streams = np.random.default_rng(seed).spawn(len(xs))
    for x, y, rng in zip(xs, ys, streams, strict=True):
        values = ccf(x, y, max_lag)[1]
        if not np.isnan(values).any():
            null += _null(x, y, max_lag, method, n_surrogates, rng)
            own.append(values)
    peaks = np.array([ccf_peak(x, y, max_lag).lag for x, y in zip(xs, ys, strict=True)])
    interval = bootstrap_interval(peaks, seed=seed)
    nothing = np.full(len(lags), np.nan)
    band = _band(null / max(len(own), 1), quantiles)
    if not own:
        return PooledCcf(lags, nothing, nothing, np.full_like(band, np.nan), peaks, interval)
    spread = np.std(own, axis=0, ddof=1) if len(own) > 1 else nothing
    return PooledCcf(lags, np.mean(own, axis=0), spread, band, peaks, interval)


def _null(
    x: ArrayLike, y: ArrayLike, max_lag: int, method: str, n: int, rng: np.random.Generator
) -> Floats:
    """(n, 2 max_lag + 1): `ccf` of x with surrogates of y."""
    dx, dy = _centred_changes(x, y, max_lag)
    return rearranged(dy, method, n, rng) @ _lagged(dx, max_lag).T / _norms(dx, dy)


def _band(values: Floats, quantiles: Sequence[float]) -> Floats:
    if not all(0 <= level <= 1 for level in quantiles):
        raise ValueError(f"quantiles are {list(quantiles)}; they must lie in [0, 1]")
    return np.quantile(values, quantiles, axis=0)


def _centred_changes(x: ArrayLike, y: ArrayLike, max_lag: int) -> tuple[Floats, Floats]:
    """First differences of both series less their means, 0 where one is missing."""
    x_n, y_n = pair(x, y)
    if not 0 <= max_lag <= len(x_n) - 2:
        raise ValueError(f"max_lag is {max_lag}; {len(x_n)} checkpoints allow 0 to {len(x_n) - 2}")
    return _centred(np.diff(x_n)), _centred(np.diff(y_n))


def _centred(changes: Floats) -> Floats:
    centred = changes - mean_or_nan(changes)
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
