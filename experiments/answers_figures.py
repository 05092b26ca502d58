"""Figures of the page of answers: embeddings beside chance, over training, side by side."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import committed
from experiments.committed import NAMES
from experiments.fifty_seeds import DOMINANT
from grokjax.report import figures, panels

SEEDS = range(46, 51)
# Null → colour, place beside the run, and words.
NULLS = {
    "covariance": ("#E69F00", -0.22, "99 random clouds, same singular values: 5–95 %"),
    "frequency_power": ("#0072B2", 0.22, "99 random clouds, same power at each frequency: 5–95 %"),
}
STATISTICS = {"h1_max": "H1 max", "h1_total": "H1 total"}


def beside_chance() -> Figure:
    """H1 max and H1 total of the fifteen embeddings, before and after, beside two nulls."""
    order = [(name, seed) for name in NAMES for seed in SEEDS]
    at = np.array([list(NAMES).index(name) * 6 + seed - 46.0 for name, seed in order])
    frame = committed.checkpoints()
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, 4.6))
        both = drawn.subplots(2, 1, sharex=True)
        for axes, (column, name) in zip(both, STATISTICS.items(), strict=True):
            _bars(axes, column, order, at)
            _dots(axes, column, order, at, frame)
            axes.set(ylabel=f"{name} of the embedding", ylim=(0, None))
        rows = committed.surrogates()
        for place, (name, words) in enumerate(NAMES.items()):
            own = rows[rows.runs == name]
            steps = [f"last: {own.step.max():,}"]
            between = own[own.place == "between"].step.unique()
            steps += [f"second: {step:,}" for step in between]
            text = f"{words}\n{', '.join(steps)}"
            where = both[0].get_xaxis_transform()
            both[0].text(place * 6 + 2, 1.03, text, transform=where, ha="center", fontsize=7)
        both[1].set_xticks(at, [str(seed) for _, seed in order])
        both[1].set_xlabel("seed")
        handles, labels = both[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=2)
    return drawn


def _bars(axes: Axes, column: str, order: list[tuple[str, int]], at: np.ndarray) -> None:
    for null, (colour, shift, words) in NULLS.items():
        rows = committed.beside(column, null).loc[order]
        axes.vlines(at + shift, rows.p5, rows.p95, color=colour, lw=4, alpha=0.7, label=words)


def _dots(
    axes: Axes, column: str, order: list[tuple[str, int]], at: np.ndarray, frame: pd.DataFrame
) -> None:
    after = frame[frame.step >= frame.generalisation_step].groupby(["runs", "seed"])[column]
    low, high = after.min().loc[order], after.max().loc[order]
    words = "all checkpoints from generalisation on"
    axes.vlines(at, low, high, color="0.55", lw=0.8, zorder=1, label=words)
    before = committed.windows(column).before.loc[order]
    axes.plot(at, before, "_", color="black", ms=9, label="mean, memorised to generalisation")
    second = committed.beside(column, "covariance", "between").value.reindex(order)
    axes.plot(at, second, "o", mfc="white", color="black", ms=3.5, label="second checkpoint")
    last = committed.beside(column, "covariance").value.loc[order]
    axes.plot(at, last, "o", color="black", ms=4, label="last checkpoint")


def over_time() -> Figure:
    """Test accuracy, H1 max and the longest over the second bar of the fifteen runs."""
    frame = committed.checkpoints()
    frame = frame.assign(ratio=frame.h1_max / frame.h1_second)
    columns = {"test_accuracy": "test accuracy", "h1_max": "H1 max", "h1_total": "H1 total",
               "ratio": "longest over\nsecond H1 bar"}  # fmt: skip
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, 5.6))
        grid = drawn.subplots(len(columns), len(NAMES), sharex="col", sharey="row")
        for side, (name, words) in enumerate(NAMES.items()):
            grid[0, side].set_title(words)
            for seed, colour in zip(SEEDS, panels.PALETTE, strict=False):
                own = frame[(frame.runs == name) & (frame.seed == seed)].sort_values("step")
                for axes, column in zip(grid[:, side], columns, strict=True):
                    axes.plot(own.step, own[column], color=colour, lw=0.8, label=f"seed {seed}")
            grid[-1, side].axhline(DOMINANT, color="0.6", lw=0.6)
            panels.step_axis(grid[-1, side])
            grid[-1, side].set_xlabel("step")
        for axes, words in zip(grid[:, 0], columns.values(), strict=True):
            axes.set_ylabel(words)
        for axes in grid[1:3].flat:
            axes.set_ylim(0, None)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=5)
    return drawn


def tasks() -> Figure:
    """Test accuracy, H1 max and H1 total of the embedding, by task, of transformers of one size."""
    parts = {task: (folder, "embedding") for task, folder in committed.TASKS.items()}
    return _side_by_side(parts, 4.2, "row")


def table2() -> Figure:
    """Test accuracy, H1 max and H1 total of the MLPs at α = 0.2, layer by layer."""
    clouds = dict.fromkeys(committed.table(f"{committed.TABLE2}/persistence.parquet").cloud)
    return _side_by_side({cloud: (committed.TABLE2, cloud) for cloud in clouds}, 4.6, "none")


def permuted() -> Figure:
    """The same of the embedding, by the share of labels that is permuted."""
    folders = [f"{committed.RUNS}/p197", *committed.PERMUTED]
    parts = {}
    for folder in folders:
        share = committed.table(f"{folder}/runs.parquet").label_permutation.iloc[0]
        parts[f"{committed.percent(share)} permuted"] = (folder, "embedding")
    return _side_by_side(parts, 4.2, "row")


def _side_by_side(parts: Mapping[str, tuple[str, str]], height: float, sharey: str) -> Figure:
    """Test accuracy, H1 max and H1 total over steps; title of a column → its folder and cloud."""
    columns = {"test_accuracy": "test accuracy", **STATISTICS}
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, height))
        grid = drawn.subplots(len(columns), len(parts), sharex=True, sharey=sharey)
        for side, (title, (folder, cloud)) in enumerate(parts.items()):
            grid[0, side].set_title(title)
            _curves(grid[:, side], folder, cloud, columns)
        for axes in grid[1:].flat:  # when all is drawn, for a limit is not moved again
            axes.set_ylim(0, None)
        for axes, words in zip(grid[:, 0], columns.values(), strict=True):
            axes.set_ylabel(words)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=5)
    return drawn


def _curves(own: Sequence[Axes], folder: str, cloud: str, columns: Iterable[str]) -> None:
    """Columns of the runs of a folder over steps, an axes each, a colour a seed."""
    runs, metrics, rows = (
        committed.table(f"{folder}/{what}.parquet") for what in ("runs", "metrics", "persistence")
    )
    frame = rows[rows.cloud == cloud].merge(
        metrics[["run_id", "step", "test_accuracy"]], on=["run_id", "step"]
    )
    frame = frame.merge(runs[["run_id", "seed"]], on="run_id").sort_values("step")
    for seed, colour in zip(SEEDS, panels.PALETTE, strict=False):
        of_seed = frame[frame.seed == seed]
        for axes, column in zip(own, columns, strict=True):
            axes.plot(of_seed.step, of_seed[column], color=colour, lw=0.8, label=f"seed {seed}")
    panels.step_axis(own[-1])
    own[-1].set_xlabel("step")
