"""The curves of the page: every quantity of the tables, by run."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grokjax import statistics
from grokjax.measuring.loading import Sweep
from grokjax.report import summaries
from grokjax.report.page import BYTES_A_ROW, BYTES_A_VALUE, floats, pack
from grokjax.report.page.samples import in_turn
from grokjax.settings import labels
from grokjax.settings.labels import Setting

# What a table says beside its measurements.
_NOT_MEASURED = ("run_id", "step", "cloud", "n_points", "n_neighbors", "seed")
_LOGARITHMIC = ("_loss", "weight_norm")
# Of a curve, where there is no room for all checkpoints of all runs.
_FEWEST_STEPS = 41

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """A column of a table as curves."""

    key: str  # unique, such as ``persistence/embedding/h1_max``
    label: str  # for people
    log: bool  # whether it is looked at on a logarithmic axis
    values: Floats  # (R, S) of R runs at S steps; NaN where there is none


def quantities(sweep: Sweep, run_ids: Sequence[str], steps: Sequence[int]) -> Iterator[Quantity]:
    """Every numeric column of the tables that has one value a run and step (and cloud).

    Of diagnostics, those that are not null throughout.
    """
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
                if name != "metrics" and not np.isfinite(numbers).any():
                    continue
                values = numbers.reshape(len(run_ids), len(steps))
                text = labels.COLUMNS.get(column, column.replace("_", " "))
                yield Quantity(
                    key="/".join(filter(None, (name, cloud, column))),
                    label=f"{text} ({cloud})" if cloud else text,
                    log=column.endswith(_LOGARITHMIC),
                    values=np.where(np.isfinite(values), values, np.nan),
                )


def ends(found: Quantity, steps: Sequence[int], runs: pd.DataFrame) -> Floats:
    """(3, R): each run's last value that is there, and its means before and after generalisation.

    Windows are those of ``summaries.windows``; NaN for runs that diverged or failed.
    """
    every = np.asarray(steps)
    ended = runs["status"].isin(("diverged", "failed"))
    columns = ("memorisation_step", "generalisation_step")
    splits = zip(*(runs[name] for name in columns), summaries.typical_steps(runs), strict=True)
    result = np.full((3, len(runs)), np.nan)
    for i, (marks, over, values) in enumerate(zip(splits, ended, found.values, strict=True)):
        there = np.isfinite(values)
        if there.any():
            own = values[there]
            memorised, generalised, split = map(summaries.optional_step, marks)
            windows = statistics.before_after(
                every[there], own, memorised, generalised, split_step=split
            )
            result[:, i] = (own[-1], *((np.nan, np.nan) if over else windows))
    return result


def payload(
    found: Sequence[Quantity],
    steps: Sequence[int],
    runs: pd.DataFrame,
    settings: Sequence[Setting],
    n_bytes: int,
) -> dict[str, Any]:
    """Curves of runs for the page, which groups and averages them as it is asked to.

    All runs have curves, at every second, third … checkpoint if need be, but not at fewer than
    `_FEWEST_STEPS`; beyond that fewer runs have, the same number of every setting. What runs came
    to is there of all. Quantities on a logarithmic axis are decimal logarithms.

    Returns:
        For JSON: ``steps``; ``runs``, the indices of runs with curves; ``quantities``, each with
        its packed ``runs`` (a row a run with a curve) and ``ends``, see there (a column a run).
    """
    members = [pd.Index(runs["run_id"]).get_indexer(list(own.run_ids)) for own in settings]
    most = n_bytes / max(1, len(found))  # a quantity
    n_steps = (most / len(runs) - BYTES_A_ROW) / BYTES_A_VALUE
    n_steps = max(n_steps - 1, min(len(steps), _FEWEST_STEPS), 1)
    kept = sorted({*range(0, len(steps), math.ceil(len(steps) / n_steps)), len(steps) - 1})
    n_fit = int(most // (BYTES_A_VALUE * len(kept) + BYTES_A_ROW))
    chosen = sorted(int(i) for i in in_turn(members)[:n_fit])
    drawn = []
    for quantity in found:
        values = quantity.values[chosen][:, kept]
        if quantity.log:
            values = np.log10(values, where=values > 0, out=np.full_like(values, np.nan))
        described = {name: getattr(quantity, name) for name in ("key", "label", "log")}
        own = floats(ends(quantity, steps, runs))
        drawn.append({**described, "runs": pack(values), "ends": own})
    return {"steps": [int(steps[i]) for i in kept], "runs": chosen, "quantities": drawn}
