"""Permuted labels: how topology changes where networks generalise all the same, and where not.

Question: with a share of the labels permuted, does H1 rise at generalisation as it does with true
          labels, and does it move where a network only memorises?
Command:  python -m experiments.permuted --workdirs=TRUE,W/permuted10,W/permuted20 --out=FOLDER; the
          sweeps, as `grokjax.sweep` is called, are in experiments/results/permuted/README.md
Device:   reads tables only; seconds.
Expected: no expectation of size; what is asked was written down before. FOLDER/permuted.csv and
          .html: a row a level of permuted labels, windows and statistic of the embedding.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments import artefact, contrasts, evidence, html_page, leads
from experiments.artefact import Output
from experiments.claims import Floats
from experiments.evidence import Pool
from grokjax.report import summaries
from grokjax.settings import labels

STATISTICS = ("h1_max", "h1_total")
GENERALISATION, TRAINING = "generalisation", "training"
FEWEST = 4  # runs that generalise, for leads to be asked of a level
SHARE = 0.2  # of training, that the first and the last part of it are
HEADINGS = {
    "label_permutation": "labels permuted",
    "windows": "windows",
    "statistic": "statistic",
    "runs": "runs",
    "generalised": "generalised",
    "before": "before",
    "after": "after",
    "ratio": "after ÷ before",
    "low": "95 % from",
    "high": "to",
    "n": "n",
    "p": "p",
    "p_beside": "p, beside the next lower level",
}
TEXT = (
    "Windows of generalisation: each run's mean from memorisation up to generalisation (before) "
    "and over the last fifth of training (after), of runs that generalise. Windows of training: "
    "the fifth of training that begins at memorisation, and the last fifth, of all runs. The ratio "
    "is the geometric mean over n runs, with the interval and p of Student's t of logarithms. "
    "The last column is Welch's test of logarithms between this level of permuted labels and the "
    "next lower one, in the same windows. Nothing is corrected for the number of rows."
)


def ratios(pool: Pool, column: str, windows: str) -> pd.DataFrame:
    """A row a run that has both windows: ``label_permutation``, ``before`` and ``after``."""
    runs = pool.finished()
    rows = pool.table("persistence")
    if windows == GENERALISATION:
        runs = runs[runs["generalisation_step"].notna()]
        own = summaries.windows(runs, rows, column)
    else:
        own = _over_training(pool, runs, rows[rows["cloud"] == "embedding"], column)
    frame = own.merge(runs[["run_id", "label_permutation"]], on="run_id")
    return frame.dropna().reset_index(drop=True)


def _over_training(pool: Pool, runs: pd.DataFrame, rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means over a fifth of training from memorisation on, and over the last fifth."""
    ends = runs["run_id"].map(pool.horizons)
    start, end = runs["memorisation_step"], (1 - SHARE) * ends
    bounds = pd.DataFrame({"first": start, "until": start + SHARE * ends, "end": end})
    rows = rows.merge(bounds.assign(run_id=runs["run_id"]), on="run_id")
    before = rows[(rows["step"] >= rows["first"]) & (rows["step"] <= rows["until"])]
    after = rows[rows["step"] >= rows["end"]]
    means = {
        name: part.groupby("run_id")[column].mean()
        for name, part in (("before", before), ("after", after))
    }
    return pd.DataFrame(means).rename_axis("run_id").reset_index()


def since(pool: Pool, column: str, steps: float = math.inf) -> pd.DataFrame:
    """Of the embedding of runs that generalise: a row a run, ``before``, ``after`` and ``steps``.

    Means from memorisation up to generalisation, and over so many steps from there on or as many
    as there are, which is in ``steps``.
    """
    runs, rows = pool.finished(), pool.table("persistence")
    rows = rows[rows["cloud"] == "embedding"]
    found = []
    for run in runs[runs["generalisation_step"].notna()].itertuples():
        came, own = run.generalisation_step, rows[rows["run_id"] == run.run_id]
        before = own[(own["step"] >= run.memorisation_step) & (own["step"] < came)]
        after = own[(own["step"] >= came) & (own["step"] <= came + steps)]
        means = {"before": before[column].mean(), "after": after[column].mean()}
        found.append({"run_id": run.run_id, **means, "steps": after["step"].max() - came})
    return pd.DataFrame(found, columns=["run_id", "before", "after", "steps"])


def beyond(longer: Pool, other: Pool) -> pd.DataFrame:
    """`since` of both statistics with their levels, of ``other`` as long as ``longer`` on average.

    A pool has one level of permuted labels. Nothing, where none of ``longer`` generalises.
    """
    length = since(longer, STATISTICS[0])["steps"].mean()
    frames = []
    pools = [(longer, math.inf), (other, length)] if np.isfinite(length) else []
    for pool, steps in pools:
        (level,) = pool.finished()["label_permutation"].unique()
        for statistic in STATISTICS:
            frame = since(pool, statistic, steps)
            named = {"label_permutation": level, "statistic": labels.COLUMNS[statistic]}
            frames.append(frame.assign(**named))
    names = ["run_id", "before", "after", "steps", "label_permutation", "statistic"]
    return pd.concat([pd.DataFrame(columns=names), *frames], ignore_index=True)


def table(pool: Pool) -> pd.DataFrame:
    """A row a level of permuted labels, windows and statistic; columns are those of `HEADINGS`."""
    runs = pool.finished()
    rows: list[dict[str, Any]] = []
    for windows in (GENERALISATION, TRAINING):
        for statistic in STATISTICS:
            own, lower = ratios(pool, statistic, windows), np.array([])
            for level in sorted(runs["label_permutation"].unique()):
                of_level = runs[runs["label_permutation"] == level]
                before, after = (
                    own.loc[own["label_permutation"] == level, side].to_numpy(np.float64)
                    for side in ("before", "after")
                )
                logs = np.log(after) - np.log(before)
                found = contrasts.contrast(before, after)
                del found["smallest"]
                counts = {
                    "label_permutation": level,
                    "windows": windows,
                    "statistic": labels.COLUMNS[statistic],
                    "runs": len(of_level),
                    "generalised": int(of_level["generalisation_step"].notna().sum()),
                }
                tests = {"p": _p(logs), "p_beside": _p_beside(logs, lower)}
                rows.append(counts | found | tests)
                lower = logs
    return pd.DataFrame(rows, columns=list(HEADINGS))


def _p(logs: Floats) -> float:
    return float(stats.ttest_1samp(logs, 0.0).pvalue) if len(logs) > 1 else np.nan


def _p_beside(logs: Floats, lower: Floats) -> float:
    if min(len(logs), len(lower)) < 2:
        return np.nan
    return float(stats.ttest_ind(logs, lower, equal_var=False).pvalue)


def leads_by_cloud(pools: Sequence[Pool]) -> pd.DataFrame:
    """`leads.table` of every cloud, with ``label_permutation`` and ``cloud`` before the others.

    Each pool has one level of permuted labels; of fewer than `FEWEST` that generalise it has none.
    """
    frames = []
    for pool in pools:
        runs = pool.finished()
        if runs["generalisation_step"].notna().sum() < FEWEST:
            continue
        (level,) = runs["label_permutation"].unique()
        for cloud in dict.fromkeys(pool.table("persistence")["cloud"]):
            frames.append(leads.table(pool, cloud).assign(label_permutation=level, cloud=cloud))
    return pd.concat(frames, ignore_index=True)[["label_permutation", "cloud", *leads.HEADINGS]]


def output(pool: Pool) -> Output:
    """The table and its page."""
    frame = table(pool)
    body = [html_page.paragraph(TEXT), html_page.table(frame, HEADINGS)]
    return Output(
        numbers=frame, page=html_page.document("Permuted labels: H1 of the embedding", body)
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table and its page."""
    found = evidence.parser(__doc__).parse_args(argv)
    artefact.save("permuted", found.out, output(evidence.pool(found.workdirs)))


if __name__ == "__main__":
    main()
