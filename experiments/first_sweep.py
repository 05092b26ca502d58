"""Whether the quick sweep shows what its flagfile claims; exit code 1 if not.

Command: python -m experiments.first_sweep work/quick [W…]

Of runs with true labels: all generalise, and none falls back, with a test accuracy of at least 0.95
at each of the last five checkpoints; H1 max of the embedding is longer after generalisation than
before. Of runs whose labels are all permuted: none generalises, and H1 max does not grow by as much
as that of any run with true labels and the same prime.
"""

import sys

import pandas as pd

import grokjax
from grokjax.measuring.loading import Sweep
from grokjax.report import summaries

_LAST = 5  # checkpoints
_LEAST = 0.95  # test accuracy at each of them


def table(sweep: Sweep) -> pd.DataFrame:
    """A row a run: what became of it, least test accuracy at the end, H1 max before and after."""
    steps = sweep.config.train.checkpoint_steps[-_LAST:]
    last = sweep.metrics[sweep.metrics["step"].isin(steps)]
    least = last.groupby("run_id")["test_accuracy"].min()
    runs = summaries.outcomes(sweep)
    runs["at_the_end"] = runs["run_id"].map(least)
    runs["grown"] = runs["after"] / runs["before"]
    names = ["generalisation_step", "at_the_end", "before", "after", "grown"]
    return runs[["prime", "label_permutation", "seed", *names]]


def failures(rows: pd.DataFrame) -> list[str]:
    """What of the claim does not hold, as sentences; none if it does."""
    true, permuted = (rows[rows["label_permutation"] == share] for share in (0, 1))
    found = []
    for prime, own in true.groupby("prime"):
        controls = permuted[permuted["prime"] == prime]
        wrong = {
            "do not generalise": own["generalisation_step"].isna(),
            f"fall below {_LEAST} at the end": ~(own["at_the_end"] >= _LEAST),
            "have no longer H1 max after than before": ~(own["grown"] > 1),
            "grow less than a control does": ~(own["grown"] > controls["grown"].max()),
        }
        found += [
            f"p = {prime}: {n} of {len(own)} runs {k}" for k, w in wrong.items() if (n := w.sum())
        ]
        grown = controls["generalisation_step"].notna().sum()
        found += [f"p = {prime}: {grown} controls generalise"] if grown else []
    return found


def main(folders: list[str]) -> int:
    """Prints the rows and what does not hold; returns the exit code."""
    rows = pd.concat([table(grokjax.load(folder)) for folder in folders], ignore_index=True)
    print(rows.to_string(index=False, float_format="{:.3f}".format))
    by = rows.groupby(["prime", "label_permutation"])
    print(by.agg(runs=("seed", "size"), generalised=("generalisation_step", "count"),
                 median_step=("generalisation_step", "median"), at_the_end=("at_the_end", "min"),
                 before=("before", "mean"), after=("after", "mean"), least=("grown", "min"),
                 most=("grown", "max")).round(3).to_string())  # fmt: skip
    found = failures(rows)
    print("\n".join(found) or "All of the claim holds.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
