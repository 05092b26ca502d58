"""Panels of curves: a quantity against step, mean ± SD over seeds, a line for each setting."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.artefact import Context, Output
from grokjax.report import figures, panels
from grokjax.settings import labels

Stroke = tuple[str, panels.Dash]
"""Colour and dashes of a line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: a column of a table, of one cloud where the table has several.

    Attributes:
        table: ``metrics``, ``persistence`` or ``dimension``.
        column: which column.
        cloud: which cloud; empty for a table without clouds.
        title: above the panel.
    """

    table: str
    column: str
    cloud: str = ""
    title: str

    def values(self, context: Context, runs: pd.DataFrame) -> pd.DataFrame:
        """A row a step, a column a run."""
        return context.values(self.table, self.column, list(runs["run_id"]), self.cloud)


ACCURACY = Panel(table="metrics", column="test_accuracy", title="test accuracy (thin: train)")
TRAIN_ACCURACY = Panel(table="metrics", column="train_accuracy", title="train accuracy")
LID = Panel(
    table="dimension", column="lid_mean", cloud="layer2_both", title="local dimension, layer 2"
)


def cloud_in_words(cloud: str) -> str:
    """A cloud's name as a title has it: ``layer 1``, ``hidden layer 3``."""
    return re.sub(r"(\d+)", r" \1", cloud.replace("hidden", "hidden layer"))


def beside_accuracy(
    clouds: Sequence[str], columns: Sequence[str], *more: Panel
) -> tuple[Panel, ...]:
    """Panels of accuracy, of more, and of each of these statistics of each cloud's diagrams."""
    shown = []
    for cloud, column in itertools.product(clouds, columns):
        title = f"{labels.COLUMNS[column]}, {cloud_in_words(cloud)}"
        shown.append(Panel(table="persistence", column=column, cloud=cloud, title=title))
    return ACCURACY, *more, *shown


STATISTICS = ("h0_max", "h0_total", "h1_max", "h1_total")
# What the study shows of its transformers.
TRANSFORMER = beside_accuracy(["embedding"], ["h1_max", "h1_total"], LID)


def figure(
    context: Context, runs: pd.DataFrame, chosen: Sequence[Panel], by: str, title: str
) -> Output:
    """Panels on a common axis of steps, a line for each value of the column ``by``.

    Returns:
        The figure and a table of what it shows: panel, value of ``by``, step, mean, sample SD
        (NaN for one run) and number of runs.
    """
    groups = {value: list(own["run_id"]) for value, own in runs.groupby(by)}
    lines = strokes(len(groups))
    numbers = []
    with panels.style():
        drawn, axes_list = sheet(len(chosen), f"{title}\n{_seeds(groups)}", 1.75, 0.45)
        for panel, axes in zip(chosen, axes_list, strict=True):
            values = panel.values(context, runs)
            for (value, run_ids), stroke in zip(groups.items(), lines, strict=True):
                own = values[[run_id for run_id in run_ids if run_id in values]]
                panels.draw_mean(axes, own, *stroke)
                if panel is ACCURACY:
                    train = TRAIN_ACCURACY.values(context, runs)[list(own)].mean(axis=1)
                    axes.plot(train.index, train, color=stroke[0], linewidth=0.5, alpha=0.7)
                numbers.append(summary(own, {"panel": panel.title, by: value}))
            _dress(axes, panel)
        words = [labels.in_words(by, value) for value in groups]
        panels.legend_below(drawn, [*map(handle, words, lines)])
    return Output(figure=drawn, numbers=pd.concat(numbers, ignore_index=True))


def sheet(count: int, title: str, height: float, margin: float) -> tuple[Figure, list[Axes]]:
    """A figure as wide as the page with so many panels, each row and all else so many inches."""
    columns = 2 if count == 4 else min(count, 3)
    n_rows = -(-count // columns)
    drawn = Figure(figsize=(figures.PAGE, height * n_rows + margin))
    drawn.suptitle(title, fontsize=8)
    return drawn, [drawn.add_subplot(n_rows, columns, i + 1) for i in range(count)]


def strokes(count: int) -> list[Stroke]:
    """Those of so many lines."""
    return list(zip(panels.colours(count), itertools.cycle(panels.DASHES), strict=False))


def handle(label: str, stroke: Stroke) -> Line2D:
    """A line's entry in the legend."""
    return Line2D([], [], color=stroke[0], linestyle=stroke[1], label=label)


def _seeds(groups: Mapping[Any, list[str]]) -> str:
    counts = sorted({len(run_ids) for run_ids in groups.values()})
    if counts == [1]:
        return "one seed a line"
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean ± SD of {number} seeds a line"


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel("step")
    panels.step_axis(axes)
    if panel.column.endswith("accuracy"):
        axes.set_ylim(-0.03, 1.03)


def summary(values: pd.DataFrame, what: Mapping[str, object]) -> pd.DataFrame:
    """Mean, sample SD and number of runs at each step, behind columns that say of what."""
    return pd.DataFrame(
        {
            **what,
            "step": values.index,
            "mean": values.mean(axis=1).to_numpy(),
            "sd": values.std(axis=1, ddof=1).to_numpy(),
            "n_runs": values.notna().sum(axis=1).to_numpy(),
        }
    )
