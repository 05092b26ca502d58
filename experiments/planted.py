"""Every rule of the comparison tried on truths that were planted: how often it says which word.

Question: does each of the 161 rows say *agree* of an equality, *differ* of a difference and *cannot
          tell* of noise?
Command:  python -m experiments.planted; CPU, about a minute. Prints the table of
          experiments/results/verdicts/README.md.

A row is given what its measuring would give it. *equal*: the study's number, with seeds that spread
by half of the margin; a ρ of the study is itself a draw around the truth, with the standard error
that its SD gives. *different*: three margins beyond its range, a ρ two of the study's SD more, with
the same spread. *noise*: seeds that spread about the study's number by five times its range and
margins, steps of generalisation evenly over 35,000 steps or more, levels of permutation at random;
lags and peaks that are no more than chance has, so that few curves have one. *random lags* have a
peak in every curve, anywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments import claims, correlations, html_page, verdicts
from experiments.claims import Floats, Sample
from experiments.verdicts import AGREE, CANNOT_TELL, DIFFER, STUDY_SEEDS, Judged, Target

EVERY, LAST_LAG, HORIZON = 500, 5_000, 60_000
LEVELS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
TRUTHS = ("equal", "different", "noise")
DRAWS = 200
UNCERTAIN = "ρ that the study leaves open"
Draw = Callable[[str, int, np.random.Generator], Judged]


def rows() -> dict[str, tuple[str, Draw]]:
    """Every row of the comparison in words → its kind, and a draw of its verdict."""
    found: dict[str, tuple[str, Draw]] = {}
    for claim in claims.reference().to_dict("records"):
        found[f"claim {claim['id']}"] = (str(claim["quantity"]), _claim(claim))
    for table in ("table1", "table2"):
        for cell in correlations.reference(table).to_dict("records"):
            kind = "ρ" if can_agree(cell) else UNCERTAIN
            found[f"{table}: {correlations.in_words(cell)}"] = (kind, _cell(cell))
    return found


def can_agree(cell: Mapping[Any, Any]) -> bool:
    """Whether the study knows a ρ so well that equal ones agree, with power 90 % at 20 seeds."""
    stated = _stated(cell)
    return verdicts.seeds_needed(stated.low, (stated.margin / 2) ** 2, stated, power=0.9) <= 20


def rates(draw: Draw, truth: str, seeds: int, draws: int = DRAWS) -> dict[str, float]:
    """Share of each word over draws of a truth."""
    rng = np.random.default_rng(0)
    words = [draw(truth, seeds, rng).word for _ in range(draws)]
    return {word: words.count(word) / draws for word in (AGREE, DIFFER, CANNOT_TELL)}


def _stated(cell: Mapping[Any, Any]) -> Target:
    rho = float(cell["rho_mean"])
    return Target(rho, rho, float(cell["margin"]), float(cell["rho_sd"]))


def _cell(cell: Mapping[Any, Any]) -> Draw:
    stated = _stated(cell)
    side = -1.0 if stated.low > 0 else 1.0

    def draw(truth: str, seeds: int, rng: np.random.Generator) -> Judged:
        # The study's mean is a draw around the truth, as ours is.
        off = rng.normal(scale=stated.sd / STUDY_SEEDS**0.5)
        own = stated._replace(low=stated.low + off, high=stated.high + off)
        values = _normal(truth, stated, side, seeds, rng)
        if truth == "different":
            values += side * 2 * stated.sd
        return verdicts.judge(values.clip(-1, 1) if truth != "noise" else values, own)

    return draw


def _claim(claim: Mapping[Any, Any]) -> Draw:
    stated, make = claims.target(claim), _SAMPLES.get(str(claim["quantity"]), _means)

    def draw(truth: str, seeds: int, rng: np.random.Generator) -> Judged:
        return claims.judge(claim, make(truth, stated, seeds, rng))

    return draw


def _normal(
    truth: str, stated: Target, side: float, seeds: int, rng: np.random.Generator
) -> Floats:
    """(seeds,) values about the middle of a range, about a point beyond its end, or anywhere."""
    low, high, margin = stated[:3]
    at = (low + high) / 2
    if truth == "different":
        at = (high if side > 0 else low) + side * 3 * margin
    spread = 5 * (high - low + 2 * margin) if truth == "noise" else margin / 2
    return rng.normal(at, spread, seeds)


def _means(truth: str, stated: Target, seeds: int, rng: np.random.Generator) -> Sample:
    parts = {f"α = {own}": _normal(truth, stated, 1.0, seeds, rng) for own in (0.2, 0.25, 0.3)}
    return _sample(parts)


def _steps(truth: str, stated: Target, seeds: int, rng: np.random.Generator) -> Sample:
    steps = _normal(truth, stated, 1.0, seeds, rng)
    if truth == "noise":
        steps = rng.uniform(stated.low - 15_000, stated.high + 15_000, seeds)
    steps = np.where((steps < 0) | (steps > HORIZON), np.nan, steps)
    return _sample({"": steps}, horizons={"": np.full(seeds, float(HORIZON))})


def _lags(truth: str, stated: Target, seeds: int, rng: np.random.Generator) -> Sample:
    shape = (seeds, 4)
    anywhere = rng.integers(-LAST_LAG // EVERY, LAST_LAG // EVERY + 1, shape) * float(EVERY)
    off = EVERY * rng.integers(-1, 2, shape) * (rng.random(shape) < 0.2)
    if truth == "random lags":
        lags = anywhere
    elif truth == "noise":
        lags = np.where(rng.random(shape) < 0.05, anywhere, np.nan)
    else:
        lags = stated.low + off + 3 * EVERY * (truth == "different")
    return _sample({"": lags}, grain=float(EVERY))


def _levels(truth: str, stated: Target, seeds: int, rng: np.random.Generator) -> Sample:
    last = {"equal": 0.1, "different": 0.05}.get(truth, rng.choice(LEVELS, seeds))
    return _sample({"": np.broadcast_to(np.asarray(last, float), (seeds,))}, grain=0.05)


def _peaks(truth: str, stated: Target, seeds: int, rng: np.random.Generator) -> Sample:
    shape = (seeds, 4)
    low, high = {"equal": (stated.low, stated.high), "different": (60_000, 100_000)}.get(
        truth, (0, 100_000)
    )
    steps = rng.integers(low, high, shape) // EVERY * float(EVERY)
    if truth == "noise":
        steps[rng.random(shape) >= 0.1] = np.nan
    return _sample({"": steps}, grain=float(EVERY))


def _sample(parts: Mapping[str, Floats], **other: Any) -> Sample:
    return Sample(parts=parts, direction=np.array([]), expected=1, run_ids=[], **other)


_SAMPLES = {
    "generalisation_step": _steps,
    "ccf_peak_lag_steps": _lags,
    "label_permutation_that_still_generalises": _levels,
    "h1_total_peak_step": _peaks,
}


def table(seeds: Sequence[int] = (5, 10, 20)) -> pd.DataFrame:
    """A row a kind of rule and truth: shares of agree / differ / cannot tell by number of seeds."""
    by_kind: dict[str, list[Draw]] = {}
    for kind, draw in rows().values():
        by_kind.setdefault(kind, []).append(draw)
    found = []
    for kind, draws in by_kind.items():
        lags = kind == "ccf_peak_lag_steps"
        for truth in (*TRUTHS, "random lags") if lags else TRUTHS:
            row: dict[str, Any] = {"rule": kind, "rows": len(draws), "truth": truth}
            for n in seeds:
                shares = pd.DataFrame([rates(draw, truth, n) for draw in draws]).mean()
                row[f"{n} seeds"] = " / ".join(f"{share:.3f}" for share in shares)
            found.append(row)
    return pd.DataFrame(found)


def main() -> None:
    """Prints the table as Markdown."""
    print(html_page.markdown(table()))


if __name__ == "__main__":
    main()
