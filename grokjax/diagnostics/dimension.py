"""Local intrinsic dimension of point clouds by TwoNN on neighbourhoods.

TwoNN (Facco et al. 2017, doi:10.1038/s41598-017-11873-y): where points lie uniformly on a
d-dimensional manifold, the ratio μ of a point's distances to its second and to its first nearest
neighbour has P(μ > x) = x^-d, so d is the slope of −log(1 − F(μ)) against log μ. Fitted to the
neighbourhood of each point in turn it is a pointwise estimate. Everything here follows
scikit-dimension 0.5, ``TwoNN().fit_transform_pw``:

* the neighbourhood of a point is its ``n_neighbors`` nearest points, itself not among them;
* both distances of a member of it are taken among the members only;
* members that coincide with another one (first distance 0) are left out;
* of the N ratios left, the largest are discarded: the ⌊0.9 N⌋ smallest are fitted by least
  squares through the origin, with the i-th smallest at F = i / N. Releases before 0.5 put it at
  F = (i − 1) / N, which gives estimates about 5 % lower: ``empirical="from_zero"``.

Where several points are equally far, which of them belong to a neighbourhood is scikit-dimension's
accident; here it is the points of lowest index. Above 25 dimensions its distances within a
neighbourhood come from inner products, whose rounding can leave coinciding points about 1e-8
apart; here they are at distance 0 exactly.

Neighbourhoods are chosen by float64 distances, whatever the input and ``jax_enable_x64``: which
point is the last to enter is a matter of order, which float32 distances would change at about one
point in ten thousand, and the estimate there by several percent. The ratios within come from the
same distances rounded to float32, an error of 1e-7; distances below 1e-19 of the largest count
as 0.

Shapes: B clouds, N points, D dimensions, K neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Options, Rows, RunView, Table

EMPIRICAL = ("from_one", "from_zero")
DISCARD_FRACTION = 0.1

# Squared distances below this share of the squared norms are computed from differences. Above it,
# inner products in float64 are right to about 1e-6 of the squared distance at worst.
_CANCELLATION = 1e-9
# Rows of differences at a time: an accumulator that stays in a CPU's cache.
_ROWS = 32
# Neighbours are found in float32, then this many about the last place are put in float64 order.
_SLACK = 16
# The fit needs two ratios below the discarded tenth.
_MIN_POINTS = 3


class DimensionSummary(NamedTuple):
    """Mean and standard deviation of pointwise estimates over the points of one cloud."""

    lid_mean: float
    lid_std: float


def twonn_pointwise(
    points: ArrayLike | jax.Array, n_neighbors: int = 64, *, empirical: str = "from_one"
) -> NDArray[np.float64]:
    """TwoNN estimate of the dimension about each point (Facco et al. 2017, scikit-dimension 0.5).

    Args:
        points: Shape (n, d), d at least 1, n above ``n_neighbors``; any real dtype.
        n_neighbors: Points in a neighbourhood, at least 3; the paper's study used 64.
        empirical: ``"from_one"`` or ``"from_zero"``, see the module's text.

    Returns:
        Shape (n,), float64, no unit. NaN throughout where any coordinate is infinite or NaN; NaN
        at a point whose neighbourhood has fewer than three members that coincide with no other
        (scikit-dimension refuses the whole cloud then); 0 where all fitted ratios are exactly 1.

    Raises:
        ValueError: On another shape, too few points, or an unknown ``empirical``.
    """
    array = points if isinstance(points, jax.Array) else np.asarray(points)
    _check(array, "(n, d)", empirical)
    return twonn_pointwise_batch(array[None], n_neighbors, empirical=empirical)[0]


def twonn_pointwise_batch(
    clouds: ArrayLike | jax.Array, n_neighbors: int = 64, *, empirical: str = "from_one"
) -> NDArray[np.float64]:
    """:func:`twonn_pointwise` of many clouds of one shape, as one compiled program.

    Clouds are taken one after another, so memory is that of one of them: about 30 n² bytes. The
    program is compiled once for each shape of ``clouds``. It runs where ``clouds`` lies.

    Args:
        clouds: Shape (b, n, d); any real dtype. A cloud that is not finite leaves the others be.
        n_neighbors: As for :func:`twonn_pointwise`.
        empirical: As for :func:`twonn_pointwise`.

    Returns:
        Shape (b, n), float64; each row as :func:`twonn_pointwise` gives it.

    Raises:
        ValueError: As :func:`twonn_pointwise`.
    """
    array = clouds if isinstance(clouds, jax.Array) else np.asarray(clouds)
    _check(array, "(b, n, d)", empirical)
    _check_neighbors(array.shape[1], n_neighbors)
    with jax.enable_x64(True):
        estimates = _pointwise_batch(
            jnp.asarray(array, jnp.float64), n_neighbors, empirical == "from_zero"
        )
    return np.asarray(estimates)


def twonn_global(points: ArrayLike | jax.Array, *, empirical: str = "from_one") -> float:
    """One TwoNN estimate for a whole cloud, as scikit-dimension 0.5's ``TwoNN().fit``.

    Args:
        points: Shape (n, d), n at least 3; any real dtype.
        empirical: As for :func:`twonn_pointwise`.

    Returns:
        The dimension; NaN where any coordinate is infinite or NaN, or fewer than three points
        coincide with no other.

    Raises:
        ValueError: On another shape, too few points, or an unknown ``empirical``.
    """
    array = points if isinstance(points, jax.Array) else np.asarray(points)
    _check(array, "(n, d)", empirical)
    if array.shape[0] < _MIN_POINTS:
        raise ValueError(f"TwoNN needs at least {_MIN_POINTS} points, not {array.shape[0]}")
    with jax.enable_x64(True):
        estimate = _global(jnp.asarray(array, jnp.float64), empirical == "from_zero")
    return float(estimate)


def summarize(pointwise: ArrayLike) -> DimensionSummary:
    """Mean and standard deviation (of the points, divisor n) of pointwise estimates.

    Args:
        pointwise: Shape (n,), n at least 1, as from :func:`twonn_pointwise`.

    Returns:
        Two floats, both NaN where any estimate is NaN: leaving such points out would give a mean
        over other points than were asked for, unseen.

    Raises:
        ValueError: On another shape, or no points.
    """
    values = np.asarray(pointwise, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"pointwise must have shape (n,) with n >= 1, not {values.shape}")
    return DimensionSummary(float(values.mean()), float(values.std()))


def _check(array: np.ndarray | jax.Array, axes: str, empirical: str) -> None:
    if array.ndim != axes.count(",") + 1 or array.shape[-1] < 1:
        raise ValueError(f"points must have shape {axes} with d >= 1, not {array.shape}")
    if array.dtype.kind not in "fiub" and array.dtype != jnp.bfloat16:
        raise ValueError(f"points must be real numbers, not {array.dtype}")
    if empirical not in EMPIRICAL:
        raise ValueError(f"empirical is {empirical!r}; it must be one of {', '.join(EMPIRICAL)}")


def _check_neighbors(n: int, n_neighbors: int) -> None:
    if n_neighbors < _MIN_POINTS:
        raise ValueError(f"TwoNN needs at least {_MIN_POINTS} neighbours, not {n_neighbors}")
    if n <= n_neighbors:
        raise ValueError(
            f"{n} points are too few for neighbourhoods of {n_neighbors}: "
            f"at least {n_neighbors + 1} are needed"
        )


@partial(jax.jit, static_argnums=(1, 2))
def _pointwise_batch(clouds: jax.Array, n_neighbors: int, from_zero: bool) -> jax.Array:
    """(B, N, D) → (B, N)."""

    def pointwise(points: jax.Array) -> jax.Array:
        squared = _squared_distances(points)
        rounded = _rounded(squared)
        neighbors = _nearest(squared, rounded, n_neighbors)
        first, second = _two_nearest_members(rounded, neighbors)
        return jnp.where(_finite(points), _fit(first, second, from_zero), jnp.nan)

    return lax.map(pointwise, clouds)


@partial(jax.jit, static_argnums=1)
def _global(points: jax.Array, from_zero: bool) -> jax.Array:
    """(N, D) → ()."""
    nearest_two, _ = lax.top_k(-_rounded(_squared_distances(points)), 2)
    nearest_two = lax.optimization_barrier(nearest_two)
    estimate = _fit(-nearest_two[:, 0], -nearest_two[:, 1], from_zero)
    return jnp.where(_finite(points), estimate, jnp.nan)


def _finite(points: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(points))


def _squared_distances(points: jax.Array) -> jax.Array:
    """(N, D) → (N, N) squared distances, infinite on the diagonal.

    They come from inner products, which are many times faster than differences, unless
    cancellation would be felt anywhere off the diagonal.
    """
    # Shifting by a point, not by the mean, keeps what is exact (coinciding points, grids) exact.
    shifted = points - points[:1]
    itself = jnp.eye(points.shape[0], dtype=bool)
    products = jnp.matmul(shifted, shifted.T, precision=lax.Precision.HIGHEST)
    norms = jnp.diagonal(products)
    scale = norms[:, None] + norms[None, :]
    squared = scale - 2 * products
    cancelled = jnp.any((squared <= _CANCELLATION * scale) & ~itself)
    squared = lax.cond(cancelled, _squared_differences, lambda _: squared, shifted)
    return jnp.where(itself, jnp.inf, squared)


def _squared_differences(points: jax.Array) -> jax.Array:
    """(N, D) → (N, N), summed one coordinate after another: vectorised along a row of N."""
    coordinates = points.T

    def row(point: jax.Array) -> jax.Array:
        return lax.fori_loop(
            0,
            point.shape[0],
            lambda i, total: total + (coordinates[i] - point[i]) ** 2,
            jnp.zeros(coordinates.shape[1], point.dtype),
        )

    return lax.map(row, points, batch_size=_ROWS)


def _rounded(squared: jax.Array) -> jax.Array:
    """(N, N) float64 → float32, relative to the largest: 1e-19 of the diameter is not yet 0."""
    largest = jnp.max(jnp.where(jnp.isinf(squared), 0, squared))
    return (squared / largest).astype(jnp.float32)


def _nearest(squared: jax.Array, rounded: jax.Array, n_neighbors: int) -> jax.Array:
    """(N, N), (N, N) → (N, K) indices of the nearest points, in no order; ties go by index."""
    n = squared.shape[0]
    # CPUs have a fast top_k for float32 alone. Rounding keeps order up to new ties, so only the
    # candidates that may tie with the last one chosen need to be compared again.
    _, candidates = lax.top_k(-rounded, min(n_neighbors + _SLACK, n))
    # Without the barrier, XLA for CPUs turns a top_k that is sliced later into a full sort.
    candidates = lax.optimization_barrier(candidates)
    n_sure = max(n_neighbors - _SLACK, 0)
    contested = candidates[:, n_sure:]
    values = jnp.take_along_axis(squared, contested, axis=1)
    _, contested = lax.sort((values, contested), dimension=1, num_keys=2)
    chosen = jnp.concatenate([candidates[:, :n_sure], contested], axis=1)
    return chosen[:, :n_neighbors]


def _two_nearest_members(rounded: jax.Array, neighbors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(N, N), (N, K) → two (N, K): each member's smallest squared distances to other members."""

    def visit(j: jax.Array, smallest: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        first, second = smallest
        candidate = rounded.at[neighbors[:, j, None], neighbors].get(mode="promise_in_bounds")
        return jnp.minimum(first, candidate), jnp.minimum(second, jnp.maximum(first, candidate))

    unknown = jnp.full(neighbors.shape, jnp.inf, rounded.dtype)
    return lax.fori_loop(0, neighbors.shape[1], visit, (unknown, unknown))


def _fit(first: jax.Array, second: jax.Array, from_zero: bool) -> jax.Array:
    """(…, N), (…, N) squared distances → (…) slopes through the origin, float64."""
    n = first.shape[-1]
    first, second = first.astype(jnp.float64), second.astype(jnp.float64)
    usable = first > 0
    log_ratio = jnp.where(usable, jnp.log(second / jnp.where(usable, first, 1)) / 2, jnp.inf)
    log_ratio = jnp.sort(log_ratio, axis=-1)
    # Counted in Python floats, as the reference does: 0.9 N is not exact.
    n_kept_of = jnp.asarray([math.floor(m * (1 - DISCARD_FRACTION)) for m in range(n + 1)])
    n_usable = jnp.sum(usable, axis=-1, keepdims=True)
    n_kept = n_kept_of[n_usable]
    index = lax.broadcasted_iota(n_kept.dtype, log_ratio.shape, log_ratio.ndim - 1)
    kept = index < n_kept
    below = index if from_zero else index + 1
    x = jnp.where(kept, log_ratio, 0)
    y = jnp.where(kept, -jnp.log1p(-below / n_usable), 0)
    xx, xy = jnp.sum(x * x, axis=-1), jnp.sum(x * y, axis=-1)
    # All ratios 1: every slope fits alike, and the reference takes the smallest.
    slope = jnp.where(xx > 0, xy / jnp.where(xx > 0, xx, 1), 0)
    return jnp.where(n_kept[..., 0] >= 2, slope, jnp.nan)


# --------------------------------------------------------------------------- as a diagnostic

TABLES = {
    "dimension": Table(
        columns={
            "cloud": "str",
            "n_points": "int64",
            "n_neighbors": "int64",
            "lid_mean": "float64",
            "lid_std": "float64",
            "lid_global": "float64",
            "normalisation": "str",
            "empirical": "str",
        },
        unit=("run_id", "step", "cloud"),
    )
}
SETTINGS = (
    "clouds",
    "cloud_points",
    "cloud_selection",
    "cloud_normalisation",
    "lid_points",
    "lid_neighbors",
    "lid_empirical",
)


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Local dimension of every cloud asked for, and of the study's own.

    The study's cloud, states of the last layer at both token positions, is taken as it is,
    ``options.lid_points`` of them.
    """
    keys, clouds = [], []
    for view in views:
        for name in view.cloud_names:
            if name != view.last_states_name:
                keys.append((view, name, options.cloud_normalisation))
                clouds.append(view.cloud(name))
        keys.append((view, view.last_states_name, "none"))
        clouds.append(view.last_states(options.lid_points))
    # One cloud a call: a program is compiled for each shape, however many runs are waiting.
    pointwise = [
        twonn_pointwise(cloud, options.lid_neighbors, empirical=options.lid_empirical)
        for cloud in clouds
    ]
    return {
        "dimension": [
            {
                "run_id": view.run_id,
                "step": view.step,
                "cloud": name,
                "n_points": len(cloud),
                "n_neighbors": options.lid_neighbors,
                **summarize(estimates)._asdict(),
                "lid_global": twonn_global(cloud, empirical=options.lid_empirical),
                "normalisation": how,
                "empirical": options.lid_empirical,
            }
            for (view, name, how), cloud, estimates in zip(keys, clouds, pointwise, strict=True)
        ]
    }
