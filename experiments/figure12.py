"""Figure 12: cross-correlation of test accuracy and H0 total, transformer, P = 1, 2, 5 and 10 %.

Claim:    the peak lies at about −1,000 steps at the embedding, −500 at layer 1 and 0 at layer 2:
          accuracy moves first.
Command:  python -m experiments.figure12 --workdir=work/paper [--scale=small]
Device:   the sweep transformer_permutation (its flagfile says how long); the figure takes seconds.
Expected: the claim. The table gives every seed's peak, a bootstrap interval of their mean, and
          whether the peak of the mean leaves the band of surrogates.
"""

from experiments import crosscorrelation, curves
from experiments.artefact import Artefact, Context, Output, main
from grokjax.settings import labels

LEVELS = (0.01, 0.02, 0.05, 0.1)
CLOUDS = ("embedding", "layer1", "layer2")


def lines(context: Context, cloud: str) -> list[crosscorrelation.Line]:
    """A line for each share of permuted labels."""
    return [
        crosscorrelation.Line(
            label=labels.in_words("label_permutation", level),
            run_ids=list(context.runs(label_permutation=level)["run_id"]),
            column="h0_total",
            cloud=cloud,
        )
        for level in LEVELS
    ]


def make(context: Context) -> Output:
    """A panel for each cloud."""
    chosen = {f"H0 total, {curves.cloud_in_words(c)}": lines(context, c) for c in CLOUDS}
    title = f"Figure 12: transformer, p = {context.prime(197)}, accuracy against H0 total"
    return crosscorrelation.figure(context, chosen, title)


ARTEFACT = Artefact(
    name="figure12",
    training="transformer_permutation",
    caption="Cross-correlation of accuracy and H0 total, transformer",
    make=make,
)

if __name__ == "__main__":
    main("figure12")
