"""How many dimensions a cloud fills: ranks that count singular values by their size.

Of singular values σ, those of a cloud of centred points:

* ``effective_rank``: the exponential of the entropy of σ / Σσ (Roy and Vetterli 2007, EUSIPCO,
  606-610);
* ``participation_ratio``: (Σσ²)² / Σσ⁴, of the variances (Gao and Ganguli 2015, arXiv 1503.08779);
* ``stable_rank``: Σσ² / max σ² (Rudelson and Vershynin 2007, J. ACM 54, 21).

Each is m where m values are equal and the others 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from grokjax.diagnostics import Options, Rows, RunView, Table


class Ranks(NamedTuple):
    """Ranks of singular values; 0 where all are 0, NaN where any is not finite."""

    effective_rank: float
    participation_ratio: float
    stable_rank: float


def of_matrix(matrix: ArrayLike) -> Ranks:
    """Ranks of a matrix (n, m) as it is.

    Raises:
        ValueError: on another shape, or no entries.
    """
    array = np.asarray(matrix, np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"matrix must have shape (n, m) with n, m >= 1, got shape {array.shape}")
    if not np.isfinite(array).all():
        return Ranks(*[np.nan] * 3)
    # Threads of products this small wait for each other, and beside training for its threads.
    with threadpool_limits(limits=1, user_api="blas"):
        return of_singular_values(np.linalg.svd(array, compute_uv=False))


def of_singular_values(sizes: ArrayLike) -> Ranks:
    """Ranks of singular values (k,), none negative."""
    values = np.asarray(sizes, np.float64)
    if not np.isfinite(values).all():
        return Ranks(*[np.nan] * 3)
    if not values.any():
        return Ranks(0.0, 0.0, 0.0)
    values = values[values > 0] / values.max()
    shares, squares = values / values.sum(), values**2
    return Ranks(
        effective_rank=float(np.exp(-(shares * np.log(shares)).sum())),
        participation_ratio=float(squares.sum() ** 2 / (squares**2).sum()),
        stable_rank=float(squares.sum()),
    )


def of_points(points: ArrayLike) -> Ranks:
    """Ranks of a cloud of points (n, d), centred first; errors are those of :func:`of_matrix`."""
    cloud = np.asarray(points, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return of_matrix(cloud - cloud.mean(axis=0) if cloud.ndim == 2 and len(cloud) else cloud)


TABLES = {
    "ranks": Table(
        columns={"cloud": "str", "n_points": "int64", **dict.fromkeys(Ranks._fields, "float64")},
        unit=("run_id", "step", "cloud"),
    )
}
SETTINGS = ("clouds", "cloud_points", "cloud_selection", "cloud_normalisation")
NEEDS_CLOUDS = True


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Ranks of every cloud asked for."""
    rows = []
    for view in views:
        for name in view.cloud_names:
            cloud = view.cloud(name)
            key = {"run_id": view.run_id, "step": view.step, "cloud": name}
            rows.append(key | {"n_points": len(cloud)} | of_points(cloud)._asdict())
    return {"ranks": rows}
