"""What honest p-values do to the bold cells of Tables 1 and 2, as a page."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments import correlations, html_page
from experiments.artefact import Artefact, Context, Output
from experiments.correlations import LEVEL

_HEADINGS = {
    "statistic": "statistic",
    "cloud": "cloud",
    "label_permutation": "labels permuted",
    "rho_mean": "paper ρ",
    "rho_sd": "± SD",
    "paper_bold": "paper bold",
    "ours_mean": "our ρ",
    "ours_sd": "± SD",
    "n_seeds": "seeds",
    "per_seed": "ρ of each seed",
    "naive_significant": "seeds significant by ordinary Spearman",
    "p_shift": "p shift",
    "p_block": "p block",
    "p_phase": "p phase",
    "p_exchange": "p exchange",
    "p_shift_bh": "shift, BH",
    "p_shift_by": "shift, BY",
    "p_exchange_bh": "exchange, BH",
    "p_exchange_by": "exchange, BY",
}

_WHY = (
    "A grokking run makes accuracy and topology step once each, and checkpoints are strongly "
    "autocorrelated: ordinary Spearman calls 91 % of independent pairs of such series significant. "
    "Shift: the mean ρ over seeds against surrogates in which each seed's changes of the statistic "
    "are rotated in time on their own; block and phase rearrange them otherwise. Its null says "
    "that the step could have come anywhere in training, and it is too hopeful where runs of a "
    "kind step at about the same time for unrelated reasons: of five seeds whose steps all keep "
    "to the middle half of training, 37 % of unrelated cases fall below 0.05. Exchange pairs each "
    "seed's accuracy with the statistic of other seeds; it asks whether the two share their timing "
    "within a run, and keeps to 6–7 % there. A cell is safe where both call it significant."
)


def sections(frame: pd.DataFrame, label: str, scale: str) -> list[str]:
    """The page's body for one table of `correlations.measure`."""
    seeds = int(frame["n_seeds"].max())
    smallest = correlations.smallest_exchange_p(seeds)
    notes = [
        f"Family: the {int((frame['n_seeds'] > 0).sum())} cells of {label} that could be "
        f"tested, {int(frame['n_checkpoints'].max())} checkpoints and at most {seeds} seeds each, "
        f"{correlations.N_SURROGATES} surrogates; corrected after Benjamini and Hochberg (BH) and "
        f"Benjamini and Yekutieli (BY, any dependence). Level {LEVEL:g}. With {seeds} seeds "
        f"exchange cannot give p much below {smallest:.2g}"
        + (": it cannot call any cell significant." if smallest >= LEVEL else ".")
    ]
    body = [f"<h2>{label}: the bold cells under honest p-values</h2>"]
    if scale == "small":
        body.append(
            html_page.paragraph(
                "Small scale: other primes, networks and budgets than the study's. What happens to "
                "a bold cell here says how the tests behave, not whether the study's cell holds.",
                "note",
            )
        )
    body += [html_page.paragraph(text) for text in (_WHY, *notes)]
    body.append(
        html_page.table(
            correlations.fates(frame),
            {
                "test": "test",
                "correction": "correction",
                "bold": "bold in the paper",
                "stay": "significant here",
                "lost": "not significant here",
                "plain_but_significant": "plain in the paper, significant here",
            },
        )
    )
    shown = frame.assign(paper_bold=frame["printed_bold"].map({1: "bold", 0: "plain"}))
    body.append(html_page.table(shown, _HEADINGS, _kind))
    return body


def _kind(row: Mapping[str, Any], column: str) -> str:
    if not column.startswith("p_") or pd.isna(row[column]):
        return ""
    return "agree" if row[column] < LEVEL else "none"


def make(context: Context, one: Artefact) -> Output:
    """Numbers and page of a table."""
    frame = correlations.measure(context, one.name)
    page = html_page.document(one.heading(context), sections(frame, one.label, context.scale))
    return Output(numbers=frame, page=page)
