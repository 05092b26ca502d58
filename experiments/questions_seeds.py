"""Fifty seeds of a small network, and eight with fine checkpoints, in words and sections.

As ``experiments.questions_numbers``.
"""

import numpy as np
import pandas as pd

from experiments import cause, committed, evidence, fifty_seeds, leads, spikes
from experiments.committed import markdown, percent, span
from experiments.fifty_seeds import CANNOT_TELL, DOMINANT, HOLDS, OTHER_WAY
from grokjax.settings import labels

# Verdict → words of one claim, and of several.
_WORDS = {
    HOLDS: ("holds", "hold"),
    OTHER_WAY: ("is the other way round", "are the other way round"),
    CANNOT_TELL: ("cannot be told", "cannot be told"),
}
_REFERENCES = ("test accuracy", "−log test loss")


def _claims() -> pd.DataFrame:
    return committed.table("fifty_seeds/fifty_seeds.csv")


def _row(start: str) -> pd.Series:
    """The claim that starts so."""
    rows = _claims()
    (place,) = rows.index[rows.claim.str.startswith(start)]
    return rows.loc[place]


def _told(start: str, digits: str = ".2f", ratio: bool = False) -> str:
    """A claim's estimate and interval, and its verdict where it does not hold."""
    row = _row(start)
    values = [np.exp(row[name]) if ratio else row[name] for name in ("estimate", "low", "high")]
    mean, low, high = (f"{value:{digits}}" for value in values)
    verdict = "" if row.verdict == HOLDS else f"; {row.verdict}"
    return f"{mean} ({low} to {high}{verdict})"


def _share(start: str) -> str:
    """In how many runs a claim is so, and its verdict where it does not hold."""
    row = _row(start)
    verdict = "" if row.verdict == HOLDS else f" ({row.verdict})"
    return f"{round(row.estimate * row.n)} of {row.n}{verdict}"


def _rhos() -> np.ndarray:
    """ρ of H1 total with test accuracy, a run that generalises."""
    folders = [evidence.Folder(committed.RESULTS / folder) for folder in committed.FIFTY]
    return fifty_seeds.rhos(fifty_seeds.generalised(evidence.Pool(folders)), "h1_total")


def fifty() -> str:
    """What holds of fifty seeds."""
    rows = _claims()
    runs, permuted = (committed.table(f"{folder}/runs.parquet") for folder in committed.FIFTY)
    came = runs.generalisation_step.dropna()
    counts = rows.verdict.value_counts()
    verdicts = ", ".join(
        f"{count} {_WORDS[verdict][count > 1]}" for verdict, count in counts.items()
    )
    names, rhos = [labels.COLUMNS[column] for column in leads.STATISTICS], _rhos()
    rho = [f"{name} {_told(f'ρ of {name}')}" for name in names]
    behind = [f"{name} {_share(f'{name} is half done')}" for name in names]
    chance = [
        f"{name} {_told(f'{name} is above that of clouds of the {null}', ratio=True)}"
        for null in ("same power", "same singular")
        for name in ("H1 max", "H1 total")
    ]
    return (
        f"Of {len(rows)} claims, by tests planned before: {verdicts} (p = 59, half as wide as the "
        f"study's, {len(runs)} runs; Holm). H1 max rises {_told('H1 max rises: ', ratio=True)} "
        f"times (95 %), H1 total {_told('H1 total rises: ', ratio=True)}.\n\n"
        f"{len(came)} of {len(runs)} runs generalise, of those with permuted labels "
        f"{permuted.generalisation_step.notna().sum()}. Beside the same seeds with permuted labels "
        f"H1 max rises {_told('H1 max rises more', ratio=True)} and H1 total "
        f"{_told('H1 total rises more', ratio=True)} times. "
        f"ρ with test accuracy: {', '.join(rho)}; run by run the last has an SD of "
        f"{rhos.std(ddof=1):.2f} (study: 0.10) and is negative in {(rhos < 0).sum()}. "
        f"Half done after accuracy, of runs with a step: {', '.join(behind)}; H1 max leaves its "
        f"level after it in {_share('H1 max leaves')}. The longest bar is {DOMINANT} times the "
        f"second or more in {_share('the longest bar')}. Over the mean of random clouds of the "
        f"same power at each frequency: {chance[0]}, {chance[1]}; of the same singular values: "
        f"{chance[2]}, {chance[3]}."
    )


def fifty_more() -> str:
    """Every claim."""
    rows = [
        [row.claim, row.n, f"{row.estimate:.3g} ({row.low:.3g} to {row.high:.3g})",
         f"{row.null:g}", f"{row.p_holm:.2g}", f"{row.detectable:.2g}", row.verdict]
        for row in _claims().itertuples()
    ]  # fmt: skip
    header = ["claim", "runs", "estimate (95 %)", "without it", "p, Holm", "found with power 0.8",
              "verdict"]  # fmt: skip
    return (
        f"{markdown(header, rows)}\n\nLog ratios are natural logarithms. Verdicts are by Holm's "
        "correction over all rows; found with power 0.8 is what a test at its hardest step finds "
        "in four of five such experiments."
    )


def _fine() -> pd.DataFrame:
    rows = committed.table(f"{committed.FINE}/leads.csv")
    rows = rows[rows.reference.isin(_REFERENCES)]
    return rows.assign(p_holm=cause.holm(rows.p_mean.fillna(1.0).tolist()))


def fine() -> str:
    """Who leads within the steps around generalisation."""
    rows = _fine()
    runs = committed.table(f"{committed.FINE}/runs.parquet")
    parts = []
    for reference, own in rows.groupby("reference", sort=False):
        words = [f"{row.statistic} {row.lag:,.0f} ({row.after} of {row.after + row.before} behind)"
                 for row in own.itertuples()]  # fmt: skip
        parts.append(f"beside {reference} {', '.join(words)}")
    told, first = rows[rows.p_holm < 0.05], rows[rows.reference == _REFERENCES[0]]
    names = [
        f"{row.statistic} {'behind' if row.lag > 0 else 'ahead of'} {row.reference}"
        for row in told.itertuples()
    ]
    verdict = f"Told are: {'; '.join(names)}" if names else "It cannot be told"
    return (
        f"{verdict} (t-tests of lags, corrected by Holm for {len(rows)}; {len(runs)} transformers, "
        f"p = 113). Median lags of the four statistics behind test accuracy are "
        f"{first.lag.min():,.0f} to {first.lag.max():,.0f} steps.\n\n"
        f"With a checkpoint every 50 steps, within "
        f"{committed.FINE_STEPS:,} on each side of where test accuracy is half done, median lags "
        f"in steps are {'; '.join(parts)}. What only drifts is half done there as well."
    )


def jumps() -> str:
    """How much changes with spikes of the training loss."""
    rows = committed.table(f"{committed.FINE}/spikes.csv")
    small = committed.table("fifty_seeds/spikes.csv")

    def share(of: pd.Series) -> str:
        mean, low, high = committed.mean_interval(100 * of)
        return f"{mean:.0f} % ({low:.0f} to {high:.0f})"

    low = committed.mean_interval(rows.test_accuracy)[1]
    verdict = "No, in jumps" if low > rows.steps.mean() else "It cannot be told"
    told = {name: words for name, words in spikes.COLUMNS.items() if name != "h1_total"}
    parts = ", ".join(f"{words} {share(rows[name])}" for name, words in told.items())
    return (
        f"{verdict}. The training loss of {len(rows)} transformers (p = 113, a checkpoint every "
        f"50 steps) jumps up a hundredfold and more {span(rows.spikes, '.0f')} times a run, every "
        f"{span(rows.spacing, ',.0f')} steps (medians). With these spikes, in "
        f"{percent(rows.steps.mean())} of all steps, comes {share(rows.test_accuracy)} of the "
        f"change of test accuracy (mean of runs, 95 %).\n\n"
        f"Of the net change come with spikes: {parts}. This was seen first and then counted. In "
        f"fifty small networks the same rule finds {small.spikes.mean():.1f} spikes a run, and "
        f"with them, in {percent(small.steps.mean())} of steps, {share(small.test_accuracy)} of "
        "the change of test accuracy."
    )
