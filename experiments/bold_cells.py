"""What honest p-values do to the bold cells of Tables 1 and 2, as a page."""

import pandas as pd

from experiments import correlations, html_page
from experiments.artefact import Artefact, Context, Output

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
    **{column: f"p {test}" for test, column in correlations.TESTS.items()},
}

_WHY = (
    "A grokking run makes accuracy and topology step once each, and checkpoints are strongly "
    "autocorrelated: ordinary Spearman calls 91 % of independent pairs of such series significant. "
    "Shift, block and phase are surrogates of the mean ρ over seeds: each seed's changes of the "
    "statistic rotated in time or rearranged. Exchange pairs each seed's accuracy with the "
    "statistic of other seeds. Event asks whether the steps of the two keep their distance from "
    "seed to seed. These p-values are as they are: they are corrected for false discoveries "
    "together with those of the other table, of claims and of lags, on the page that compares, "
    "and a cell below 0.05 here may not be there."
)


def sections(frame: pd.DataFrame, label: str, scale: str) -> list[str]:
    """The page's body for one table of `correlations.measure`."""
    tested = frame[frame["n_seeds"] > 0]
    body = [f"<h2>{label}: the bold cells under honest p-values</h2>"]
    if scale == "small":
        body.append(
            html_page.paragraph(
                "Small scale: other primes, networks and budgets than the study's. What happens to "
                "a bold cell here says how the tests behave, not whether the study's cell holds.",
                "note",
            )
        )
    draws = ", ".join(f"{test} {n:,}" for test, n in correlations.N_SURROGATES.items())
    counts = (
        f"{len(tested)} of {len(frame)} cells could be tested, with at most "
        f"{int(frame['n_checkpoints'].max())} checkpoints and {int(frame['n_seeds'].max())} seeds "
        f"each. Draws: {draws}."
    )
    shown = tested.assign(paper_bold=tested["printed_bold"].map({1: "bold", 0: "plain"}))
    body += [html_page.paragraph(text) for text in (_WHY, counts)]
    return [*body, html_page.table(shown, _HEADINGS)]


def make(context: Context, one: Artefact) -> Output:
    """Numbers and page of a table."""
    frame = correlations.measure(context, one.name)
    page = html_page.document(one.heading(context), sections(frame, one.label, context.scale))
    return Output(numbers=frame, page=page)
