"""What all statistics share: series checked, paired and ranked, and how surrogates are made."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SURROGATE_METHODS = ("shift", "block", "phase")


def series(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be one-dimensional")
    refuse_infinite(array, name)
    return array


def refuse_infinite(array: NDArray[Any], name: str) -> None:
    infinite = np.flatnonzero(np.isinf(array))
    if infinite.size:
        raise ValueError(f"{name} must be finite or NaN, but is infinite at position {infinite[0]}")


def pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x_n, y_n = series(x, "the first series"), series(y, "the second series")
    if len(x_n) != len(y_n):
        raise ValueError(f"the series have {len(x_n)} and {len(y_n)} values; they must be as many")
    return x_n, y_n


def complete_pairs(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x_n, y_n = pair(x, y)
    complete = ~(np.isnan(x_n) | np.isnan(y_n))
    return x_n[complete], y_n[complete]


def checkpoints(steps: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    steps_n, values_n = np.asarray(steps), np.asarray(values)
    if not np.issubdtype(values_n.dtype, np.floating):
        values_n = values_n.astype(np.float64)
    refuse_infinite(values_n, "values")
    if steps_n.ndim != 1 or steps_n.shape != values_n.shape:
        raise ValueError(
            f"steps and values have shapes {steps_n.shape} and {values_n.shape}; "
            "they must be one-dimensional and of equal length"
        )
    if not (np.diff(steps_n) > 0).all():
        raise ValueError("steps must be strictly increasing")
    return steps_n, values_n


def mean_or_nan(values: NDArray[Any]) -> float:
    kept = values[~np.isnan(values)]
    return float(kept.mean(dtype=np.float64)) if kept.size else np.nan


def check_surrogates(method: str, n_surrogates: int) -> None:
    if method not in SURROGATE_METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(SURROGATE_METHODS)}")
    if n_surrogates < 1:
        raise ValueError(f"n_surrogates is {n_surrogates}; it must be at least 1")


def cumulate(start: float, changes: Floats) -> Floats:
    """(r, m) differences → (r, m + 1) series from start."""
    series = np.zeros((changes.shape[0], changes.shape[1] + 1))
    np.cumsum(changes, axis=1, out=series[:, 1:])
    return series + start


def rotated(changes: Floats, shifts: NDArray[np.int64]) -> Floats:
    return changes[(np.arange(len(changes)) + shifts[:, None]) % len(changes)]


def rearranged(changes: Floats, method: str, n_surrogates: int, rng: np.random.Generator) -> Floats:
    """(m,) differences → (n_surrogates, m) rearranged ones; see `surrogates`."""
    check_surrogates(method, n_surrogates)
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
    turned = rotated(changes, shifts)
    if method == "shift":
        return turned
    # A random rotation before cutting: no place of the series is always a block's edge.
    length = max(1, round(np.sqrt(m)))
    block_of = np.arange(m) // length
    order = rng.random((n_surrogates, block_of[-1] + 1))[:, block_of]
    return np.take_along_axis(turned, np.argsort(order, axis=1, kind="stable"), axis=1)
