"""Controls: what generalisation, the spectrum and the group each explain of a rise in topology.

Question: does H1 rise where a network generalises without a group, where labels are permuted so
          that it does not generalise, and beyond what clouds of the same spectrum have?
Command:  python -m experiments.controls --workdirs=W,W… --out=FOLDER [--cloud=embedding]; of sweeps
          with --operations=add,average,max,multiply, --label_permutations=0,1 or
          --operations=z2^5,s4, and --diagnostics=persistence,surrogates
Device:   reads tables only; seconds.
Expected: FOLDER/controls.html and .csv: a row a setting and statistic, with its mean before and
          after generalisation, their ratio, and where the cloud after it lies among surrogates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments import artefact, contrasts, evidence, html_page
from experiments.artefact import Output
from experiments.claims import Floats
from experiments.evidence import Pool
from grokjax import statistics
from grokjax.report import summaries
from grokjax.settings import labels

STATISTICS = ("h1_max", "h1_total", "h0_max", "h0_total")
# Null → what stands above its column on the page.
NULLS = {
    "isotropic": "percentile: same row norms",
    "covariance": "percentile: same singular values",
    "frequency_power": "percentile: same power a frequency or irrep",
    "phase": "percentile: same power in each dimension",
    "circulant": "÷ that of its circulant part",
}
ABOVE = 95.0
HEADINGS = {
    "setting": "setting",
    "generalised": "generalised",
    "step": "median step",
    "fallen": "below 0.9 after it",
    "before": "before",
    "after": "after",
    "ratio": "after ÷ before",
    "low": "95 % from",
    "high": "to",
    "n": "n",
    **{f"shown_{null}": words for null, words in NULLS.items()},
}
TEXT = (
    "Each run's mean from memorisation up to generalisation (before) and over the last fifth of "
    "training (after). Runs that do not memorise first are looked at from the first checkpoint on; "
    "runs that never generalise are split at the median step of those of their model and task that "
    "do, else where the last fifth begins. In the median step, runs that never came count. Below "
    "0.9: the share of checkpoints after generalisation with a test accuracy that has fallen back "
    "below it, mean over runs. The ratio is the geometric mean over n seeds, with the interval of "
    "Student's t of logarithms."
)
NULLS_TEXT = (
    "Percentiles say where a cloud after generalisation lies among surrogates that share with it "
    "what the heading says and are random else: the median over seeds, and at how many seeds it is "
    f"above {ABOVE:g}. A rise that random clouds of the same singular values show as well needs no "
    "more than a spectrum to explain it, and one in a task without a group needs no group. Of the "
    "circulant part there is but one cloud, so the ratio stands there. Nothing is corrected for "
    "how many percentiles there are: by chance one in twenty is above."
)


def table(pool: Pool, cloud: str) -> pd.DataFrame:
    """A row a setting and statistic of a cloud.

    Columns are those of `HEADINGS` (without the last, which are for the page) with ``statistic``,
    ``cloud``, and for each null of `NULLS` ``percentile_…`` (median over seeds, after),
    ``above_…`` and ``measured_…`` (seeds above `ABOVE`, and of how many) and ``over_…``
    (geometric mean over seeds of the value over the null's mean). NaN where it was not measured.
    """
    runs = pool.finished()
    metrics = dict(tuple(pool.table("metrics").groupby("run_id")))
    rows: list[dict[str, Any]] = []
    for statistic in STATISTICS:
        own = summaries.windows(runs, pool.table("persistence"), statistic, cloud)
        own = own.set_index("run_id")
        nulls = {null: _beside(pool, runs, cloud, statistic, null) for null in NULLS}
        for setting in labels.group(runs):
            ids = [run_id for run_id in setting.run_ids if run_id in own.index]
            if not ids:
                continue
            found = contrasts.contrast(*(own.loc[ids, name].to_numpy() for name in _SIDES))
            del found["smallest"]
            row = {"statistic": statistic, "cloud": cloud, "setting": setting.name}
            row |= _outcome(runs[runs["run_id"].isin(setting.run_ids)], metrics) | found
            for null, (percentiles, over) in nulls.items():
                row |= _of_null(null, percentiles.reindex(ids), over.reindex(ids))
            rows.append(row)
    return pd.DataFrame(rows)


_SIDES = ("before", "after")


def _outcome(runs: pd.DataFrame, metrics: Mapping[Any, pd.DataFrame]) -> dict[str, Any]:
    steps = runs["generalisation_step"].astype("float64").fillna(np.inf)
    fallen = [
        statistics.falling_back(own["step"], own["test_accuracy"], step).share
        for run_id, step in zip(runs["run_id"], steps, strict=True)
        for own in [metrics[run_id]]
    ]
    median = float(steps.median())
    came = int(np.isfinite(steps).sum())
    return {
        "generalised": f"{came} of {len(runs)}",
        "step": median if np.isfinite(median) else np.nan,
        "fallen": float(np.nanmean(fallen)) if np.isfinite(fallen).any() else np.nan,
    }


def _beside(
    pool: Pool, runs: pd.DataFrame, cloud: str, statistic: str, null: str
) -> tuple[pd.Series, pd.Series]:
    """Run → percentile after, and value over the null's mean after; empty if not measured."""
    if "surrogates" not in pool.tables():
        return pd.Series(dtype=float), pd.Series(dtype=float)
    drawn = pool.table("surrogates")
    drawn = drawn[(drawn["null"] == null) & (drawn["statistic"] == statistic)]
    drawn = drawn.assign(over=drawn["value"] / drawn["mean"])
    percentiles, over = (
        summaries.windows(runs, drawn, name, cloud).set_index("run_id")["after"]
        for name in ("percentile", "over")
    )
    return percentiles, over


def _of_null(null: str, percentiles: pd.Series, over: pd.Series) -> dict[str, Any]:
    known: Floats = percentiles.dropna().to_numpy(np.float64)
    ratios: Floats = over.dropna().to_numpy(np.float64)
    ratio = np.nan
    if ratios.size and ratios.min() > 0:
        ratio = float(np.exp(np.log(ratios).mean()))
    return {
        f"percentile_{null}": float(np.median(known)) if known.size else np.nan,
        f"above_{null}": int((known > ABOVE).sum()),
        f"measured_{null}": known.size,
        f"over_{null}": ratio,
    }


def output(pool: Pool, cloud: str) -> Output:
    """The table and its page."""
    frame = table(pool, cloud)
    body = [html_page.paragraph(text) for text in (TEXT, NULLS_TEXT)]
    if "surrogates" not in pool.tables():
        body.append(html_page.paragraph("No surrogates were measured here.", "note"))
    for statistic, own in frame.groupby("statistic", sort=False):
        shown = own.assign(**{f"shown_{null}": _words(own, null) for null in NULLS})
        body += [f"<h2>{labels.COLUMNS[str(statistic)]}</h2>", html_page.table(shown, HEADINGS)]
    title = f"Controls: topology of the {cloud} before and after generalisation"
    return Output(numbers=frame, page=html_page.document(title, body))


def _words(frame: pd.DataFrame, null: str) -> list[str]:
    words = []
    for row in frame.to_dict("records"):
        if row[f"measured_{null}"]:
            above = f"{row[f'above_{null}']} of {row[f'measured_{null}']}"
            words.append(f"{row[f'percentile_{null}']:.0f} ({above})")
        else:
            over = row[f"over_{null}"]
            words.append("–" if np.isnan(over) else f"× {over:.2f}")
    return words


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table and its page."""
    pool, out, cloud = evidence.asked(__doc__, argv)
    artefact.save("controls", out, output(pool, cloud))


if __name__ == "__main__":
    main()
