"""Figures for papers: functions from tables and arrays to matplotlib figures.

Every function returns a ``matplotlib.figure.Figure`` that belongs to no window and no global
state; `save` writes it as SVG or PDF, the same bytes every time. Sizes are those of a printed
page (`COLUMN` and `PAGE`) and type is 7 points or more at that size. Colours are those of Okabe
and Ito (2008), which people of any common colour vision can tell apart; what two colours tell
apart on one line of a panel, dashes or markers tell as well.

Throughout, ``runs`` is ``grokjax.load(W).runs`` or a part of it, and ``width`` is in inches.
"""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from grokjax.measuring.loading import Sweep
from grokjax.report import panels, phases, spacing
from grokjax.settings import labels

COLUMN, PAGE = 3.35, 6.9
"""Widths in inches of one column and of the page of a two-column paper."""

MOST_PANELS = 12
MOST_RUNS = 200


def save(figure: Figure, path: str | os.PathLike[str], suffix: str = "") -> None:
    """Writes a figure as ``suffix``, else the path's own, says (svg, pdf, png): the same bytes.

    Raises:
        ValueError: for a format that matplotlib does not know.
    """
    suffix = suffix or pathlib.Path(path).suffix.lstrip(".")
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with panels.style():
        figure.savefig(path, format=suffix, metadata=dates.get(suffix), dpi=200)


def accuracy(runs: pd.DataFrame, metrics: pd.DataFrame, *, width: float = PAGE) -> Figure:
    """Test and train accuracy, out of the table of metrics, against step; see `curves`."""
    columns = ["test_accuracy", "train_accuracy"]
    figure = curves(runs, metrics, columns, ylabel="accuracy", width=width)
    for axes in figure.axes:
        axes.set_ylim(-0.03, 1.03)
    return figure


def topology(
    runs: pd.DataFrame,
    persistence: pd.DataFrame,
    column: str = "h1_max",
    *,
    cloud: str = "embedding",
    width: float = PAGE,
) -> Figure:
    """A column of the persistence table (``h1_max``, ``h1_total`` …) against step; see `curves`.

    Raises:
        ValueError: if the table has no such column or cloud.
    """
    known = list(dict.fromkeys(persistence["cloud"]))
    if cloud not in known and known:
        raise ValueError(f"there is no cloud '{cloud}' in the table; there are {', '.join(known)}")
    own = persistence[persistence["cloud"] == cloud]
    ylabel = f"{labels.COLUMNS.get(column, column)} ({cloud})"
    return curves(runs, own, [column], ylabel=ylabel, width=width)


def ablation(
    runs: pd.DataFrame,
    table: pd.DataFrame,
    *,
    subspace: str = "wave1",
    intervention: str = "removed",
    pairs: str = "test",
    width: float = PAGE,
) -> Figure:
    """Accuracy against step before and after an intervention, and after random ones; see `curves`.

    The table is that of the diagnostic ``ablation``, whose columns tell interventions apart.

    Raises:
        ValueError: if it has no such intervention.
    """
    own = table.query("subspace == @subspace and intervention == @intervention and pairs == @pairs")
    if own.empty:
        raise ValueError(f"the table has no rows of {subspace} {intervention} on {pairs} pairs")
    after = f"{subspace} {intervention}"
    names = {
        "accuracy_before": "as it is",
        "accuracy": after,
        "random_accuracy": f"random subspaces of its power {intervention}",
    }
    own = own.rename(columns=names)
    return curves(runs, own, list(names.values()), ylabel=f"{pairs} accuracy", width=width)


def curves(
    runs: pd.DataFrame,
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    ylabel: str,
    width: float = PAGE,
) -> Figure:
    """Columns of a table against step: mean ± SD of each setting over thin lines of its runs.

    There is a panel for each model, operation and prime; colours are what else differs between
    settings, dashes are the columns. At most `MOST_PANELS` panels are drawn, and of more than
    `MOST_RUNS` runs no single lines; a title says so.

    The mean is over the runs of a setting that have a finite value at the step, without those that
    diverged or failed: these are drawn, up to a cross, and not averaged. The band is ± one sample
    standard deviation (n − 1); a single run has none. Infinite values are left out like NaN.

    The table has columns ``run_id``, ``step`` and the one to four to draw, and one row a run and
    step; ``ylabel`` is of the axis that all panels share.

    Raises:
        ValueError: if there is no run, a column is not in the table or a run has two rows for one
            step.
    """
    known = [name for name in table.columns if name not in ("run_id", "step")]
    if not set(columns) <= set(known) or not 1 <= len(columns) <= len(panels.DASHES):
        raise ValueError(
            f"columns are {list(columns)}; they must be one to {len(panels.DASHES)} of {known}"
        )
    if runs.empty:
        raise ValueError("the table of runs is empty: there is nothing to draw")
    settings = labels.group(runs)
    titles = list(dict.fromkeys(setting.panel for setting in settings))
    lines = list(dict.fromkeys(setting.line for setting in settings))
    colours = dict(zip(lines, panels.colours(len(lines)), strict=True))
    excluded = set(runs.loc[runs["status"].isin(("diverged", "failed")), "run_id"])
    frames = [wide(table, column, list(runs["run_id"])) for column in columns]
    singles = len(runs) <= MOST_RUNS
    notes = [f"the first {MOST_PANELS} of {len(titles)} panels"] * (len(titles) > MOST_PANELS)
    notes += [f"means of {len(runs):,} runs"] * (not singles)
    with panels.style():
        figure, grid = panels.curve_panels(min(len(titles), MOST_PANELS), width, ylabel)
        for title, axes in zip(titles, grid, strict=False):
            n_columns = axes.get_gridspec().ncols  # type: ignore[union-attr]
            axes.set_title(panels.wrapped(title, width / n_columns))
            for setting in settings:
                if setting.panel == title:
                    own = [f[[name for name in setting.run_ids if name in f]] for f in frames]
                    panels.draw_setting(axes, own, excluded, colours[setting.line], singles)
        if notes:
            figure.suptitle("; ".join(notes), fontsize=8)
        names = [labels.COLUMNS.get(column, column) for column in columns]
        ended = "ended early (diverged or failed), not in the mean" if excluded else ""
        handles = panels.line_handles(colours, names, ended)
        panels.legend_below(figure, handles)
    return figure


def wide(table: pd.DataFrame, column: str, run_ids: Sequence[str]) -> pd.DataFrame:
    """A column by step (rows) and run (columns, of runs that have any row); NaN where none is.

    Raises:
        ValueError: if a run has two rows for one step.
    """
    own = table[table["run_id"].isin(run_ids)]
    frame = own.pivot(index="step", columns="run_id", values=column).astype(float)
    return frame[[run_id for run_id in run_ids if run_id in frame]]


def persistence_diagrams(
    diagrams: Mapping[int, Sequence[ArrayLike]], *, width: float = PAGE
) -> Figure:
    """Persistence diagrams of one cloud on common axes, by step.

    Those of a step are of degrees 0 and 1, (k, 2) each, such as ``grokjax.load(W).diagram(run_id,
    step)`` gives. Degree 0 is drawn as ticks at its deaths, its infinite bar as a triangle above.

    Raises:
        ValueError: if there is no step.
    """
    if not diagrams:
        raise ValueError("diagrams must hold at least one step")
    with panels.style():
        figure, (row,), _ = panels.square_panels(len(diagrams), 1, width)
        panels.draw_diagrams(figure, row, diagrams)
        for axes, step in zip(row, diagrams, strict=True):
            axes.set_title(f"step {step:,}")
    return figure


def crocker(
    table: pd.DataFrame,
    run_id: str,
    *,
    cloud: str = "embedding",
    mark: int | None = None,
    width: float = PAGE,
) -> Figure:
    """A run's CROCKER matrices, out of the table of that name: Betti numbers by step and scale.

    A panel a degree; where a cloud was not finite it stays white. A line marks a step, such as that
    at which the run generalised.

    Raises:
        ValueError: if the table has no rows of the run's cloud.
    """
    own = table[(table["run_id"] == run_id) & (table["cloud"] == cloud)]
    if own.empty:
        raise ValueError(f"the table has no rows of cloud '{cloud}' of run {run_id}")
    degrees = sorted(set(own["degree"]))
    with panels.style():
        figure, grid = panels.curve_panels(len(degrees), width, "scale")
        figure.set_figheight(figure.get_figheight() + 0.6)
        for degree, axes in zip(degrees, grid, strict=True):
            rows = own[own["degree"] == degree]
            matrix = rows.pivot(index="scale", columns="step", values="betti")
            drawn = panels.draw_betti(axes, matrix, mark)
            axes.set_title(f"{('components', 'loops')[degree]} (b{degree})")
        panels.betti_bar(figure, grid, drawn)
    return figure


def embedding(
    clouds: Mapping[int, ArrayLike], *, frequency: int = 1, width: float = PAGE
) -> Figure:
    """First two principal components of a cloud of elements at several steps.

    Signs of the components are chosen to agree from step to step.

    Args:
        clouds: step → (n, d), a row an element, such as ``grokjax.load(W).cloud(run_id, step)``
            gives; one that is not finite gives an empty panel.
        frequency: k, of elements on a cycle, such as residues: colours follow k·r mod n, and
            elements that are neighbours in that order are joined. 1 is the order of the rows
            themselves; a network that reads residues by a wave of frequency k lays them on a circle
            in the order of that k. 0: elements on no cycle, coloured one after the other.
        width: of the figure.

    Raises:
        ValueError: if there is no step.
    """
    if not clouds:
        raise ValueError("clouds must hold at least one step")
    with panels.style():
        figure, (row,), _ = panels.square_panels(len(clouds), 1, width)
        panels.draw_embeddings(figure, row, clouds, frequency)
    return figure


def birth(
    curve: pd.DataFrame,
    clouds: Mapping[int, ArrayLike],
    diagrams: Mapping[int, Sequence[ArrayLike]],
    *,
    frequency: int = 1,
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """One run's loop being born: its curves above, clouds and diagrams at a few steps below.

    Its ``curve`` has columns ``step``, ``test_accuracy`` and ``h1_max``. Clouds and frequency are
    as for `embedding`, diagrams as for `persistence_diagrams` and at the same steps.

    Raises:
        ValueError: if clouds and diagrams are not of the same steps, or there are none.
    """
    if not clouds or list(clouds) != list(diagrams):
        raise ValueError(f"clouds are of steps {list(clouds)}, diagrams of {list(diagrams)}")
    with panels.style():
        figure, rows, above = panels.square_panels(len(clouds), 2, width, above=1.3)
        assert above is not None
        panels.draw_two_scales(above, curve, clouds)
        panels.draw_embeddings(figure, rows[0], clouds, frequency)
        panels.draw_diagrams(figure, rows[1], diagrams)
        if title:
            figure.suptitle(panels.wrapped(title, width), fontsize=8)
    return figure


def phase_diagram(
    sweep: Sweep,
    *,
    x: str,
    y: str,
    value: str = "generalised",
    over: str | None = None,
    when: str = "last",
    centre: str = "mean",
    width: float = PAGE,
) -> Figure:
    """What became of the runs, by two columns of settings, and by a third one a panel a value.

    Cells are as they are, never interpolated, as wide as their values are apart, on logarithmic
    axes where these are logarithmic. Where there is room each says its value and the number of its
    runs. Other settings and seeds are pooled.

    Args:
        sweep: as from ``grokjax.load(W)``.
        x: column of ``sweep.runs`` that is a setting, or ``seed``.
        y: another.
        value: ``generalised``, the share of all runs that did; ``generalisation_step`` or
            ``memorisation_step``, the step by which half of them had, those that never did counted
            in full (hatched where fewer had); or a table, a cloud if the table has clouds, and a
            column, such as ``persistence/embedding/h1_max`` or ``metrics/test_loss``.
        over: a third column, or None.
        when: of a table's column: ``last`` (its last value), ``before`` or ``after`` (means of the
            windows of ``statistics.before_after``), or ``ratio``, the one over the other.
        centre: of a table's column, ``mean`` or ``median`` over the runs of a cell without those
            that diverged or failed; of ratios, losses and norms the geometric mean.
        width: of the figure.

    Raises:
        ValueError: on a column, value, when or centre that there is none of.
    """
    found = phases.cells(sweep, [x, y, *([over] if over else [])], value, when, centre)
    spacings = [spacing.spaced(values) for values in found.axes]
    keys = range(len(found.axes[2])) if over else [None]
    with panels.style():
        figure, grid = panels.phase_panels(len(keys), width)
        colour = panels.cell_colours(found.values, found.scale)
        for key, own in zip(keys, grid, strict=True):
            cells = {
                place[:2]: one for place, one in found.cells.items() if place[2:] in ((), (key,))
            }
            panels.draw_cells(own, cells, spacings[:2], colour)
            panels.name_cells(own, [x, y], found.axes[:2], spacings[:2])
            if over and key is not None:
                own.set_title(spacing.in_words(over, found.axes[2][key]))
        panels.colour_key(figure, grid, colour, found.title, any(map(math.isinf, found.values)))
        counts = sorted({n for _, n in found.cells.values()})
        ends = " to ".join(map(str, counts[:: max(1, len(counts) - 1)]))
        figure.suptitle(f"{ends} run{'' if counts == [1] else 's'} a cell", fontsize=8)
    return figure
