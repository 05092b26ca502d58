"""The report of a work directory: a summary by setting, figures, one page."""

import pathlib

import numpy as np
import pandas as pd

from grokjax import statistics
from grokjax.loading import Sweep

SETTING = [
    "model",
    "operation",
    "prime",
    "train_fraction",
    "label_permutation",
    "weight_decay",
    "learning_rate",
    "init_scale",
]


def settings(runs: pd.DataFrame) -> list[str]:
    """The columns that tell the grid's settings apart, prime and model always among them."""
    return [
        name for name in SETTING if name in ("model", "prime") or runs[name].nunique() > 1
    ]


def before_after(sweep: Sweep, column: str = "h1_max", cloud: str = "embedding") -> pd.DataFrame:
    """A persistence column before and after generalisation, a row a run.

    Windows are those of ``statistics.before_after``; for a run that never generalised the split
    is the median generalisation step of the runs of its model and prime that did.
    """
    runs = sweep.runs.set_index("run_id")
    table = sweep.persistence
    table = table[table["cloud"] == cloud]
    typical = runs.groupby(["model", "prime"])["generalisation_step"].median()
    rows = []
    for run_id, own in table.groupby("run_id", sort=False):
        run = runs.loc[run_id]
        split = typical.loc[(run["model"], run["prime"])]
        before, after = statistics.before_after(
            own["step"].to_numpy(),
            own[column].to_numpy(),
            _step(run["memorisation_step"]),
            _step(run["generalisation_step"]),
            split_step=_step(split),
        )
        rows.append({"run_id": run_id, "before": before, "after": after})
    return pd.DataFrame(rows, columns=["run_id", "before", "after"])


def _step(value: object) -> int | None:
    return None if pd.isna(value) else int(value)  # type: ignore[call-overload]


def summary(folder: pathlib.Path) -> pd.DataFrame:
    """By setting: runs, how many generalised and when, H1 max of the embedding before and after."""
    sweep = Sweep(folder)
    runs = sweep.runs
    if "persistence" in sweep.tables():
        runs = runs.merge(before_after(sweep), on="run_id", how="left")
    else:
        runs = runs.assign(before=np.nan, after=np.nan)
    grouped = runs.groupby(settings(runs), sort=False, dropna=False)
    frame = grouped.agg(
        runs=("run_id", "size"),
        generalised=("generalisation_step", "count"),
        median_step=("generalisation_step", "median"),
        h1_max_before=("before", "mean"),
        h1_max_after=("after", "mean"),
    ).reset_index()
    for status in ("diverged", "failed", "running"):
        count = grouped["status"].agg(lambda s, status=status: int((s == status).sum()))
        if count.sum():
            frame[status] = count.to_numpy()
    return frame


def write(folder: pathlib.Path) -> pathlib.Path:
    """Draws the figures and the page; returns the page's path."""
    from grokjax import figures

    return figures.write_report(folder)
