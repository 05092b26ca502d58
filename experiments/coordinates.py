"""Circular coordinates beside the true angles: grokjax's weights of edges and DREiMac's.

Question: how far are the angles from those that the points were made from, and which weights of
edges bring them nearer?
Command: python -m experiments.coordinates [--draws N] [--folder FOLDER]; two cores, two minutes.
Found: experiments/results/coordinates/README.md.

A row a cloud and noise. Errors are root mean squares over the points, after the best sign and
shift, of the worst coordinate of a cloud; medians over draws. *Own* is what noise makes of the
points themselves: the angle of each noisy point in the plane of its circle, which no method is
given. Noise has this standard deviation along each axis of the circle's plane, in units of its
radius, except in 128 dimensions, where it is a share of the rows' norm.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from experiments import html_page
from grokjax.diagnostics import coordinates

FOLDER = pathlib.Path(__file__).parent / "results" / "coordinates"
NOISE = (0.0, 0.05, 0.1)
# Points (n, d); planes (c, 2, d), orthonormal, of the circles; angles (n, c). NaN: not on it.
Cloud = tuple[np.ndarray, np.ndarray, np.ndarray]


def circle(angles: np.ndarray, noise: float, rng: np.random.Generator) -> Cloud:
    """A circle of radius 1 in the plane."""
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points + noise * rng.normal(size=points.shape), np.eye(2)[None], angles[:, None]


def even(noise: float, rng: np.random.Generator) -> Cloud:
    """100 points at even angles."""
    return circle(2 * np.pi * np.arange(100) / 100, noise, rng)


def uniform(noise: float, rng: np.random.Generator) -> Cloud:
    """100 points at random angles."""
    return circle(rng.uniform(0, 2 * np.pi, 100), noise, rng)


def uneven(noise: float, rng: np.random.Generator) -> Cloud:
    """100 points that lie four times as dense on one side as on the other."""
    turns = np.arange(100) / 100
    return circle(2 * np.pi * (turns + 0.1 * np.sin(2 * np.pi * turns)), noise, rng)


def ellipse(noise: float, rng: np.random.Generator) -> Cloud:
    """100 points at even arc lengths, axes 1.5 and 1; the angle is the share of the length."""
    t = np.linspace(0, 2 * np.pi, 20001)
    curve = np.stack([1.5 * np.cos(t), np.sin(t)], axis=1)
    length = np.insert(np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1)), 0, 0)
    share = np.arange(100) / 100
    at = np.interp(share * length[-1], length, t)
    points = np.stack([1.5 * np.cos(at), np.sin(at)], axis=1) + noise * rng.normal(size=(100, 2))
    return points, np.full((1, 2, 2), np.nan), 2 * np.pi * share[:, None]


def two_circles(noise: float, rng: np.random.Generator) -> Cloud:
    """Two circles of 50 points, five radii apart."""
    turns = 2 * np.pi * np.arange(50) / 50
    left, plane, _ = circle(turns, noise, rng)
    right = circle(turns, noise, rng)[0] + [5.0, 0.0]
    nowhere = np.full(50, np.nan)
    angles = np.stack([np.append(turns, nowhere), np.append(nowhere, turns)], axis=1)
    return np.concatenate([left, right]), np.repeat(plane, 2, axis=0), angles


def waves(frequencies: Sequence[int], noise: float, rng: np.random.Generator) -> Cloud:
    """113 residues, a plane of 128 dimensions for each wave."""
    angles = 2 * np.pi * np.outer(np.arange(113), frequencies) / 113
    basis = np.linalg.qr(rng.normal(size=(128, 2 * len(frequencies))))[0].T
    planes = basis.reshape(-1, 2, 128)
    rows = np.cos(angles) @ planes[:, 0] + np.sin(angles) @ planes[:, 1]
    scale = noise * np.sqrt(len(frequencies) / 128)
    return rows + scale * rng.normal(size=rows.shape), planes, angles


def torus(noise: float, rng: np.random.Generator) -> Cloud:
    """A flat torus of 10 x 10 points in four dimensions, each moved by up to 0.4 of its cell."""
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2)
    angles = 2 * np.pi * (grid + rng.uniform(-0.4, 0.4, (100, 2))) / 10
    points = np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(100, 4)
    planes = np.eye(4).reshape(2, 2, 4)
    return points + noise * rng.normal(size=points.shape), planes, angles


CLOUDS: dict[str, Callable[[float, np.random.Generator], Cloud]] = {
    "circle, even": even,
    "circle, uniform": uniform,
    "circle, four times as dense on one side": uneven,
    "ellipse, 1.5 to 1": ellipse,
    "two circles": two_circles,
    "one wave, 128 dimensions": functools.partial(waves, [33]),
    "two waves, 128 dimensions": functools.partial(waves, [33, 9]),
    "flat torus, random in its cells": torus,
}


def error(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Root mean square and largest difference of (n,) angles, after the best sign and shift."""
    errors = []
    for sign in (1, -1):
        apart = np.exp(1j * (found - sign * true))[np.isfinite(true)]
        off = np.angle(apart * np.exp(-1j * np.angle(apart.mean())))
        errors.append((float(np.sqrt(np.mean(off**2))), float(np.abs(off).max())))
    return min(errors)


def errors(cloud: Cloud, method: str) -> tuple[float, float]:
    """Of the coordinate nearest to each true one, the worst."""
    points, _, angles = cloud
    found = coordinates.circular(points, angles.shape[1], method=method).reduced
    return max(min(error(own, true) for own in found.T) for true in angles.T)


def own_errors(cloud: Cloud) -> float:
    """The same of the noisy points' own angles; NaN where these are not the coordinate."""
    points, planes, angles = cloud
    worst = []
    for (x, y), true in zip(planes, angles.T, strict=True):
        here = np.isfinite(true)
        near = points[here] - (points[here].mean(axis=0) if here.sum() < len(true) else 0)
        worst.append(error(np.arctan2(near @ y, near @ x), true[here])[0])
    return max(worst)


def table(draws: int) -> pd.DataFrame:
    """A row a cloud and noise."""
    rows = []
    for name, draw in CLOUDS.items():
        for noise in NOISE:
            made = [draw(noise, np.random.default_rng(seed)) for seed in range(draws)]
            row = {"cloud": name, "noise": noise, "own": np.median([own_errors(c) for c in made])}
            for method in coordinates.METHODS:
                of = np.array([errors(cloud, method) for cloud in made])
                row |= {method: np.median(of[:, 0]), f"{method}, largest": np.median(of[:, 1])}
            rows.append(row)
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the table as CSV and prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    frame = table(arguments.draws)
    frame.to_csv(arguments.folder / "angles.csv", index=False, float_format="%.4f")
    print(html_page.markdown(frame))


if __name__ == "__main__":
    main()
