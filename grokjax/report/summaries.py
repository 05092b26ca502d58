"""What became of the runs, one by one."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

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
    with_splits = runs.assign(typical=typical_steps(runs))
    by_id = {run.run_id: run for run in with_splits.itertuples(index=False)}
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


def typical_steps(runs: pd.DataFrame) -> pd.Series:
    """The median generalisation step of the runs of each one's model and task that generalised."""
    alike = runs.groupby(labels.panel_columns(runs), dropna=False)
    return alike["generalisation_step"].transform("median")


def horizons(runs: pd.DataFrame, metrics: pd.DataFrame, steps: int) -> NDArray[np.int64]:
    """The step up to which each run could have generalised.

    Of a run that is still running the last that was measured; of all others, also those that
    diverged or failed and never will, the last of the sweep.
    """
    last = runs["run_id"].map(metrics.groupby("run_id")["step"].max()).fillna(0)
    return np.where(runs["status"] == "running", last, steps).astype(np.int64)


def median_step(steps: ArrayLike, horizon: ArrayLike) -> float:
    """The step by which half of some runs got somewhere, those that never did counted in full.

    NaN where fewer than half did: the median of Kaplan and Meier's estimate, so that runs that are
    still running count for as long as they have run. Arguments are ``statistics.survival``'s.
    """
    return statistics.survival(np.asarray(steps, np.float64), horizon).median


def optional_step(value: object) -> int | None:
    """A step out of a table: None where it is missing."""
    return None if pd.isna(value) else int(value)  # type: ignore[call-overload]


def outcomes(sweep: Sweep) -> pd.DataFrame:
    """The table of runs with ``horizon`` as `horizons` gives it, and ``before`` and ``after``.

    These are H1 max of the embedding: NaN where it was not measured, and for runs that diverged or
    failed.
    """
    runs = table_of_runs(sweep)
    runs = runs.assign(horizon=horizons(runs, sweep.metrics, sweep.config.train.steps))
    if "persistence" not in sweep.tables():
        return runs.assign(before=np.nan, after=np.nan)
    whole = runs[~runs["status"].isin(("diverged", "failed"))]
    return runs.merge(windows(whole, sweep.persistence, "h1_max"), on="run_id", how="left")
