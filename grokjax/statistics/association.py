"""Spearman's rho against surrogates, pooled over seeds; and the helpers all statistics share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SURROGATE_METHODS = ("shift", "block", "phase")

# Re-cumulating differences rounds at about 1e-16 of the range. Values that were tied must stay
# tied, so surrogates are ranked on a grid far above that and far below single precision.
_RANK_GRID = 1e-12


class SurrogateTest(NamedTuple):
    """Spearman's rho, its equal-tailed surrogate p-value and the number of checkpoints n."""

    rho: float
    p_value: float
    n: int


class PooledTest(NamedTuple):
    """Mean rho over seeds, its p-value, the number of seeds used, and every seed's rho."""

    mean_rho: float
    p_value: float
    n_series: int
    per_series_rho: Floats


def spearman(x: ArrayLike, y: ArrayLike) -> tuple[float, int]:
    """Spearman's rank correlation, ties at their mean rank, and the number of pairs n.

    Pairs with a NaN are removed. Below three pairs, or if a series is constant, rho is NaN.
    """
    x_n, y_n = complete_pairs(x, y)
    return float(_rhos(_unit_ranks(x_n[None])[0], y_n[None])[0]), len(x_n)


def surrogates(x: ArrayLike, method: str, n_surrogates: int, rng: np.random.Generator) -> Floats:
    """Series that resemble x but step elsewhere: its first differences rearranged, re-cumulated.

    `shift` rotates the differences, which keeps the shape of the step and the autocorrelation;
    rotations are drawn with replacement from all n - 1, the one by 0 included. `block` cuts the
    rotated differences into blocks of about sqrt(n - 1) and permutes these. `phase` keeps the
    amplitude spectrum of the differences and draws the phases (Theiler et al., Physica D 58, 1992),
    which spreads a step over the whole series.
    All (n_surrogates, n) go from x[0] to x[-1], up to rounding.
    Raises ValueError for a method not listed, fewer than 3 values, or NaN.
    """
    x_n = series(x, "x")
    if len(x_n) < 3 or np.isnan(x_n).any():
        raise ValueError("x must hold at least 3 values, none of them NaN, to make surrogates")
    changes = rearranged(np.diff(x_n), method, n_surrogates, rng)
    return np.cumulative_sum(changes, axis=1, include_initial=True) + x_n[0]


def spearman_surrogate(
    x: ArrayLike, y: ArrayLike, method: str = "shift", n_surrogates: int = 999, seed: int = 0
) -> SurrogateTest:
    """Spearman's rho with a p-value that respects the step and the autocorrelation.

    The null distribution is rho of x with surrogates of y. Draws may repeat and may be y itself;
    counted so, p is valid however few distinct rotations there are (Hemerik and Goeman, TEST 27,
    2018), but `shift` cannot go much below 2 / (n - 1), 0.017 for 121 checkpoints. Surrogates rise
    as y does, so the null mean is not 0: p is equal-tailed, small for a rho far above the null and
    for one far below. The null of `shift` says that y's step could have come anywhere in training.

    Pairs with a NaN are removed and the gap closed. Both rho and p are NaN below three pairs or if
    a series is constant.
    """
    rho, n, null = _rho_and_null(x, y, method, n_surrogates, np.random.default_rng(seed))
    return SurrogateTest(rho, _equal_tailed_p(rho, null), n)


def pooled_surrogate(
    xs: Sequence[ArrayLike],
    ys: Sequence[ArrayLike],
    method: str = "shift",
    n_surrogates: int = 999,
    seed: int = 0,
) -> PooledTest:
    """Mean Spearman's rho over seeds against surrogates drawn apart in each seed.

    The null rearranges each seed's y on its own, from its own stream, and takes the mean over seeds
    (above 0 for curves that all rise). ys are the partners of xs in the same order, one a seed;
    lengths may differ between seeds.

    Pooling sharpens the caveat of `spearman_surrogate`: five seeds of unrelated steps fall below
    0.05 in 5 % of cases if steps come anywhere in training, in 9 % without its first and last
    twelfth, in 37 % within its middle half. `pooled_exchange` does not have this fault; report
    both.

    A seed whose rho is undefined (see `spearman`) keeps NaN and is left out of the mean; without
    any seed left, mean and p are NaN.
    """
    check_partners(xs, ys)
    _check_surrogates(method, n_surrogates)
    streams = np.random.default_rng(seed).spawn(len(xs))
    rhos = np.full(len(xs), np.nan)
    null = np.zeros(n_surrogates)
    for i, (x, y, rng) in enumerate(zip(xs, ys, streams, strict=True)):
        rhos[i], _, series_null = _rho_and_null(x, y, method, n_surrogates, rng)
        if np.isfinite(rhos[i]):
            null += series_null
    mean, used = mean_or_nan(rhos), int(np.isfinite(rhos).sum())
    return PooledTest(mean, _equal_tailed_p(mean, null / max(used, 1)), used, rhos)


def pooled_exchange(
    xs: Sequence[ArrayLike], ys: Sequence[ArrayLike], n_surrogates: int = 999, seed: int = 0
) -> PooledTest:
    """Mean Spearman's rho over seeds against the y of other seeds: do x and y share their timing?

    The null pairs every x with a y drawn without replacement from the runs (a random
    permutation, the identity included), so it holds for unrelated steps wherever runs of this
    kind usually step. It has nothing to tell where all seeds step at the same checkpoint, and
    with k seeds p cannot go much below 2 / k!, 0.017 for five. Series are one a seed, of the same
    length, and of runs that differ in the seed alone.

    NaN as in `pooled_surrogate`; p as well if fewer than two seeds are left, or if some x and some
    y have no defined rho.
    """
    check_partners(xs, ys)
    _check_surrogates("shift", n_surrogates)
    rhos = np.array([spearman(x, y)[0] for x, y in zip(xs, ys, strict=True)])
    kept = [i for i, rho in enumerate(rhos) if np.isfinite(rho)]
    mean, used = mean_or_nan(rhos), len(kept)
    table = np.array([[spearman(xs[i], ys[j])[0] for j in kept] for i in kept])
    if used < 2 or np.isnan(table).any():
        return PooledTest(mean, np.nan, used, rhos)
    partners = np.tile(np.arange(used), (n_surrogates, 1))
    partners = np.random.default_rng(seed).permuted(partners, axis=1)
    null = table[np.arange(used), partners].mean(axis=1)
    return PooledTest(mean, _equal_tailed_p(mean, null), used, rhos)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """p-values adjusted for the false-discovery rate, any shape, all tests of the family.

    Holds under independence or positive dependence (Benjamini and Hochberg, JRSS B 57, 1995).
    NaN is a test that could not be made: it stays NaN and does not count.
    Raises ValueError for a value outside [0, 1].
    """
    return _adjusted(p_values, "bh")


def benjamini_yekutieli(p_values: ArrayLike) -> Floats:
    """As `benjamini_hochberg`, under any dependence (Ann. Statist. 29, 2001)."""
    return _adjusted(p_values, "by")


def _unit_ranks(rows: Floats) -> Floats:
    """(r, n) values → (r, n) ranks, centred and of norm 1; NaN in a constant row."""
    ranks = scipy.stats.rankdata(rows, axis=1)
    ranks -= (rows.shape[1] + 1) / 2
    norms = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.divide(ranks, norms, out=np.full_like(ranks, np.nan), where=norms > 0)


def _rhos(x_ranks: Floats, rows: Floats) -> Floats:
    """(n,) unit ranks of a series, (r, n) rows → (r,) rhos with each row; NaN for n below 3."""
    if len(x_ranks) < 3:
        return np.full(len(rows), np.nan)
    return np.clip(_unit_ranks(rows) @ x_ranks, -1.0, 1.0)


def _surrogate_rhos(x_ranks: Floats, changes: Floats) -> Floats:
    """`_rhos` with the series whose differences are (r, n - 1) changes."""
    rows = np.cumulative_sum(changes, axis=1, include_initial=True)
    return _rhos(x_ranks, np.rint(rows / np.ptp(rows) / _RANK_GRID))


def _rho_and_null(
    x: ArrayLike, y: ArrayLike, method: str, n_surrogates: int, rng: np.random.Generator
) -> tuple[float, int, Floats]:
    """Rho, number of pairs, and (n_surrogates,) rhos of x with surrogates of y."""
    _check_surrogates(method, n_surrogates)
    x_n, y_n = complete_pairs(x, y)
    x_ranks = _unit_ranks(x_n[None])[0]
    rho = float(_rhos(x_ranks, y_n[None])[0])
    if np.isnan(rho):
        return rho, len(x_n), np.full(n_surrogates, np.nan)
    changes = np.diff(y_n)
    if method != "shift":
        rows = rearranged(changes, method, n_surrogates, rng)
        return rho, len(x_n), _surrogate_rhos(x_ranks, rows)
    # Rotations repeat, and ranking is what costs: each distinct one is ranked once.
    shifts, draws = np.unique(rng.integers(len(changes), size=n_surrogates), return_inverse=True)
    null = _surrogate_rhos(x_ranks, _rotated(changes, shifts))
    # The rotation by 0 is y itself, and must count as such whatever rounding did to its ranks.
    return rho, len(x_n), np.where(shifts == 0, rho, null)[draws]


def _equal_tailed_p(rho: float, null: Floats) -> float:
    if np.isnan(rho):
        return np.nan
    # Equal correlations may differ in their last bits by the order of summation.
    tails = np.count_nonzero(null >= rho - 1e-12), np.count_nonzero(null <= rho + 1e-12)
    return float(min(1.0, 2 * (1 + min(tails)) / (1 + len(null))))


def _adjusted(p_values: ArrayLike, method: str) -> Floats:
    p = np.asarray(p_values, dtype=np.float64)
    made = ~np.isnan(p)
    wrong = p[made & ~((p >= 0) & (p <= 1))]
    if wrong.size:
        raise ValueError(f"p-value {wrong[0]} lies outside [0, 1]")
    adjusted = np.full(p.shape, np.nan)
    if made.any():
        adjusted[made] = scipy.stats.false_discovery_control(p[made], method=method)
    return adjusted


def series(values: ArrayLike, name: str) -> Floats:
    """Values as (n,) float64, finite or NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be one-dimensional")
    refuse_infinite(array, name)
    return array


def refuse_infinite(array: NDArray[Any], name: str) -> None:
    """ValueError for values that are infinite."""
    infinite = np.flatnonzero(np.isinf(array))
    if infinite.size:
        raise ValueError(f"{name} must be finite or NaN, but is infinite at position {infinite[0]}")


def pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Two series of equal length."""
    x_n, y_n = series(x, "the first series"), series(y, "the second series")
    if len(x_n) != len(y_n):
        raise ValueError(f"the series have {len(x_n)} and {len(y_n)} values; they must be as many")
    return x_n, y_n


def complete_pairs(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Two series without the places where one is NaN."""
    x_n, y_n = pair(x, y)
    complete = ~(np.isnan(x_n) | np.isnan(y_n))
    return x_n[complete], y_n[complete]


def mean_or_nan(values: NDArray[Any]) -> float:
    """Mean of what is not NaN; NaN of nothing."""
    kept = values[~np.isnan(values)]
    return float(kept.mean(dtype=np.float64)) if kept.size else np.nan


def check_partners(xs: Sequence[ArrayLike], ys: Sequence[ArrayLike]) -> None:
    """ValueError unless each x has its y."""
    if len(xs) != len(ys) or not len(xs):
        raise ValueError(f"there are {len(xs)} xs and {len(ys)} ys; each x needs its y")


def _check_surrogates(method: str, n_surrogates: int) -> None:
    if method not in SURROGATE_METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(SURROGATE_METHODS)}")
    if n_surrogates < 1:
        raise ValueError(f"n_surrogates is {n_surrogates}; it must be at least 1")


def _rotated(changes: Floats, shifts: NDArray[np.int64]) -> Floats:
    return changes[(np.arange(len(changes)) + shifts[:, None]) % len(changes)]


def rearranged(changes: Floats, method: str, n_surrogates: int, rng: np.random.Generator) -> Floats:
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
    turned = _rotated(changes, shifts)
    if method == "shift":
        return turned
    # A random rotation before cutting: no place of the series is always a block's edge.
    block_of = np.arange(m) // max(1, round(np.sqrt(m)))
    order = rng.random((n_surrogates, block_of[-1] + 1))[:, block_of]
    return np.take_along_axis(turned, np.argsort(order, axis=1, kind="stable"), axis=1)
