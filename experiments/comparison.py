"""The study's numbers beside ours: agree, differ or not run, and by how much.

*Agree*, at the paper's scale: our mean over runs lies within the study's interval, widened on both
sides by our sample SD over runs, or by what the study's number leaves open if that is more (half a
unit of its last digit; one checkpoint for steps). A cell of a table has the interval mean ± SD. A
single run has no SD: nothing is added for it. At small scale numbers are not comparable in size,
so only directions are compared, and the words for it are others.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments import artefact, claims, correlations, registry, sweeps
from experiments.artefact import Context
from experiments.claims import Measured

AGREE, DIFFER, NOT_RUN = "agree", "differ", "not run"
SAME, OTHER, UNCLEAR = "same direction", "other direction", "no clear direction"
NO_CLAIM = "no direction claimed"
# Columns, and what stands above them on the page.
HEADINGS = {
    "source": "source",
    "what": "what",
    "paper_low": "paper from",
    "paper_high": "to",
    "ours_mean": "ours",
    "ours_sd": "± SD",
    "n": "n",
    "verdict": "verdict",
    "difference": "ours − paper's middle",
    "outside": "outside the interval by",
    "note": "note",
}
NOTHING = {
    **dict.fromkeys(("ours_mean", "ours_sd", "difference", "outside"), np.nan),
    **{"n": 0, "verdict": NOT_RUN, "note": ""},
}


def verdict(low: float, high: float, mean: float, widening: float) -> str:
    """Whether a mean agrees with an interval widened on both sides; see the module."""
    if np.isnan(mean):
        return DIFFER
    # The slack is rounding in the last bit of sums such as 0.2 + 0.1.
    slack = 1e-9 * max(abs(low), abs(high), widening)
    return AGREE if low - widening - slack <= mean <= high + widening + slack else DIFFER


def outside(low: float, high: float, mean: float) -> float:
    """How far a mean lies outside an interval: 0 inside, negative below it."""
    if np.isnan(mean):
        return np.nan
    return mean - high if mean > high else min(mean - low, 0.0)


def direction(amounts: np.ndarray, expected: int, tolerance: float = 0.0) -> str:
    """Whether the mean of signed amounts has the expected sign.

    It has none where it is smaller than the amounts' own SD, or than the tolerance.
    """
    finite = amounts[np.isfinite(amounts)]
    if not finite.size:
        return UNCLEAR
    mean = float(finite.mean())
    if expected == 0:
        return SAME if abs(mean) <= tolerance else OTHER
    spread = float(finite.std(ddof=1)) if finite.size > 1 else 0.0
    if abs(mean) <= max(spread, tolerance):
        return UNCLEAR
    return SAME if np.sign(mean) == expected else OTHER


def printed_resolution(text: str) -> float:
    """Half a unit of the last digit of a printed number."""
    decimals = len(text.partition(".")[2])
    return float(0.5 * 10.0**-decimals)


# --------------------------------------------------------------------------- rows


def compare(root: pathlib.Path, scale: str) -> pd.DataFrame:
    """Every row of the claims and of both tables, with the columns of `HEADINGS`.

    Sweeps that are not there or not complete give rows *not run*.
    """
    contexts = artefact.contexts(root, scale)
    sources = {source: one for one in registry.ARTEFACTS.values() for source in one.sources}
    rows = [
        claim_row(claim, contexts.get(sources[claim["artefact"]].training))
        for claim in claims.reference().to_dict("records")
    ]
    for one in registry.ARTEFACTS.values():
        if one.kind == "table":
            rows += table_rows(one.name, contexts.get(one.training), root, scale)
    return pd.DataFrame(rows, columns=list(HEADINGS))


def claim_row(claim: Mapping[Any, Any], context: Context | None) -> dict[str, Any]:
    """One row of the claims; ``context`` is None where its sweep was not run."""
    row = {
        "source": claim["artefact"],
        "what": claims.in_words(claim),
        "paper_low": float(claim["low"]),
        "paper_high": float(claim["high"]),
    }
    if context is None:
        return {**row, **NOTHING}
    resolution = max(printed_resolution(claim["low"]), printed_resolution(claim["high"]))
    if claim["quantity"].endswith(("_step", "_steps")):
        resolution = float(context.sweep.config.train.checkpoint_every)
    return {**row, **_found(row, claims.measure(context, claim), resolution, context.scale)}


def _found(
    row: Mapping[str, Any], measured: Measured, resolution: float, scale: str
) -> dict[str, Any]:
    finite = measured.values[np.isfinite(measured.values)]
    low, high = row["paper_low"], row["paper_high"]
    mean = float(finite.mean()) if finite.size else np.nan
    spread = float(finite.std(ddof=1)) if finite.size > 1 else np.nan
    if scale == "paper":
        word = verdict(low, high, mean, max(resolution, np.nan_to_num(spread)))
    else:
        word = direction(measured.direction, measured.expected, measured.tolerance)
    return {
        "ours_mean": mean,
        "ours_sd": spread,
        "n": finite.size,
        "verdict": word,
        "difference": mean - (low + high) / 2,
        "outside": outside(low, high, mean),
        "note": measured.note,
    }


def table_rows(
    table: str, context: Context | None, root: pathlib.Path, scale: str
) -> list[dict[str, Any]]:
    """Rows of a table; its cells are read from what ``experiments.table1`` or 2 wrote."""
    path = root / f"{sweeps.at_scale(table, scale)}.csv"
    there = context is not None and path.exists()
    frame = pd.read_csv(path) if there else correlations.reference(table)
    return [_cell(table, cell, there, scale) for cell in frame.to_dict("records")]


def _cell(table: str, cell: Mapping[Any, Any], there: bool, scale: str) -> dict[str, Any]:
    rho, sd = float(cell["rho_mean"]), float(cell["rho_sd"])
    row = {
        "source": table,
        "what": f"ρ of {cell['statistic']}, {cell['cloud']}, "
        f"{100 * float(cell['label_permutation']):g} % permuted",
        "paper_low": rho - sd,
        "paper_high": rho + sd,
    }
    if not there:
        return {**row, **NOTHING}
    rhos = np.array([float(value) for value in str(cell["per_seed"]).split()])
    measured = Measured(values=rhos, direction=rhos, expected=int(np.sign(rho)))
    found = _found(row, measured, 0.005, scale)
    if scale == "small" and abs(rho) <= sd:
        found["verdict"] = NO_CLAIM
    return {**row, **found}


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """How many rows of each source got which verdict."""
    grouped = frame.groupby(["source", "verdict"], sort=False).size()
    return grouped.rename("rows").reset_index()
