"""Axes of phase diagrams: the values of a setting, and where their cells lie."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from grokjax.settings import labels

# Cells are drawn to scale unless the narrowest gap is below this share of the mean one.
_NARROWEST = 0.35


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spacing:
    """Where cells lie along an axis: as wide as their values are apart, with gaps before others."""

    cells: list[tuple[float, float]]  # low and high end of each value's, in the values' order
    scale: str  # linear, log (of values above 0), or even: not to scale


def values(column: pd.Series) -> list[Any]:
    """The values of a column: numbers by size, others as they come, None for what is null last."""
    there = column.dropna().unique().tolist()
    numbers = not any(isinstance(value, str | bool) for value in there)
    return [*(sorted(there) if numbers else there), *([None] if column.isna().any() else [])]


def in_words(column: str, value: Any) -> str:
    """A setting's or a seed's value as a person would say it."""
    if value is None:
        return f"no {column.replace('_', ' ')}"
    return f"seed {value}" if column == "seed" else labels.in_words(column, value)


def spaced(found: Sequence[Any]) -> Spacing:
    """Cells of values as `values` orders them.

    Numbers that span at least a decade, more evenly by ratio than by difference, are spaced by
    their logarithms. 0 beside such, and None, have cells of their own across a gap.
    """
    own = [value for value in found if value is not None]
    words = any(isinstance(value, str | bool) for value in own)
    if words or len(own) < 2:
        cells = _across([(float(i), i + 1.0) for i in range(len(own))], found)
        return Spacing(cells=cells, scale="even" if words else "linear")
    numbers = np.asarray(own, np.float64)
    positive = numbers[numbers > 0]
    log = numbers[0] >= 0 and len(positive) > 1 and _is_log(positive)
    at = np.log10(positive) if log else numbers
    gaps, scale = np.diff(at), "log" if log else "linear"
    if gaps.min() < _NARROWEST * gaps.mean():
        at, scale = np.arange(len(at), dtype=np.float64), "even"
        gaps = np.diff(at)
    inner = at[:-1] + gaps / 2
    ends = [at[0] - gaps[0] / 2, *inner, at[-1] + gaps[-1] / 2]
    cells = [(float(a), float(b)) for a, b in itertools.pairwise(ends)]
    if log and len(positive) < len(numbers):  # 0, which has no logarithm
        unit = float(np.median(gaps))
        cells = [(ends[0] - 1.3 * unit, float(ends[0]) - 0.3 * unit), *cells]
    return Spacing(cells=_across(cells, found), scale=scale)


def _is_log(positive: np.ndarray[Any, Any]) -> bool:
    def unevenness(at: np.ndarray[Any, Any]) -> float:
        return float(np.diff(at).std() / np.diff(at).mean())

    return positive[-1] >= 10 * positive[0] and unevenness(np.log(positive)) <= unevenness(positive)


def _across(cells: list[tuple[float, float]], found: Sequence[Any]) -> list[tuple[float, float]]:
    """The cells, and for None one of a usual width behind a gap."""
    if found and found[-1] is None:
        unit = float(np.median([high - low for low, high in cells])) if cells else 1.0
        end = cells[-1][1] + 0.3 * unit if cells else 0.0
        return [*cells, (end, end + unit)]
    return cells
