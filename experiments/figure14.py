"""Figure 14: cross-correlation of test accuracy and four statistics, MLP with true labels.

Claim:    all four peak near lag 0.
Command:  python -m experiments.figure14 --workdir=work/paper [--scale=small]
Device:   the sweep mlp_permutation (its flagfile says how long); the figure takes seconds.
Expected: the claim. The table gives every seed's peak, a bootstrap interval of their mean, and
          whether the peak of the mean leaves the band of surrogates.
"""

from experiments import crosscorrelation, curves
from experiments.artefact import Artefact, Context, Output, main
from grokjax.settings import labels

STATISTICS = ("h0_max", "h0_total", "h1_max", "h1_total")
CLOUDS = ("embedding", "hidden1", "hidden2", "hidden3")


def lines(context: Context) -> list[crosscorrelation.Line]:
    """A line for each statistic and cloud, over all seeds."""
    run_ids = list(context.runs(label_permutation=0.0)["run_id"])
    return [
        crosscorrelation.Line(
            label=curves.cloud_in_words(cloud), run_ids=run_ids, column=column, cloud=cloud
        )
        for column in STATISTICS
        for cloud in CLOUDS
    ]


def make(context: Context) -> Output:
    """A panel for each statistic, a line for each cloud."""
    every = lines(context)
    chosen = {
        labels.COLUMNS[column]: [line for line in every if line.column == column]
        for column in STATISTICS
    }
    title = f"Figure 14: MLP, p = {context.prime(197)}, true labels, accuracy against topology"
    return crosscorrelation.figure(context, chosen, title)


ARTEFACT = Artefact(
    name="figure14",
    training="mlp_permutation",
    caption="Cross-correlation of accuracy and four statistics, MLP",
    make=make,
)

if __name__ == "__main__":
    main("figure14")
