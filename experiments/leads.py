"""Who leads: topology, accuracy, losses or the restricted loss?

Question: does a statistic of persistence go half of its way before or after test accuracy, −log of
          the test loss and −log of the restricted loss go half of theirs?
Command:  python -m experiments.leads --workdirs=W,W… --out=FOLDER [--cloud=embedding]
          `table` with ``until`` says what a shorter budget would have shown
Device:   reads tables only; seconds. How fine a lead can be seen is up to the checkpoints.
Expected: FOLDER/leads.csv and .html; a row a setting, statistic and reference: the median lag of
          the statistic behind the reference over seeds, its exact interval, the sign test, and
          whether the two keep together within a run (`grokjax.statistics.event_time_test`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments import artefact, evidence, html_page
from experiments.artefact import Output
from experiments.claims import Floats
from experiments.evidence import Pool
from grokjax import statistics
from grokjax.report import figures
from grokjax.settings import labels

STATISTICS = ("h0_max", "h0_total", "h1_max", "h1_total")
# What is compared with: table, column, and what is taken of it.
Reference = tuple[str, str, Callable[[pd.DataFrame], pd.DataFrame]]


def _minus_log(frame: pd.DataFrame) -> pd.DataFrame:
    return -np.log(frame.where(frame > 0))


REFERENCES: Mapping[str, Reference] = {
    "test accuracy": ("metrics", "test_accuracy", lambda frame: frame),
    "−log test loss": ("metrics", "test_loss", _minus_log),
    "−log restricted loss": ("fourier", "restricted_loss", _minus_log),
}
HEADINGS = {
    "setting": "setting",
    "statistic": "statistic",
    "reference": "beside",
    "n": "seeds with both",
    "lag": "median lag, steps",
    "low": "95 % from",
    "high": "to",
    "after": "seeds behind it",
    "before": "ahead of it",
    "p_order": "p, sign test",
    "p_together": "p, together in a run",
}
TEXT = (
    "Half-way is where the isotonic regression of a series crosses the middle of the medians "
    "before and after its step; a series without a step has none, and its seed is left out. A "
    "positive lag says that the statistic comes behind. The sign test is exact and two-sided; with "
    "k seeds its p cannot go below 2^(1 − k), 0.06 for five, and the interval of the median needs "
    "six. Together: whether lags vary less within runs than with the seeds shuffled; 1 / k! at the "
    "least. Nothing is corrected for the number of rows. A test loss still falls when accuracy is "
    "done, so leads over the two differ."
)


def halves(
    pool: Pool, table: str, column: str, cloud: str, change: Any, until: float = 1.0
) -> pd.Series:
    """Run → step at which a column of a table goes half of its way; NaN where it has no step."""
    rows = pool.table(table)
    rows = rows[rows["step"] <= until * rows["run_id"].map(pool.horizons)]
    rows = rows[rows["cloud"] == cloud] if cloud else rows
    wide = change(figures.wide(rows, column, list(dict.fromkeys(rows["run_id"]))))
    return pd.Series(
        {name: statistics.half_rise_step(wide.index, wide[name].to_numpy()) for name in wide},
        dtype=float,
    )


def onset(steps: Floats, values: Floats, start: float, end: float) -> float:
    """The first step from which on values stay above all that they were from start to end.

    NaN if they do not, the first of all if there are none from start to end.
    """
    level = values[(steps >= start) & (steps <= end)].max(initial=-np.inf)
    later = steps[steps > steps[values <= level].max(initial=-1)]
    return float(later.min()) if len(later) else np.nan


def onset_lag(own: pd.DataFrame, column: str) -> float:
    """By how many steps a column of a run leaves its level after test accuracy does.

    Its level is what it was in the first half of the way from memorisation to generalisation: a
    choice that was made when the fifteen runs of results/ were known. ``own`` has the columns
    ``step`` (increasing), ``test_accuracy``, ``memorisation_step`` and ``generalisation_step``.
    """
    start = own["memorisation_step"].iloc[0]
    end = (start + own["generalisation_step"].iloc[0]) / 2
    steps = own["step"].to_numpy()
    accuracy, rise = (
        onset(steps, own[name].to_numpy(), start, end) for name in ("test_accuracy", column)
    )
    return rise - accuracy


def table(pool: Pool, cloud: str, until: float = 1.0) -> pd.DataFrame:
    """A row a setting, statistic and reference; columns are those of `HEADINGS`.

    Args:
        pool: the runs.
        cloud: whose statistics.
        until: the share of each run's training that is looked at.
    """
    runs = pool.table("runs")
    runs = runs[~runs["status"].isin(("diverged", "failed"))].reset_index(drop=True)
    own = {
        name: halves(pool, "persistence", name, cloud, lambda f: f, until) for name in STATISTICS
    }
    references = {
        name: halves(pool, where, column, "", change, until)
        for name, (where, column, change) in REFERENCES.items()
        if where in pool.tables()
    }
    rows = []
    for setting in labels.group(runs):
        for statistic, after in own.items():
            for reference, before in references.items():
                x, y = (half.reindex(setting.run_ids).to_numpy() for half in (before, after))
                lead = statistics.lead_test(x, y)
                together = statistics.event_time_test(x, y)
                if not together.n:
                    continue
                rows.append(
                    {
                        "setting": setting.name,
                        "statistic": labels.COLUMNS[statistic],
                        "reference": reference,
                        "n": together.n,
                        "lag": lead.median,
                        "low": lead.interval.low,
                        "high": lead.interval.high,
                        "after": lead.n_x_first,
                        "before": lead.n_y_first,
                        "p_order": lead.p_value,
                        "p_together": together.p_value,
                    }
                )
    return pd.DataFrame(rows, columns=list(HEADINGS))


def output(pool: Pool, cloud: str) -> Output:
    """The table and its page."""
    frame = table(pool, cloud)
    every = f"Checkpoints lie {pool.every:,} steps apart, or more."
    body = [html_page.paragraph(text) for text in (TEXT, every)]
    body.append(html_page.table(frame, HEADINGS))
    title = f"Who leads: topology of the {cloud} beside accuracy and losses"
    return Output(numbers=frame, page=html_page.document(title, body))


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table and its page."""
    pool, out, cloud = evidence.asked(__doc__, argv)
    artefact.save("leads", out, output(pool, cloud))


if __name__ == "__main__":
    main()
