"""What became of the runs, one by one."""

import numpy as np
import pandas as pd

from grokjax import statistics
from grokjax.measuring.loading import Sweep
from grokjax.settings import labels
from grokjax.store import runs as runs_table


def table_of_runs(sweep: Sweep) -> pd.DataFrame:
    """The table of runs, also of a sweep that has not come to writing it."""
    if (sweep.workdir / "results" / "runs.parquet").exists():
        return sweep.runs
    return runs_table.table(sweep.config.runs, sweep.metrics, sweep.config.train.steps)


def windows(
    runs: pd.DataFrame, table: pd.DataFrame, column: str, cloud: str = "embedding"
) -> pd.DataFrame:
    """Means of a cloud's column before and after generalisation: a row a run that has any.

    Windows are those of ``statistics.before_after``; for a run that never generalised the split
    is the median generalisation step of the runs of its model and task that did. Columns are
    ``run_id``, ``before`` and ``after``.
    """
    alike = runs.groupby(labels.panel_columns(runs), dropna=False)
    typical = alike["generalisation_step"].transform("median")
    by_id = {run.run_id: run for run in runs.assign(typical=typical).itertuples(index=False)}
    rows = []
    table = table[table["run_id"].isin(by_id) & (table["cloud"] == cloud)]
    for run_id, own in table.groupby("run_id", sort=False):
        run = by_id[run_id]
        before, after = statistics.before_after(
            own["step"].to_numpy(),
            own[column].to_numpy(),
            optional_step(run.memorisation_step),
            optional_step(run.generalisation_step),
            split_step=optional_step(run.typical),
        )
        rows.append({"run_id": run_id, "before": before, "after": after})
    return pd.DataFrame(rows, columns=["run_id", "before", "after"])


def optional_step(value: object) -> int | None:
    """A step out of a table: None where it is missing."""
    return None if pd.isna(value) else int(value)  # type: ignore[call-overload]


def outcomes(sweep: Sweep) -> pd.DataFrame:
    """The table of runs with columns ``before`` and ``after``: H1 max of the embedding.

    NaN where it was not measured, and for runs that diverged or failed.
    """
    runs = table_of_runs(sweep)
    if "persistence" not in sweep.tables():
        return runs.assign(before=np.nan, after=np.nan)
    whole = runs[~runs["status"].isin(("diverged", "failed"))]
    return runs.merge(windows(whole, sweep.persistence, "h1_max"), on="run_id", how="left")
