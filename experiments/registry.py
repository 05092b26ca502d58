"""The study's fourteen figures and two tables, a row each, and their command.

``python -m experiments.figure3 --workdir=W`` trains what is missing and makes the artefact of that
name; ``--help`` tells what its row says.
"""

import functools
import textwrap
from collections.abc import Sequence
from typing import Any

from experiments import artefact, bold_cells, claims, crosscorrelation, curves, embedding
from experiments.artefact import Artefact, Context, Output

_MAXIMA, _TOTALS, _H1 = ("h0_max", "h1_max"), ("h0_total", "h1_total"), ("h1_max", "h1_total")
_PERMUTED = "under label permutation, p = {prime}"
# Sweep → title of its curves, and the column that has a line for each value.
_LINES = {
    "transformer_grid": ("transformer, p = {prime}", "train_fraction"),
    "mlp_grid": ("MLP, p = {prime}", "train_fraction"),
    "transformer_permutation": (f"transformer {_PERMUTED}", "label_permutation"),
    "mlp_permutation": (f"MLP {_PERMUTED}", "label_permutation"),
    "mnist": ("the control, {data}", "init_scale"),
}
_AS_FIGURE_3 = "as Figure 3 at p = 197; the study states no numbers."
_AT_LAYER_3 = "layer 3: H1 max rises while H1 total falls."


def _curves(training: str, chosen: Sequence[curves.Panel], **row: Any) -> Artefact:
    """A row that is panels of curves."""
    title, by = _LINES[training]
    shows = "; ".join(panel.title for panel in chosen)

    def make(context: Context, one: Artefact) -> Output:
        return curves.figure(context, one.runs(context), chosen, by, one.heading(context))

    return Artefact(training=training, title=title, shows=shows, make=make, **row)


_transformer = functools.partial(_curves, "transformer_grid", curves.TRANSFORMER)
_mlp = functools.partial(_curves, "mlp_grid", curves.beside_accuracy(("embedding", "hidden3"), _H1))
_embedding = functools.partial(Artefact, training="transformer_grid", prime=197, fraction=0.3)
_correlated = functools.partial(
    Artefact,
    prime=197,
    expected="The table gives every seed's peak, a bootstrap interval of their mean, and whether "
    "the peak of the mean leaves the band of surrogates.",
    takes="seconds",
)
_table = functools.partial(
    Artefact,
    title="Spearman's ρ of test accuracy and persistence",
    expected="ρ near the table's. Of the bold cells fewer survive surrogates and correction; the "
    "page says which, with every seed's value.",
    make=bold_cells.make,
    takes="about a minute, for the cells' surrogates",
)

_ROWS = (
    _embedding(
        name="figure1",
        title="transformer, p = {prime}, α = {fraction:g}, embedding, one seed",
        shows="persistence diagrams as it learns",
        claim="one H1 point separates from the rest: present at steps 30,000 and 50,000, not at "
        "step 0.",
        expected="longest H1 bar about 0.08 at first, 0.20 to 0.25 at the end, several times the "
        "second. We found the two longest bars nearly equal in places; the table gives both.",
        make=embedding.diagrams,
    ),
    _embedding(
        name="figure2",
        title="transformer, p = {prime}, α = {fraction:g}",
        shows="spectrum of the embedding; restricted and excluded accuracy",
        claim="the spectrum concentrates on few frequencies; both accuracies track test accuracy.",
        expected="about six frequencies hold most of the power by the end. By Nanda et al.'s "
        "definition excluded accuracy is over the training pairs; in our run at p = 113 "
        "(experiments/results/paper_p113) it stays at 0.8 to 1 and does not track test accuracy.",
        make=embedding.spectrum,
        takes="seconds",
    ),
    _transformer(
        name="figure3",
        prime=197,
        claim="α = 0.3 generalises long before α = 0.2, and topology and dimension step with it.",
    ),
    _mlp(
        name="figure4",
        prime=197,
        claim="the embedding's loop appears with generalisation; layer 3 total rises modestly.",
    ),
    _curves(
        "transformer_permutation",
        curves.beside_accuracy(("embedding", "layer1"), _MAXIMA),
        name="figure5",
        prime=197,
        claim="the signature is there up to 10 % of permuted labels and absent from 20 % on.",
        expected="the claim; the study states no other numbers beside Table 1.",
        sections=("sec4.3",),
    ),
    _curves(
        "mnist",
        curves.beside_accuracy(("hidden1",), _H1),
        name="figure6",
        claim="H1 max rises slowly and noisily, without a jump; H1 total peaks and then falls. "
        "Late generalisation alone does not make the signature.",
        expected="the claim; at init scale 8 train accuracy 100 % and test accuracy about 89 %. "
        "Without FOLDER scikit-learn's 8x8 digits stand in, and the title says so.",
    ),
    _transformer(
        name="figure7",
        prime=113,
        claim=_AS_FIGURE_3,
        expected="the same shapes; our p = 113 prototype: H1 max 0.08 → 0.25–0.44, total about 9 "
        "with no clear rise. experiments/results/paper_p113 has a run of the full length.",
    ),
    _transformer(name="figure8", prime=149, claim=_AS_FIGURE_3, expected="the same shapes."),
    _mlp(
        name="figure9",
        prime=113,
        claim=_AT_LAYER_3,
        expected="the same shapes; the study states no numbers at p = 113.",
    ),
    _mlp(name="figure10", prime=149, claim=_AT_LAYER_3),
    _curves(
        "transformer_permutation",
        curves.beside_accuracy(("embedding", "layer1"), _TOTALS),
        name="figure11",
        prime=197,
        claim="as Figure 5, in totals.",
        expected="the claim; the study states no numbers beside Table 1.",
    ),
    _correlated(
        name="figure12",
        training="transformer_permutation",
        title="transformer, p = {prime}, accuracy against H0 total",
        shows="cross-correlation, 1, 2, 5 and 10 % of labels permuted",
        claim="accuracy moves first: most at the embedding, less at layer 1, not at layer 2.",
        make=crosscorrelation.transformer,
    ),
    _curves(
        "mlp_permutation",
        curves.beside_accuracy(("embedding", "hidden1"), _MAXIMA),
        name="figure13",
        prime=197,
        claim="as Figure 5, for the MLP.",
        expected="the claim; the study states no numbers beside Table 2.",
    ),
    _correlated(
        name="figure14",
        training="mlp_permutation",
        title="MLP, p = {prime}, true labels, accuracy against topology",
        shows="cross-correlation, four statistics",
        claim="all four peak near lag 0.",
        make=crosscorrelation.mlp,
    ),
    _table(
        name="table1",
        training="transformer_permutation",
        shows="transformer, four statistics, three clouds, 60 cells",
        claim='the study\'s table, experiments/reference/table1.csv; bold cells have "p < 0.05".',
    ),
    _table(
        name="table2",
        training="mlp_permutation",
        shows="MLP, four statistics, four clouds, 80 cells",
        claim='the study\'s table, experiments/reference/table2.csv; bold cells have "p < 0.05".',
    ),
)
ARTEFACTS = {one.name: one for one in _ROWS}


def describe(one: Artefact) -> str:
    """What ``--help`` says above the flags; the study's numbers come from ``claims.csv``."""
    stated = claims.reference()
    numbers = [
        f"{' to '.join(dict.fromkeys((claim['low'], claim['high'])))}: {claims.in_words(claim)}"
        for claim in stated[stated["artefact"].isin(one.sources)].to_dict("records")
    ]
    folder = " --mnist_dir=FOLDER" if one.training == "mnist" else ""
    workdir = f"--workdir={artefact.DEFAULT_ROOT}{folder}"
    expected = [*numbers, *filter(None, [one.expected])]
    paragraphs = [
        f"Claim:    {one.claim}",
        f"Command:  python -m experiments.{one.name} {workdir} [--scale=small]",
        f"Device:   the sweep {one.training} (its flagfile says how long); the {one.kind} takes "
        f"{one.takes}.",
        f"Expected: {expected[0]}",
        *(f"{'':10}{text}" for text in expected[1:]),
    ]
    wrapped = [textwrap.fill(text, 100, subsequent_indent=" " * 10) for text in paragraphs]
    return "\n".join([textwrap.fill(one.headline, 100), "", *wrapped])


def main(module: str, argv: Sequence[str] | None = None) -> None:
    """Runs the command of the artefact that a module is named after."""
    one = ARTEFACTS[module.rpartition(".")[2]]
    arguments = artefact.parser(describe(one)).parse_args(argv)
    artefact.ensure(one.training, arguments)
    artefact.make(one, arguments.workdir, arguments.scale)
