"""Point clouds of known shape."""

import itertools

import numpy as np


def polygon(n, radius=1.0, centre=0.0):
    """The n corners of a regular polygon."""
    angles = 2 * np.pi * np.arange(n) / n
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1) + [centre, 0.0]


def sphere(n):
    """n points of a Fibonacci lattice on the unit sphere."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)


def cube_surface():
    """The 26 surface points of a 3 x 3 x 3 grid."""
    grid = np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=3)))
    return grid[np.abs(grid).max(axis=1) == 1]


def flat_torus(n):
    """n x n grid on the product of two unit circles in four dimensions."""
    circle = polygon(n)
    return np.array([np.concatenate([a, b]) for a in circle for b in circle])


def projective_plane(n):
    """n lines through the origin as projection matrices: torsion only Z/2 coefficients see."""
    lines = sphere(2 * n)[:n]
    return (lines[:, :, None] * lines[:, None, :]).reshape(n, 9)


def random_cloud(seed):
    """One of five kinds of cloud, some with ties, duplicates or hardly any points."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 28))
    match seed % 5:
        case 0:
            return rng.normal(size=(n, 3))
        case 1:
            return rng.integers(0, 4, size=(n, 2)).astype(float)
        case 2:
            rows = rng.normal(size=(n, 128))
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)
        case 3:
            return rng.normal(size=(int(rng.integers(1, 5)), 2))
        case _:
            noisy = polygon(n) + 0.1 * rng.normal(size=(n, 2))
            return np.concatenate([noisy, noisy[:: int(rng.integers(1, 4))]])
