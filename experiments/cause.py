"""Topology as a cause: do longer loops, or shorter ones, bring generalisation forward or back?

Question: does a loss that makes H1 max of the embedding larger, or smaller, from the first step on
          change when a network generalises, and is it the loops or any push as large?
Command:  python -m experiments.cause [--workdir=work/cause] [--out=experiments/results/cause]
          python -m experiments.cause --from_runs   (from OUT/runs.csv, without training; seconds)
Device:   2 CPU cores, about ten minutes; it resumes where it stopped.
Expected: no expectation; the tests were written down before (experiments/results/cause/README.md).

Trains the sweep of cause.flags and the same with random edges (the control), pairs their runs by
seed and writes runs.csv; of it doses.csv, cause.csv (the contrasts), a figure and a page.
"""

import argparse
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from experiments import artefact, html_page
from experiments.artefact import Output
from experiments.evidence import Folder, Pool
from grokjax import statistics
from grokjax.report import figures, panels

FLAGS = pathlib.Path(__file__).with_suffix(".flags")
FOLDER = pathlib.Path(__file__).parent / "results" / "cause"
# Folder of a sweep → flags behind those of the file.
SWEEPS = {
    "loops": [],
    "random": ["--topology_term=random_edges", "--topology_weights=0.02,0.1"],
}
WEIGHTS = ("0.02", "0.1")
NONE = "none"
LOOPS = [f"{way} {weight}" for way in ("longer", "shorter") for weight in WEIGHTS]
RANDOM = [f"random {weight}" for weight in WEIGHTS]
EARLY = (210, 990)  # steps of the dose: memorised, not generalised
ALPHA, MARGIN = 0.05, 100  # steps that count as none
LATE = 2430  # step that a run counts as that never generalises: one checkpoint after the last

CONTRASTS = {
    "arm": "arm",
    "beside": "beside",
    "n": "pairs",
    "never": "never generalised, of both",
    "median": "median difference, steps",
    "low": "95 % from",
    "high": "to",
    "mean": "mean",
    "detectable": "found with power 0.8",
    "p": "p",
    "p_holm": "p, Holm over eight",
    "verdict": "generalisation comes",
}
DOSES = {
    "arm": "arm",
    "n": "runs",
    "generalised": "generalised",
    "generalisation_step": "median step",
    "memorisation_step": "memorised, median step",
    "early": f"H1 max, steps {EARLY[0]} to {EARLY[1]}",
    "ratio": "its ratio to none",
    "low": "95 % from",
    "high": "to",
    "at": "H1 max as it generalises",
    "largest": "largest H1 max",
}


def train(root: pathlib.Path) -> None:
    """Trains and measures what is not there yet; exits as a sweep that fails or is stopped does."""
    for name, more in SWEEPS.items():
        own = [f"--flagfile={FLAGS}", *more, f"--workdir={root / name}"]
        code = subprocess.run([sys.executable, "-m", "grokjax.sweep", *own]).returncode
        if code:
            sys.exit(code)


def arm(term: str, weight: float) -> str:
    """What a run's loss gains, in words."""
    if weight == 0:
        return NONE
    way = "random" if term == "random_edges" else "longer" if weight > 0 else "shorter"
    return f"{way} {abs(weight):g}"


def table_of_runs(pool: Pool) -> pd.DataFrame:
    """A row a run: arm, seed, steps of memorisation and generalisation (NaN: never), H1 max."""
    runs, h1 = pool.table("runs"), pool.table("persistence")
    h1 = h1[h1["cloud"] == "embedding"].set_index("run_id")[["step", "h1_max"]]
    rows = []
    for run in runs.to_dict("records"):
        own = h1.loc[run["run_id"]].set_index("step")["h1_max"]
        came = run["generalisation_step"]
        rows.append(
            {
                "arm": arm(run["topology_term"], run["topology_weight"]),
                "seed": run["seed"],
                "memorisation_step": run["memorisation_step"],
                "generalisation_step": came,
                "early": own.loc[slice(*EARLY)].mean(),
                "at": np.nan if pd.isna(came) else own.loc[came],
                "largest": own.max(),
            }
        )
    steps = ["memorisation_step", "generalisation_step"]
    return pd.DataFrame(rows).astype(dict.fromkeys(steps, float)).sort_values(["arm", "seed"])


def column(runs: pd.DataFrame, of: str, name: str) -> pd.Series:
    """Seed → a column of an arm's runs."""
    found: pd.Series = runs[runs["arm"] == of].set_index("seed")[name]
    return found


def contrast(
    runs: pd.DataFrame, one: str, other: str, name: str = "generalisation_step"
) -> dict[str, Any]:
    """An arm beside another, paired by seed; a run that never gets there counts as `LATE`."""
    pair = pd.DataFrame({"x": column(runs, other, name), "y": column(runs, one, name)})
    never = int(pair.isna().any(axis=1).sum())
    x, y = pair["x"].fillna(LATE).to_numpy(), pair["y"].fillna(LATE).to_numpy()
    gap = y - x
    lead = statistics.lead_test(x, y)
    sd = float(gap.std(ddof=1))
    return {
        "arm": one,
        "beside": other,
        "n": len(gap),
        "never": never,
        "median": lead.median,
        "low": lead.interval.low,
        "high": lead.interval.high,
        "mean": float(gap.mean()),
        "detectable": statistics.smallest_detectable_effect(len(gap), sd),
        "p": signed_rank(gap),
    }


def signed_rank(gap: np.ndarray, n_draws: int = 9999) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test over differences of pairs.

    Ties share their mean rank and differences of 0 keep theirs (Pratt 1959), so the null is drawn:
    the members of each pair change places or not, and the pairs as they are count too.
    """
    ranks = stats.rankdata(np.abs(gap)) * (gap != 0)
    signs = np.random.default_rng(0).choice([-1, 1], (n_draws, len(gap)))
    drawn, seen = np.abs(signs @ ranks), abs(np.sign(gap) @ ranks)
    return float((1 + np.count_nonzero(drawn >= seen - 1e-9)) / (1 + n_draws))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (Holm 1979, Scandinavian Journal of Statistics 6, 65-70)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty_like(p)
    found[order] = np.minimum(adjusted, 1)
    return found


def verdict(row: dict[str, Any]) -> str:
    """Earlier, later, no difference beyond the margin, or cannot tell."""
    if row["p_holm"] < ALPHA:
        return "later" if (row["median"] or row["mean"]) > 0 else "earlier"
    if row["low"] >= -MARGIN and row["high"] <= MARGIN:
        return f"no more than {MARGIN} steps apart"
    return "cannot tell"


def contrasts(runs: pd.DataFrame) -> pd.DataFrame:
    """The eight contrasts of the plan, then the random arms beside none, not corrected."""
    beside = [(one, other) for one in LOOPS for other in (NONE, f"random {one.split()[1]}")]
    rows = [contrast(runs, one, other) for one, other in beside]
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(adjusted)
        row["verdict"] = verdict(row)
    more = [contrast(runs, one, NONE) for one in RANDOM]
    rows += [row | {"p_holm": np.nan, "verdict": "(not of the plan's eight)"} for row in more]
    return pd.DataFrame(rows, columns=list(CONTRASTS))


def doses(runs: pd.DataFrame) -> pd.DataFrame:
    """A row an arm: what became of its runs, and H1 max beside none's."""
    rows = []
    for name in (NONE, *LOOPS, *RANDOM):
        own = runs[runs["arm"] == name]
        pair = pd.DataFrame({"x": column(runs, NONE, "early"), "y": column(runs, name, "early")})
        found = statistics.ratio_over_seeds(pair["x"], pair["y"])
        steps = ("generalisation_step", "memorisation_step")
        rows.append(
            {"arm": name, "n": len(own), "generalised": int(own[steps[0]].notna().sum())}
            | {step: own[step].fillna(np.inf).median() for step in steps}
            | {key: own[key].mean() for key in ("early", "at", "largest")}
            | {"ratio": found.ratio, "low": found.ratio_interval.low,
               "high": found.ratio_interval.high}
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(DOSES))


def answer(found: pd.DataFrame) -> list[str]:
    """For each arm of loops, what its two contrasts say together."""
    said = []
    for name, own in found[found["arm"].isin(LOOPS)].groupby("arm", sort=False):
        beside = dict(zip(own["beside"], own["verdict"], strict=True))
        to_none, to_random = beside.values()
        is_cause = to_none == to_random and to_none in ("earlier", "later")
        meaning = "the loops do it" if is_cause else "no effect of loops themselves is shown"
        parts = "; ".join(f"beside {other}: {text}" for other, text in beside.items())
        said.append(f"{name}: {parts}. So {meaning}.")
    return said


def figure(runs: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """H1 max of each run and when it generalises, and paired differences of each contrast."""
    arms = (NONE, *LOOPS, *RANDOM)
    colours = dict(zip(arms, reversed(panels.PALETTE), strict=True))
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, 3.1))
        left, right = drawn.subplots(1, 2, width_ratios=(1, 1.25))
        for name in arms:
            own = runs[runs["arm"] == name]
            x, y = own["early"], own["generalisation_step"].fillna(LATE)
            fill = "none" if name in RANDOM else colours[name]
            left.plot(x, y, "o", color=colours[name], mfc=fill, ms=2.5, alpha=0.7, label=name)
            over = 4 if name == NONE else 3
            left.plot(x.mean(), y.median(), "D", mec="black", mfc=colours[name], ms=6, zorder=over)
        middle = column(runs, NONE, "generalisation_step").fillna(LATE).median()
        left.axhline(middle, color="0.6", linewidth=0.6, zorder=0)
        low, high = left.get_ylim()
        first, last = EARLY
        left.set(
            xlabel=f"H1 max of the embedding, mean of steps {first} to {last}",
            ylabel="step at which the run generalises",
            ylim=(low, high + 0.35 * (high - low)),
        )
        where = left.get_yaxis_transform()
        text = {"fontsize": 6, "color": "0.4", "ha": "right", "va": "bottom", "transform": where}
        left.text(0.99, middle, "median without a push", **text)
        left.legend(loc="upper left", ncols=2)
        rows = found.to_dict("records")
        jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(runs))
        for place, row in enumerate(rows):
            x, y = (column(runs, row[k], "generalisation_step") for k in ("beside", "arm"))
            gap, colour = (y - x).dropna(), colours[row["arm"]]
            right.plot(gap, place + jitter[: len(gap)], ".", color=colour, markersize=3, alpha=0.6)
            right.plot([row["low"], row["high"]], [place] * 2, color="black", linewidth=1.5)
            right.plot(row["median"], place, "|", color="black", markersize=10)
        right.axvline(0, color="0.6", linewidth=0.6)
        labels = [f"{row['arm']}\nbeside {row['beside']}" for row in rows]
        right.set_yticks(range(len(rows)), labels, fontsize=6)
        right.invert_yaxis()
        right.set_xlabel("generalises so many steps later, paired by seed")
    return drawn


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, compares and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("work/cause"))
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER)
    parser.add_argument("--from_runs", action="store_true", help="train nothing: from OUT/runs.csv")
    asked = parser.parse_args(argv)
    if asked.from_runs:
        runs = pd.read_csv(asked.out / "runs.csv")
    else:
        train(asked.workdir)
        runs = table_of_runs(Pool([Folder(asked.workdir / name) for name in SWEEPS]))
    write(runs, asked.out)


def write(runs: pd.DataFrame, out: pathlib.Path) -> None:
    """Tables, figure and page of runs that are trained."""
    dose, found = doses(runs), contrasts(runs)
    said = answer(found)
    print(dose.to_string(), found.to_string(), *said, sep="\n")
    body = [html_page.paragraph(text) for text in said]
    body += [html_page.table(found, CONTRASTS), html_page.table(dose, DOSES)]
    page = html_page.document("Topology as a cause", body)
    artefact.save("runs", out, Output(numbers=runs))
    artefact.save("doses", out, Output(numbers=dose))
    drawn = figure(runs, found)
    artefact.save("cause", out, Output(numbers=found, figure=drawn, page=page))


if __name__ == "__main__":
    main()
