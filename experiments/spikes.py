"""Spikes of the training loss: how much of all change comes with them?

Question: after memorisation AdamW at a constant rate makes the training loss jump up again and
          again (slingshots, Thilak et al., arXiv 2206.04817). How much of the change of test
          accuracy and of topology comes within the steps around such a spike?
Command:  python -m experiments.spikes --workdirs=W,W… --out=FOLDER; of checkpoints at most 100
          steps apart
Device:   reads tables only; seconds.
Expected: FOLDER/spikes.csv, .svg and .html: a row a run with its spikes and what changes at them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import artefact, evidence, html_page
from experiments.artefact import Output
from experiments.claims import Floats
from experiments.evidence import Pool
from grokjax.report import figures, panels

CLOUD = "embedding"
# A spike: the first checkpoint whose training loss is so many times the least of the steps before.
FACTOR, BEFORE = 100.0, 300
# What counts as with it: from so many steps before that checkpoint to so many after it.
AROUND = (100, 200)
COLUMNS = {
    "test_accuracy": "test accuracy",
    "h0_total": "H0 total",
    "h1_max": "H1 max",
    "h1_total": "H1 total",
}
HEADINGS = {
    "seed": "seed",
    "spikes": "spikes",
    "spacing": "median spacing, steps",
    "steps": "share of steps",
    **{column: f"share of change: {words}" for column, words in COLUMNS.items()},
}
TEXT = (
    f"A spike is the first checkpoint after memorisation whose training loss is {FACTOR:g} times "
    f"the least of the {BEFORE} steps before it. With it is what changes from {AROUND[0]} steps "
    f"before it to {AROUND[1]} after it; its share is that of the net change from memorisation to "
    "the last checkpoint. If change came evenly it would be the share of steps; it is above 1 "
    "where the rest goes the other way. Of a net change near 0 the share says nothing."
)


def spikes(steps: Floats, losses: Floats, start: float) -> Floats:
    """Steps of the spikes of (n,) training losses after a step."""
    found: list[float] = []
    for step, loss in zip(steps, losses, strict=True):
        before = losses[(steps >= step - BEFORE) & (steps < step) & (steps > start)]
        again = found and step - found[-1] <= BEFORE
        if len(before) and loss >= FACTOR * before.min() and not again:
            found.append(step)
    return np.array(found)


def with_spikes(steps: Floats, at: Floats) -> Floats:
    """Whether each of the n − 1 steps between checkpoints is with a spike."""
    middle = (steps[1:] + steps[:-1]) / 2
    inside = (middle[:, None] > at - AROUND[0]) & (middle[:, None] < at + AROUND[1])
    return inside.any(axis=1)


def table(pool: Pool) -> pd.DataFrame:
    """A row a run that generalises, with the columns of `HEADINGS`."""
    runs = pool.table("runs")
    runs = runs[runs["generalisation_step"].notna()]
    return pd.DataFrame([row(curves(pool, run.run_id), run) for run in runs.itertuples()])


def curves(pool: Pool, run_id: str) -> pd.DataFrame:
    """A run's metrics and persistence, a row a checkpoint, in the order of steps."""
    metrics, own = pool.table("metrics"), pool.table("persistence")
    own = own[(own["run_id"] == run_id) & (own["cloud"] == CLOUD)]
    return own.merge(metrics, on=["run_id", "step"]).sort_values("step", ignore_index=True)


def row(own: pd.DataFrame, run: Any) -> dict[str, float]:
    """What a run, a row of the table of runs, changes with its spikes."""
    own = own[own["step"] >= run.memorisation_step]
    steps = own["step"].to_numpy(np.float64)
    at = spikes(steps, own["train_loss"].to_numpy(np.float64), run.memorisation_step)
    inside = with_spikes(steps, at)
    found = {"seed": run.seed, "spikes": len(at), "spacing": np.nan}
    if len(at) > 1:
        found["spacing"] = float(np.median(np.diff(at)))
    found["steps"] = float(np.diff(steps)[inside].sum() / (steps[-1] - steps[0]))
    for column in COLUMNS:
        changes = np.diff(own[column].to_numpy(np.float64))
        net = changes.sum()
        found[column] = float(changes[inside].sum() / net) if net else np.nan
    return found


def figure(pool: Pool, n_runs: int = 3) -> Figure:
    """Losses, accuracy and topology of the first runs, with lines at their spikes."""
    columns = {"train_loss": "training loss", **COLUMNS}
    runs = pool.table("runs")
    runs = runs[runs["generalisation_step"].notna()].sort_values("seed").head(n_runs)
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, 5.6))
        grid = drawn.subplots(len(columns), len(runs), sharex="col", sharey="row", squeeze=False)
        for side, run in enumerate(runs.itertuples()):
            own = curves(pool, run.run_id)
            own = own[own["step"] >= run.memorisation_step]
            steps, losses = (own[name].to_numpy(np.float64) for name in ("step", "train_loss"))
            for axes, (column, words) in zip(grid[:, side], columns.items(), strict=True):
                for at in spikes(steps, losses, run.memorisation_step):
                    axes.axvline(at, color="0.8", lw=0.8, zorder=0)
                axes.plot(steps, own[column], color="#0072B2", lw=0.8)
                if not side:
                    axes.set_ylabel(words)
            grid[0, side].set(title=f"seed {run.seed}", yscale="log")
            panels.step_axis(grid[-1, side])
            grid[-1, side].set_xlabel("step")
    return drawn


def output(pool: Pool) -> Output:
    """The table, its page and the figure."""
    frame = table(pool)
    body = [html_page.paragraph(TEXT), html_page.table(frame, HEADINGS)]
    page = html_page.document("What changes with spikes of the training loss", body)
    return Output(numbers=frame, figure=figure(pool), page=page)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the table, its page and the figure."""
    found = evidence.parser(__doc__).parse_args(argv)
    artefact.save("spikes", found.out, output(evidence.pool(found.workdirs)))


if __name__ == "__main__":
    main()
