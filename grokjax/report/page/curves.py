"""The curves of the page: every quantity of the tables, by run and by setting."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grokjax.measuring.loading import Sweep
from grokjax.report.page.packing import BYTES_A_VALUE, pack
from grokjax.settings import labels
from grokjax.settings.labels import Setting

# What a table says beside its measurements.
_NOT_MEASURED = ("run_id", "step", "cloud", "n_points", "n_neighbors", "seed")
_LOGARITHMIC = ("_loss", "weight_norm")

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """A column of a table as curves.

    Attributes:
        key: unique, such as ``persistence/embedding/h1_max``.
        label: for people.
        log: whether it is looked at on a logarithmic axis.
        values: (R, S) of R runs at S steps; NaN where there is none.
    """

    key: str
    label: str
    log: bool
    values: Floats


def quantities(sweep: Sweep, run_ids: Sequence[str], steps: Sequence[int]) -> Iterator[Quantity]:
    """Every numeric column of the tables that has one value a run and step (and cloud)."""
    tables = {"metrics": sweep.metrics} | {name: getattr(sweep, name) for name in _single(sweep)}
    for name, table in tables.items():
        clouds = dict.fromkeys(table["cloud"]) if "cloud" in table else [""]
        for cloud in clouds:
            own = table[table["cloud"] == cloud] if cloud else table
            rows = pd.Index(run_ids).get_indexer(own["run_id"])
            columns = pd.Index(steps).get_indexer(own["step"])
            known = (rows >= 0) & (columns >= 0)
            for column in own.columns:
                if column in _NOT_MEASURED or not pd.api.types.is_numeric_dtype(own[column]):
                    continue
                values = np.full((len(run_ids), len(steps)), np.nan)
                numbers = own[column].to_numpy(np.float64, na_value=np.nan)
                values[rows[known], columns[known]] = numbers[known]
                text = labels.COLUMNS.get(column, column.replace("_", " "))
                yield Quantity(
                    key="/".join(filter(None, (name, cloud, column))),
                    label=f"{text} ({cloud})" if cloud else text,
                    log=column.endswith(_LOGARITHMIC),
                    values=np.where(np.isfinite(values), values, np.nan),
                )


def _single(sweep: Sweep) -> list[str]:
    """The diagnostics' tables with one row a run and step, or a run, step and cloud."""
    chosen = []
    for name in sweep.tables():
        if name == "diagrams":  # many rows for every cloud, and by far the largest table
            continue
        table = getattr(sweep, name)
        keys = [key for key in ("run_id", "step", "cloud") if key in table]
        if not table.duplicated(keys).any():
            chosen.append(name)
    return chosen


def mean_and_spread(values: Floats) -> tuple[Floats, Floats]:
    """Mean and sample standard deviation over runs of what is there.

    Args:
        values: (R, S); NaN is not there.

    Returns:
        Two arrays (S,), NaN where no value, or for the deviation fewer than two, are there.
    """
    there = np.isfinite(values)
    count = there.sum(axis=0)
    known = np.where(there, values, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = known.sum(axis=0) / count
        squares = (np.where(there, values - mean, 0) ** 2).sum(axis=0)
        spread = np.sqrt(squares / (count - 1))
    return np.where(count > 0, mean, np.nan), np.where(count > 1, spread, np.nan)


def payload(
    found: Sequence[Quantity],
    steps: Sequence[int],
    runs: pd.DataFrame,
    settings: Sequence[Setting],
    n_bytes: int,
) -> dict[str, Any]:
    """Curves for the page: mean and spread of all settings, single runs as far as there is room.

    Args:
        found: the quantities, runs in the order of the table.
        steps: their steps.
        runs: the table of runs.
        settings: its settings.
        n_bytes: room for it all. Settings come first, at every second, third … checkpoint if
            need be; then runs, the same number of every setting.

    Returns:
        For JSON: ``steps``; ``runs``, the indices of runs with curves; ``quantities``, each with
        its packed ``mean``, ``spread`` (a row a setting) and ``runs`` (a row a run). Quantities
        on a logarithmic axis are decimal logarithms throughout: their mean is the geometric one.
    """
    place = {run_id: i for i, run_id in enumerate(runs["run_id"])}
    ended = runs["status"].isin(("diverged", "failed")).to_numpy()
    members = [np.array([place[run_id] for run_id in own.run_ids]) for own in settings]
    a_step = BYTES_A_VALUE * len(found)
    stride = max(1, -(-int(len(steps) * a_step * 2 * len(settings)) // max(1, n_bytes // 2)))
    kept = sorted({*range(0, len(steps), stride), len(steps) - 1})
    left = n_bytes - a_step * len(kept) * 2 * len(settings)
    n_fit = int(left // (a_step * len(kept) + 1))
    chosen = _evenly(members, n_fit)
    return {
        "steps": [int(steps[i]) for i in kept],
        "runs": [int(i) for i in chosen],
        "quantities": [
            _curves(quantity, kept, [own[~ended[own]] for own in members], chosen)
            for quantity in found
        ],
    }


def _evenly(members: Sequence[NDArray[np.intp]], n_fit: int) -> list[int]:
    """Indices of at most ``n_fit`` runs: first one of every setting, then a second."""
    longest = max(len(own) for own in members)
    ranked = [int(own[i]) for i in range(longest) for own in members if i < len(own)]
    return sorted(ranked[:n_fit])


def _curves(
    quantity: Quantity,
    kept: Sequence[int],
    averaged: Sequence[NDArray[np.intp]],
    chosen: Sequence[int],
) -> dict[str, Any]:
    values = quantity.values[:, kept]
    if quantity.log:
        values = np.log10(values, where=values > 0, out=np.full_like(values, np.nan))
    pairs = [mean_and_spread(values[own]) for own in averaged]
    return {
        "key": quantity.key,
        "label": quantity.label,
        "log": quantity.log,
        "mean": pack([mean for mean, _ in pairs]),
        "spread": pack([spread for _, spread in pairs]),
        "runs": pack(values[list(chosen)]),
    }
