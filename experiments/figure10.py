"""Figure 10: the MLP at p = 149: accuracy; H1 max and total of the embedding and of hidden layer 3.

Claim:    layer 3: H1 max rises while H1 total falls, about 15 → 8–10.
Command:  python -m experiments.figure10 --workdir=work/paper [--scale=small]
Device:   the sweep mlp_grid (its flagfile says how long); the figure takes a second.
Expected: the claim.
"""

from experiments import curves
from experiments.artefact import Artefact, Context, Output, main

PANELS = (
    curves.ACCURACY,
    curves.persistence_panel("h1_max", "embedding"),
    curves.persistence_panel("h1_total", "embedding"),
    curves.persistence_panel("h1_max", "hidden3"),
    curves.persistence_panel("h1_total", "hidden3"),
)


def make(context: Context) -> Output:
    """A line for each train fraction."""
    prime = context.prime(149)
    runs = context.runs(prime=prime)
    return curves.figure(context, runs, PANELS, "train_fraction", f"Figure 10: MLP, p = {prime}")


ARTEFACT = Artefact(
    name="figure10",
    training="mlp_grid",
    caption="MLP, p = 149: accuracy, H1 max and total of embedding and last layer",
    make=make,
)

if __name__ == "__main__":
    main("figure10")
