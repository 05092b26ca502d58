"""Figure 7: the transformer at p = 113: accuracy, local dimension, H1 max and H1 total.

Claim:    as Figure 3 at p = 197; the study states no numbers.
Command:  python -m experiments.figure7 --workdir=work/paper [--scale=small]
Device:   the sweep transformer_grid (its flagfile says how long); the figure takes a second.
Expected: the same shapes; our p = 113 prototype: H1 max 0.08 → 0.25–0.44, total about 9
          with no clear rise. experiments/results/paper_p113 has a run of the full length.
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
    prime = context.prime(113)
    title = f"Figure 7: transformer, p = {prime}"
    runs = context.runs(prime=prime)
    return curves.figure(context, runs, PANELS, "train_fraction", title, columns=2)


ARTEFACT = Artefact(
    name="figure7",
    training="transformer_grid",
    caption="Transformer, p = 113: accuracy, local dimension, H1 max and total",
    make=make,
)

if __name__ == "__main__":
    main("figure7")
