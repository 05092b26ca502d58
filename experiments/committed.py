"""Committed tables of results/, and what the answers take of the fifteen runs at the study's size.

The unit is the run: what several checkpoints or statistics of a run say is one value of it, or it
is said run by run. Windows are those of ``grokjax.statistics.before_after``.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from experiments import (
    ablation,
    cause,
    comparison,
    controls,
    evidence,
    fifty_seeds,
    leads,
    permuted,
    spikes,
)
from grokjax.report import summaries

RESULTS = pathlib.Path(__file__).parent / "results"
RUNS = "fifteen_runs"
# Folders of the fifteen runs; five seeds each.
NAMES = {"p113": "transformer, p = 113", "p197": "transformer, p = 197", "mlp197": "MLP, p = 197"}
# Folders of the controls at the study's size (a task without a group, a group without long cycles,
# a task of another kind), of the MLPs of Table 2, and of the transformers at p = 113 trained again
# by a later version; five seeds each too.
CONTROL = "controls/average113"
SHORT_CYCLES = "controls/z2x7"
OTHER_KIND = "controls/max113"
TABLE2 = "table2/mlp197_a02"
AGAIN = "fifteen_runs/p113_again"
# Folders of fifty small runs and of the same with all labels permuted.
FIFTY = ("fifty_seeds/true", "fifty_seeds/permuted")
# Folder of eight transformers with a checkpoint every 50 steps, and the steps on each side of
# generalisation that are looked at.
FINE, FINE_STEPS = "leads/fine113", 1000
# Task → folder of its five transformers, 20,000 steps each.
TASKS = {
    "addition": f"{RUNS}/p113",
    "average": CONTROL,
    "z2^7": SHORT_CYCLES,
    "max": OTHER_KIND,
}
# Folders of five transformers at p = 197 with some labels permuted, a folder a share of them.
PERMUTED = ("permuted/p197_10", "permuted/p197_20")
# Folder of those with a fifth of them permuted, trained on beyond the study's budget.
LONGER = "permuted/p197_20_longer"
# Folder of the five with true labels, trained again for their layers, as far as that is asked.
TRUE_LAYERS = "permuted/p197_0"
# The same, trained on to the study's 60,000 steps.
TRUE_LONGER = "permuted/p197_0_longer"
# How much of training leads are computed again from, to see what a shorter budget does to them.
SHORTER = 0.75


def table(path: str) -> pd.DataFrame:
    """A committed table."""
    file = RESULTS / path
    return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)


def remade() -> dict[str, pd.DataFrame]:
    """Path → table that follows from the runs' own committed tables: made again, not read."""
    folders = [evidence.Folder(RESULTS / RUNS / name) for name in NAMES]
    # No sweeps lie below the first folder: what is compared are the fifteen runs alone.
    more = (TABLE2, TRUE_LONGER, *PERMUTED)
    compared = [*(one.path for one in folders), *(RESULTS / name for name in more)]
    contexts = comparison.contexts_of(RESULTS / RUNS, "paper", compared)
    tests = comparison.discoveries.family(contexts, comparison.measured(contexts))
    pool = evidence.Pool(folders)
    caused = pd.read_csv(RESULTS / "cause" / "runs.csv")
    ablated = [evidence.Folder(RESULTS / "ablation" / name) for name in ("p59", "p31")]
    own_controls = {
        f"{folder}/controls.csv": controls.table(
            evidence.Pool([evidence.Folder(RESULTS / folder)]), "embedding"
        )
        for folder in (CONTROL, SHORT_CYCLES, OTHER_KIND)
    }
    fifty = evidence.Pool([evidence.Folder(RESULTS / folder) for folder in FIFTY])
    fine = evidence.Pool([evidence.Folder(RESULTS / FINE)])
    some = [evidence.Folder(RESULTS / folder) for folder in PERMUTED]
    true = evidence.Folder(RESULTS / RUNS / "p197")
    return own_controls | {
        "fifty_seeds/fifty_seeds.csv": fifty_seeds.table(fifty),
        "fifty_seeds/spikes.csv": spikes.table(fifty),
        f"{FINE}/leads.csv": leads.table(fine, "embedding", around=FINE_STEPS),
        f"{FINE}/spikes.csv": spikes.table(fine),
        "verdicts/comparison.csv": comparison.compare(contexts, "paper"),
        "verdicts/discoveries.csv": tests,
        "permuted/permuted.csv": permuted.table(evidence.Pool([true, *some])),
        "permuted/beyond.csv": permuted.beyond(
            *(evidence.Pool([evidence.Folder(RESULTS / one)]) for one in (LONGER, PERMUTED[0]))
        ),
        "permuted/leads.csv": permuted.leads_by_cloud(
            [evidence.Pool([one]) for one in (evidence.Folder(RESULTS / TRUE_LAYERS), *some)]
        ),
        "leads/leads.csv": leads.table(pool, "embedding"),
        "leads/leads_shorter.csv": leads.table(pool, "embedding", until=SHORTER),
        "cause/doses.csv": cause.doses(caused),
        "cause/cause.csv": cause.contrasts(caused),
        "ablation/ablation.csv": ablation.table(ablation.last_rows(evidence.Pool(ablated))),
    }


def cells(source: str) -> pd.DataFrame:
    """Cells of ``table1`` or ``table2`` that have runs.

    ``statistic``, ``cloud`` and ``level``, the share of permuted labels, stand beside what
    ``experiments.comparison`` says of each.
    """
    rows = table("verdicts/comparison.csv")
    rows = rows[(rows.n > 0) & (rows.source == source)]
    parts = rows.what.str.extract(
        r"ρ of (?P<statistic>[^,]+), (?P<cloud>[^,]+), (?P<level>.+) % permuted"
    )
    return rows.join(parts.assign(level=parts.level.astype(float) / 100))


def verdicts(rows: pd.DataFrame) -> str:
    """How many cells have which verdict, in words."""
    counts = rows.verdict.value_counts().reindex(["agree", "differ", "cannot tell"], fill_value=0)
    return (
        f"of {len(rows)} cells {counts['agree']} agree within 0.2, {counts['differ']} differ, "
        f"{counts['cannot tell']} cannot be told"
    )


def rhos(folder: str, persistence: pd.DataFrame, cloud: str, column: str) -> list[float]:
    """ρ of a statistic of a cloud with test accuracy, of each run of a folder, by seed."""
    runs, metrics = (table(f"{folder}/{what}.parquet") for what in ("runs", "metrics"))
    frame = persistence[persistence.cloud == cloud]
    frame = frame.merge(metrics[["run_id", "step", "test_accuracy"]])
    return [
        float(stats.spearmanr(rows[column], rows.test_accuracy)[0])
        for _, rows in frame.merge(runs[["run_id", "seed"]]).groupby("seed")
    ]


def checkpoints() -> pd.DataFrame:
    """A row a checkpoint of the fifteen: persistence, accuracy and the run's two steps."""
    frames = []
    for name in NAMES:
        runs, metrics, own = (
            table(f"{RUNS}/{name}/{what}.parquet") for what in ("runs", "metrics", "persistence")
        )
        steps = runs[["run_id", "seed", "memorisation_step", "generalisation_step"]]
        frame = own.merge(metrics[["run_id", "step", "test_accuracy"]], on=["run_id", "step"])
        frames.append(frame.merge(steps, on="run_id").assign(runs=name))
    return pd.concat(frames, ignore_index=True)


def windows(column: str) -> pd.DataFrame:
    """Mean of a statistic before and after, and the change: a row a run of the fifteen."""
    frames = [windows_of(f"{RUNS}/{name}", column).assign(runs=name) for name in NAMES]
    frame = pd.concat(frames).set_index("runs", append=True).swaplevel()
    return frame.assign(change=frame.after - frame.before)


def windows_of(folder: str, column: str) -> pd.DataFrame:
    """Mean of a statistic before and after, of the runs of a folder, by seed."""
    runs = table(f"{folder}/runs.parquet")
    own = summaries.windows(runs, table(f"{folder}/persistence.parquet"), column)
    return own.merge(runs[["run_id", "seed"]], on="run_id").set_index("seed")[["before", "after"]]


def surrogates() -> pd.DataFrame:
    """A row a cloud, null and statistic, by place: first, last, or between."""
    rows = table("surrogates/surrogates.parquet")
    steps = rows.groupby(["runs", "seed"])["step"]
    last, first = steps.transform("max"), steps.transform("min")
    place = np.select([rows.step == last, rows.step == first], ["last", "first"], "between")
    return rows.assign(place=place)


def beside(statistic: str, null: str, place: str = "last") -> pd.DataFrame:
    """A statistic of each embedding beside surrogates of a null, by runs and seed."""
    rows = surrogates()
    here = (rows.statistic == statistic) & (rows["null"] == null) & (rows.place == place)
    return rows[here].set_index(["runs", "seed"]).sort_index()


# --------------------------------------------------------------------------- intervals and words


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of (n,) values and Student's interval of it."""
    array = np.asarray(values, np.float64)
    half = stats.t.isf((1 - level) / 2, len(array) - 1) * stats.sem(array)
    return float(array.mean()), float(array.mean() - half), float(array.mean() + half)


def ratio_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Geometric mean of (n,) ratios and Student's interval of it, of their logarithms."""
    mean, low, high = mean_interval(np.log(np.asarray(values, np.float64)), level)
    return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))


def by_chance(found: int, of: int, rate: float = 0.05) -> float:
    """The chance that at least so many of a number come about at this rate."""
    return float(stats.binom.sf(found - 1, of, rate))


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.0f} %"


def span(values: Sequence[float] | pd.Series, digits: str = ".2f") -> str:
    """Smallest to largest."""
    return f"{min(values):{digits}} to {max(values):{digits}}"


def each(numbers: Mapping[str, object]) -> str:
    """Numbers of the three kinds of runs, in words."""
    return "; ".join(f"{words}: {numbers[name]}" for name, words in NAMES.items())


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
