"""Planes in which a cloud of residues is looked at: principal components and Fourier waves.

Both take (n, d) rows, row x for residue x (or for the x-th residue in another order), and return
coordinates in float64. Rows that are not finite give NaN throughout.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Structure, fourier

Floats = NDArray[np.float64]


def principal_plane(rows: ArrayLike, like: Floats | None = None) -> tuple[Floats, Floats]:
    """Coordinates (n, 2) on the first two principal components, and the variance's two shares.

    A component that does not exist has zeros. The sign of one is arbitrary: each is turned to agree
    with coordinates of another time, ``like``, so that pictures of one run do not flip between
    steps. Shares are NaN where there is no variance.
    """
    cloud = np.asarray(rows, np.float64)
    if not np.isfinite(cloud).all():
        return np.full((len(cloud), 2), np.nan), np.full(2, np.nan)
    scores, sizes, _ = np.linalg.svd(cloud - cloud.mean(axis=0), full_matrices=False)
    plane = np.zeros((len(cloud), 2))
    plane[:, : sizes.size] = (scores * sizes)[:, :2]
    variance = np.zeros(2)
    variance[: sizes.size] = (sizes**2)[:2]
    if like is not None and np.isfinite(like).all():
        plane *= np.where((plane * like).sum(axis=0) < 0, -1, 1)
    with np.errstate(invalid="ignore"):
        return plane, variance / (sizes**2).sum()


def strongest_frequency(rows: ArrayLike) -> int:
    """The frequency with the most power in rows of n residues, 1 … ⌊(n − 1)/2⌋; 0: there is none.

    The last one of an even n has no plane: its wave has two values.
    """
    n = len(np.asarray(rows))
    power = fourier.spectrum(np.asarray(rows))[1 : (n + 1) // 2]
    return int(power.argmax()) + 1 if np.isfinite(power).all() and power.max() > 0 else 0


def fourier_plane(rows: ArrayLike, frequency: int) -> Floats:
    """Coordinates (n, 2) in the plane that the waves of one frequency, 1 … ⌊(n − 1)/2⌋, span.

    The directions are the Fourier coefficients u = Σ rows[x] cos(2πkx/n) and v, with sin, made
    orthonormal by the nearest such pair (the polar factor of [u v]): a network that has the wave
    shows a circle on which residue x stands at the angle 2πkx/n, at every step.
    """
    cloud = np.asarray(rows, np.float64)
    if not np.isfinite(cloud).all():
        return np.full((len(cloud), 2), np.nan)
    cloud = cloud - cloud.mean(axis=0)
    angle = 2 * np.pi * frequency * np.arange(len(cloud)) / len(cloud)
    directions = cloud.T @ np.stack([np.cos(angle), np.sin(angle)], axis=1)
    left, _, right = np.linalg.svd(directions, full_matrices=False)
    return cloud @ (left @ right)


def is_cycle(structure: Structure | None) -> bool:
    """Whether elements stand on a cycle, so that they have an order and waves."""
    return structure is not None and structure.kind == "cyclic"


def reading_order(n_elements: int, structure: Structure | None) -> NDArray[np.int64]:
    """Elements in the order of their cycle; as they are where they have none."""
    if structure is None or not is_cycle(structure):
        return np.arange(n_elements)
    return structure.elements


def circle_frequency(plane: Floats, structure: Structure | None) -> int:
    """The frequency by whose order a picture's circle, if it is one, passes the elements.

    These are in their reading order. 1: there is no wave; 0: the elements are on no cycle.
    """
    return (strongest_frequency(plane) or 1) if is_cycle(structure) else 0


def element_names(n_elements: int, structure: Structure | None) -> list[str]:
    """What elements are called: as their group has it, else by number."""
    names = [str(place) for place in range(n_elements)]
    if structure is not None and structure.names:
        for place, name in zip(structure.elements, structure.names, strict=True):
            names[place] = name
    return names


def neighbours_order(n_residues: int, frequency: int) -> NDArray[np.int64]:
    """Residues in the order in which a wave of that frequency passes them: place k·x mod n.

    Where the frequency shares a divisor with n there is no such order: they stay as they are.
    """
    if math.gcd(frequency, n_residues) != 1:
        return np.arange(n_residues)
    return np.argsort(frequency * np.arange(n_residues) % n_residues)
