"""A phase diagram: who generalises over train fraction and weight decay, and how H1 max grows.

Question: over which fractions and decays do networks generalise, and does H1 max of the embedding
          grow more where they do than where they do not?
Command:  python -m grokjax.sweep --flagfile=experiments/phase.flags
          python -m experiments.phase --workdirs=work/phase --out=FOLDER
Device:   the last reads tables only; seconds.
Expected: FOLDER/phase.csv (a row a cell), phase_tests.csv, .html and a figure;
          experiments/results/phase/README.md.

Ratios in the cells are H1 max after over before generalisation, geometric means over runs with the
interval of Student's t of logarithms. Before runs from memorisation up to generalisation, after is
the last fifth of training; runs that never generalise are split at the median step of all that do.
Shares have Wilson's interval. In the median step runs that never came count as later than all.
Fallen back: the share of checkpoints after generalisation with a test accuracy below 0.9, mean over
runs that generalised.

Three questions were put before looking, each answered by a share of pairs of runs, a half if there
is nothing, ties and runs without a ratio left to chance:

1. Same seed, same decay, one generalised and one did not: in how many pairs has the one that did
   the larger ratio? The two differ in fraction, so a yes may come from the fraction itself.
2. Same fraction, same decay, one generalised and one did not, of two seeds: likewise. Only cells
   where some runs generalise and some do not have such pairs.
3. Same seed, same fraction, both generalised: in how many has the one with more decay the larger
   ratio, each run split at its own step?

In 1 and 2 all runs are split at the same step, so that ratios know nothing of when their run
generalised. p-values are of permutations, two-sided. What is exchanged stays whole where runs are
not independent, since one seed means the same initial weights in all cells: whole fractions (all
decays of one) within each seed in 1, whole seeds in 2, whole decays within each seed in 3. Three
tests share a level of 5 %, so each has a third of it.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from experiments import artefact, contrasts, evidence, html_page
from experiments.artefact import Output
from experiments.evidence import Pool
from grokjax import statistics
from grokjax.report import figures, panels, spacing, summaries

AXES = ("seed", "train_fraction", "weight_decay")
ACROSS, UP = AXES[1:]
GENERALISED, NOT = "generalised", "not"
LEVEL = 0.05 / 3
HEADINGS = {
    "train_fraction": "train fraction",
    "weight_decay": "weight decay",
    "n": "runs",
    "memorised": "memorised",
    "generalised": "generalised",
    "share": "share",
    "share_low": "95 % from",
    "share_high": "to",
    "step": "median step",
    "ratio_generalised": "H1 max after ÷ before, generalised",
    "ratio_generalised_low": "95 % from ",
    "ratio_generalised_high": "to ",
    "n_generalised": "n",
    "ratio_not": "H1 max after ÷ before, not generalised",
    "ratio_not_low": "95 % from  ",
    "ratio_not_high": "to  ",
    "n_not": "n ",
    "fallen": "fallen back",
}
TEST_HEADINGS = {
    "question": "question",
    "share": "share of pairs",
    "p": "p",
    "pairs": "pairs",
    "runs": "runs in them",
    "seeds": "seeds",
    "least": "least share of a seed",
    "most": "most",
    "verdict": "verdict",
}
Floats = NDArray[np.float64]


# --------------------------------------------------------------------------- runs and cells


def measured(pool: Pool) -> pd.DataFrame:
    """A row a run that is not running any more: settings, outcome, H1 max before and after.

    ``before`` and ``after`` are of its own windows, ``same_before`` and ``same_after`` of those
    that all runs share; NaN for runs that diverged or failed.

    Raises:
        ValueError: if runs differ in more than seed, train fraction and weight decay.
    """
    runs, metrics = pool.table("runs"), pool.table("metrics")
    runs = runs[runs["status"] != "running"].reset_index(drop=True)
    if runs.duplicated(list(AXES)).any():
        raise ValueError(f"runs differ in more than {', '.join(AXES)}: one sweep of these, please")
    runs["horizon"] = summaries.horizons(runs, metrics, int(metrics["step"].max()))
    whole = runs[~runs["status"].isin(("diverged", "failed"))]
    alike = whole.assign(generalisation_step=summaries.typical_steps(whole))
    for prefix, split in (("", whole), ("same_", alike)):
        found = summaries.windows(split, pool.table("persistence"), "h1_max")
        names = {name: prefix + name for name in ("before", "after")}
        runs = runs.merge(found.rename(columns=names), on="run_id", how="left")
    steps = runs.set_index("run_id")["generalisation_step"].astype(float)
    fallen = {
        run_id: statistics.falling_back(own["step"], own["test_accuracy"], steps[run_id]).share
        for run_id, own in metrics[metrics["run_id"].isin(steps.index)].groupby("run_id")
    }
    return runs.assign(fallen=runs["run_id"].map(fallen))


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a cell, columns of `HEADINGS`; NaN where no run of a cell tells."""
    rows = []
    for (fraction, decay), own in runs.groupby([ACROSS, UP]):
        steps = own["generalisation_step"].to_numpy(np.float64, na_value=np.nan)
        came = np.isfinite(steps)
        low, high = stats.binomtest(int(came.sum()), len(own)).proportion_ci(method="wilson")
        row = {ACROSS: fraction, UP: decay, "n": len(own), "generalised": int(came.sum())}
        row |= {"memorised": int(own["memorisation_step"].notna().sum())}
        row |= {"share": came.mean(), "share_low": low, "share_high": high}
        row["step"] = summaries.median_step(steps, own["horizon"].to_numpy())
        for name, group in ((GENERALISED, own[came]), (NOT, own[~came])):
            found = contrasts.contrast(group["before"].to_numpy(), group["after"].to_numpy())
            row |= {f"n_{name}": found["n"], f"ratio_{name}": found["ratio"]}
            row |= {f"ratio_{name}_{end}": found[end] for end in ("low", "high")}
        row["fallen"] = own.loc[came, "fallen"].mean()
        rows.append(row)
    return pd.DataFrame(rows, columns=list(HEADINGS))


# --------------------------------------------------------------------------- three questions


class Concordance(NamedTuple):
    """Share of pairs in which values go with scores, its p-value, and what it rests on."""

    share: float
    p_value: float
    n_pairs: int
    n_runs: int  # in at least one pair
    of_blocks: Floats  # (b,) share of each block, NaN without pairs


def concordance(
    values: Floats, scores: Floats, n_permutations: int = 9999, seed: int = 0
) -> Concordance:
    """Whether higher scores go with higher values within blocks and columns.

    A pair is two units of one block in one column with unequal scores; it counts as 1 if the
    higher score has the higher value, a half if values are equal. Where scores are of two kinds
    and every stratum has the same size this is van Elteren's statistic. The null exchanges units
    within blocks, all columns of a unit together; p is two-sided around a half, of all orders if
    there is one block with no more than n_permutations of them, otherwise of so many drawn and
    the one that is there.

    Args:
        values: (b, k, m) blocks, units, columns; NaN where there is none.
        scores: (b, k, m); NaN likewise.
        n_permutations: drawn, at least 1.
        seed: of these.
    """
    n_blocks, k, _ = values.shape
    above = (scores[:, :, None] > scores[:, None]).astype(float)  # (b, i, j, m)
    gap = values[:, :, None] - values[:, None]
    known, won = np.isfinite(gap), np.where(gap > 0, 1.0, np.where(gap == 0, 0.5, 0.0))
    # Of units i and j by score and u and v by value, columns added up.
    wins, pairs = (np.einsum("bijm,buvm->bijuv", above, own) for own in (won, known.astype(float)))
    as_is = np.broadcast_to(np.arange(k), (1, n_blocks, k))
    if n_blocks == 1 and math.factorial(k) <= n_permutations:
        orders = np.array(list(itertools.permutations(range(k))))[:, None]  # the first is as_is
    else:
        rng = np.random.default_rng(seed)
        drawn = rng.permuted(np.repeat(as_is, n_permutations, axis=0), axis=2)
        orders = np.concatenate([as_is, drawn])
    block = np.arange(n_blocks)[:, None, None]
    i, j = np.arange(k)[:, None], np.arange(k)
    places = (block, i, j, orders[..., :, None], orders[..., None, :])
    won_n, pairs_n = (own[places].sum(axis=(2, 3)) for own in (wins, pairs))  # (n, b)
    with np.errstate(invalid="ignore"):
        shares = won_n.sum(axis=1) / pairs_n.sum(axis=1)
        of_blocks = won_n[0] / pairs_n[0]
    strays = np.nan_to_num(np.abs(shares - 0.5))
    p_value = float((strays >= strays[0] - 1e-12).mean()) if pairs_n[0].any() else math.nan
    there = (above > 0) & known
    n_runs = int((there.any(axis=1) | there.any(axis=2)).sum())
    return Concordance(float(shares[0]), p_value, int(pairs_n[0].sum()), n_runs, of_blocks)


def cube(runs: pd.DataFrame, values: ArrayLike) -> Floats:
    """(seeds, fractions, decays) of a value a run; NaN where there is no run."""
    every = pd.MultiIndex.from_product([sorted(runs[name].unique()) for name in AXES])
    at = pd.MultiIndex.from_frame(runs[list(AXES)])
    found: Floats = np.array(pd.Series(np.asarray(values, np.float64), at).reindex(every))
    n_seeds, n_fractions, n_decays = map(len, every.levels)
    return found.reshape(n_seeds, n_fractions, n_decays)


def asked(runs: pd.DataFrame, n_permutations: int = 9999) -> pd.DataFrame:
    """A row a question of the module's docstring, columns of `TEST_HEADINGS`."""
    came = cube(runs, runs["generalisation_step"].notna().astype(float))
    same = cube(runs, np.log(runs["same_after"] / runs["same_before"]))
    own = np.where(came == 1, cube(runs, np.log(runs["after"] / runs["before"])), np.nan)
    decays = np.broadcast_to(np.sort(runs[UP].unique()), came.shape)
    seeds_first = (1, came.shape[0], -1)
    questions = {
        "generalised or not, same seed and decay": (same, came),
        "generalised or not, same fraction and decay": (
            same.reshape(seeds_first),
            came.reshape(seeds_first),
        ),
        "more or less decay, same seed and fraction, both generalised": (
            own.swapaxes(1, 2),
            decays.swapaxes(1, 2),
        ),
    }
    rows = []
    for question, (values, scores) in questions.items():
        found = concordance(values, scores, n_permutations)
        shares = found.of_blocks[np.isfinite(found.of_blocks)] if len(values) > 1 else np.array([])
        row: dict[str, Any] = {"question": question, "share": found.share, "p": found.p_value}
        row |= {"pairs": found.n_pairs, "runs": found.n_runs, "seeds": came.shape[0]}
        row |= {"least": shares.min(initial=np.inf), "most": shares.max(initial=-np.inf)}
        sure = found.p_value <= LEVEL
        row["verdict"] = "cannot tell" if not sure else "larger" if found.share > 0.5 else "smaller"
        rows.append(row)
    return pd.DataFrame(rows, columns=list(TEST_HEADINGS)).replace([np.inf, -np.inf], np.nan)


# --------------------------------------------------------------------------- what is shown


def conclusion(runs: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """What came out, in words."""
    came = runs["generalisation_step"].notna()
    n_cells = len(runs.groupby([ACROSS, UP]))
    texts = [
        f"{came.sum()} of {len(runs)} runs generalise, of {n_cells} cells and "
        f"{runs['seed'].nunique()} seeds."
    ]
    for name, own in (("that generalise", runs[came]), ("that do not", runs[~came])):
        ratio = (own["after"] / own["before"]).dropna()
        if len(ratio):
            logs = pd.Series(np.log(ratio), ratio.index)
            of_seeds = np.exp(logs.groupby(own["seed"]).mean().to_numpy())
            texts.append(
                f"H1 max of runs {name}, after over before: {np.exp(logs.mean()):.2f} "
                f"(geometric mean; {of_seeds.min():.2f} to {of_seeds.max():.2f} by seed), above 1 "
                f"in {(ratio > 1).sum()} of {len(ratio)}."
            )
    for row in tests.to_dict("records"):
        question = row["question"].capitalize()
        if not row["pairs"]:
            texts.append(f"{question}: there are no such pairs.")
            continue
        least, most = row["least"], row["most"]
        spread = "" if pd.isna(least) else f"; {least:.2f} to {most:.2f} by seed"
        texts.append(
            f"{question}: the former has the larger ratio in {row['share']:.2f} of "
            f"{row['pairs']:,} pairs of {row['runs']} runs, {row['seeds']} seeds "
            f"(p = {row['p']:.2g}{spread}): {row['verdict']}."
        )
    return texts


def draw(frame: pd.DataFrame) -> Figure:
    """Four diagrams on the same axes; ratios share a scale of colours."""
    axes_values = [spacing.values(frame[name]) for name in (ACROSS, UP)]
    spacings = [spacing.spaced(values) for values in axes_values]
    ratios = [f"ratio_{name}" for name in (GENERALISED, NOT)]
    both = panels.cell_colours([*frame[ratios].to_numpy().ravel()], "ratio")
    steps = frame["step"].fillna(np.inf)
    shown = (
        ("Share of runs that generalise", frame["share"], frame["n"],
         panels.cell_colours([], "share"), "share"),
        ("Step by which half had generalised", steps, frame["n"],
         panels.cell_colours([*steps], "log"), "steps; hatched: fewer than half by the end"),
        ("H1 max of runs that generalise", frame[ratios[0]], frame["n_generalised"],
         both, "after ÷ before generalisation"),
        ("H1 max of runs that do not", frame[ratios[1]], frame["n_not"],
         both, "after ÷ before the median step"),
    )  # fmt: skip
    across = {value: place for place, value in enumerate(axes_values[0])}
    up = {value: place for place, value in enumerate(axes_values[1])}
    places = [(across[a], up[b]) for a, b in zip(frame[ACROSS], frame[UP], strict=True)]
    with panels.style():
        figure = Figure(figsize=(figures.PAGE, 5.6))
        grid = figure.subplots(2, 2, sharex=True, sharey=True)
        for axes, (title, values, counts, colour, key) in zip(grid.flat, shown, strict=True):
            found = zip(values.to_numpy(float), counts.astype(int), strict=True)
            panels.draw_cells(axes, dict(zip(places, found, strict=True)), spacings, colour)
            panels.name_cells(axes, ["train fraction", "weight decay (log)"], axes_values, spacings)
            axes.set_title(title)
            panels.colour_key(figure, [axes], colour, key, never=False)
        figure.suptitle(
            "In each cell its value and the number of runs behind it; white: no such run",
            fontsize=8,
        )
    return figure


def output(pool: Pool) -> tuple[Output, pd.DataFrame]:
    """Cells, page and figure; and the rows of the three questions."""
    runs = measured(pool)
    frame, tests = cells(runs), asked(runs)
    texts = conclusion(runs, tests)
    print("\n".join(texts))
    method = " ".join((__doc__ or "").partition("Ratios in")[2].split())
    body = [html_page.paragraph(text) for text in (*texts, f"Ratios in {method}")]
    body += [html_page.table(tests, TEST_HEADINGS), html_page.table(frame, HEADINGS)]
    page = html_page.document("A phase diagram of train fraction and weight decay", body)
    return Output(numbers=frame, figure=draw(frame), page=page), tests


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the tables, their page and figure."""
    given = evidence.parser(__doc__).parse_args(argv)
    made, tests = output(evidence.pool(given.workdirs))
    artefact.save("phase", given.out, made)
    tests.to_csv(given.out / "phase_tests.csv", index=False)


if __name__ == "__main__":
    main()
