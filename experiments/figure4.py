"""Figure 4: the MLP at p = 197: accuracy; H1 max and total of the embedding and of hidden layer 3.

Claim:    the embedding's loop appears with generalisation; layer 3 total rises modestly.
Command:  python -m experiments.figure4 --workdir=work/paper [--scale=small]
Device:   the sweep mlp_grid (its flagfile says how long); the figure takes a second.
Expected: embedding H1 max about 0.08 → 0.29–0.35, total about 20 → 30–70; layer 3 max 0.4–0.5.
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
    prime = context.prime(197)
    runs = context.runs(prime=prime)
    return curves.figure(context, runs, PANELS, "train_fraction", f"Figure 4: MLP, p = {prime}")


ARTEFACT = Artefact(
    name="figure4",
    training="mlp_grid",
    caption="MLP, p = 197: accuracy, H1 max and total of embedding and last layer",
    make=make,
)

if __name__ == "__main__":
    main("figure4")
