"""Transformers with a share of their labels permuted, in words and sections.

As ``experiments.questions_numbers``.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from experiments import cause, committed, permuted
from experiments import questions_numbers as numbers
from experiments.committed import markdown, percent, span

_FEWEST = 3  # runs for an interval of what comes beyond the study's budget
_CHOSEN_LATER = 0.1  # the level whose t-tests of lags were chosen when these were known
_WINDOWS = {
    permuted.GENERALISATION: "over generalisation",
    permuted.TRAINING: "last fifth of training over the fifth from memorisation on",
}
_NULLS = {
    "isotropic": "rows of the same norms in random directions",
    "covariance": "the same singular values",
    "frequency_power": "the same power at each frequency",
}


def _cells() -> pd.DataFrame:
    """The cells of Table 1 with permuted labels that have runs."""
    rows = committed.cells("table1")
    return rows[rows.level > 0]


def _row(level: float, windows: str, statistic: str) -> pd.Series:
    """Of `experiments.permuted`."""
    rows = committed.table("permuted/permuted.csv")
    here = (rows.windows == windows) & (rows.statistic == statistic)
    (place,) = rows.index[here & np.isclose(rows.label_permutation, level)]
    return rows.loc[place]


def _ratios(levels: Iterable[float], windows: str, statistic: str) -> str:
    """Ratios with their intervals, of the levels that have any."""
    rows = {level: _row(level, windows, statistic) for level in levels}
    return ", ".join(
        f"{percent(level)} {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        for level, row in rows.items()
        if row.n
    )


def _outcome(folder: str) -> tuple[float, str]:
    """The level of permuted labels of a folder's runs, and in words how many generalise."""
    runs, metrics = (committed.table(f"{folder}/{what}.parquet") for what in ("runs", "metrics"))
    level, end = float(runs.label_permutation.iloc[0]), metrics.step.max()
    came = runs.generalisation_step.dropna()
    last = metrics[metrics.step == end].test_accuracy
    steps = f", at steps {span(came, ',.0f')}" if len(came) else ""
    words = (
        f"{percent(level)}: {len(came)} of {len(runs)} generalise by step {end:,}{steps}; test "
        f"accuracies there {span(last)}"
    )
    return level, words


def rises() -> str:
    """Who generalises, and what H1 of the embedding does there."""
    levels = dict(_outcome(folder) for folder in committed.PERMUTED)
    told = [f"{_verdict(level)} at {words}" for level, words in levels.items()]
    parts = [
        f"{statistic}, {what}: {_ratios([0.0, *levels], windows, statistic)}"
        for statistic in ("H1 max", "H1 total")
        for windows, what in _WINDOWS.items()
    ]
    tests = {
        f"{statistic} at {percent(level)}": _row(level, permuted.GENERALISATION, statistic).p_beside
        for level in levels
        for statistic in ("H1 max", "H1 total")
    }
    beside = [f"{what} p = {p:.2g}" for what, p in tests.items() if np.isfinite(p)]
    short = _ratios([0.0, *levels], permuted.TRAINING, "H1 max")
    return (
        f"{'. '.join(told)}. H1 max of the embedding, last fifth of training over the fifth from "
        f"memorisation on (95 %): {short}.\n\n"
        f"After over before, in the embedding (95 %; 0 % are the five with true labels, to step "
        f"45,000): {'; '.join(parts)}. Over generalisation beside the level below, by Welch's "
        f"test: {', '.join(beside)}.\n\n{_beyond()}\n\n{_chance()}"
    )


def _beyond() -> str:
    """Who generalises beyond the study's budget, and what H1 does from there on."""
    rows = committed.table("permuted/beyond.csv").dropna()
    parts = []
    for (statistic, level), own in rows.groupby(["statistic", "label_permutation"]):
        ratios = own.after / own.before
        words = f"{statistic} at {percent(level)} {span(ratios)}"
        if len(own) >= _FEWEST:
            mean, low, high = committed.ratio_interval(ratios)
            words = f"{statistic} at {percent(level)} {mean:.2f} ({low:.2f} to {high:.2f})"
        parts.append(f"{words}, n = {len(own)}, over {own.steps.mean():,.0f} steps")
    _, words = _outcome(committed.LONGER)
    told = f"; from generalisation on, over before: {'; '.join(parts)}" if parts else ""
    return f"Beyond the study's budget, {words}{told}."


def _chance() -> str:
    """H1 max of the last checkpoint of a tenth permuted beside random clouds."""
    rows = committed.table("permuted/surrogates.parquet")
    rows = rows[(rows.step == rows.step.max()) & (rows.statistic == "h1_max")]
    parts = []
    for null, words in _NULLS.items():
        own = rows[rows["null"] == null]
        mean, low, high = committed.ratio_interval(own.value / own["mean"])
        above = (own.percentile > 95).sum()
        parts.append(
            f"{mean:.2f} times ({low:.2f} to {high:.2f}) that of 99 random clouds with {words}, "
            f"above 95 % of them in {above} of {len(own)}"
        )
    return f"At step {rows.step.max():,} H1 max at 10 % is {'; '.join(parts)}."


def _verdict(level: float) -> str:
    row = _row(level, permuted.GENERALISATION, "H1 max")
    if not row.n:
        return "Not asked"
    return "Yes" if row.low > 1 else "No, it falls" if row.high < 1 else "No rise is told"


def cells() -> str:
    """Table 1 with permuted labels, and Figure 12."""
    rows = _cells()
    short, parts = [], []
    for level, own in rows.groupby("level"):
        means = [
            f"{row.statistic} {row.ours:.2f} ({row.low:.2f} to {row.high:.2f}; study "
            f"{row.paper_low:.2f})"
            for row in own[own.cloud == "embedding"].itertuples()
        ]
        short.append(f"{percent(float(level))}: {committed.verdicts(own)}")
        parts.append(f"at {percent(float(level))} {', '.join(means)}")
    return (
        f"{'. '.join(short)} (five runs each).\n\nEmbedding, means of five (90 %): "
        f"{'; '.join(parts)}. {_states()} {_peaks()}"
    )


def _states() -> str:
    """ρ of H1 total in the layers, by how many states are taken, of a tenth permuted."""
    folder = committed.PERMUTED[0]
    paths = {256: f"{folder}/persistence.parquet", 512: "permuted/points512.parquet"}
    words = []
    for states, path in paths.items():
        rows = committed.table(path)
        found = []
        for cloud in ("layer1", "layer2"):
            mean, low, high = committed.mean_interval(
                committed.rhos(folder, rows, cloud, "h1_total"), 0.9
            )
            found.append(f"{cloud} {mean:.2f} ({low:.2f} to {high:.2f})")
        words.append(f"of {states} states {', '.join(found)}")
    return f"ρ of H1 total at 10 %: {'; '.join(words)}. How many the study took is not stated."


def _peaks() -> str:
    """Peaks of Figure 12's cross-correlation, by cloud."""
    rows = committed.table("verdicts/comparison.csv")
    rows = rows[(rows.n > 0) & (rows.source == "fig12")]
    words = [
        f"{row.what.split(', ')[-1].rstrip(')')} {row.ours:,.0f} (study {row.paper_low:,.0f}: "
        f"{row.verdict})"
        for row in rows.itertuples()
    ]
    where = "Peaks of the cross-correlation of Figure 12, at the levels that it has, in steps"
    return f"{where}: {'; '.join(words) or 'none'}."


def order() -> str:
    """Which is half done first, test accuracy or a statistic, by cloud and level."""
    lags = _lags()
    levels = [(float(level), own) for level, own in lags.groupby("label_permutation")]
    told = [_told_order(level, own) for level, own in levels]
    for folder in committed.PERMUTED:
        runs = committed.table(f"{folder}/runs.parquet")
        level, came = runs.label_permutation.iloc[0], runs.generalisation_step.notna().sum()
        if not np.isclose(lags.label_permutation, level).any():
            reason = f"{came} of {len(runs)} generalise"
            told.append(f"{percent(level)}: nothing is asked, for {reason}.")
    same = numbers.to_the_bit(f"{committed.RUNS}/p197", committed.TRUE_LAYERS)
    return (
        f"{' '.join(told)}\n\nMedian steps behind test accuracy (runs behind, of those with a "
        f"step): {' '.join(_order(*of) for of in levels)} Those with true labels are the runs of "
        f"version 0.1, trained again for their layers on another processor: metrics and embedding "
        f"of {same} checkpoints are the same to the bit."
    )


def _lags() -> pd.DataFrame:
    """Lags behind test accuracy, with p of the t-test corrected within the runs of a level."""
    rows = committed.table("permuted/leads.csv")
    rows = rows[rows.reference == "test accuracy"]
    corrected = rows.groupby("label_permutation").p_mean.transform(
        lambda own: cause.holm(own.fillna(1.0).tolist())
    )
    return rows.assign(p_holm=corrected)


def _told_order(level: float, rows: pd.DataFrame) -> str:
    """What t-tests tell of a level."""
    found = rows[rows.p_holm < 0.05]
    order = np.where(found.lag > 0, "behind", "ahead")
    told = [
        f"{cloud} {where} in {', '.join(own.statistic)}"
        for (cloud, where), own in found.groupby([found.cloud, order], sort=False)
    ]
    later = ", chosen when the lags were known" if np.isclose(level, _CHOSEN_LATER) else ""
    return (
        f"{percent(level)}, by t-tests of lags of {rows.n.max()} runs{later}, Holm over "
        f"{len(rows)}: {'; '.join(told) or 'nothing is told'}."
    )


def _order(level: float, rows: pd.DataFrame) -> str:
    """Median lags of a level."""
    end = committed.table(f"{_folder(level)}/metrics.parquet").step.max()
    words = [
        f"{cloud} "
        + ", ".join(
            f"{row.statistic} {row.lag:,.0f} ({row.after} of {row.n})" for row in own.itertuples()
        )
        for cloud, own in rows.groupby("cloud", sort=False)
    ]
    return f"{percent(level)}, to step {end:,}, {'; '.join(words)}."


def _folder(level: float) -> str:
    """That of the runs with layers, of a level."""
    folders = (committed.TRUE_LAYERS, *committed.PERMUTED)
    levels = [committed.table(f"{one}/runs.parquet").label_permutation.iloc[0] for one in folders]
    return folders[int(np.flatnonzero(np.isclose(levels, level))[0])]


def cells_more() -> str:
    """All of these cells."""
    header = ["permuted", "statistic", "cloud", "study", "ours, mean (90 %)", "n", "verdict"]
    rows = [
        [percent(row.level), row.statistic, row.cloud, f"{row.paper_low:.2f}",
         f"{row.ours:.2f} ({row.low:.2f} to {row.high:.2f})", str(row.n), row.verdict]
        for row in _cells().sort_values("level", kind="stable").itertuples()
    ]  # fmt: skip
    return markdown(header, rows)


def order_more() -> str:
    """Lags of every cloud and statistic."""
    rows = [
        [percent(row.label_permutation), row.cloud, row.statistic, f"{row.lag:,.0f}",
         f"{row.after} of {row.n}", f"{row.p_holm:.2g}"]
        for row in _lags().itertuples()
    ]  # fmt: skip
    return markdown(
        ["permuted", "cloud", "statistic", "median lag behind accuracy, steps", "runs behind",
         "p of the mean lag, Holm"], rows,
    )  # fmt: skip
