"""Fifty seeds of a small network: which claims on topology hold where there is power to tell?

Question: does H1 rise as networks generalise, more than where they only memorise, behind accuracy,
          with the signs of Table 1, in one dominant loop, and beyond what a spectrum implies?
Command:  python -m grokjax.sweep --flagfile=experiments/fifty_seeds.flags --workdir=W/true
          python -m grokjax.sweep --flagfile=experiments/fifty_seeds.flags --workdir=W/permuted \
              --label_permutations=1.0 --diagnostics=persistence
          python -m experiments.fifty_seeds --workdirs=W/true,W/permuted --out=FOLDER
Device:   the sweeps two CPU cores, 20 to 40 minutes each; the last reads tables only, a minute.
Expected: no expectation; claims, tests and correction were written down before
          (experiments/results/fifty_seeds/README.md). FOLDER/fifty_seeds.csv, .html and .svg.

A claim has one value a run, or a yes or no. Values are asked by Student's t whether their mean is
0, answers by the exact binomial test whether they come at the rate of the null. All p-values
together are corrected by Holm.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import optimize, stats

from experiments import artefact, cause, correlations, evidence, html_page, leads
from experiments.artefact import Output
from experiments.claims import Floats
from experiments.evidence import Pool
from grokjax import statistics
from grokjax.report import figures, panels, summaries
from grokjax.settings import labels

CLOUD = "embedding"
LEVEL, POWER = 0.05, 0.8
# The longest bar is called dominant where it is this many times the second. No checkpoint of the
# fifteen runs of results/ before generalisation comes to it (largest: 1.22), and it was chosen when
# their ratios were known.
DOMINANT = 1.3
NULLS = {"frequency_power": "same power a frequency", "covariance": "same singular values"}
HOLDS, OTHER_WAY, CANNOT_TELL = "holds", "the other way round", "cannot tell"
# Of a claim that no run says anything of.
NOTHING = dict.fromkeys(("estimate", "low", "high", "detectable"), np.nan) | {"p": 1.0}
HEADINGS = {
    "claim": "claim",
    "n": "runs",
    "estimate": "estimate",
    "low": "95 % from",
    "high": "to",
    "null": "without it",
    "p": "p",
    "p_holm": "p, Holm",
    "detectable": "found with power 0.8",
    "verdict": "verdict",
}
TEXT = (
    "A row a claim; runs are those that generalise. Log ratios are natural logarithms of after "
    "over before: before is from memorisation up to generalisation, after the last fifth of "
    "training. Found with power 0.8: the smallest mean (of values), or the share nearest to that "
    "of the null (of answers), which a test at the level of the hardest step of Holm's correction "
    "would find in four of five such experiments."
)


# --------------------------------------------------------------------------- tests


def of_values(values: Floats, sign: int, family: int) -> dict[str, Any]:
    """A row of (n,) values, one a run: is their mean 0? NaN values are left out."""
    kept = values[np.isfinite(values)]
    if len(kept) < 2:
        return NOTHING | {"n": len(kept), "null": 0.0, "sign": sign}
    n, mean, spread = len(kept), float(kept.mean()), float(kept.std(ddof=1))
    half = float(stats.t.isf(LEVEL / 2, n - 1)) * spread / n**0.5
    found = statistics.smallest_detectable_effect(n, spread, POWER, LEVEL / family)
    p = float(stats.ttest_1samp(kept, 0.0).pvalue)
    return {"n": n, "estimate": mean, "low": mean - half, "high": mean + half, "null": 0.0, "p": p,
            "detectable": sign * found, "sign": sign}  # fmt: skip


def of_answers(answers: Floats, rate: float, sign: int, family: int) -> dict[str, Any]:
    """A row of (n,) ones and zeros, one a run: do ones come at a rate? NaN are left out."""
    kept = answers[np.isfinite(answers)]
    n, came = len(kept), int(kept.sum())
    if not n:
        return NOTHING | {"n": n, "null": rate, "sign": sign}
    test = stats.binomtest(came, n, rate)
    interval = test.proportion_ci(1 - LEVEL)
    return {"n": n, "estimate": came / n, "low": interval.low, "high": interval.high, "null": rate,
            "p": float(test.pvalue), "detectable": detectable_share(n, rate, sign, LEVEL / family),
            "sign": sign}  # fmt: skip


def detectable_share(n: int, rate: float, sign: int, level: float) -> float:
    """The share nearest to a rate that the exact binomial test of n finds with `POWER`.

    NaN where n are too few for the test to find anything on that side.
    """
    counts = np.arange(n + 1)
    beyond = counts[sign * (counts - rate * n) > 0]
    rejected = [c for c in beyond if stats.binomtest(int(c), n, rate).pvalue <= level]
    if not rejected:
        return float("nan")
    edge = min(rejected) if sign > 0 else max(rejected)

    def shortfall(share: float) -> float:
        there = stats.binom.sf(edge - 1, n, share) if sign > 0 else stats.binom.cdf(edge, n, share)
        return float(there) - POWER

    return float(optimize.brentq(shortfall, rate, 1.0 if sign > 0 else 0.0))


# --------------------------------------------------------------------------- values of runs


def log_ratios(pool: Pool, column: str) -> pd.DataFrame:
    """Seed → log of after over before, a column a level of permuted labels (0.0, 1.0)."""
    runs = pool.finished()
    own = summaries.windows(runs, pool.table("persistence"), column, CLOUD)
    frame = runs.merge(own, on="run_id")
    came = frame["generalisation_step"].notna() | (frame["label_permutation"] > 0)
    frame = frame[came].assign(ratio=lambda one: np.log(one.after / one.before))
    return frame.pivot(index="seed", columns="label_permutation", values="ratio")


def generalised(pool: Pool) -> pd.DataFrame:
    """A row a checkpoint of the runs that generalise: persistence, accuracy, the run's steps."""
    runs = pool.finished()
    runs = runs[(runs["label_permutation"] == 0) & runs["generalisation_step"].notna()]
    steps = runs[["run_id", "seed", "memorisation_step", "generalisation_step"]]
    own = pool.table("persistence")
    metrics = pool.table("metrics")[["run_id", "step", "test_accuracy"]]
    rows = own[own["cloud"] == CLOUD].merge(metrics, on=["run_id", "step"])
    return rows.merge(steps, on="run_id").sort_values(["seed", "step"], ignore_index=True)


def table1() -> dict[str, float]:
    """Statistic → its ρ with test accuracy in Table 1, of the embedding with true labels."""
    cells = correlations.reference("table1")
    own = cells[(cells["cloud"] == CLOUD) & (cells["label_permutation"] == 0)]
    rho = own.set_index("statistic")["rho_mean"]
    return {column: float(rho[labels.COLUMNS[column]]) for column in leads.STATISTICS}


def rhos(rows: pd.DataFrame, column: str) -> Floats:
    """Spearman's ρ of a statistic with test accuracy, a run of `generalised`."""
    return np.array(
        [stats.spearmanr(own[column], own["test_accuracy"])[0] for _, own in rows.groupby("seed")]
    )


def lags(rows: pd.DataFrame, column: str) -> Floats:
    """Steps by which a statistic goes half of its way after accuracy does; NaN without a step."""
    return np.array(
        [
            statistics.half_rise_step(own["step"], own[column])
            - statistics.half_rise_step(own["step"], own["test_accuracy"])
            for _, own in rows.groupby("seed")
        ]
    )


def onset_lags(rows: pd.DataFrame, column: str) -> Floats:
    """Steps by which a statistic leaves its level for good after accuracy does."""
    return np.array([leads.onset_lag(own, column) for _, own in rows.groupby("seed")])


def later(steps: Floats) -> Floats:
    """Whether lags are positive; NaN where they are 0 or not known."""
    return np.where(np.isfinite(steps) & (steps != 0), (steps > 0) * 1.0, np.nan)


def dominance(rows: pd.DataFrame) -> Floats:
    """Whether the longest bar is dominant at the median checkpoint after generalisation."""
    after = rows[rows["step"] >= rows["generalisation_step"]]
    medians = (after["h1_max"] / after["h1_second"]).groupby(after["seed"]).median()
    return (medians >= DOMINANT).to_numpy(np.float64)


def beside_chance(pool: Pool, statistic: str, null: str) -> pd.DataFrame:
    """A row a run that generalises: its last checkpoint beside surrogates."""
    rows = pool.table("surrogates")
    own = rows[(rows["statistic"] == statistic) & (rows["null"] == null) & (rows["cloud"] == CLOUD)]
    ids = generalised(pool)["run_id"].unique()
    return own[own["run_id"].isin(ids) & (own["step"] == own["step"].max())]


# --------------------------------------------------------------------------- the family


def claims_of(pool: Pool) -> list[tuple[str, Floats, float | None, int]]:
    """Claim, value or answer of each run, the null's rate (None: of values), the claim's sign."""
    if set(pool.table("runs")["label_permutation"]) != {0.0, 1.0}:
        raise ValueError("runs with true labels and with all labels permuted are needed, no others")
    rows, found = generalised(pool), []
    words = labels.COLUMNS
    for column in ("h1_max", "h1_total"):
        ratios = log_ratios(pool, column)
        found.append((f"{words[column]} rises: log ratio", ratios[0.0].to_numpy(), None, 1))
        pairs = (ratios[0.0] - ratios[1.0]).to_numpy()
        beside = "rises more than where all labels are permuted: log ratio, by seed"
        found.append((f"{words[column]} {beside}", pairs, None, 1))
    for column, rho in table1().items():
        what = f"ρ of {words[column]} with test accuracy is {'above' if rho > 0 else 'below'} 0"
        found.append((what, rhos(rows, column), None, 1 if rho > 0 else -1))
    for column in leads.STATISTICS:
        what = f"{words[column]} is half done after test accuracy: share of runs"
        found.append((what, later(lags(rows, column)), 0.5, 1))
    what = "H1 max leaves its level for good after test accuracy: share of runs"
    found.append((what, later(onset_lags(rows, "h1_max")), 0.5, 1))
    what = f"the longest bar is {DOMINANT} times the second or more: share of runs"
    found.append((what, dominance(rows), 0.5, 1))
    for column in ("h1_max", "h1_total"):
        for null, text in NULLS.items():
            own = beside_chance(pool, column, null)
            over = np.log(own["value"] / own["mean"]).to_numpy(np.float64)
            what = f"{words[column]} is above that of clouds of the {text}: log ratio"
            found.append((what, over, None, 1))
    return found


def table(pool: Pool) -> pd.DataFrame:
    """A row a claim, with the columns of `HEADINGS` and ``sign``, the claim's."""
    asked = claims_of(pool)
    rows = []
    for claim, values, rate, sign in asked:
        if rate is None:
            own = of_values(values, sign, len(asked))
        else:
            own = of_answers(values, rate, sign, len(asked))
        rows.append({"claim": claim, **own})
    frame = pd.DataFrame(rows)
    frame["p_holm"] = cause.holm(frame["p"].tolist())
    frame["verdict"] = [verdict(row) for row in frame.to_dict("records")]
    return frame[[*HEADINGS, "sign"]]


def verdict(row: Mapping[str, Any]) -> str:
    """Whether a claim holds, by its corrected p-value and the side of the null it is on."""
    if row["p_holm"] >= LEVEL:
        return CANNOT_TELL
    return HOLDS if row["sign"] * (row["estimate"] - row["null"]) > 0 else OTHER_WAY


# --------------------------------------------------------------------------- figure and page


def figure(pool: Pool) -> Figure:
    """H1 max before and after beside permuted labels, ρ beside Table 1's, and lags of each run."""
    rows = generalised(pool)
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, 2.7))
        left, middle, right = drawn.subplots(1, 3, width_ratios=(1, 1, 1))
        _draw_ratios(left, pool)
        for place, (column, rho) in enumerate(table1().items()):
            _strip(middle, place, rhos(rows, column), "#0072B2")
            known = lags(rows, column)
            _strip(right, place, known[np.isfinite(known)], "#0072B2")
            middle.plot([place - 0.35, place + 0.35], [rho, rho], color="#D55E00", lw=1.5,
                        label="Table 1" if not place else None)  # fmt: skip
        names = [labels.COLUMNS[column].replace(" ", "\n") for column in leads.STATISTICS]
        for axes in (middle, right):
            axes.axhline(0, color="0.6", lw=0.6, zorder=0)
            axes.set_xticks(range(len(names)), names)
        middle.set(ylabel="ρ with test accuracy", ylim=(-1.05, 1.05))
        middle.legend(loc="lower right")
        right.set_ylabel("steps behind test accuracy,\nhalf of the way")
    return drawn


def _draw_ratios(axes: Any, pool: Pool) -> None:
    names, place = [], 0
    for column in ("h1_max", "h1_total"):
        ratios = np.exp(log_ratios(pool, column))
        for level, colour, word in ((0.0, "#0072B2", "true"), (1.0, "0.45", "permuted")):
            _strip(axes, place, ratios[level].dropna().to_numpy(), colour)
            names.append(f"{labels.COLUMNS[column]}\n{word}")
            place += 1
    axes.axhline(1, color="0.6", lw=0.6, zorder=0)
    axes.set_xticks(range(place), names, fontsize=6)
    axes.set(ylabel="after ÷ before", ylim=(0, None))


def _strip(axes: Any, place: int, values: Floats, colour: str) -> None:
    shift = np.random.default_rng(place).uniform(-0.22, 0.22, len(values))
    axes.plot(place + shift, values, ".", color=colour, ms=3, alpha=0.6)
    axes.plot([place - 0.3, place + 0.3], [np.median(values)] * 2, color="black", lw=1.2)


def output(pool: Pool) -> Output:
    """The table, its page and the figure."""
    frame = table(pool)
    body = [html_page.paragraph(TEXT), html_page.table(frame, HEADINGS)]
    page = html_page.document("Fifty seeds of a small network", body)
    return Output(numbers=frame, figure=figure(pool), page=page)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table, its page and the figure."""
    found = evidence.parser(__doc__).parse_args(argv)
    artefact.save("fifty_seeds", found.out, output(evidence.pool(found.workdirs)))


if __name__ == "__main__":
    main()
