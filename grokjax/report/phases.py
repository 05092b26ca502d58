"""Cells of phase diagrams: what became of the runs of each combination of settings."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from grokjax.measuring.loading import Sweep
from grokjax.report import spacing, summaries
from grokjax.report.page import curves
from grokjax.settings import labels

SHARE = "generalised"
STEPS = {f"{word}_step": f"step by which half {verb}" for word, verb in
         (("generalisation", "generalised"), ("memorisation", "memorised"))}  # fmt: skip
WHEN = {"last": "at the end", "before": "before generalisation", "after": "after generalisation",
        "ratio": "after ÷ before"}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells:
    """Values of the cells that have runs."""

    axes: list[list[Any]]  # values of each column
    cells: dict[tuple[int, ...], tuple[float, int]]  # places on the axes → value, number of runs
    title: str
    scale: str  # of colours: share (0 to 1), linear, log, or ratio (log around 1)

    @property
    def values(self) -> list[float]:
        """NaN: there is none; inf: never."""
        return [value for value, _ in self.cells.values()]


def cells(sweep: Sweep, columns: Sequence[str], value: str, when: str, centre: str) -> Cells:
    """Arguments and errors are those of ``figures.phase_diagram``."""
    runs = summaries.outcomes(sweep)
    known = [name for name in (*labels.columns(), "seed") if name in runs]
    for column in columns:
        _check(column in known, "axis", column, known)
    _check(when in WHEN, "when", when, WHEN)
    _check(centre in ("mean", "median"), "centre", centre, ("mean", "median"))
    own = [spacing.values(runs[column]) for column in columns]
    measure, title, scale = _measure(sweep, runs, value, when, centre)
    places = [
        [values.index(None if pd.isna(one) else one) for one in runs[column]]
        for column, values in zip(columns, own, strict=True)
    ]
    members: dict[tuple[int, ...], list[int]] = {}
    for i, key in enumerate(zip(*places, strict=True)):
        members.setdefault(key, []).append(i)
    found = {key: (measure(np.array(rows)), len(rows)) for key, rows in members.items()}
    return Cells(axes=own, cells=found, title=title, scale=scale)


def _check(known: bool, what: str, value: str, allowed: Sequence[str] | dict[str, str]) -> None:
    if not known:
        raise ValueError(f"{what} is '{value}'; it must be one of {', '.join(allowed)}")


def _measure(
    sweep: Sweep, runs: pd.DataFrame, value: str, when: str, centre: str
) -> tuple[Callable[[Any], float], str, str]:
    """From places of runs to the value of their cell; its title and scale."""
    if value == SHARE:
        came = runs["generalisation_step"].notna().to_numpy()
        return lambda own: float(came[own].mean()), "share that generalised", "share"
    if value in STEPS:
        steps = runs[value].to_numpy(np.float64, na_value=np.nan)
        horizon = runs["horizon"].to_numpy()

        def half(own: Any) -> float:
            step = summaries.median_step(steps[own], horizon[own])
            return math.inf if math.isnan(step) else step

        return half, STEPS[value], "log" if np.nanmax(steps, initial=1) > 10 else "linear"
    grid = sweep.config.train.checkpoint_steps
    found = {one.key: one for one in curves.quantities(sweep, list(runs["run_id"]), grid)}
    _check(value in found, "value", value, [SHARE, *STEPS, *found])
    last, before, after = curves.ends(found[value], grid, runs)
    last = np.where(runs["status"].isin(("diverged", "failed")), np.nan, last)
    ratio = np.divide(
        after, before, where=(after > 0) & (before > 0), out=np.full_like(after, np.nan)
    )
    values = {"last": last, "before": before, "after": after, "ratio": ratio}[when]
    log = found[value].log or when == "ratio"
    if log:
        values = np.log10(values, where=values > 0, out=np.full_like(values, np.nan))

    def middle(own: Any) -> float:
        there = values[own][np.isfinite(values[own])]
        if not there.size:
            return math.nan
        one = float(np.median(there) if centre == "median" else there.mean())
        return 10**one if log else one

    kind = "geometric mean" if log and centre == "mean" else centre
    scale = "ratio" if when == "ratio" else "log" if log else "linear"
    return middle, f"{kind} of {found[value].label} {WHEN[when]}", scale
