"""Panels of curves: a quantity against step, mean ± SD over seeds, a line for each setting."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.artefact import Context, Output
from grokjax.report import figures, panels
from grokjax.settings import labels

MOST_COLUMNS = 3


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
        table: pd.DataFrame = context.table(self.table)
        if self.cloud:
            table = table[table["cloud"] == self.cloud]
        return figures.wide(table, self.column, list(runs["run_id"]))


ACCURACY = Panel(table="metrics", column="test_accuracy", title="test accuracy (thin: train)")
TRAIN_ACCURACY = Panel(table="metrics", column="train_accuracy", title="train accuracy")
LID = Panel(
    table="dimension", column="lid_mean", cloud="layer2_both", title="local dimension, layer 2"
)


def persistence_panel(column: str, cloud: str) -> Panel:
    """A panel of a statistic of a cloud's diagrams."""
    return Panel(
        table="persistence",
        column=column,
        cloud=cloud,
        title=f"{labels.COLUMNS[column]}, {cloud_in_words(cloud)}",
    )


def cloud_in_words(cloud: str) -> str:
    """A cloud's name as a title has it: ``layer 1``, ``hidden layer 3``."""
    if cloud.startswith("hidden"):
        return f"hidden layer {cloud.removeprefix('hidden')}"
    if cloud.startswith("layer"):
        return f"layer {cloud.removeprefix('layer')}"
    return cloud


def figure(
    context: Context,
    runs: pd.DataFrame,
    chosen: Sequence[Panel],
    by: str,
    title: str,
    columns: int = MOST_COLUMNS,
) -> Output:
    """Panels on a common axis of steps, a line for each value of the column ``by``.

    Returns:
        The figure and a table of what it shows: panel, value of ``by``, step, mean, sample SD
        (NaN for one run) and number of runs.
    """
    groups = {value: list(own["run_id"]) for value, own in runs.groupby(by)}
    colours = panels.colours(len(groups))
    columns = min(columns, len(chosen))
    n_rows = -(-len(chosen) // columns)
    numbers = []
    with panels.style():
        drawn = Figure(figsize=(figures.PAGE, 1.75 * n_rows + 0.45))
        drawn.suptitle(f"{context.title(title)}\n{_seeds(groups)}", fontsize=8)
        axes_list = [drawn.add_subplot(n_rows, columns, i + 1) for i in range(len(chosen))]
        for panel, axes in zip(chosen, axes_list, strict=True):
            values = panel.values(context, runs)
            for i, (value, run_ids) in enumerate(groups.items()):
                own = values[[run_id for run_id in run_ids if run_id in values]]
                dash = panels.DASHES[i % len(panels.DASHES)]
                panels.draw_mean(axes, own, colours[i], dash)
                if panel is ACCURACY:
                    train = TRAIN_ACCURACY.values(context, runs)[list(own)].mean(axis=1)
                    axes.plot(train.index, train, color=colours[i], linewidth=0.5, alpha=0.7)
                numbers.append(_summary(own, panel.title, by, value))
            _dress(axes, panel)
        handles = [
            Line2D(
                [],
                [],
                color=colours[i],
                linestyle=panels.DASHES[i % len(panels.DASHES)],
                label=labels.in_words(by, value),
            )
            for i, value in enumerate(groups)
        ]
        panels.legend_below(drawn, handles)
    return Output(figure=drawn, numbers=pd.concat(numbers, ignore_index=True))


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


def _summary(values: pd.DataFrame, panel: str, by: str, value: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "panel": panel,
            by: value,
            "step": values.index,
            "mean": values.mean(axis=1).to_numpy(),
            "sd": values.std(axis=1, ddof=1).to_numpy(),
            "n_runs": values.notna().sum(axis=1).to_numpy(),
        }
    )


def typical(runs: pd.DataFrame) -> str:
    """The run that a figure of one run shows: the first seed's."""
    return str(runs.sort_values("seed")["run_id"].iloc[0])


def marked_steps(context: Context, shares: Sequence[float]) -> list[int]:
    """The checkpoints nearest to these shares of the training."""
    steps = context.sweep.config.train.checkpoint_steps
    return [min(steps, key=lambda step: abs(step - share * steps[-1])) for share in shares]
