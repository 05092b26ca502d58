"""The curves of the page: every quantity of the tables, by run and by setting."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grokjax.measuring.loading import Sweep
from grokjax.report.page import BYTES_A_VALUE, pack
from grokjax.report.page.samples import in_turn
from grokjax.settings import labels
from grokjax.settings.labels import Setting

# What a table says beside its measurements.
_NOT_MEASURED = ("run_id", "step", "cloud", "n_points", "n_neighbors", "seed")
_LOGARITHMIC = ("_loss", "weight_norm")

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """A column of a table as curves."""

    key: str  # unique, such as ``persistence/embedding/h1_max``
    label: str  # for people
    log: bool  # whether it is looked at on a logarithmic axis
    values: Floats  # (R, S) of R runs at S steps; NaN where there is none


def quantities(sweep: Sweep, run_ids: Sequence[str], steps: Sequence[int]) -> Iterator[Quantity]:
    """Every numeric column of the tables that has one value a run and step (and cloud)."""
    every = pd.MultiIndex.from_product([run_ids, steps])
    for name in ("metrics", *sweep.tables()):
        if name == "diagrams":  # many rows for every cloud, and by far the largest table
            continue
        table = getattr(sweep, name)
        if table.duplicated([key for key in ("run_id", "step", "cloud") if key in table]).any():
            continue
        clouds = dict.fromkeys(table["cloud"]) if "cloud" in table else [""]
        for cloud in clouds:
            own = table[table["cloud"] == cloud] if cloud else table
            grid = own.set_index(["run_id", "step"]).reindex(every)
            for column in own.columns:
                if column in _NOT_MEASURED or not pd.api.types.is_numeric_dtype(own[column]):
                    continue
                numbers = grid[column].to_numpy(np.float64, na_value=np.nan)
                values = numbers.reshape(len(run_ids), len(steps))
                text = labels.COLUMNS.get(column, column.replace("_", " "))
                yield Quantity(
                    key="/".join(filter(None, (name, cloud, column))),
                    label=f"{text} ({cloud})" if cloud else text,
                    log=column.endswith(_LOGARITHMIC),
                    values=np.where(np.isfinite(values), values, np.nan),
                )


def mean_and_spread(values: Floats) -> tuple[Floats, Floats]:
    """Mean and sample standard deviation (S,) over runs of what is there, of (R, S) values.

    NaN is not there, and is what is given where no value, or for the deviation fewer than two, are.
    """
    there = np.isfinite(values)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(axis=0) / count
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

    Settings come first, at every second, third … checkpoint if need be; then runs, the same number
    of every setting. Quantities on a logarithmic axis are decimal logarithms throughout: their mean
    is the geometric one.

    Returns:
        For JSON: ``steps``; ``runs``, the indices of runs with curves; ``quantities``, each with
        its packed ``mean``, ``spread`` (a row a setting) and ``runs`` (a row a run).
    """
    members = [pd.Index(runs["run_id"]).get_indexer(list(own.run_ids)) for own in settings]
    a_step = BYTES_A_VALUE * len(found)
    stride = max(1, -(-int(len(steps) * a_step * 2 * len(settings)) // max(1, n_bytes // 2)))
    kept = sorted({*range(0, len(steps), stride), len(steps) - 1})
    left = n_bytes - a_step * len(kept) * 2 * len(settings)
    n_fit = int(left // (a_step * len(kept) + 1))
    chosen = sorted(int(i) for i in in_turn(members)[:n_fit])
    ended = runs["status"].isin(("diverged", "failed")).to_numpy()
    averaged = [own[~ended[own]] for own in members]
    drawn = []
    for quantity in found:
        values = quantity.values[:, kept]
        if quantity.log:
            values = np.log10(values, where=values > 0, out=np.full_like(values, np.nan))
        pairs = [mean_and_spread(values[own]) for own in averaged]
        drawn.append(
            {
                "key": quantity.key,
                "label": quantity.label,
                "log": quantity.log,
                "mean": pack([mean for mean, _ in pairs]),
                "spread": pack([spread for _, spread in pairs]),
                "runs": pack(values[chosen]),
            }
        )
    return {"steps": [int(steps[i]) for i in kept], "runs": chosen, "quantities": drawn}
