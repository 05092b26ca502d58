"""Figure 11: the transformer under label permutation: accuracy; H0 and H1 total of two clouds.

Claim:    as Figure 5, in totals.
Command:  python -m experiments.figure11 --workdir=work/paper [--scale=small]
Device:   the sweep transformer_permutation (its flagfile says how long); the figure takes a second.
Clouds:   embedding, layer 1.
Expected: the claim; the study states no numbers beside Table 1.
"""

from experiments import curves
from experiments.artefact import Artefact, Context, Output, main

PANELS = (
    curves.ACCURACY,
    curves.persistence_panel("h0_total", "embedding"),
    curves.persistence_panel("h1_total", "embedding"),
    curves.persistence_panel("h0_total", "layer1"),
    curves.persistence_panel("h1_total", "layer1"),
)


def make(context: Context) -> Output:
    """A line for each share of permuted labels."""
    title = f"Figure 11: transformer under label permutation, p = {context.prime(197)}"
    return curves.figure(context, context.runs(), PANELS, "label_permutation", title)


ARTEFACT = Artefact(
    name="figure11",
    training="transformer_permutation",
    caption="transformer under label permutation: H0 total and H1 total",
    make=make,
)

if __name__ == "__main__":
    main("figure11")
