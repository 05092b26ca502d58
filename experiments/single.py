"""One sweep's runs as in Figure 3, drawn from its own work directory, and their numbers.

Claim:    as Figure 3, for a sweep of one's own, such as a single run at the paper's size.
Command:  python -m experiments.single --workdir=W --out=FOLDER
Device:   reads tables only; seconds.
Expected: FOLDER/figure3-style.svg, and a Markdown table of windows: before is from memorisation up
          to generalisation, after is the last fifth of training.
"""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments import contrasts, curves, html_page
from experiments.artefact import Context
from experiments.evidence import Folder, Pool
from experiments.sweeps import TRAININGS
from grokjax import statistics
from grokjax.report import figures


def numbers(context: Context, runs: pd.DataFrame) -> pd.DataFrame:
    """Means before and after generalisation: a row a cloud and quantity, over the runs."""
    columns = ("h0_max", "h0_total", "h1_max", "h1_second", "h1_total")
    quantities = {"persistence": columns, "dimension": ("lid_mean",)}
    rows = [
        (cloud, column, np.nanmean(before), np.nanmean(after))
        for cloud, column, before, after in contrasts.changes(context, runs, quantities)
    ]
    return pd.DataFrame(rows, columns=["cloud", "quantity", "before", "after"])


def main(argv: Sequence[str] | None = None) -> None:
    """Draws, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args(argv)
    pool = Pool([Folder(arguments.workdir)])
    context = Context(pool=pool, training=TRAININGS["transformer_grid"], scale="paper")
    runs = context.runs()
    primes = ", ".join(str(p) for p in sorted(set(runs["prime"])))
    title = f"As Figure 3: {runs['model'].iloc[0]}, p = {primes}"
    output = curves.figure(context, runs, curves.TRANSFORMER, "train_fraction", title)
    arguments.out.mkdir(parents=True, exist_ok=True)
    assert output.figure is not None
    figures.save(output.figure, arguments.out / "figure3-style.svg")
    metrics = context.table("metrics")
    for run in runs.itertuples(index=False):
        own = metrics[metrics["run_id"] == run.run_id]
        found = statistics.threshold_sensitivity(
            own["step"].to_numpy(), own["test_accuracy"].to_numpy(), contrasts.THRESHOLDS
        )
        at = ", ".join(f"{level:g}: {step}" for level, step in found.items())
        print(f"{run.run_id}: memorised {run.memorisation_step}, generalised "
              f"{run.generalisation_step}; first step at test accuracy {at}")  # fmt: skip
    print(f"\n{html_page.markdown(numbers(context, runs))}")


if __name__ == "__main__":
    main()
