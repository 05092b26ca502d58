"""The study's numbers, asked of fifteen runs at its size: the answers' words and their sections.

Every number is computed here from the tables that ``experiments.committed`` reads. A function makes
the answer to one question: its first paragraph stands in the table of answers, the others in the
question's section, before the table that the function with ``_more`` behind its name makes.
"""

import numpy as np
import pandas as pd
from scipy import stats

from experiments import committed
from experiments import questions_mlps as mlps
from experiments.committed import NAMES, each, markdown, mean_interval, span
from experiments.verdicts import NOT_RUN


def _changes(column: str, digits: str) -> tuple[pd.DataFrame, str]:
    """Windows of a statistic, and the change of each kind of runs in words."""
    found = committed.windows(column)
    words = {}
    for name in NAMES:
        own = found.loc[name, "change"]
        mean, low, high = (f"{x:{digits}}" for x in mean_interval(own))
        words[name] = f"{mean} ({low} to {high}), up in {(own > 0).sum()} of {len(own)}"
    return found, each(words)


def h1_max_rises() -> str:
    """H1 max over generalisation."""
    found, words = _changes("h1_max", ".2f")
    verdict = "Yes, in" if (found.change > 0).all() else "In"
    return (
        f"{verdict} {(found.change > 0).sum()} of {len(found)} runs. Mean change of a run, five "
        f"runs each (95 %): {words}.\n\n{_at_fewer_pairs()}"
    )


def _at_fewer_pairs() -> str:
    """H1 max of the MLPs at α = 0.2, of those that generalise and of those that do not."""
    runs = committed.table(f"{committed.TABLE2}/runs.parquet")
    came = runs.seed[runs.generalisation_step.notna()]
    own = committed.windows_of(committed.TABLE2, "h1_max").loc[came]
    rows = committed.table(f"{committed.TABLE2}/persistence.parquet")
    rows = rows[rows.cloud == "embedding"].merge(runs, on="run_id")
    rows = rows[~rows.seed.isin(came)]
    fifth = rows.step.max() // 5
    memorised = rows.step >= rows.memorisation_step
    early = rows[memorised & (rows.step <= fifth)].h1_max.mean()
    late = rows[rows.step >= rows.step.max() - fifth].h1_max.mean()
    return (
        f"Of {len(runs)} MLPs at α = 0.2 ({rows.step.max():,} steps) {len(own)} generalise, up in "
        f"{(own.after > own.before).sum()} of them, from {own.before.mean():.3f} to "
        f"{own.after.mean():.3f}; of {rows.run_id.nunique()} that does not it is {early:.3f} in "
        f"the first fifth and {late:.3f} in the last."
    )


def h1_total_rises() -> str:
    """H1 total over generalisation."""
    found, words = _changes("h1_total", ".0f")
    told = [kind for name, kind in NAMES.items() if mean_interval(found.loc[name, "change"])[1] > 0]
    rho = spearman("h1_total")["mlp197"]
    rows = mlps.cells()
    (cell,) = rows[(rows.statistic == "H1 total") & (rows.cloud == "embedding")].itertuples()
    return (
        f"It is told of {' and '.join(told) or 'none'}. Mean change of a run, five runs each "
        f"(95 %): {words}.\n\n"
        f"For transformers at p = 197, where the study states it, {_later_rise()}. ρ of it with "
        f"test accuracy is {span(rho)} in the five MLPs at α = 0.3, where Figure 4 has it rise; "
        f"at α = 0.2, where Table 2 has {cell.paper_low:.2f}, it is {cell.ours:.2f} "
        f"({cell.low:.2f} to {cell.high:.2f}, 90 %)."
    )


def _later_rise() -> str:
    """Of H1 total at p = 197, in the runs to the study's end and in those of version 0.1."""
    longer = committed.windows_of(committed.TRUE_LONGER, "h1_total")
    told = []
    for change in (longer.after - longer.before, committed.windows("h1_total").change.loc["p197"]):
        mean, low, high = mean_interval(change)
        shown = "shown" if low > 0 else "not shown"
        told.append(
            f"{shown} ({mean:.0f}, {low:.0f} to {high:.0f}; up in {(change > 0).sum()} of 5)"
        )
    return (
        f"it is {told[0]} in runs to step 60,000, and {told[1]} in version 0.1's of the same "
        "seeds, on another processor and to step 45,000"
    )


def rises_more() -> str:
    """Each kind of runs before and after."""
    rows = []
    for column, words, digits in (("h1_max", "H1 max", ".3f"), ("h1_total", "H1 total", ".1f")):
        found = committed.windows(column)
        for name, kind in NAMES.items():
            own = found.loc[name]
            runs = [
                f"{b:{digits}} → {a:{digits}}" for b, a in zip(own.before, own.after, strict=True)
            ]
            rows.append([words, kind, *runs])
    header = ["window means", "runs", *(f"seed {seed}" for seed in range(46, 51))]
    return (
        f"{markdown(header, rows)}\n\nIntervals are Student's t over five runs, and with five a "
        "skewed spread can fool them; the sign of all five has p = 0.06 by itself. Of the family "
        "of tests in [discoveries.csv](verdicts/discoveries.csv) the rise of H1 total of "
        f"transformers at p = 197, to step 60,000, has p = {_p_of_rise():.2f}. {_fallen()}"
    )


def _fallen() -> str:
    frame = committed.checkpoints()
    after = frame[frame.step >= frame.generalisation_step]
    share = (after.test_accuracy < 0.9).groupby([after.runs, after.seed]).mean()
    words = {name: span(100 * share[name], ".0f") + " %" for name in NAMES}
    return (
        "Test accuracy falls back below 0.9 at some checkpoints after generalisation, which count "
        f"all the same; share of them, run by run: {each(words)}."
    )


def _p_of_rise() -> float:
    tests = committed.table("verdicts/discoveries.csv")
    own = tests[tests.what.str.startswith("h1_total (transformer") & (tests.test == "change")]
    return float(own.p_value.iloc[0])


# --------------------------------------------------------------------------- the study's numbers


def spearman(column: str) -> dict[str, list[float]]:
    """ρ of a statistic with test accuracy over a run's checkpoints, run by run."""
    frame = committed.checkpoints()
    return {
        name: [
            float(stats.spearmanr(own[column], own.test_accuracy)[0])
            for _, own in frame[frame.runs == name].groupby("seed")
        ]
        for name in NAMES
    }


def same_rho() -> str:
    """The cells of Table 1 that have runs with true labels."""
    rows = committed.cells("table1")
    rows = rows[rows.level == 0]
    words = {
        verdict: [
            f"{row.statistic} of {row.cloud} {row.paper_low:.2f}, here {row.ours:.2f} "
            f"({row.low:.2f} to {row.high:.2f})"
            for row in rows[rows.verdict == verdict].itertuples()
        ]
        for verdict in ("agree", "differ", "cannot tell")
    }
    agree, differ, open_ = ("; ".join(own) or "none" for own in words.values())
    persistence = committed.table(f"{committed.TRUE_LONGER}/persistence.parquet")
    later = committed.rhos(committed.TRUE_LONGER, persistence, "embedding", "h1_total")
    return (
        f"With true labels, {len(later)} runs to step 60,000, {committed.verdicts(rows)}. Cells "
        f"that differ, means (90 %): {differ}.\n\nCells that agree: {agree}. Cells that cannot be "
        f"told: {open_}.\n\n"
        f"ρ of H1 total of the embedding, 0.60 ± 0.10 in the study, is {_listed(later)}; in "
        f"version 0.1's runs of these seeds, on another processor and to step 45,000, "
        f"{_listed(spearman('h1_total')['p197'])}."
    )


def _listed(values: list[float]) -> str:
    listed = ", ".join(f"{x:.2f}" for x in sorted(values, reverse=True))
    return f"{listed}: median {np.median(values):.2f}, SD {np.std(values, ddof=1):.2f}"


def again() -> dict[str, str]:
    """How many checkpoints of the five at p = 113 a later version has to the bit."""
    return {"again": to_the_bit(f"{committed.RUNS}/p113", committed.AGAIN)}


def to_the_bit(first: str, later: str) -> str:
    """How many checkpoints of a folder, as far as a later one has trained, are the same in both.

    Compared are metrics and the persistence of the embedding.
    """
    keys, equal = ["run_id", "step"], []
    for what in ("metrics", "persistence"):
        frames = [committed.table(f"{folder}/{what}.parquet") for folder in (first, later)]
        if what == "persistence":
            frames = [frame[frame.cloud == "embedding"] for frame in frames]
        end = frames[1].step.max()
        one, other = (frame[frame.step <= end].set_index(keys).sort_index() for frame in frames)
        columns = one.columns.intersection(other.columns)
        equal.append((one[columns] == other[columns].reindex(one.index)).all(axis=1))
    both = equal[0] & equal[1]
    return f"{both.sum()} of {len(both)}"


def same_numbers() -> str:
    """Of all the study's numbers."""
    rows = committed.table("verdicts/comparison.csv")
    own = rows[rows.verdict != NOT_RUN]
    agree = own[own.verdict == "agree"].what
    before = agree.str.contains("memorisation").sum()
    rho = agree.str.startswith("ρ").sum()
    later = own[~own.what.str.contains("memorisation|ρ")]
    bounds = power().set_index("what")
    total = bounds.loc[next(w for w in bounds.index if w.startswith("h1_total (transformer"))]
    counts = own.verdict.value_counts()
    differ = own[own.verdict == "differ"]
    cells = differ.source.str.startswith("table").sum()
    layers = differ.what.str.contains("hidden|layer").sum()
    return (
        f"Of {len(rows)} numbers {len(own)} have runs beside them: {counts['agree']} agree, "
        f"{counts['differ']} differ, {counts['cannot tell']} cannot be told. Of the {len(later)} "
        f"numbers of generalisation or after it {len(agree) - before - rho} agree and "
        f"{len(later[later.verdict == 'differ'])} differ.\n\n"
        f"Those that agree are {before} from before generalisation, which say that clouds are "
        f"scaled alike and little of grokking, {rho} ρ within 0.2, and "
        f"{len(agree) - before - rho} others. Of those that differ {cells} are cells of Tables 1 "
        f"and 2, {layers} of layers, where the number of states counts. Of means after "
        "generalisation five runs can hardly say that they differ: H1 total of "
        f"transformers would have to be below {total.differ_below:.0f} or above "
        f"{total.differ_above:.0f}. Margins were written "
        "down when the means of fifteen runs were known, and before those of Table 2 and of "
        "permuted labels."
    )


def power() -> pd.DataFrame:
    """What the rule can say of each mean after generalisation, at the spread seen.

    Columns: what; the acceptance region's width; that of our 90 % interval; the means below and
    above which the verdict would be *differ*.
    """
    rows = committed.table("verdicts/comparison.csv")
    rows = rows[(rows.n > 1) & rows.what.str.contains("generalised")]
    # An interval over several train fractions is none of a mean.
    rows = rows[~rows.note.str.contains("; α")]
    found = []
    for row in rows.itertuples():
        error = (row.high - row.low) / 2 / stats.t.isf(0.05, row.n - 1)
        wide = stats.t.isf(0.025, row.n - 1) * error
        region = row.paper_high - row.paper_low + 2 * row.margin
        ends = (row.paper_low - row.margin - wide, row.paper_high + row.margin + wide)
        found.append([row.what, region, row.high - row.low, *ends])
    return pd.DataFrame(found, columns=["what", "region", "width", "differ_below", "differ_above"])


def same_numbers_more() -> str:
    """The power of the verdicts."""
    rows = [
        [row.what, f"{row.region:.3g}", f"{row.width:.3g}",
         "yes" if row.width <= row.region else "no",
         f"below {row.differ_below:.2g} or above {row.differ_above:.2g}"]
        for row in power().itertuples()
    ]  # fmt: skip
    header = ["number", "accepted over", "our 90 % interval is wide", "can it agree?", "differs if"]
    return (
        f"{markdown(header, rows)}\n\n*Agree* needs the whole interval within the accepted region, "
        "so where it is wider, no mean could have agreed; *differ* needs it wholly outside. "
        "Numbers that two train fractions have runs of are left out. What each verdict would take "
        "in seeds is in the table of what cannot be told."
    )
