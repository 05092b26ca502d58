"""The answers so far, from committed tables alone: experiments/results/README.md and its figure.

Question: what of the study holds, what does not, what cannot be told and what would it take?
Command: python -m experiments.answers; a few seconds. Nothing is trained or measured: each number
is read from a table beside the README of its question, whose own command makes that table again.
"""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import html_page
from grokjax.report import figures, panels

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
NAMES = {"p113": "transformer, p = 113", "p197": "transformer, p = 197", "mlp197": "MLP, p = 197"}
# A coordinate is that of a wave; see grokjax/diagnostics/coordinates.py.
FOLLOWS, IS_A_MAP = 0.95, 0.5


def signed(text: str) -> str:
    """Text with a minus sign before numbers where it had a hyphen."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def table(path: str) -> pd.DataFrame:
    """A committed table."""
    file = RESULTS / path
    return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A question with its answer.

    Attributes:
        question: as a researcher would ask it.
        words: makes the answer, with n and intervals.
        folder: of results/, where table, method, command and limits are.
    """

    question: str
    words: Callable[[], str]
    folder: str


# --------------------------------------------------------------------------- fifteen runs


def trained() -> pd.DataFrame:
    """A row a run of the fifteen and a null: H1 before, after, and among surrogates."""
    rows = table("surrogates/surrogates.parquet")
    rows = rows.assign(after=rows.step > 0)
    return rows.set_index(["runs", "seed", "null", "statistic", "after"]).sort_index()


def values(statistic: str, after: bool) -> pd.Series:
    """A statistic of each of the fifteen embeddings."""
    rows = trained().xs((statistic, after), level=("statistic", "after"))
    return rows["value"].groupby(["runs", "seed"]).first()


def above(statistic: str, null: str) -> pd.Series:
    """Of how many runs of each kind a statistic is above 95 % of the surrogates."""
    rows = trained().xs((null, statistic, True), level=("null", "statistic", "after"))
    return (rows["percentile"] > 95).groupby("runs").sum()


def rises() -> str:
    """H1 max and total over generalisation."""
    rows = table("verdicts/comparison.csv").query("n > 0")
    parts = []
    for model, name in (("transformer", "transformers"), ("mlp", "MLPs")):
        for column, words in (("h1_max", "H1 max"), ("h1_total", "H1 total")):
            own = rows[rows.what.str.startswith(f"{column} ({model}, p = 197")]
            before, after = (
                own[own.what.str.contains(when)].iloc[0] for when in ("memorisation", "generalised")
            )
            interval = f"{after.low:.2g} to {after.high:.2g}"
            parts.append(f"{words} of {name} {before.ours:.2g} → {after.ours:.2g} ({interval})")
    h1 = values("h1_max", True) > values("h1_max", False)
    return (
        f"H1 max of the embedding rises in {h1.sum()} of {len(h1)} runs at the study's size. "
        f"At p = 197, five seeds each, means (90 %): {'; '.join(parts)}."
    )


def agrees() -> str:
    """How many of the study's numbers are the same."""
    rows = table("verdicts/comparison.csv")
    counts = rows.verdict.value_counts()
    compared = len(rows) - counts["not run"]
    rho = rows[(rows.n > 0) & rows.what.str.startswith("ρ")]
    parts = [
        f"{row.what.split(',')[0].removeprefix('ρ of ')} {row.paper_low:.2f}, here {row.ours:.2f} "
        f"({row.low:.2f} to {row.high:.2f})"
        for row in rho.itertuples()
    ]
    return (
        f"Of {len(rows)} numbers {compared} have runs beside them: {counts.get('agree', 0)} agree, "
        f"{counts.get('differ', 0)} differ, of {counts.get('cannot tell', 0)} nothing can be said. "
        f"Spearman's ρ with test accuracy, transformer, p = 197: {'; '.join(parts)}."
    )


def one_loop() -> str:
    """Longest over second bar."""
    ratio = values("h1_max", True) / values("h1_second", True)
    of = {name: ratio[name] for name in NAMES}
    parts = [f"{own.min():.2f} to {own.max():.2f} ({NAMES[name]})" for name, own in of.items()]
    return (
        f"No. The longest bar is less than 1.3 times the second in {(ratio < 1.3).sum()} of "
        f"{len(ratio)} runs: {', '.join(parts)}."
    )


def by_chance() -> str:
    """What surrogates have as well."""
    singular, power = (above("h1_max", null) for null in ("covariance", "frequency_power"))
    total = {null: above("h1_total", null) for null in ("covariance", "frequency_power")}
    n = 3 * 5
    return (
        f"Partly. Random clouds of the same singular values, without any order of the residues, "
        f"have as long a loop as {n - singular.sum()} of {n} runs; of the same power at each "
        f"frequency, as {n - power.sum()} of {n}. MLPs exceed the latter ({power['mlp197']} of 5) "
        f"more often than transformers ({power['p113'] + power['p197']} of 10). H1 *total* exceeds "
        f"them in {total['covariance'].sum()} and {total['frequency_power'].sum()} of {n}: "
        "what is beyond the spectrum is many loops, not the longest one."
    )


def whose_wave() -> str:
    """Which longest bars are one wave."""
    parts, found, n = [], 0, 0
    for name, words in NAMES.items():
        first = table(f"waves/{name}.csv").query("place == 0")
        follows = (first.correlation >= FOLLOWS) & (first.residual < IS_A_MAP)
        parts.append(f"{follows.sum()} of {len(follows)} ({words})")
        found, n = found + follows.sum(), n + len(follows)
    return (
        f"In {found} of {n} runs the circular coordinate of the longest bar is one wave k·x/p "
        f"(correlation at least {FOLLOWS}): {', '.join(parts)}. Of three or more planted waves of "
        "equal strength p points do not show all, so the others are not known to be something else."
    )


def holes() -> str:
    """Whether Betti numbers are decided."""
    rows = pd.concat([table(f"holes/{name}.csv") for name in NAMES])
    decided = rows["stretches"].notna().sum()
    waves, planes = (int(rows[c].median()) for c in ("waves", "planes with a circle"))
    return (
        f"Betti numbers are decided in {decided} of {len(rows)} trained embeddings. A median of "
        f"{waves} waves carries them and {planes} planes hold a circle each: a torus of so many "
        "dimensions cannot be seen in p points, as planted ones show."
    )


# --------------------------------------------------------------------------- time and cause


def leads() -> str:
    """What comes first."""
    rows = table("leads/leads.csv")
    accuracy = rows[rows.reference == "test accuracy"]
    loss = rows[(rows.reference == "−log test loss") & rows.setting.str.startswith("MLP")]
    h0 = loss[loss.statistic.str.startswith("H0")]
    return (
        f"Accuracy. In {accuracy.after.sum()} of {accuracy.n.sum()} pairs of a run and a statistic "
        f"that has a step, the statistic comes later, by a median of {accuracy.lag.min():,.0f} to "
        f"{accuracy.lag.max():,.0f} steps. Against −log test loss H0 of the MLP comes first "
        f"({h0.before.sum()} of {h0.n.sum()}): what leads depends on what it is held against. "
        "Five seeds allow no sign test below 0.06."
    )


def predicts() -> str:
    """H1 against cheaper quantities."""
    rows = table("head_to_head/head_to_head.csv").set_index(["scheme", "quantity"])
    h1, excluded, loss = (rows.loc["seeds", q] for q in ("H1 max", "excluded loss", "test loss"))
    new = rows.loc[("settings", "H1 max")]
    step = rows.loc[("seeds", "step"), "alone"]
    runs = table("head_to_head/checkpoints.csv")
    return (
        f"No. Over {runs.seed.nunique()} seeds of four small settings the steps that remain are "
        f"predicted from the step alone with an error of {step:.0f}; H1 max gains {h1.gain:.0f} "
        f"({h1.low:.0f} to {h1.high:.0f}), excluded loss {excluded.gain:.0f} ("
        f"{excluded.low:.0f} to {excluded.high:.0f}), test loss {loss.gain:.0f}. For settings not "
        f"seen H1 max makes it worse ({new.gain:.0f}, {new.low:.0f} to {new.high:.0f})."
    )


def causes() -> str:
    """Loops pushed up and down."""
    rows = table("cause/cause.csv").set_index(["arm", "beside"])
    doses = table("cause/doses.csv").set_index("arm")
    longer, shorter = rows.loc[("longer 0.02", "none")], rows.loc[("shorter 0.02", "none")]
    strong, edges = rows.loc[("longer 0.1", "none")], rows.loc[("random 0.1", "none")]
    ratios = [doses.loc[arm, "ratio"] for arm in ("longer 0.02", "shorter 0.02")]
    return (
        f"No effect found. Loops made {ratios[0]:.1f} and {ratios[1]:.2f} times as long early in "
        f"training move generalisation by {longer['median']:.0f} ({longer.low:.0f} to "
        f"{longer.high:.0f}) and {shorter['median']:.0f} ({shorter.low:.0f} to {shorter.high:.0f}) "
        f"steps, {longer.n} pairs each, planned before; {longer.detectable:.0f} steps would be "
        f"found with power 0.8. A push five times as strong delays by {strong['median']:.0f} steps,"
        f" and so does one on random edges ({edges['median']:.0f})."
    )


def carries() -> str:
    """What is lost without the strongest wave."""
    rows = table("ablation/ablation.csv").query("intervention == 'removed' & subspace == 'wave1'")
    parts = []
    for row in rows[rows.setting.str.contains("mean over|p = 59")].iloc[::-1].itertuples():
        prime = row.setting.split(",")[1].strip()
        parts.append(
            f"{prime}: accuracy {row.accuracy:.2f} without it, {row.random_accuracy:.2f} without "
            f"random planes of its power (difference {row.accuracy_difference:.3f}, "
            f"{row.accuracy_low:.3f} to {row.accuracy_high:.3f}, {row.n} seeds)"
        )
    return (
        "Less than random planes of the same power, which lie across several waves. "
        f"{'; '.join(parts)}."
    )


# --------------------------------------------------------------------------- controls, method


def without_a_group() -> str:
    """Tasks without a cyclic group."""
    rows = table("controls/controls.csv")
    rows = rows[(rows.statistic == "h1_max") & (rows.cloud == "embedding")].set_index("setting")
    parts = []
    for name in ("average", "max", "z2^5"):
        row = next(row for label, row in rows.iterrows() if name in label)
        parts.append(f"{name} {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})")
    return (
        f"It can. H1 max after over before, three small runs each: {', '.join(parts)}. So a rise "
        "is no sign of a cyclic group by itself. At the study's size this is not run yet."
    )


def tests_hold() -> str:
    """Levels of the tests."""
    rows = table("rejection_rates/rejection_rates.csv")
    rows["rate"] = rows.rejected / rows.n_sweeps * 100
    rate = rows.set_index(["test", "scenario", "n_seeds"]).rate
    shift = [rate["surrogates: shift", "unrelated, middle half", n] for n in (5, 20)]
    event = [rate["event time", "unrelated, middle half", 5], rate["event time", "together", 5]]
    exchange = [rate["exchange", "unrelated, middle half", 5], rate["exchange", "together", 5]]
    return (
        f"Surrogates pooled over seeds do not: of unrelated curves that both step in the middle "
        f"half of training they call {shift[0]:.0f} % significant with five seeds and "
        f"{shift[1]:.0f} % with twenty (shift). The event-time test keeps its level "
        f"({event[0]:.0f} %) and finds {event[1]:.0f} % of real pairs with five seeds, exchange "
        f"{exchange[1]:.0f} % "
        f"(level {exchange[0]:.0f} %). {rows.n_sweeps.max()} simulated sweeps a cell."
    )


ANSWERS = (
    Answer("Does H1 rise when these networks generalise?", rises, "verdicts"),
    Answer("Are the study's numbers found again?", agrees, "verdicts"),
    Answer("Is there one dominant loop?", one_loop, "surrogates"),
    Answer("Would clouds with the same spectrum have it by chance?", by_chance, "surrogates"),
    Answer("Is the loop that of the residues modulo p?", whose_wave, "waves"),
    Answer("Circle or torus?", holes, "holes"),
    Answer("Which comes first, accuracy or topology?", leads, "leads"),
    Answer("Does H1 foretell generalisation?", predicts, "head_to_head"),
    Answer("Do loops cause generalisation?", causes, "cause"),
    Answer("What does the network lose without its strongest wave?", carries, "ablation"),
    Answer("Does H1 rise in tasks without a cyclic group?", without_a_group, "controls"),
    Answer("Which significance tests keep their level of 5 %?", tests_hold, "rejection_rates"),
)

# With places for what is counted: {open_numbers}, {not_run} and {all_numbers}.
OPEN = pathlib.Path(__file__).with_name("open_questions.md")


def not_told() -> str:
    """A table of the numbers that cannot be told, with the seeds a verdict would take."""
    rows = table("verdicts/comparison.csv").query("verdict == 'cannot tell'")
    study = [
        " to ".join(dict.fromkeys([html_page.number(low), html_page.number(high)]))
        for low, high in zip(rows.paper_low, rows.paper_high, strict=True)
    ]
    of = html_page.number
    ours = [f"{of(r.ours)} ({of(r.low)} to {of(r.high)})" for r in rows.itertuples()]
    needed = [f"{n:,.0f}" if np.isfinite(n) else "no number of seeds" for n in rows.seeds_needed]
    lines = ["| number | study | ours (90 %) | seeds that a verdict takes |", "|---|---|---|---|"]
    cells = zip(rows.what, study, ours, needed, strict=True)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)])


def page() -> str:
    """The page in Markdown."""
    rows = table("verdicts/comparison.csv")
    lines = [
        "# Answers so far\n",
        "Made by `python -m experiments.answers` from the tables in the folders beside this",
        "file, in a few seconds; each folder's README has the method, the command that makes its",
        "table, what it took and what it does not say. Networks at the study's size are fifteen:",
        "transformers at p = 113 and 197, MLPs at p = 197, five seeds each, α = 0.3.\n",
        "![H1 max of fifteen trained embeddings beside random clouds of the same singular values "
        "and of the same power at each frequency](answers.svg)\n",
        "| question | answer | evidence |",
        "|---|---|---|",
        *(f"| {a.question} | {a.words()} | [{a.folder}]({a.folder}/README.md) |" for a in ANSWERS),
    ]
    text = OPEN.read_text().format(
        open_numbers=not_told(),
        not_run=(rows.verdict == "not run").sum(),
        all_numbers=len(rows),
    )
    also = (
        "\n## Also here\n\n[Published recipes](recipes/README.md) run again, [precision]"
        "(precision/README.md), [one run at the paper's size](paper_p113/README.md), [the study at "
        "small scale](paper_small/README.md), [the quick sweep](quick/README.md), [benchmarks]"
        "(benchmarks/README.md).\n"
    )
    return signed("\n".join(lines) + "\n\n" + text + also)


def figure() -> Figure:
    """H1 max of the fifteen embeddings, before and after, beside two nulls."""
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, 2.4), layout="constrained")
        axes: Axes = drawn.subplots()
        before, after = values("h1_max", False), values("h1_max", True)
        at = np.concatenate([i * 6 + np.arange(5.0) for i in range(len(NAMES))])
        order = [(name, seed) for name in NAMES for seed in range(46, 51)]
        nulls = {"covariance": ("#E69F00", -0.18), "frequency_power": ("#0072B2", 0.18)}
        words = {
            "covariance": "random, same singular values: mean ± 2 SD",
            "frequency_power": "random, same power at each frequency: mean ± 2 SD",
        }
        for null, (colour, shift) in nulls.items():
            rows = trained().xs((null, "h1_max", True), level=("null", "statistic", "after"))
            rows = rows.loc[order]
            axes.errorbar(
                at + shift, rows["mean"], 2 * rows["sd"], fmt="none", ecolor=colour, lw=4,
                alpha=0.6, label=words[null],
            )  # fmt: skip
        axes.plot(at, after[order], "o", color="black", ms=4, label="after generalising")
        axes.plot(at, before[order], "o", mfc="none", color="0.4", ms=4, label="before training")
        axes.set_xticks(at, [str(seed) for _, seed in order])
        for i, name in enumerate(NAMES.values()):
            axes.text(i * 6 + 2, 1.02, name, transform=axes.get_xaxis_transform(), ha="center")
        axes.set(ylabel="H1 max of the embedding", xlabel="seed", ylim=(0, None))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, frameon=False)
    return drawn


def main() -> None:
    """Writes the page and its figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    (out / "README.md").write_text(page())
    figures.save(figure(), out / "answers.svg")
    print(out / "README.md")


if __name__ == "__main__":
    main()
