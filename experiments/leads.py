"""Who leads: topology, accuracy, losses or the restricted loss?

Question: does a statistic of persistence go half of its way before or after test accuracy, −log of
          the test loss and −log of the restricted loss go half of theirs?
Command:  python -m experiments.leads --workdirs=W,W… --out=FOLDER [--cloud=embedding]
          [--around=STEPS], which looks at so many steps on each side of where test accuracy is half
          done; `table` with ``until`` says what a shorter budget would have shown
Device:   reads tables only; seconds. How fine a lead can be seen is up to the checkpoints.
Expected: FOLDER/leads.csv and .html; a row a setting, statistic and reference: the median lag of
          the statistic behind the reference over seeds, its exact interval, the sign test, and
          whether the two keep together within a run (`grokjax.statistics.event_time_test`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

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
    "p_mean": "p, t-test of lags",
    "p_together": "p, together in a run",
}
TEXT = (
    "Half-way is where the isotonic regression of a series crosses the middle of the medians "
    "before and after its step; a series without a step has none, and its seed is left out. A "
    "positive lag says that the statistic comes behind. The sign test is exact and two-sided; with "
    "k seeds its p cannot go below 2^(1 − k), 0.06 for five, and the interval of the median needs "
    "six. The t-test asks whether the mean lag is 0, and trusts that lags are about normal. "
    "Together: whether lags vary less within runs than with the seeds shuffled; 1 / k! at the "
    "least. Nothing is corrected for the number of rows. A test loss still falls when accuracy is "
    "done, so leads over the two differ."
)


def windows(pool: Pool, until: float, around: int) -> pd.DataFrame:
    """Run → first and last step that are looked at; NaN where training has not all of a window.

    The middle is where test accuracy is half done, and not where it reaches 0.9: a statistic that
    only drifts is half done in the middle of any window, and would be behind by construction.
    """
    ids = pool.table("runs")["run_id"]
    frame = pd.DataFrame({"first": 0.0, "last": until * ids.map(pool.horizons)}).set_index(ids)
    if around:
        middle = halves(pool, "metrics", "test_accuracy", "", lambda one: one, frame)
        frame = pd.DataFrame({"first": middle - around, "last": middle + around})
        whole = (frame["first"] >= 0) & (frame["last"] <= frame.index.map(pool.horizons))
        frame = frame.where(whole)
    return frame


def halves(
    pool: Pool, table: str, column: str, cloud: str, change: Any, within: pd.DataFrame
) -> pd.Series:
    """Run → step at which a column of a table goes half of its way; NaN where it has no step."""
    rows = pool.table(table)
    first, last = (rows["run_id"].map(within[end]) for end in ("first", "last"))
    rows = rows[(rows["step"] >= first) & (rows["step"] <= last)]
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


def table(pool: Pool, cloud: str, until: float = 1.0, around: int = 0) -> pd.DataFrame:
    """A row a setting, statistic and reference; columns are those of `HEADINGS`.

    Args:
        pool: the runs.
        cloud: whose statistics.
        until: the share of each run's training that is looked at.
        around: instead, steps on each side of where test accuracy is half done; 0: all.
    """
    runs = pool.finished()
    within = windows(pool, until, around)
    own = {
        name: halves(pool, "persistence", name, cloud, lambda f: f, within) for name in STATISTICS
    }
    references = {
        name: halves(pool, where, column, "", change, within)
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
                        "p_mean": _p_mean(x - y),
                        "p_together": together.p_value,
                    }
                )
    return pd.DataFrame(rows, columns=list(HEADINGS))


def _p_mean(lags: Floats) -> float:
    known = lags[np.isfinite(lags)]
    spread = len(known) > 1 and np.ptp(known) > 0
    return float(stats.ttest_1samp(known, 0.0).pvalue) if spread else np.nan


def output(pool: Pool, cloud: str, around: int = 0) -> Output:
    """The table and its page."""
    frame = table(pool, cloud, around=around)
    every = f"Checkpoints lie {pool.every:,} steps apart, or more."
    if around:
        every += f" Looked at are {around:,} steps on each side of where accuracy is half done."
    body = [html_page.paragraph(text) for text in (TEXT, every)]
    body.append(html_page.table(frame, HEADINGS))
    title = f"Who leads: topology of the {cloud} beside accuracy and losses"
    return Output(numbers=frame, page=html_page.document(title, body))


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table and its page."""
    flags = evidence.parser(__doc__)
    flags.add_argument("--cloud", default="embedding", help="default: %(default)s")
    flags.add_argument("--around", type=int, default=0, help="steps; default: all of training")
    found = flags.parse_args(argv)
    made = output(evidence.pool(found.workdirs), found.cloud, found.around)
    artefact.save("leads", found.out, made)


if __name__ == "__main__":
    main()
