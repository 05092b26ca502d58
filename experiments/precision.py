"""What the precision of products and of the loss does to the step of generalisation.

Question: with weight decay, do bfloat16 products or a float64 loss move the median step of
generalisation by more than seeds do?
Command: python -m experiments.precision [--workdir W] [flags of grokjax.sweep…]; 2 CPU cores, about
15 minutes. On a GPU add --precisions float32 bfloat16 tf32: TF32 products exist there alone.
Found, with what it means: experiments/results/precision/README.md.

Runs of the quick sweep's settings with true labels, ten seeds of each prime, once for each
precision and otherwise alike: same splits, same initial weights, same batches. So runs are compared
in pairs with their float32 twins; the differences between twins show how soon rounding alone
separates two trainings.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
from scipy import stats

import grokjax
from experiments import html_page

FLAGS = (
    *("--flagfile=experiments/quick.flags", "--label_permutations=0", "--diagnostics=none"),
    *("--seeds=0:10", "--checkpoint_every=40"),
)
AXES = ["prime", "seed"]


def name_of(precision: str, loss: str) -> str:
    """Of a combination, as a folder and in the table."""
    return precision if loss == "float32" else f"{precision}, {loss} loss"


def train(folder: pathlib.Path, precision: str, loss: str, flags: list[str]) -> pd.DataFrame:
    """Trains the grid at one precision, or what is missing of it; returns its table of runs."""
    workdir = folder / name_of(precision, loss).replace(", ", "-").replace(" ", "-")
    flags = [*FLAGS, *flags, f"--precision={precision}", f"--loss_precision={loss}"]
    command = [sys.executable, "-m", "grokjax.sweep", *flags, f"--workdir={workdir}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return grokjax.load(workdir).runs.set_index(AXES)


def interval(gap: pd.Series) -> str:
    """95 % bootstrap interval of the median difference between twins, over runs."""
    if gap.nunique() < 2:
        return "–"
    found = stats.bootstrap(
        (gap.to_numpy(float),), np.median, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return f"{found.low:,.0f} to {found.high:,.0f}"


def table(runs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a precision: how many generalised and when, and how far from their float32 twins."""
    first = next(iter(runs.values()))["generalisation_step"].astype("Float64")
    rows = []
    for name, frame in runs.items():
        step = frame["generalisation_step"].astype("Float64")
        gap = (step - first).dropna()
        rows.append(
            {
                "precision": name,
                "runs": len(frame),
                "memorised": int(frame["memorisation_step"].notna().sum()),
                "generalised": int(step.notna().sum()),
                "median step": step.median(),
                "earliest": step.min(),
                "latest": step.max(),
                "median of differences": gap.median(),
                "95 % interval": interval(gap),
                "largest difference": gap.abs().max(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Trains at each precision and prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("work/precision"))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    options, flags = parser.parse_known_args()
    combinations = [(precision, "float32") for precision in options.precisions]
    combinations.insert(1, ("float32", "float64"))
    runs = {name_of(*c): train(options.workdir, *c, flags) for c in combinations}
    print(html_page.markdown(table(runs)))


if __name__ == "__main__":
    main()
