"""Our values of the numbers that the study states in its text, and how each is judged.

The numbers and their margins are in ``reference/claims.csv``. Windows are fixed before looking,
*memorisation*: from memorisation up to generalisation, *generalised*: the last fifth of training,
of runs that generalised; see ``grokjax.report.summaries.windows``. What is compared:

- a mean over seeds with the study's range, at each train fraction for itself where a number is
  stated of all: it agrees if each does;
- the median step of generalisation, runs that never came included;
- of lags and of the step of a peak, how far each run's own lies from what the study states. The
  mean will not do: lags drawn at random have a mean of 0 as well;
- of label permutation, the highest level up to which a seed generalises at every level.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments import crosscorrelation, sweeps, verdicts
from experiments.artefact import Context
from experiments.verdicts import Judged, Target
from grokjax.report import summaries

Floats = NDArray[np.float64]
Claim = Mapping[Any, Any]
# Distance of the levels of permuted labels between which the claim decides.
_LEVEL_GRAIN = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """What we found for a claim.

    Attributes:
        parts: setting → (n,) a value a seed, or (n, m) of m runs of each; NaN where there is none.
        direction: what small scale can be asked instead, as signed amounts whose mean is to have
            the sign of ``expected``; empty if it cannot be asked.
        expected: 1, −1, or 0 for "about none", which is judged as at the paper's scale.
        horizons: setting → (n,) last step of each run.
        grain: distance of the grid on which values are known.
        run_ids: what they are of.
        note: what to know beside the numbers.
    """

    parts: Mapping[str, Floats]
    direction: Floats
    expected: int
    horizons: Mapping[str, Floats] = dataclasses.field(default_factory=dict)
    grain: float = 0.0
    run_ids: Sequence[str]
    note: str = ""


def reference() -> pd.DataFrame:
    """The study's claims as text, so that the printed digits are known."""
    return pd.read_csv(sweeps.FOLDER / "reference" / "claims.csv", dtype=str, keep_default_na=False)


def in_words(claim: Claim) -> str:
    """What a row of `reference` is a number of."""
    where = [claim["model"]]
    where += [f"p = {claim['prime']}"] if claim["prime"] else []
    where += [f"α = {claim['train_fraction']}"] if claim["train_fraction"] else []
    where += [word for word in (claim["cloud"], claim["phase"]) if word]
    return f"{claim['quantity']} ({', '.join(where)})"


def target(claim: Claim) -> Target:
    """What a row of `reference` states, and its margin."""
    return Target(float(claim["low"]), float(claim["high"]), float(claim["margin"]))


def measure(context: Context, claim: Claim) -> Sample | None:
    """What is there for a row of `reference`; None where nothing is.

    Raises:
        ValueError: for a quantity it does not know.
    """
    return _kind(claim).measure(context, claim)


def judge(claim: Claim, sample: Sample) -> Judged:
    """The verdict on a row of `reference`."""
    return _kind(claim).judge(target(claim), sample)


# --------------------------------------------------------------------------- rules


def _judge_means(stated: Target, sample: Sample) -> Judged:
    parts = sample.parts.values()
    judged = [verdicts.judge(own, stated, settings=len(parts)) for own in parts]
    return verdicts.all_of(judged)


def _judge_steps(stated: Target, sample: Sample) -> Judged:
    judged = [
        verdicts.judge_median(own, sample.horizons[name], stated)
        for name, own in sample.parts.items()
    ]
    return verdicts.all_of(judged)


def _judge_distances(stated: Target, sample: Sample) -> Judged:
    """How far runs lie outside the range, a mean a seed; no verdict unless most runs have any."""
    (found,) = sample.parts.values()
    known = np.isfinite(found)
    if known.mean() <= 0.5:
        return verdicts.NOTHING
    outside = np.maximum(np.maximum(stated.low - found, found - stated.high), 0.0)
    seeds = known.any(axis=1)
    distances = np.nanmean(outside[seeds], axis=1)
    judged = verdicts.judge(distances, Target(0.0, 0.0, stated.margin), sample.grain)
    return judged._replace(estimate=float(np.nanmean(found)))


def _judge_level(stated: Target, sample: Sample) -> Judged:
    (found,) = sample.parts.values()
    last = Target(stated.high, stated.high, stated.margin)
    return verdicts.judge(found, last, sample.grain)


# --------------------------------------------------------------------------- measuring


def _runs(context: Context, claim: Claim) -> pd.DataFrame:
    """Runs that a claim is about, by seed; maybe none."""
    values: dict[str, object] = {}
    if claim["prime"]:
        values["prime"] = context.prime(int(claim["prime"]))
    if claim["train_fraction"] not in ("", "all"):
        values["train_fraction"] = context.fraction(float(claim["train_fraction"]))
    return context.found(**values).sort_values("seed", kind="stable")


def _horizons(context: Context, runs: pd.DataFrame) -> Floats:
    return np.array([context.pool.horizons[run_id] for run_id in runs["run_id"]], np.float64)


def _generalisation(context: Context, claim: Claim) -> Sample | None:
    runs = _runs(context, claim)
    if runs.empty:
        return None
    steps = runs["generalisation_step"].astype("float64").to_numpy()
    horizons = _horizons(context, runs)
    other = "0.2" if claim["train_fraction"] == "0.3" else "0.3"
    others = _runs(context, {**claim, "train_fraction": other})
    late = others["generalisation_step"].astype("float64").to_numpy()
    late = np.where(np.isfinite(late), late, _horizons(context, others))
    came = int(np.isfinite(steps).sum())
    return Sample(
        parts={"": steps},
        run_ids=list(runs["run_id"]),
        horizons={"": horizons},
        direction=np.where(np.isfinite(steps), steps, horizons)
        - (np.median(late) if late.size else np.nan),
        expected=-1 if claim["train_fraction"] == "0.3" else 1,
        note=f"{came} of {len(runs)} runs generalised; median, all runs",
    )


def windows(
    context: Context, runs: pd.DataFrame, table: str, column: str, cloud: str
) -> tuple[Floats, Floats]:
    """Means before and after generalisation, (n,) both, in the order of runs; NaN of others."""
    if table not in context.pool.tables():
        return np.full(len(runs), np.nan), np.full(len(runs), np.nan)
    found = summaries.windows(context.found(), context.table(table), column, cloud)
    own = found.set_index("run_id").reindex(runs["run_id"])
    return own["before"].to_numpy(np.float64), own["after"].to_numpy(np.float64)


def _phase(context: Context, claim: Claim) -> Sample | None:
    runs = _runs(context, claim)
    column, cloud = claim["quantity"], claim["cloud"]
    dimension = column == "lid_mean"
    table = "dimension" if dimension else "persistence"
    before, after = windows(context, runs, table, column, cloud)
    first = claim["phase"] == "memorisation"
    grown = runs["generalisation_step"].notna().to_numpy()
    values = before if first else np.where(grown, after, np.nan)
    if not np.isfinite(values).any():
        return None
    fractions = runs["train_fraction"].to_numpy()
    parts = {f"α = {own:g}": values[fractions == own] for own in dict.fromkeys(fractions)}
    falls = dimension or (column == "h1_total" and cloud == "hidden3")
    means = [f"{name}: {np.nanmean(own):.3g}" for name, own in parts.items()
             if np.isfinite(own).any()]  # fmt: skip
    notes = means if len(parts) > 1 else [f"{name} alone" for name in parts
                                          if claim["train_fraction"] == "all"]  # fmt: skip
    notes += [] if first else [f"{int(grown.sum())} of {len(runs)} runs generalised"]
    return Sample(
        parts=parts,
        run_ids=list(runs["run_id"][np.isfinite(values)]),
        direction=(after - before)[grown],
        expected=-1 if falls else 1,
        note="; ".join(notes),
    )


def _ccf_peak(context: Context, claim: Claim) -> Sample | None:
    lines = crosscorrelation.lines_of(context, claim["artefact"], claim["cloud"])
    waiting = {name for line in lines for name in context.not_yet(line.run_ids)}
    lines = [
        dataclasses.replace(line, run_ids=[name for name in line.run_ids if name not in waiting])
        for line in lines
    ]
    lines = [line for line in lines if line.run_ids]
    lags = crosscorrelation.peak_lags(context, lines)
    if lags.empty:
        return None
    every = context.pool.every
    found = lags.to_numpy(np.float64) * every
    peaks = int(np.isfinite(found).sum())
    direction = lags.mean(axis=1).to_numpy(np.float64) * every
    return Sample(
        parts={"": found},
        run_ids=[run_id for line in lines for run_id in line.run_ids],
        direction=direction[np.isfinite(direction)],
        expected=int(np.sign(float(claim["low"]))),
        grain=float(every),
        note=f"{peaks} of {found.size} curves of {len(lines)} lines have a peak; mean lag; the "
        "interval is of how far peaks lie off",
    )


def _permutation(context: Context, claim: Claim) -> Sample | None:
    runs = context.found()
    levels = context.training.levels(context.scale)
    came = runs.pivot(index="seed", columns="label_permutation", values="generalisation_step")
    if runs.empty or not set(levels) <= set(came.columns):
        return None
    came = came[levels].astype("float64")
    short = [context.pool.horizons[run_id] for run_id in runs["run_id"]]
    ended = min(short) >= context.training.steps(context.scale)
    there = runs.pivot(index="seed", columns="label_permutation", values="seed")[levels].notna()
    last = [_last_level(row.notna(), ended) for _, row in came[there.all(axis=1)].iterrows()]
    if not last:
        return None
    shares = ", ".join(f"{100 * level:g} %: {came[level].notna().mean():.0%}" for level in levels)
    grown = came.notna().astype(float)
    return Sample(
        parts={"": np.array(last, np.float64)},
        run_ids=list(runs["run_id"]),
        direction=(grown[levels[-1]] - grown[levels[0]]).to_numpy(np.float64),
        expected=-1,
        grain=_LEVEL_GRAIN,
        note="compared with the highest, 0.10; highest level up to which a seed generalises at "
        f"all; runs that generalise: {shares}",
    )


def _last_level(came: pd.Series, ended: bool) -> float:
    """Highest level up to which a seed generalises at every one; NaN if it may yet.

    A seed that does not generalise with true labels has −1.
    """
    if came.all():
        return float(came.index[-1])
    if not ended:
        return np.nan
    first = int(np.argmin(came.to_numpy()))
    return float(came.index[first - 1]) if first else -1.0


def _peak_step(context: Context, claim: Claim) -> Sample | None:
    runs = context.found()
    table = context.table("persistence")
    own = table[(table["cloud"] == claim["cloud"]) & table["run_id"].isin(runs["run_id"])]
    curves = {run_id: rows.set_index("step")["h1_total"].dropna().sort_index()
              for run_id, rows in own.groupby("run_id", sort=False)}  # fmt: skip
    curves = {run_id: curve for run_id, curve in curves.items() if len(curve)}
    if not curves:
        return None
    runs = runs[runs["run_id"].isin(curves)]
    peaks = runs.assign(step=[peak(curves[run_id]) for run_id in runs["run_id"]])
    found = peaks.pivot(index="seed", columns="init_scale", values="step").to_numpy(np.float64)
    ends = np.array([0.0, context.pool.steps[-1]])
    inside = np.where(np.isin(found, ends), -1.0, 1.0)[np.isfinite(found)]
    return Sample(
        parts={"": found},
        run_ids=list(runs["run_id"]),
        direction=inside,
        expected=1,
        grain=float(context.pool.every),
        note=f"{inside.size} of {len(runs)} curves have a peak; mean step, all init scales; the "
        "interval is of how far peaks lie outside the range",
    )


def peak(curve: pd.Series) -> float:
    """Step at which a curve over steps is highest; NaN if that is chance.

    Chance: every other checkpoint, and the rest of them, put it more than a twentieth of training
    (or one checkpoint, of fewer than twenty) apart. Of noise without a peak one in ten passes.
    """
    reach = (curve.index[-1] - curve.index[0]) / min(20, max(1, len(curve) - 1))
    apart = abs(curve.iloc[::2].idxmax() - curve.iloc[1::2].idxmax()) if len(curve) > 1 else np.inf
    return float(curve.idxmax()) if apart <= reach else np.nan


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How a quantity is measured, and how judged."""

    measure: Callable[[Context, Claim], Sample | None]
    judge: Callable[[Target, Sample], Judged]


_KINDS: Mapping[str, _Kind] = {
    "generalisation_step": _Kind(_generalisation, _judge_steps),
    "ccf_peak_lag_steps": _Kind(_ccf_peak, _judge_distances),
    "label_permutation_that_still_generalises": _Kind(_permutation, _judge_level),
    "h1_total_peak_step": _Kind(_peak_step, _judge_distances),
    **dict.fromkeys(("h1_max", "h1_total", "lid_mean"), _Kind(_phase, _judge_means)),
}


def _kind(claim: Claim) -> _Kind:
    if claim["quantity"] not in _KINDS:
        raise ValueError(f"there is no way to measure '{claim['quantity']}'")
    return _KINDS[claim["quantity"]]
