"""How much each setting changed at generalisation over its seeds, and what those could have seen.

*Before* runs from memorisation up to generalisation, *after* is the last fifth of training; both
were fixed before looking (``grokjax.report.summaries.windows``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments import claims
from experiments.artefact import Context
from experiments.claims import Floats
from grokjax import statistics
from grokjax.settings import labels

QUANTITIES = {"persistence": ("h1_max", "h1_total"), "dimension": ("lid_mean",)}
THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.99)

CONTRAST_HEADINGS = {
    "setting": "setting",
    "cloud": "cloud",
    "quantity": "quantity",
    "n": "seeds",
    "before": "before",
    "after": "after",
    "ratio": "after ÷ before",
    "low": "95 % from",
    "high": "to",
    "smallest": "smallest factor seen with power 80 %",
}
CONTRAST_TEXT = (
    "Means of each run from memorisation up to generalisation (before) and over the last fifth of "
    "training (after); runs that never generalise are split at the median step of those of their "
    "model and task that do. The ratio is the geometric mean over seeds, with the interval of "
    "Student's t of logarithms. The last column is the smallest factor, up or as much down, that a "
    "two-sided paired t-test of logarithms at 5 % would find in four of five such experiments, "
    "given how the seeds spread here: a change below it may be there and go unseen."
)
STEPS_TEXT = (
    "Median step of the first checkpoint whose test accuracy reaches a threshold, and how many "
    "runs do. Runs that never do count as later than all; where half of them do not, there is no "
    "median. The study's threshold is 0.9."
)


def contrasts(context: Context) -> pd.DataFrame:
    """A row a setting, cloud and quantity, with the columns of `CONTRAST_HEADINGS`."""
    runs = context.runs()
    settings = labels.group(runs)
    rows: list[dict[str, Any]] = []
    for cloud, column, before, after in changes(context, runs, QUANTITIES):
        what = {"cloud": cloud, "quantity": labels.COLUMNS[column]}
        for setting in settings:
            own = runs["run_id"].isin(setting.run_ids).to_numpy()
            rows.append({"setting": setting.name, **what, **contrast(before[own], after[own])})
    return pd.DataFrame(rows, columns=list(CONTRAST_HEADINGS))


def changes(
    context: Context, runs: pd.DataFrame, quantities: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str, Floats, Floats]]:
    """Cloud and column of these tables, with means before and after of each run, (n,) both."""
    for name in [name for name in quantities if name in context.pool.tables()]:
        for cloud in dict.fromkeys(context.table(name)["cloud"].astype(str)):
            for column in quantities[name]:
                yield cloud, column, *claims.windows(context, runs, name, column, cloud)


def contrast(before: Floats, after: Floats) -> dict[str, float]:
    """Means of (n,) seeds before and after, their ratio with its interval, the smallest seen."""
    kept = np.isfinite(before) & np.isfinite(after)
    before, after = before[kept], after[kept]
    n = len(before)
    found = dict.fromkeys(("before", "after", "ratio", "low", "high", "smallest"), np.nan)
    if n:
        found |= {"before": float(before.mean()), "after": float(after.mean())}
    if n and min(before.min(), after.min()) > 0:
        logs = np.log(after) - np.log(before)
        found["ratio"] = float(np.exp(logs.mean()))
        if n > 1:
            spread = float(logs.std(ddof=1))
            half = float(stats.t.isf(0.025, n - 1)) * spread / n**0.5
            found["low"], found["high"] = (float(np.exp(logs.mean() + x)) for x in (-half, half))
            found["smallest"] = statistics.smallest_detectable_fold(n, spread)
    return {"n": n, **found}


def steps_headings() -> dict[str, str]:
    """Columns of `generalisation_steps`, and what stands above them."""
    heads = {"setting": "setting", "n": "seeds"}
    for level in THRESHOLDS:
        heads |= {f"step_{level:g}": f"step at {level:g}", f"runs_{level:g}": "runs"}
    return heads


def generalisation_steps(context: Context) -> pd.DataFrame:
    """A row a setting: when its runs reach each of several test accuracies."""
    runs, metrics = context.runs(), context.table("metrics")
    of_run = dict(tuple(metrics.groupby("run_id")))
    rows = []
    for setting in labels.group(runs):
        row: dict[str, Any] = {"setting": setting.name, "n": len(setting.run_ids)}
        found = [
            statistics.threshold_sensitivity(
                of_run[run_id]["step"].to_numpy(),
                of_run[run_id]["test_accuracy"].to_numpy(),
                THRESHOLDS,
            )
            for run_id in setting.run_ids
        ]
        for level in THRESHOLDS:
            steps = np.array([np.inf if own[level] is None else own[level] for own in found])
            median = float(np.median(steps))
            row[f"step_{level:g}"] = median if np.isfinite(median) else np.nan
            row[f"runs_{level:g}"] = int(np.isfinite(steps).sum())
        rows.append(row)
    return pd.DataFrame(rows, columns=list(steps_headings()))
