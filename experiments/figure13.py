"""Figure 13: the MLP under label permutation: accuracy; H0 max and H1 max at two clouds.

Claim:    as Figure 5, for the MLP.
Command:  python -m experiments.figure13 --workdir=work/paper [--scale=small]
Device:   the sweep mlp_permutation (its flagfile says how long); the figure takes a second.
Clouds:   embedding, hidden layer 1.
Expected: the claim; the study states no numbers beside Table 2.
"""

from experiments import curves
from experiments.artefact import Artefact, Context, Output, main

PANELS = (
    curves.ACCURACY,
    curves.persistence_panel("h0_max", "embedding"),
    curves.persistence_panel("h1_max", "embedding"),
    curves.persistence_panel("h0_max", "hidden1"),
    curves.persistence_panel("h1_max", "hidden1"),
)


def make(context: Context) -> Output:
    """A line for each share of permuted labels."""
    title = f"Figure 13: MLP under label permutation, p = {context.prime(197)}"
    return curves.figure(context, context.runs(), PANELS, "label_permutation", title)


ARTEFACT = Artefact(
    name="figure13",
    training="mlp_permutation",
    caption="MLP under label permutation: H0 max and H1 max",
    make=make,
)

if __name__ == "__main__":
    main("figure13")
