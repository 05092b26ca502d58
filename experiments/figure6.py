"""Figure 6: the control on MNIST: accuracy, H1 max and H1 total after the first hidden layer.

Claim:    H1 max rises slowly and noisily, without a jump; H1 total peaks at steps 25,000 to 50,000
          and then falls. Late generalisation alone does not make the signature.
Command:  python -m experiments.figure6 --workdir=work/paper --mnist_dir=FOLDER [--scale=small]
Device:   the sweep mnist (its flagfile says how long); the figure takes a second.
Expected: the claim; at init scale 8 train accuracy 100 % and test accuracy about 89 %. Without
          FOLDER scikit-learn's 8x8 digits stand in, and the title says so.
"""

from experiments import curves
from experiments.artefact import Artefact, Context, Output, main
from grokjax.settings import labels

PANELS = (
    curves.ACCURACY,
    curves.persistence_panel("h1_max", "hidden1"),
    curves.persistence_panel("h1_total", "hidden1"),
)


def make(context: Context) -> Output:
    """A line for each init scale."""
    runs = context.runs()
    data = labels.in_words("operation", runs["operation"].iloc[0])
    title = f"Figure 6: the control, {data}"
    return curves.figure(context, runs, PANELS, "init_scale", title)


ARTEFACT = Artefact(
    name="figure6",
    training="mnist",
    caption="Control on images: accuracy, H1 max and total of the first hidden layer",
    make=make,
)

if __name__ == "__main__":
    main("figure6")
