"""Circular and toroidal coordinates by DREiMac 0.3.2, for test_coordinates.py to be held against.

Command: pip install dreimac==0.3.2 (CPython 3.11, an environment of its own), then
``python tests/data/dreimac/make.py``; ten seconds. Writes angles.csv beside this file.

Clouds are made by arithmetic alone, without random numbers of a library whose streams might change.
"""

import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent


def scatter(n, d):
    """(n, d) numbers between −1 and 1 that look like noise: fractional parts of multiples."""
    return 2 * np.mod(np.outer(np.arange(1, n + 1), np.sqrt(np.arange(2, d + 2))) * 97.31, 1) - 1


def turning(p, frequencies, noise):
    """(p, 2 m) waves of these frequencies, and noise of that size beside rows of norm √m."""
    turns = 2 * np.pi * np.outer(np.arange(p), frequencies) / p
    rows = np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
    return rows + noise * scatter(*rows.shape)


def clouds():
    """Name → points (n, d), and how many coordinates are taken."""
    turns = 2 * np.pi * np.arange(100) / 100
    ellipse = np.stack([1.5 * np.cos(turns), np.sin(turns)], axis=1) + 0.05 * scatter(100, 2)
    return {
        "circle": (turning(100, [1], 0.05), 1),
        "ellipse": (ellipse, 1),
        "wave113": (turning(113, [33], 0.2), 1),
        "wave59": (turning(59, [7], 0.1), 1),
        "torus": (turning(113, [33, 9], 0.1), 2),
        "torus42": (turning(113, [20, 9], 0.2), 2),
    }


def main():
    """Writes a row a point: cloud, point, coordinate, and its angle in radians."""
    from dreimac import CircularCoords, ToroidalCoords

    lines = ["cloud,coordinate,point,angle"]
    for name, (points, n_coordinates) in clouds().items():
        settings = {"perc": 0.5, "standard_range": False}
        if n_coordinates == 1:
            lens = CircularCoords(points, len(points), prime=47)
            found = [lens.get_coordinates(cocycle_idx=0, **settings)]
        else:
            lens = ToroidalCoords(points, len(points), prime=47)
            found = lens.get_coordinates(cocycle_idxs=list(range(n_coordinates)), **settings)
        for coordinate, angles in enumerate(found):
            for point, angle in enumerate(np.mod(angles, 2 * np.pi)):
                lines.append(f"{name},{coordinate},{point},{angle:.6f}")
    (FOLDER / "angles.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
