"""Table 2: Spearman's ρ of test accuracy and four statistics, MLP, four clouds.

Claim:    the study's table, experiments/reference/table2.csv; bold cells have "p < 0.05".
Command:  python -m experiments.table2 --workdir=work/paper [--scale=small]
Device:   the sweep mlp_permutation (its flagfile says how long); the 80 cells and their
          surrogates take about a minute.
Expected: ρ near the table's. Of the bold cells fewer survive surrogates and correction; the page
          says which, with every seed's value.
"""

from experiments import bold_cells
from experiments.artefact import Artefact, Context, Output, main


def make(context: Context) -> Output:
    """Every cell with its tests, and the page of bold cells."""
    return bold_cells.make(context, "table2")


ARTEFACT = Artefact(
    name="table2",
    training="mlp_permutation",
    caption="Spearman's ρ of accuracy and persistence, MLP",
    make=make,
)

if __name__ == "__main__":
    main("table2")
