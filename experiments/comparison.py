"""The study's numbers beside ours: agree, differ, cannot tell or not run, and by how much.

Claim:    everything in experiments/reference/, with the margin that is declared there.
Command:  python -m experiments.comparison --out=FOLDER [--workdir=work/paper] [--scale=small]
          [--evidence=FOLDER,FOLDER…]; folders are work directories or tables alone
Device:   reads tables only; a minute.
Expected: FOLDER/comparison.html and .csv. What is there is compared: some primes, some seeds, fewer
          steps; each row says what of it.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments import (
    artefact,
    claims,
    correlations,
    discoveries,
    html_page,
    registry,
    sweeps,
    verdicts,
)
from experiments.artefact import Context, Output
from experiments.claims import Floats, Sample
from experiments.sweeps import TRAININGS
from experiments.verdicts import AGREE, CANNOT_TELL, DIFFER, NOT_RUN, Judged, Target
from grokjax import statistics

SAME, OTHER, UNCLEAR = "same direction", "other direction", "no clear direction"
NO_CLAIM = "no direction claimed"
# Columns, and what stands above them on the page.
HEADINGS = {
    "source": "source",
    "what": "what",
    "paper_low": "paper from",
    "paper_high": "to",
    "margin": "margin",
    "ours": "ours",
    "low": "90 % from",
    "high": "to",
    "n": "n",
    "verdict": "verdict",
    "seeds_needed": "seeds a verdict needs",
    "note": "note",
}
RULE = (
    "Agree: the 90 % interval of ours, over seeds, lies within the margin of what the paper "
    "states. Differ: it lies wholly beyond (for means, the 95 % interval). Cannot tell: neither, "
    "or too few seeds. So, for values over seeds that are about normal, each of the first two "
    "words is wrong in at most one case of twenty, and spread over seeds widens nothing. Margins "
    "were declared, with a reason each, beside the paper's numbers (below). In a cell of a table "
    "the standard error of the paper's own mean over its five seeds counts as well as ours; where "
    "a run of ours trained for less and has not generalised yet, it cannot be told. Of lags such "
    "runs are left out. Steps "
    "of generalisation are medians in which runs that never came count. A number stated of all "
    "train fractions agrees if it does at each that is there."
)
PARTIAL = (
    "What is there is compared, and the note says where it is less than the whole sweep: some "
    "train fractions, some seeds, fewer steps. Of runs that trained for less, after is the last "
    "fifth of what they trained, and ρ is over the checkpoints that they have: with the whole "
    "length either can still move. Not run: nothing of the number is there."
)
SMALL_RULE = (
    "Same or other direction: the 90 % interval of the mean change over runs lies wholly on that "
    "side of none; no clear direction: it does not. A cell whose ρ in the paper is not told from 0 "
    "by its own five seeds claims no direction."
)


def compare(contexts: Mapping[str, Context | None], scale: str) -> pd.DataFrame:
    """Every row of the claims and of both tables, with the columns of `HEADINGS`.

    Args:
        contexts: name of a sweep → what is there of it.
        scale: ``paper`` or ``small``.
    """
    sources = {source: one for one in registry.ARTEFACTS.values() for source in one.sources}
    rows = [
        claim_row(claim, contexts.get(sources[claim["artefact"]].training))
        for claim in claims.reference().to_dict("records")
    ]
    for one in registry.ARTEFACTS.values():
        if one.kind == "table":
            context = contexts.get(one.training)
            cells = correlations.reference(one.name).to_dict("records")
            rows += [cell_row(one.name, cell, context) for cell in cells]
    return pd.DataFrame(rows, columns=[*HEADINGS, "margin_reason"])


def claim_row(claim: Mapping[Any, Any], context: Context | None) -> dict[str, Any]:
    """One row of the claims; ``context`` is None where nothing of its sweep is there."""
    stated = claims.target(claim)
    row = _stated(claim["artefact"], claims.in_words(claim), stated, claim["margin_reason"])
    sample = context and claims.measure(context, claim)
    if context is None or sample is None:
        return row
    if context.scale == "small" and sample.expected == 0:
        # Half of the steps between checkpoints here, as the study's margin is of its own.
        claim = {**claim, "margin": sample.grain / 2}
    judged = claims.judge(claim, sample)
    word = small_word(judged, sample) if context.scale == "small" else judged.word
    note = "; ".join(filter(None, (sample.note, horizon(context, sample.run_ids))))
    return {**row, **_found(judged), "verdict": word, "note": note}


def small_word(judged: Judged, sample: Sample) -> str:
    """What small scale says of a claim; "about none" is judged as it is at the paper's."""
    if sample.expected == 0:
        return {AGREE: SAME, DIFFER: OTHER}.get(judged.word, UNCLEAR)
    return direction(sample.direction, sample.expected)


def cell_row(table: str, cell: Mapping[Any, Any], context: Context | None) -> dict[str, Any]:
    """One cell of Table 1 or 2."""
    rho, sd = float(cell["rho_mean"]), float(cell["rho_sd"])
    stated = Target(rho, rho, float(cell["margin"]), sd)
    row = _stated(table, correlations.in_words(cell), stated, cell["margin_reason"])
    series = correlations.series(context, cell) if context else {}
    rhos = np.array([statistics.spearman(x, y)[0] for x, y in series.values()])
    if context is None or not series:
        return row
    judged = verdicts.judge(rhos, stated)
    waiting = context.not_yet(series)
    word = CANNOT_TELL if waiting else judged.word
    if context.scale == "small":
        error = sd / verdicts.STUDY_SEEDS**0.5
        claimed = abs(rho) > stats.t.isf(0.025, verdicts.STUDY_SEEDS - 1) * error
        word = direction(rhos, int(np.sign(rho))) if claimed else NO_CLAIM
    undefined = int(np.isnan(rhos).sum())
    notes = [f"ρ of {undefined} seeds is not defined: a series is constant"] if undefined else []
    notes += [f"{len(waiting)} of {len(series)} have not generalised yet"] if waiting else []
    note = "; ".join(filter(None, (*notes, horizon(context, list(series)))))
    found = _found(judged) | ({"seeds_needed": np.nan} if waiting else {})
    return {**row, **found, "verdict": word, "note": note}


def direction(amounts: Floats, expected: int) -> str:
    """Whether the 90 % interval of the mean of signed amounts lies on the side of 1 or −1."""
    finite = amounts[np.isfinite(amounts)]
    if finite.size < 2:
        return UNCLEAR
    mean, error = float(finite.mean()), float(finite.std(ddof=1)) / finite.size**0.5
    if abs(mean) <= stats.t.isf(0.05, finite.size - 1) * error:
        return UNCLEAR
    return SAME if np.sign(mean) == expected else OTHER


def horizon(context: Context, run_ids: Iterable[str]) -> str:
    """How long these runs trained, where that is not what the study's did."""
    wanted = context.training.steps(context.scale)
    ends = sorted({context.pool.horizons[run_id] for run_id in run_ids} - {wanted})
    ended = int(context.table("runs")["status"].isin(("diverged", "failed")).sum())
    words = [f"to step {' or '.join(f'{end:,}' for end in ends)} of {wanted:,}"] if ends else []
    words += [f"{ended} runs of the sweep diverged or failed"] if ended else []
    return "; ".join(words)


def _stated(source: str, what: str, stated: Target, reason: str) -> dict[str, Any]:
    empty = dict.fromkeys(("ours", "low", "high", "seeds_needed"), np.nan)
    own = {"paper_low": stated.low, "paper_high": stated.high, "margin": stated.margin}
    found = {**empty, "n": 0, "verdict": NOT_RUN, "note": ""}
    return {"source": source, "what": what, **own, **found, "margin_reason": reason}


def _found(judged: Judged) -> dict[str, Any]:
    return {
        "ours": judged.estimate,
        "low": judged.low,
        "high": judged.high,
        "n": judged.n,
        "seeds_needed": judged.seeds_needed,
    }


# --------------------------------------------------------------------------- the page


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """How many rows of each source got which verdict."""
    found = pd.crosstab(frame["source"], frame["verdict"]).reindex(frame["source"].unique())
    order = [AGREE, DIFFER, CANNOT_TELL, SAME, OTHER, UNCLEAR, NO_CLAIM, NOT_RUN]
    return found[[word for word in order if word in found]].reset_index()


def margins(frame: pd.DataFrame) -> pd.DataFrame:
    """Every margin that was declared, with its reason and how many rows it is for."""
    by = ["margin", "margin_reason"]
    found = frame.groupby(by, sort=False).agg(rows=("what", "size"), first=("what", "first"))
    return found.reset_index()[["margin", "rows", "first", "margin_reason"]]


def needed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows on which nothing can be said yet, those that need fewest seeds first."""
    rows = frame[frame["verdict"] == CANNOT_TELL].sort_values("seeds_needed", kind="stable")
    why = [
        "too little is there to say: one seed, no peaks, a median that never came, or runs that "
        "may generalise yet"
        if np.isnan(n)
        else ""
        if np.isfinite(n)
        else "the paper's own standard error leaves it open, however many seeds we add"
        if source.startswith("table")
        else "ours lies at the edge of the margin"
        for n, source in zip(rows["seeds_needed"], rows["source"], strict=True)
    ]
    return rows.assign(why=why)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with numbers of seeds as words, for the page."""
    most = f"> {verdicts.MOST_SEEDS:,}"
    words = ["–" if np.isnan(n) else f"{n:g}" if np.isfinite(n) else most
             for n in frame["seeds_needed"]]  # fmt: skip
    return frame.assign(seeds_needed=words)


def body(frame: pd.DataFrame, contexts: Iterable[Context | None], scale: str) -> list[str]:
    """The page: the rule, how many rows got which verdict, every row, margins, seeds needed."""
    used = frame[frame["verdict"] != NOT_RUN]
    left = frame[frame["verdict"] == NOT_RUN]
    given = int(frame["verdict"].isin((AGREE, DIFFER)).sum())
    chance = f"Of {given} verdicts that are one of the first two words, chance alone can have made "
    chance += f"{given * verdicts.LEVEL:.1f} wrong on average, at most."
    rule = (SMALL_RULE,) if scale == "small" else (RULE, chance)
    of_paper = ("margin", "seeds_needed") if scale == "small" else ()
    heads = {name: text for name, text in HEADINGS.items() if name not in of_paper}
    found = [
        *(html_page.paragraph(text) for text in (*rule, PARTIAL)),
        "<h2>Verdicts</h2>",
        html_page.table(counts(frame)),
        "<h2>What was compared</h2>",
        html_page.table(sources([context for context in contexts if context is not None])),
        "<h2>Every number of which something is there</h2>",
        html_page.table(shown(used), heads, kind),
    ]
    if scale == "paper":
        heads = {name: text for name, text in HEADINGS.items() if name not in ("verdict", "note")}
        found += [
            "<h2>How many seeds a verdict would need</h2>",
            html_page.paragraph(
                "Of the rows on which nothing can be said: the fewest seeds, in all, that give one "
                "of the two other verdicts with a power of 80 %, if mean and spread stay what they "
                "are. A mean that moves can make it fewer, more, or the other verdict."
            ),
            html_page.table(shown(needed(frame)), {**heads, "why": "why"}),
            "<h2>Margins</h2>",
            html_page.table(margins(frame), _MARGINS),
        ]
    heads = {name: HEADINGS[name] for name in ("source", "what", "paper_low", "paper_high")}
    return [*found, f"<h2>Not run: {len(left)} numbers</h2>", html_page.table(left, heads)]


_MARGINS = {"margin": "margin", "rows": "numbers", "first": "the first of them",
            "margin_reason": "reason"}  # fmt: skip


def kind(row: Mapping[str, Any], column: str) -> str:
    """CSS class of a cell."""
    same, other = row["verdict"] in (AGREE, SAME), row["verdict"] in (DIFFER, OTHER)
    return "" if column != "verdict" else "agree" if same else "differ" if other else "none"


def sources(contexts: Sequence[Context]) -> pd.DataFrame:
    """The runs that were compared: a row a sweep and folder."""
    rows = []
    for context in contexts:
        runs = context.table("runs")
        known = {"sweep": context.training.name, "of": len(context.training.ids(context.scale))}
        settings = {
            name: ", ".join(f"{value:g}" for value in sorted(set(runs[name].dropna())))
            for name in ("prime", "train_fraction", "label_permutation", "seed")
        }
        ends = sorted(set(context.pool.horizons.values()))
        rows.append(
            {
                "sweep": known["sweep"],
                "runs": len(runs),
                "of": known["of"],
                **settings,
                "steps": ", ".join(f"{end:,}" for end in ends),
                "clouds": ", ".join(dict.fromkeys(context.table("persistence")["cloud"])),
                "from": ", ".join(path.name for path in context.pool.paths),
            }
        )
    return pd.DataFrame(rows)


def contexts_of(
    root: pathlib.Path, scale: str, more: Sequence[pathlib.Path] = ()
) -> dict[str, Context | None]:
    """What is there of each sweep."""
    return {name: artefact.load(name, root, scale, more) for name in TRAININGS}


def measured(contexts: Mapping[str, Context | None]) -> dict[str, pd.DataFrame]:
    """Tables 1 and 2 as far as they are there."""
    return {
        one.name: correlations.measure(context, one.name)
        for one in registry.ARTEFACTS.values()
        if one.kind == "table" and (context := contexts.get(one.training)) is not None
    }


def title(scale: str) -> str:
    """Of the page."""
    words = "Topological Signatures of Grokking: the study's numbers beside ours"
    return words + (" – SMALL SCALE" if scale == "small" else "")


def main(argv: Sequence[str] | None = None) -> None:
    """Compares what is there; trains nothing."""
    parser = artefact.parser(__doc__)
    parser.add_argument("--evidence", default="", help="further folders with runs (comma list)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for what is made")
    arguments = parser.parse_args(argv)
    scale = arguments.scale
    more = [pathlib.Path(name) for name in arguments.evidence.split(",") if name]
    contexts = contexts_of(arguments.workdir, scale, more)
    frame = compare(contexts, scale)
    tests = discoveries.family(contexts, measured(contexts))
    content = [*body(frame, contexts.values(), scale), *discoveries.sections(tests)]
    page = html_page.document(title(scale), content)
    name = sweeps.at_scale("comparison", scale)
    artefact.save(name, arguments.out, Output(numbers=frame, page=page))
    artefact.save(sweeps.at_scale("discoveries", scale), arguments.out, Output(numbers=tests))
    print(html_page.markdown(counts(frame)))


if __name__ == "__main__":
    main()
