"""When a run memorises and generalises, and how far that depends on the threshold."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from grokjax.statistics._series import checkpoints

MEMORISED_ACCURACY = 0.99

GENERALISED_ACCURACY = 0.9


def first_step(steps: ArrayLike, values: ArrayLike, threshold: float) -> int | None:
    """First of the strictly increasing (n,) steps whose value is at or above the threshold.

    None if there is no such checkpoint; NaN never counts. Single-precision values are compared
    in single precision, so that an accuracy of exactly 9/10 reaches 0.9 there too.

    Raises:
        ValueError: steps not increasing, or a threshold not finite.
    """
    steps_n, values_n = checkpoints(steps, values)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold is {threshold}; it must be finite")
    reached = np.flatnonzero(values_n >= values_n.dtype.type(threshold))
    return int(steps_n[reached[0]]) if reached.size else None


def memorisation_step(
    steps: ArrayLike, train_accuracy: ArrayLike, threshold: float = MEMORISED_ACCURACY
) -> int | None:
    """First checkpoint with train accuracy at or above 0.99 (see `first_step`)."""
    return first_step(steps, train_accuracy, threshold)


def generalisation_step(
    steps: ArrayLike, test_accuracy: ArrayLike, threshold: float = GENERALISED_ACCURACY
) -> int | None:
    """First checkpoint with test accuracy at or above 0.9 (see `first_step`)."""
    return first_step(steps, test_accuracy, threshold)


def threshold_sensitivity(
    steps: ArrayLike,
    values: ArrayLike,
    thresholds: Sequence[float] = (0.5, 0.8, 0.9, 0.95, 0.99),
) -> dict[float, int | None]:
    """`first_step` at each threshold: how far a step depends on where the line is drawn."""
    return {float(t): first_step(steps, values, t) for t in thresholds}
