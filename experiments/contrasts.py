"""How much each setting changed at generalisation over its seeds, and what those could have seen.

*Before* runs from memorisation up to generalisation, *after* is the last fifth of training; both
were fixed before looking (``grokjax.statistics.before_after``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments import claims
from experiments.artefact import Context
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
    "training (after); a setting whose runs never generalise is split at the median step of those "
    "that do, in the same sweep. The ratio is the geometric mean over seeds, with a percentile "
    "bootstrap interval over seeds, which is too narrow for few of them: of five, nominal 95 % "
    "hold 84 %. The last column is the smallest factor, up or as much down, that a two-sided "
    "paired t-test of logarithms at 5 % would find in four of five such experiments, given how "
    "the seeds spread here: a change below it may be there and go unseen."
)
STEPS_TEXT = (
    "Median step, over the runs that get there, of the first checkpoint whose test accuracy "
    "reaches a threshold, and how many runs do. The study's is 0.9."
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
            rows.append({"setting": setting.name, **what, **_contrast(before[own], after[own])})
    return pd.DataFrame(rows, columns=list(CONTRAST_HEADINGS))


def changes(
    context: Context, runs: pd.DataFrame, quantities: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str, claims.Floats, claims.Floats]]:
    """Cloud and column of these tables, with means before and after of each run, (n,) both."""
    for name in [name for name in quantities if name in context.sweep.tables()]:
        table = context.table(name)
        for cloud in dict.fromkeys(table["cloud"].astype(str)):
            for column in quantities[name]:
                yield cloud, column, *claims.windows(runs, table, column, cloud)


def _contrast(before: claims.Floats, after: claims.Floats) -> dict[str, float]:
    kept = np.isfinite(before) & np.isfinite(after)
    before, after = before[kept], after[kept]
    found = statistics.ratio_over_seeds(before, after)
    smallest = np.nan
    if len(before) > 1 and np.isfinite(found.ratio):
        spread = float(np.std(np.log(after) - np.log(before), ddof=1))
        smallest = statistics.smallest_detectable_fold(len(before), spread)
    return {
        "n": len(before),
        "before": float(before.mean()) if len(before) else np.nan,
        "after": float(after.mean()) if len(before) else np.nan,
        "ratio": found.ratio,
        "low": found.ratio_interval.low,
        "high": found.ratio_interval.high,
        "smallest": smallest,
    }


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
            reached = [own[level] for own in found if own[level] is not None]
            row[f"step_{level:g}"] = float(np.median(reached)) if reached else np.nan
            row[f"runs_{level:g}"] = len(reached)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(steps_headings()))
