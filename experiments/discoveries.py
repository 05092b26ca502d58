"""All tests of the comparison as one family, and what is left of them after its correction.

The family was declared before looking: every p-value that is printed of the study's claims, of the
cells of Tables 1 and 2 and of its lags. Cells have three each (shift, exchange, event); claims of a
change the t-test of its amounts over seeds or runs; lags the sign test of which event comes first.
Tests that could not be made do not count. Benjamini and Hochberg's correction (BH) holds for
tests that depend positively, Benjamini and Yekutieli's (BY) for any.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments import claims, correlations, crosscorrelation, html_page, registry
from experiments.artefact import Context
from experiments.correlations import LEVEL, TESTS
from grokjax import statistics

CELL_TESTS = ("shift", "exchange", "event")
HEADINGS = {
    "source": "source",
    "what": "what",
    "test": "test",
    "n": "seeds",
    "p_value": "p",
    "p_bh": "BH",
    "p_by": "BY",
}
TEXT = (
    "Shift: the mean ρ over seeds against surrogates in which each seed's changes of the statistic "
    "are rotated in time on their own. Its null says that the step could have come anywhere in "
    "training, and it is too hopeful where runs of a kind step at about the same time for "
    "unrelated reasons: of five seeds whose steps all keep to the middle half of training, 25 % "
    "of unrelated cases fall below 0.05, of twenty 83 %. Exchange pairs each seed's accuracy with "
    "the statistic of other seeds. "
    "Event asks whether the step at which a seed generalises and that at which its statistic has "
    "gone half of its way keep their distance, against other seeds' partners. The last two ask "
    "whether the two share their timing within a run. Change: t-test of what a claim says changes. "
    "First: sign test over seeds of which comes first at half of its way, accuracy or the "
    "statistic."
)


def family(
    contexts: Mapping[str, Context | None], tables: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Every test that could be made, with the columns of `HEADINGS` and ``bold``.

    Args:
        contexts: name of a sweep → what is there of it.
        tables: those of ``table1`` and ``table2`` that are there, from `correlations.measure`.
    """
    rows = [row for name, frame in tables.items() for row in _cells(name, frame)]
    sources = {source: one for one in registry.ARTEFACTS.values() for source in one.sources}
    for claim in claims.reference().to_dict("records"):
        context = contexts.get(sources[claim["artefact"]].training)
        if context is not None:
            rows += _claim(context, claim)
    frame = pd.DataFrame(rows, columns=["source", "what", "test", "n", "p_value", "bold"])
    frame = frame[frame["p_value"].notna()].reset_index(drop=True)
    frame["p_bh"] = statistics.benjamini_hochberg(frame["p_value"].to_numpy(np.float64))
    frame["p_by"] = statistics.benjamini_yekutieli(frame["p_value"].to_numpy(np.float64))
    return frame


def _cells(table: str, frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "source": table,
            "what": correlations.in_words(cell),
            "test": test,
            "n": cell["n_seeds"],
            "p_value": cell[TESTS[test]],
            "bold": cell["printed_bold"],
        }
        for cell in frame.to_dict("records")
        for test in CELL_TESTS
    ]


def _claim(context: Context, claim: Mapping[Any, Any]) -> list[dict[str, Any]]:
    if claim["quantity"] == "ccf_peak_lag_steps":
        lines = crosscorrelation.lines_of(context, claim["artefact"], claim["cloud"])
        return [_first(context, claim, line) for line in lines]
    sample = claims.measure(context, claim)
    # Steps of a peak and what generalises at all are no change that a t-test could be of.
    if sample is None or claim["phase"] == "memorisation" or claim["quantity"] not in _CHANGES:
        return []
    amounts = sample.direction[np.isfinite(sample.direction)]
    p_value = np.nan
    if len(amounts) > 1 and np.ptp(amounts) > 0:
        p_value = float(stats.ttest_1samp(amounts, 0.0).pvalue)
    return [{"source": claim["artefact"], "what": claims.in_words(claim), "test": "change",
             "n": len(amounts), "p_value": p_value}]  # fmt: skip


_CHANGES = ("generalisation_step", "h1_max", "h1_total", "lid_mean")


def _first(
    context: Context, claim: Mapping[Any, Any], line: crosscorrelation.Line
) -> dict[str, Any]:
    accuracy = context.values("metrics", "test_accuracy", line.run_ids)
    own = context.values("persistence", line.column, line.run_ids, line.cloud)
    halves = [
        {run_id: statistics.half_rise_step(frame.index, frame[run_id]) for run_id in frame}
        for frame in (accuracy, own)
    ]
    both = [run_id for run_id in line.run_ids if all(run_id in half for half in halves)]
    x, y = ([half[run_id] for run_id in both] for half in halves)
    found = statistics.lead_test(x, y)
    what = f"{line.column} of {line.cloud}, {line.label}: which comes first"
    n = found.n_x_first + found.n_y_first + found.n_tied
    return {"source": claim["artefact"], "what": what, "test": "first", "n": n,
            "p_value": found.p_value}  # fmt: skip


def fates(frame: pd.DataFrame) -> pd.DataFrame:
    """What is left of the study's bold cells, and of all tests: a row a table and test.

    Returns:
        Columns of tests made, below `LEVEL` as they are, and after each correction; for cells the
        same of those that the study printed bold.
    """
    rows = []
    for (source, test), own in frame.groupby(["source", "test"], sort=False):
        bold = own[own["bold"] == 1]
        below = {name: int((own[name] < LEVEL).sum()) for name in ("p_value", "p_bh", "p_by")}
        kept = {f"bold_{name}": int((bold[name] < LEVEL).sum()) for name in below}
        rows.append({"source": source, "test": test, "tests": len(own), **below,
                     "bold": len(bold), **kept})  # fmt: skip
    return pd.DataFrame(rows, columns=["source", "test", "tests", *_FATES])


_FATES = {
    "p_value": "below 0.05",
    "p_bh": "after BH",
    "p_by": "after BY",
    "bold": "bold in the paper",
    "bold_p_value": "of these below 0.05",
    "bold_p_bh": "after BH",
    "bold_p_by": "after BY",
}


def floors(frame: pd.DataFrame) -> str:
    """How small p-values can become, and how many findings it takes for one to count."""
    size = len(frame)
    words = [
        f"The family has {size} tests, so a lone finding needs p below {LEVEL / max(size, 1):.2g}."
    ]
    seeds = frame.groupby("test")["n"].max()
    for test, least in (("exchange", _exchange_floor), ("event", _event_floor),
                        ("first", _first_floor)):  # fmt: skip
        if test in seeds:
            k = int(seeds[test])
            floor = least(k)
            needed = statistics.findings_needed(floor, size)
            alone = next(n for n in range(2, 99) if least(n) <= LEVEL / size)
            count = f"{needed} tests must come to that for one to count"
            count = "none can count" if needed > size else count
            words.append(
                f"{test.capitalize()} has p of {floor:.2g} at least with {k} seeds: {count}; a "
                f"lone finding takes {alone} seeds."
            )
    return " ".join(words)


def _exchange_floor(seeds: int) -> float:
    return float(2 / np.prod(np.arange(1.0, seeds + 1)))


def _event_floor(seeds: int) -> float:
    return _exchange_floor(seeds) / 2


def _first_floor(seeds: int) -> float:
    return float(2.0 ** (1 - seeds))


def sections(frame: pd.DataFrame) -> list[str]:
    """The page's body for a family."""
    if frame.empty:
        return []
    text = (__doc__ or "").split("\n\n", 1)[1].replace("\n", " ").strip()
    return [
        "<h2>False discoveries: one family</h2>",
        *(html_page.paragraph(words) for words in (text, TEXT, floors(frame))),
        html_page.table(
            fates(frame), {"source": "source", "test": "test", "tests": "tests", **_FATES}
        ),
        "<h3>Every test</h3>",
        html_page.table(frame.sort_values("p_value", kind="stable"), HEADINGS, _kind),
    ]


def _kind(row: Mapping[str, Any], column: str) -> str:
    return "agree" if column.startswith("p_") and row[column] < LEVEL else ""
