"""What the precision of products and of the loss does to the step of generalisation.

Question: with weight decay, do products of bfloat16, of bfloat16 in three passes or a float64 loss
move the median step of generalisation by more than seeds do? And how large are the errors of
products?
Command: python -m experiments.precision [--errors] [--workdir W] [flags of grokjax.sweep…]; 2 CPU
cores, about 25 minutes, with --errors (of products alone) seconds. On a GPU add --precisions
float32 tf32x3 tf32: TF32 products exist there alone.
Found, with what it means: experiments/results/precision/README.md.

Runs of the quick sweep's networks with true labels, at a constant learning rate and a weight decay
of 1, ten seeds of each prime, once for each precision and otherwise alike: same splits, same
initial weights, same batches. So runs are compared in pairs with their float32 twins; the
differences between twins show how soon rounding alone separates two trainings.
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
from grokjax.settings.config import PRECISIONS

FLAGS = (
    *("--flagfile=experiments/quick.flags", "--label_permutations=0", "--diagnostics=none"),
    *("--schedules=constant", "--weight_decays=1.0", "--seeds=0:10", "--checkpoint_every=40"),
)
AXES = ["prime", "seed"]


# Bits of a mantissa to which factors are rounded, and the passes made with them.
ROUNDED = {"tf32x3": (10, 3), "bfloat16x3": (7, 3), "tf32": (10, 1), "bfloat16": (7, 1)}
SHAPES = {"forward": (512, 256, 197), "gradient of a kernel": (256, 1024, 128)}


def product(precision: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A float32 product at a precision, with the sums and in the passes that devices make."""
    import jax

    if precision == "float32":
        return np.asarray(x @ y)
    bits, passes = ROUNDED[precision]

    def parts(z: np.ndarray) -> list[np.ndarray]:
        rounded = np.asarray(jax.lax.reduce_precision(z, 8, bits))
        return [rounded, np.asarray(jax.lax.reduce_precision(z - rounded, 8, bits))]

    (x, x_rest), (y, y_rest) = parts(x), parts(y)
    return x @ y if passes == 1 else x @ y + (x @ y_rest + x_rest @ y)


def errors() -> pd.DataFrame:
    """Errors against float64 of products of normal numbers, relative to sums of absolute terms."""
    rng = np.random.default_rng(0)
    rows = []
    for precision in PRECISIONS:
        row: dict[str, object] = {"precision": precision}
        for name, (m, k, n) in SHAPES.items():
            x, y = (rng.normal(size=size).astype(np.float32) for size in ((m, k), (k, n)))
            exact = x.astype(np.float64) @ y
            gap = np.abs(product(precision, x, y) - exact) / (np.abs(x) @ np.abs(y))
            row[f"{name}: median"] = f"{np.median(gap):.1e}"
            row[f"{name}: largest"] = f"{gap.max():.1e}"
        rows.append(row)
    return pd.DataFrame(rows)


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
    """Trains at each precision and prints the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("work/precision"))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16x3", "bfloat16"])
    parser.add_argument("--errors", action="store_true", help="of products alone")
    options, flags = parser.parse_known_args()
    print(html_page.markdown(errors()))
    if options.errors:
        return
    combinations = [(precision, "float32") for precision in options.precisions]
    combinations.insert(1, ("float32", "float64"))
    runs = {name_of(*c): train(options.workdir, *c, flags) for c in combinations}
    print(html_page.markdown(table(runs)))


if __name__ == "__main__":
    main()
