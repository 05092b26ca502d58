"""TwoNN in JAX: what ``dimension`` defines and documents, one cloud a call.

Apart from it so that the tables of ``dimension`` are known without JAX.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

DISCARD_FRACTION = 0.1

# Squared distances below this share of the squared norms are computed from differences. Above it,
# inner products in float64 are right to about 1e-6 of the squared distance at worst.
_CANCELLATION = 1e-9
# Rows of differences at a time: an accumulator that stays in a CPU's cache.
_ROWS = 32
# Neighbours are found in float32, then this many about the last place are put in float64 order.
_SLACK = 16


def in_float64(function: Callable[..., Any], points: Any, *settings: Any) -> NDArray[np.float64]:
    """A function of this file, called with points in float64."""
    with jax.enable_x64(True):
        return np.asarray(function(jnp.asarray(points, jnp.float64), *settings))


def centred(points: jax.Array) -> jax.Array:
    """(N, D) float32 points about their mean, as ``clouds.normalize`` has them with ``none``."""
    wide = points.astype(jnp.float64)
    return (wide - wide.mean(axis=0, keepdims=True)).astype(jnp.float32)


def both(points: jax.Array, n_neighbors: int, from_zero: bool) -> tuple[jax.Array, jax.Array]:
    """(N, D) → (N,), (): pointwise estimates and that of the whole."""
    wide = points.astype(jnp.float64)
    squared = _squared_distances(wide)
    rounded = _rounded(squared)
    finite = jnp.isfinite(wide).all()
    estimates = _pointwise(squared, rounded, n_neighbors, from_zero), _whole(rounded, from_zero)
    return jnp.where(finite, estimates[0], jnp.nan), jnp.where(finite, estimates[1], jnp.nan)


@partial(jax.jit, static_argnums=(1, 2))
def pointwise(points: jax.Array, n_neighbors: int, from_zero: bool) -> jax.Array:
    """(N, D) → (N,)."""
    squared = _squared_distances(points)
    estimates = _pointwise(squared, _rounded(squared), n_neighbors, from_zero)
    return jnp.where(jnp.isfinite(points).all(), estimates, jnp.nan)


def _pointwise(
    squared: jax.Array, rounded: jax.Array, n_neighbors: int, from_zero: bool
) -> jax.Array:
    neighbors = _nearest(squared, rounded, n_neighbors)
    return _fit(*_two_nearest_members(rounded, neighbors), from_zero)


@partial(jax.jit, static_argnums=1)
def whole(points: jax.Array, from_zero: bool) -> jax.Array:
    """(N, D) → ()."""
    estimate = _whole(_rounded(_squared_distances(points)), from_zero)
    return jnp.where(jnp.isfinite(points).all(), estimate, jnp.nan)


def _whole(rounded: jax.Array, from_zero: bool) -> jax.Array:
    nearest_two, _ = lax.top_k(-rounded, 2)
    nearest_two = lax.optimization_barrier(nearest_two)
    return _fit(-nearest_two[:, 0], -nearest_two[:, 1], from_zero)


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
    return jnp.where(itself, jnp.inf, _chosen(cancelled, shifted, squared))


@jax.custom_batching.custom_vmap
def _chosen(cancelled: jax.Array, shifted: jax.Array, squared: jax.Array) -> jax.Array:
    return lax.cond(cancelled, _squared_differences, lambda _: squared, shifted)


@_chosen.def_vmap
def _any_chosen(size: int, mapped: Any, *arrays: jax.Array) -> tuple[jax.Array, bool]:
    """Of clouds side by side, where differences are slow to be had for all: if any needs them."""
    arrays = tuple(
        own if is_mapped else jnp.broadcast_to(own, (size, *own.shape))
        for own, is_mapped in zip(arrays, mapped, strict=True)
    )
    cancelled, shifted, squared = arrays

    def some(shifted: jax.Array) -> jax.Array:
        differences = jax.vmap(_squared_differences)(shifted)
        return jnp.where(cancelled[:, None, None], differences, squared)

    return lax.cond(cancelled.any(), some, lambda _: squared, shifted), True


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
