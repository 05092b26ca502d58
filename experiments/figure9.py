"""Figure 9: the MLP at p = 113: accuracy; H1 max and total of the embedding and of hidden layer 3.

Claim:    layer 3: H1 max rises while H1 total falls.
Command:  python -m experiments.figure9 --workdir=work/paper [--scale=small]
Device:   the sweep mlp_grid (its flagfile says how long); the figure takes a second.
Expected: the same shapes; the study states no numbers at p = 113.
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
    prime = context.prime(113)
    runs = context.runs(prime=prime)
    return curves.figure(context, runs, PANELS, "train_fraction", f"Figure 9: MLP, p = {prime}")


ARTEFACT = Artefact(
    name="figure9",
    training="mlp_grid",
    caption="MLP, p = 113: accuracy, H1 max and total of embedding and last layer",
    make=make,
)

if __name__ == "__main__":
    main("figure9")
