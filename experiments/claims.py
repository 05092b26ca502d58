"""Our values of the numbers that the study states in its text (``reference/claims.csv``).

Each quantity is one value a run; windows are fixed before looking. *memorisation*: from
memorisation up to generalisation. *generalised*: the last fifth of training, of runs that
generalised. See ``grokjax.statistics.before_after``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments import crosscorrelation, curves, sweeps
from experiments.artefact import Context
from grokjax import statistics
from grokjax.report.summaries import optional_step

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What we found for a claim.

    Attributes:
        values: (n,) a value a run, NaN where a run has none.
        direction: what small scale can be asked instead, as signs or signed amounts whose mean is
            to have the sign of ``expected``; empty if it cannot be asked.
        expected: 1, −1, or 0 for "about none".
        tolerance: how far from 0 still counts as none.
        note: what to know beside the numbers.
    """

    values: Floats
    direction: Floats
    expected: int
    tolerance: float = 0.0
    note: str = ""


def reference() -> pd.DataFrame:
    """The study's claims as text, so that the printed digits are known."""
    return pd.read_csv(sweeps.FOLDER / "reference" / "claims.csv", dtype=str, keep_default_na=False)


def in_words(claim: Mapping[Any, Any]) -> str:
    """What a row of `reference` is a number of."""
    where = [claim["model"]]
    where += [f"p = {claim['prime']}"] if claim["prime"] else []
    where += [f"α = {claim['train_fraction']}"] if claim["train_fraction"] else []
    where += [word for word in (claim["cloud"], claim["phase"]) if word]
    return f"{claim['quantity']} ({', '.join(where)})"


def measure(context: Context, claim: Mapping[str, str]) -> Measured:
    """Our values for a row of `reference`, from the sweep that it is about.

    Raises:
        ValueError: for a quantity it does not know.
    """
    if claim["quantity"] not in _MEASURES:
        raise ValueError(f"there is no way to measure '{claim['quantity']}'")
    return _MEASURES[claim["quantity"]](context, claim)


def _runs(context: Context, claim: Mapping[str, str]) -> pd.DataFrame:
    fraction = claim["train_fraction"].replace("all", "")
    return context.runs_of(
        int(claim["prime"]) if claim["prime"] else None, float(fraction) if fraction else None
    )


def _generalisation(context: Context, claim: Mapping[str, str]) -> Measured:
    runs = _runs(context, claim)
    step = runs["generalisation_step"].astype("float64")
    other = "0.2" if claim["train_fraction"] == "0.3" else "0.3"
    others = _runs(context, {**claim, "train_fraction": other})["generalisation_step"]
    late = float(others.astype("float64").mean())
    came = int(step.notna().sum())
    return Measured(
        values=step.to_numpy(np.float64),
        direction=step.to_numpy(np.float64) - late,
        expected=-1 if claim["train_fraction"] == "0.3" else 1,
        note=f"{came} of {len(runs)} runs generalised; at small scale: before or after those at "
        f"α = {context.fraction(float(other)):g}",
    )


def windows(
    runs: pd.DataFrame, table: pd.DataFrame, column: str, cloud: str
) -> tuple[Floats, Floats]:
    """Means before and after generalisation of each run, (n,) both, in the order of runs."""
    typical = optional_step(runs["generalisation_step"].median())
    before, after = [], []
    own = {str(key): rows for key, rows in table[table["cloud"] == cloud].groupby("run_id")}
    for run in runs.itertuples(index=False):
        rows = own[str(run.run_id)]
        found = statistics.before_after(
            rows["step"].to_numpy(),
            rows[column].to_numpy(),
            optional_step(run.memorisation_step),
            optional_step(run.generalisation_step),
            split_step=typical,
        )
        before.append(found[0])
        after.append(found[1])
    return np.array(before), np.array(after)


def _phase(context: Context, claim: Mapping[str, str]) -> Measured:
    runs = _runs(context, claim)
    column, cloud = claim["quantity"], claim["cloud"]
    dimension = column == "lid_mean"
    table = context.table("dimension") if dimension else context.table("persistence")
    # The study's dimension is of both tokens' states.
    before, after = windows(runs, table, column, f"{cloud}_both" if dimension else cloud)
    grown = runs["generalisation_step"].notna().to_numpy()
    falls = dimension or (column == "h1_total" and cloud == "hidden3")
    first = claim["phase"] == "memorisation"
    return Measured(
        values=before if first else after[grown],
        direction=(after - before)[grown],
        expected=-1 if falls else 1,
        note="" if first else f"{int(grown.sum())} of {len(runs)} runs generalised",
    )


def _ccf_peak(context: Context, claim: Mapping[str, str]) -> Measured:
    if claim["artefact"] == "fig12":
        lines = crosscorrelation.by_level(context, claim["cloud"])
    else:
        each = [crosscorrelation.by_cloud(context, column) for column in curves.STATISTICS]
        lines = [line for own in each for line in own]
    every = context.sweep.config.train.checkpoint_every
    peaks = np.concatenate([crosscorrelation.correlate(context, one).peak_lags for one in lines])
    return Measured(
        values=peaks * every,
        direction=peaks * every,
        expected=int(np.sign(float(claim["low"]))),
        tolerance=float(every),
        note=f"peak of each run, {len(lines)} lines",
    )


def _permutation(context: Context, claim: Mapping[str, str]) -> Measured:
    runs = context.runs()
    came = runs["generalisation_step"].notna().groupby(runs["label_permutation"]).mean()
    most = [float(level) for level, share in came.items() if share > 0.5]
    highest = max(most, default=np.nan)
    shares = ", ".join(f"{100 * float(level):g} %: {share:.0%}" for level, share in came.items())
    return Measured(
        values=np.array([highest]),
        direction=np.array([float(came.iloc[-1]) - float(came.iloc[0])]),
        expected=-1,
        note=f"highest level at which most runs generalise; runs that do: {shares}",
    )


def _peak_step(context: Context, claim: Mapping[str, str]) -> Measured:
    runs = context.runs()
    table = context.table("persistence")
    own = table[(table["cloud"] == claim["cloud"]) & table["run_id"].isin(runs["run_id"])]
    last = context.sweep.config.train.steps
    steps = []
    for _, rows in own.groupby("run_id", sort=False):
        values: Any = rows.set_index("step")["h1_total"].dropna()
        steps.append(float(values.idxmax()) if len(values) else np.nan)
    found = np.array(steps)
    inside = np.where(np.isnan(found), np.nan, np.where((found > 0) & (found < last), 1.0, -1.0))
    return Measured(
        values=found,
        direction=inside,
        expected=1,
        note="all init scales; at small scale: whether the peak is neither first nor last",
    )


_MEASURES: Mapping[str, Callable[[Context, Mapping[str, str]], Measured]] = {
    "generalisation_step": _generalisation,
    "ccf_peak_lag_steps": _ccf_peak,
    "label_permutation_that_still_generalises": _permutation,
    "h1_total_peak_step": _peak_step,
    **dict.fromkeys(("h1_max", "h1_total", "lid_mean"), _phase),
}
