"""Point clouds: normalisation, and points chosen to cover one."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

NORMALISATIONS = ("unit", "none", "connectivity", "rms")


def normalize(points: ArrayLike, how: str = "unit") -> NDArray[np.float32]:
    """Centres a cloud and scales it.

    Args:
        points: (n, d) points.
        how: ``unit``: every centred row divided by its own L2 norm (the study's, as far as its
            numbers tell; rows at the centre stay there); ``none``: centred only;
            ``connectivity``: divided by the length at which the cloud becomes connected, its
            largest finite H0 death; ``rms``: divided by the root mean square distance from the
            centre. A cloud without extent stays at zero.

    Returns:
        (n, d) float32, computed in float64. NaN and infinity spread as arithmetic has it.

    Raises:
        ValueError: if ``points`` is not two-dimensional or ``how`` is unknown.
    """
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2:
        raise ValueError(f"points must be (n, d), got shape {cloud.shape}")
    if how not in NORMALISATIONS:
        raise ValueError(f"how must be one of {', '.join(NORMALISATIONS)}, got '{how}'")
    with np.errstate(invalid="ignore", over="ignore"):
        cloud = cloud - cloud.mean(axis=0, keepdims=True)
        norms = np.linalg.norm(cloud, axis=1, keepdims=True)
        scale: Any = np.float64(1)
        if how == "unit":
            scale = norms
        elif how == "rms":
            scale = np.sqrt(np.mean(norms**2))
        elif how == "connectivity":
            scale = _connectivity(cloud)
        return (cloud / np.where(scale == 0, 1, scale)).astype(np.float32)


def _connectivity(cloud: NDArray[np.float64]) -> np.float64:
    """Longest edge of the Euclidean minimum spanning tree: the largest finite H0 death."""
    if len(cloud) < 2 or not np.all(np.isfinite(cloud)):
        return np.float64(0 if len(cloud) < 2 else np.nan)
    return np.float64(minimum_spanning_tree(squareform(pdist(cloud))).max())


def farthest_points(points: NDArray[np.floating], n: int) -> NDArray[np.intp]:
    """Indices of n points, each the farthest from those before it, starting at the first.

    Greedy k-centre (Gonzalez 1985); ties go to the lowest index.
    """
    chosen = np.zeros(n, np.intp)
    nearest = np.full(len(points), np.inf)
    for i in range(1, n):
        gap = points - points[chosen[i - 1]]
        nearest = np.minimum(nearest, np.einsum("nd,nd->n", gap, gap))
        chosen[i] = int(np.argmax(nearest))
    return chosen
