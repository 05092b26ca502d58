"""The table of runs: what each is, how far it came, when it memorised and generalised."""

import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from grokjax import statistics
from grokjax.settings import grid
from grokjax.settings.fields import RunSettings, fields_of
from grokjax.settings.grid import Run
from grokjax.store.results import read_parquet

_NULLABLE = {str: "str", int: "Int64", float: "float64", bool: "boolean"}


def columns() -> dict[str, str]:
    """Column → pandas dtype. A setting that a run's parts do not have is null."""
    own = {name: _NULLABLE[kind] for name, kind in grid.columns().items()}
    every = {name: "int64" for name, field in fields_of(RunSettings).items() if field.kind is int}
    return {
        "run_id": "str",
        **(own | every),
        "n_train": "int64",
        "status": "str",
        "memorisation_step": "Int64",
        "generalisation_step": "Int64",
    }


def _described(run: Run) -> dict[str, Any]:
    values = dict.fromkeys(grid.columns()) | run.values
    return {"run_id": run.run_id, **values, "n_train": run.task.n_train}


def table(
    runs: Sequence[Run], metrics: pd.DataFrame, steps: int, failed: Collection[str] = ()
) -> pd.DataFrame:
    """A row a run of the grid, which is done at step ``steps``; ``failed``: ids of runs."""
    grouped = dict(list(metrics.groupby("run_id", sort=False)))
    rows = []
    for run in runs:
        own = grouped.get(run.run_id)
        row = _described(run) | {"status": "running"}
        if own is not None:
            own = own.sort_values("step")
            step = own["step"].to_numpy()
            memorised = statistics.memorisation_step(step, own["train_accuracy"].to_numpy())
            grokked = statistics.generalisation_step(step, own["test_accuracy"].to_numpy())
            row |= {"memorisation_step": memorised, "generalisation_step": grokked}
            if own["train_loss"].isna().any():
                row["status"] = "diverged"
            elif step[-1] >= steps:
                row["status"] = "done"
        if run.run_id in failed and row["status"] == "running":
            row["status"] = "failed"
        rows.append(row)
    return pd.DataFrame(rows, columns=list(columns())).astype(columns())


def read(path: pathlib.Path, runs: Sequence[Run] | None = None) -> pd.DataFrame:
    """Reads ``runs.parquet``; settings that came after it was written are those of the runs."""
    frame = read_parquet(path)
    missing = [name for name in columns() if name not in frame]
    if not missing or runs is None:
        return frame
    described = {run.run_id: _described(run) for run in runs}
    for name in missing:
        frame[name] = [described.get(run_id, {}).get(name) for run_id in frame["run_id"]]
    return frame[list(columns())].astype(columns())
