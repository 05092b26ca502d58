"""MLPs at p = 197 and α = 0.2, those of Table 2, in words and sections.

As ``experiments.questions_numbers``.
"""

import pandas as pd

from experiments import committed
from experiments.committed import markdown, mean_interval, span


def cells() -> pd.DataFrame:
    """The cells of Table 2 with true labels."""
    rows = committed.cells("table2")
    return rows[rows.level == 0]


def true_labels() -> str:
    """The cells with true labels."""
    runs, own_cells = committed.table(f"{committed.TABLE2}/runs.parquet"), cells()
    metrics = committed.table(f"{committed.TABLE2}/metrics.parquet")
    own = committed.table(f"{committed.TABLE2}/persistence.parquet")
    came = runs.generalisation_step.dropna()
    last = metrics[metrics.step == metrics.step.max()].test_accuracy
    totals = [
        f"{row.cloud} {row.ours:.2f} ({row.low:.2f} to {row.high:.2f}; study {row.paper_low:.2f})"
        for row in own_cells[own_cells.statistic == "H1 total"].itertuples()
    ]
    rhos = committed.rhos(committed.TABLE2, own, "embedding", "h1_total")
    more = committed.table("table2/points512.parquet")
    doubled = {
        cloud: mean_interval(committed.rhos(committed.TABLE2, more, cloud, "h1_total"), 0.9)
        for cloud in dict.fromkeys(more.cloud)
    }
    points = [f"{cloud} {mean:.2f} ({low:.2f} to {high:.2f})"
              for cloud, (mean, low, high) in doubled.items()]  # fmt: skip
    words = committed.verdicts(own_cells)
    steps = f", at steps {span(came, ',.0f')}" if len(came) else ""
    return (
        f"{words[0].upper()}{words[1:]}. ρ of H1 total, means of {len(runs)} runs (90 %): "
        f"{'; '.join(totals)}.\n\n"
        f"{len(came)} of {len(runs)} runs generalise by step {metrics.step.max():,}{steps}; test "
        f"accuracies there {span(last, '.3f')}. Run by run ρ of H1 total is "
        f"{', '.join(f'{x:.2f}' for x in rhos)} in the embedding. Hidden states are of 256 test "
        f"pairs; of 512 it is {'; '.join(points)}. How many the study took is not stated."
    )


def true_labels_more() -> str:
    """All of these cells."""
    rows = [
        [row.statistic, row.cloud, f"{row.paper_low:.2f}",
         f"{row.ours:.2f} ({row.low:.2f} to {row.high:.2f})", str(row.n), row.verdict]
        for row in cells().itertuples()
    ]  # fmt: skip
    return markdown(["statistic", "layer", "study", "ours, mean (90 %)", "n", "verdict"], rows)
