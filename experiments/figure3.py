"""Figure 3: the transformer at p = 197: accuracy, local dimension, H1 max and H1 total.

Claim:    α = 0.3 generalises at steps 15,000 to 20,000, α = 0.2 at 35,000 to 45,000, and topology
          and dimension step with it.
Command:  python -m experiments.figure3 --workdir=work/paper [--scale=small]
Device:   the sweep transformer_grid (its flagfile says how long); the figure takes a second.
Expected: H1 max 0.075–0.08 → 0.20–0.25, H1 total about 20 → 30–50, local dimension 20–25 → about 5.
"""

from experiments import curves
from experiments.artefact import Artefact, Context, Output, main

PANELS = (
    curves.ACCURACY,
    curves.LID,
    curves.persistence_panel("h1_max", "embedding"),
    curves.persistence_panel("h1_total", "embedding"),
)


def make(context: Context) -> Output:
    """A line for each train fraction."""
    prime = context.prime(197)
    title = f"Figure 3: transformer, p = {prime}"
    runs = context.runs(prime=prime)
    return curves.figure(context, runs, PANELS, "train_fraction", title, columns=2)


ARTEFACT = Artefact(
    name="figure3",
    training="transformer_grid",
    caption="Transformer, p = 197: accuracy, local dimension, H1 max and total",
    make=make,
)

if __name__ == "__main__":
    main("figure3")
