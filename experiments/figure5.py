"""Figure 5: the transformer under label permutation: accuracy; H0 max and H1 max at two clouds.

Claim:    the signature is there up to 10 % of permuted labels and absent from 20 % on.
Command:  python -m experiments.figure5 --workdir=work/paper [--scale=small]
Device:   the sweep transformer_permutation (its flagfile says how long); the figure takes a second.
Clouds:   embedding, layer 1.
Expected: the claim; the study states no numbers beside Table 1.
"""

from experiments import curves
from experiments.artefact import Artefact, Context, Output, main

PANELS = (
    curves.ACCURACY,
    curves.persistence_panel("h0_max", "embedding"),
    curves.persistence_panel("h1_max", "embedding"),
    curves.persistence_panel("h0_max", "layer1"),
    curves.persistence_panel("h1_max", "layer1"),
)


def make(context: Context) -> Output:
    """A line for each share of permuted labels."""
    title = f"Figure 5: transformer under label permutation, p = {context.prime(197)}"
    return curves.figure(context, context.runs(), PANELS, "label_permutation", title)


ARTEFACT = Artefact(
    name="figure5",
    training="transformer_permutation",
    caption="transformer under label permutation: H0 max and H1 max",
    make=make,
)

if __name__ == "__main__":
    main("figure5")
