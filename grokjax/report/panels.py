"""What `figures` is made of: functions that draw on matplotlib axes, and their style."""

import contextlib
import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from grokjax.report import planes
from grokjax.report.planes import Floats
from grokjax.report.spacing import Spacing

# Okabe and Ito's colours but yellow, which vanishes on white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
Dash = Literal["-", ":", "-."] | tuple[float, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", (0, (3, 1.5)), ":", "-.")
# Both even for all common colour visions; the first is cyclic.
CYCLE, ORDERED = "twilight", "cividis"
H0, H1 = PALETTE[0], PALETTE[1]
BETTI = (0, 1, 2, 3, 4, 5, 10, 20, 50)  # where colours of Betti numbers change

STYLE: dict[Any, Any] = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7),
    **dict.fromkeys(("legend.frameon", "axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    "lines.linewidth": 1.2,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "grokjax",
    "pdf.fonttype": 42,
}


def style() -> contextlib.AbstractContextManager[None]:
    """Print-size type and thin lines, whatever the caller's own settings are."""
    return mpl.style.context(STYLE, after_reset=True)


def wrapped(text: str, width: float) -> str:
    """A title in lines that fit a width in inches: 8-point letters take about 0.06 of one."""
    return textwrap.fill(text, int(width / 0.06))


def step_axis(axes: Axes) -> None:
    """Few, short labels on an axis of steps: 500, 1k, 2.5k, 60k."""
    axes.xaxis.set_major_formatter(
        lambda step, _: f"{step / 1000:g}k" if abs(step) >= 1000 else f"{step:g}"
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))


def colours(count: int) -> list[str]:
    """As many colours; an ordered scale beyond those that can be told apart by hue."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    scale = mpl.colormaps[ORDERED](np.linspace(0, 0.9, count))  # without the light end
    return [mpl.colors.to_hex(colour) for colour in scale]


def draw_setting(
    axes: Axes, tables: Sequence[pd.DataFrame], ended: set[str], colour: str, singles: bool
) -> None:
    """Means of a setting over thin lines of its runs if wanted, a dash a quantity.

    Each quantity's table has a row a step and a column a run. Runs that ended early are drawn up
    to a cross and are not in the mean.
    """
    for values, dash in zip(tables, DASHES, strict=False):
        for run_id in values.columns if singles else ():
            series = values[run_id][np.isfinite(values[run_id])]
            axes.plot(series.index, series, color=colour, linestyle=dash, linewidth=0.4, alpha=0.5)
            if run_id in ended and len(series):
                axes.plot(series.index[-1], series.iloc[-1], "x", color=colour, markersize=4)
        draw_mean(axes, values.drop(columns=ended & set(values.columns)), colour, dash)


def draw_mean(axes: Axes, values: pd.DataFrame, colour: str, dash: Dash) -> None:
    """Mean and ± one sample standard deviation over runs of what is finite at each step."""
    there = values.where(np.isfinite(values)).dropna(how="all")
    if there.empty:
        return
    mean, spread = there.mean(axis=1), there.std(axis=1, ddof=1)
    axes.plot(mean.index, mean, color=colour, linestyle=dash)
    if there.shape[1] > 1:
        band = mean - spread, mean + spread
        axes.fill_between(mean.index, *band, color=colour, alpha=0.15, linewidth=0)


def curve_panels(count: int, width: float, ylabel: str) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of curves, on shared axes."""
    n_columns = min(count, 3 if width > 5 else 1)
    n_rows = -(-count // n_columns)
    panel = min(2.0, 0.55 * width / n_columns + 0.4)
    figure = Figure(figsize=(width, 0.4 + n_rows * panel))
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    panels, spare = list(grid.flat[:count]), grid.flat[count:]
    for axes in spare:
        figure.delaxes(axes)
    for axes in panels:
        step_axis(axes)
    for axes in panels[-n_columns:]:  # nothing below them
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("step")
    for axes in panels[::n_columns]:
        axes.set_ylabel(ylabel)
    return figure, panels


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend below the panels, in as many columns as fit, for which the figure grows."""
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        # About 0.055 inches a character and 0.5 for the line beside it.
        per_row = max(1, int(figure.get_figwidth() / (0.055 * longest + 0.5)))
        n_columns = min(per_row, len(handles))
        figure.set_figheight(figure.get_figheight() + 0.1 + 0.17 * -(-len(handles) // n_columns))
        figure.legend(handles=list(handles), loc="outside lower center", ncols=n_columns)


def line_handles(lines: Mapping[str, str], columns: Sequence[str], ended: str) -> list[Line2D]:
    """Legend entries of lines (label → colour), of columns for dashes, and of crosses if any.

    An empty label needs no entry, nor does a single column.
    """
    handles = [Line2D([], [], color=colour, label=line) for line, colour in lines.items() if line]
    if len(columns) > 1:
        for name, dash in zip(columns, DASHES, strict=False):
            handles.append(Line2D([], [], color="0.3", linestyle=dash, label=name))
    if ended:
        handles.append(Line2D([], [], color="0.3", marker="x", ls="", ms=4, label=ended))
    return handles


def draw_two_scales(axes: Axes, curve: pd.DataFrame, marks: Iterable[int]) -> None:
    """Test accuracy and H1 max of one run on one panel, with lines at the marked steps."""
    for mark in marks:
        axes.axvline(mark, color="0.75", linewidth=0.6, zorder=0)
    axes.plot(curve["step"], curve["test_accuracy"], color=H0)
    axes.set(ylim=(-0.03, 1.03), xlabel="step")
    axes.set_ylabel("test accuracy", color=H0)
    step_axis(axes)
    other = axes.twinx()
    other.spines["right"].set_visible(True)
    other.plot(curve["step"], curve["h1_max"], color=H1, linestyle=DASHES[1])
    other.set_ylim(bottom=0)
    other.set_ylabel("H1 max (dashed)", color=H1)


def draw_betti(axes: Axes, matrix: pd.DataFrame, mark: int | None) -> QuadMesh:
    """Betti numbers, scales (rows) by steps (columns), in colours that tell small ones apart."""
    levels = BoundaryNorm(BETTI, 256, extend="max")
    values = np.ma.masked_invalid(matrix.to_numpy(float))
    steps, scales = matrix.columns.to_numpy(), matrix.index.to_numpy()
    mesh = axes.pcolormesh(steps, scales, values, norm=levels, cmap=ORDERED, shading="nearest")
    mesh.set_rasterized(True)  # thousands of cells would be as many paths of an SVG
    if mark is not None:
        axes.axvline(mark, color="white", linewidth=1, linestyle=DASHES[1])
    return mesh


def betti_bar(figure: Figure, grid: Sequence[Axes], mesh: QuadMesh) -> None:
    """A bar beside the panels that says which numbers have which colour."""
    bar = figure.colorbar(mesh, ax=list(grid), label="Betti number (arrow: more)", extend="max")
    pairs = list(itertools.pairwise(BETTI))
    names = [str(low) if high == low + 1 else f"{low}–{high - 1}" for low, high in pairs]
    bar.set_ticks([(low + high) / 2 for low, high in pairs], labels=names)
    bar.ax.tick_params(length=0)


def square_panels(
    count: int, n_rows: int, width: float, *, above: float = 0.0
) -> tuple[Figure, list[list[Axes]], Axes | None]:
    """A figure with rows of square panels, and a wide panel of that height above if asked for."""
    side = min(width / count, 2.2)
    figure = Figure(figsize=(width, n_rows * (side + 0.15) + above + 0.2))
    heights = ([above] if above else []) + [side] * n_rows
    grid = figure.add_gridspec(len(heights), count, height_ratios=heights)
    first = len(heights) - n_rows
    rows = [[figure.add_subplot(grid[first + i, j]) for j in range(count)] for i in range(n_rows)]
    return figure, rows, figure.add_subplot(grid[0, :]) if above else None


def draw_diagram(axes: Axes, h0: Floats, h1: Floats, limits: tuple[float, float]) -> None:
    """Degree 1 as points; degree 0, all born at 0, as ticks at its deaths and a triangle for ∞.

    Ticks leave the axis to degree 1, which is born late in every cloud of high dimension.
    """
    low, high = limits
    axes.plot(limits, limits, color="0.6", linewidth=0.6, zorder=0)
    width = 0.06 * (high - low)
    axes.hlines(h0[np.isfinite(h0[:, 1]), 1], low, low + width, color=H0, linewidth=0.5)
    if np.isinf(h0[:, 1]).any():
        axes.plot(low + width / 2, high, "^", color=H0, markersize=4, clip_on=False)
    axes.scatter(h1[:, 0], h1[:, 1], s=9, color=H1, linewidths=0)
    if not len(h0):
        axes.text(0.5, 0.5, "not finite", ha="center", fontsize=7, transform=axes.transAxes)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="birth")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))


def draw_diagrams(
    figure: Figure, row: Sequence[Axes], diagrams: Mapping[int, Sequence[ArrayLike]]
) -> None:
    """A row of diagrams on common axes, and their legend."""
    pairs = [
        [np.asarray(bars, np.float64).reshape(-1, 2) for bars in degrees[:2]]
        for degrees in diagrams.values()
    ]
    # Limits hold every finite bar of degree 1 and every finite death of degree 0.
    every = np.concatenate([values for h0, h1 in pairs for values in (h0[:, 1], h1.ravel())])
    finite = every[np.isfinite(every)]
    limits = 0.0, 1.0
    if finite.size:
        margin = 0.08 * (finite.max() - finite.min()) or 0.5
        limits = max(0.0, float(finite.min() - margin)), float(finite.max() + margin)
    for axes, (h0, h1) in zip(row, pairs, strict=True):
        draw_diagram(axes, h0, h1, limits)
    row[0].set_ylabel("death")
    handles = [
        Line2D([], [], marker="o", color=H1, ls="", ms=4, markeredgewidth=0, label="H1"),
        Line2D([], [], marker="_", color=H0, ls="", ms=6, label="deaths of H0 (births at 0)"),
        Line2D([], [], marker="^", color=H0, ls="", ms=4, label="H0 that never dies"),
    ]
    legend_below(figure, handles)


def draw_embedding(
    axes: Axes, cloud: NDArray[np.floating], frequency: int, like: Floats | None
) -> Floats:
    """A cloud on its two main components, as ``figures.embedding`` has it; returns coordinates."""
    plane, shares = planes.principal_plane(cloud, like)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    if not np.isfinite(plane).all():
        axes.text(0.5, 0.5, "not finite", ha="center", fontsize=7, transform=axes.transAxes)
        return plane
    place = np.arange(len(plane))
    if frequency:
        order = planes.neighbours_order(len(plane), frequency)
        ring = np.append(order, order[:1])
        axes.plot(*plane[ring].T, color="0.7", linewidth=0.4, zorder=1)
        place = frequency * place % len(plane)
    scale = CYCLE if frequency else ORDERED
    x, y = plane.T
    axes.scatter(x, y, c=place, cmap=scale, s=12, edgecolors="0.3", linewidths=0.3, zorder=2)
    limit = 1.08 * np.abs(plane).max() or 1.0
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.set_xlabel(f"{shares.sum():.0%} of variance", labelpad=2)
    return plane


def draw_embeddings(
    figure: Figure, row: Sequence[Axes], clouds: Mapping[int, ArrayLike], frequency: int
) -> None:
    """A row of clouds of the same elements, turned alike, and the elements' colours beside it."""
    plane = None
    for axes, (step, cloud) in zip(row, clouds.items(), strict=True):
        plane = draw_embedding(axes, np.asarray(cloud), frequency, plane)
        n_elements = len(plane)
        axes.set_title(f"step {step:,}")
    scale = mpl.colors.Normalize(0, n_elements if frequency else n_elements - 1)
    label = {0: "element", 1: "place r"}.get(frequency, f"{frequency}·r mod {n_elements}")
    colours = ScalarMappable(scale, CYCLE if frequency else ORDERED)
    bar = figure.colorbar(colours, ax=list(row), shrink=0.8, aspect=20, pad=0.02, label=label)
    bar.outline.set_linewidth(0.4)


# --------------------------------------------------------------------------- phase diagrams


def phase_panels(count: int, width: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of cells, on shared axes."""
    n_columns = min(count, 3 if width > 5 else 1)
    n_rows = -(-count // n_columns)
    height = min(2.2, 0.5 * width / n_columns + 0.9)
    figure = Figure(figsize=(width, 0.3 + n_rows * height))
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for spare in grid.flat[count:]:
        figure.delaxes(spare)
    for axes in grid.flat[max(0, count - n_columns) : count]:  # nothing below them
        axes.tick_params(labelbottom=True)
    return figure, list(grid.flat[:count])


def cell_colours(values: Sequence[float], scale: str) -> ScalarMappable:
    """Colours of cells' values, of a scale as ``phases.Cells`` has it."""
    finite = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if scale == "share":
        return ScalarMappable(mpl.colors.Normalize(0, 1), ORDERED)
    if scale == "ratio":
        most = max(high, 1 / low if low > 0 else 1, 1.01)
        scheme = mpl.colors.LinearSegmentedColormap.from_list("", [H0, "#f2f2f2", H1])
        return ScalarMappable(mpl.colors.LogNorm(1 / most, most), scheme)
    log = scale == "log" and low > 0 and high > low
    norm = mpl.colors.LogNorm if log else mpl.colors.Normalize
    return ScalarMappable(norm(low, high), ORDERED)


def draw_cells(
    axes: Axes,
    cells: Mapping[tuple[int, ...], tuple[float, int]],
    spacings: Sequence[Spacing],
    colour: ScalarMappable,
) -> None:
    """Cells as rectangles with their value and number of runs; hatched where it is infinite."""
    across, up = (spacing.cells for spacing in spacings)
    axes.set(xlim=(across[0][0], across[-1][1]), ylim=(up[0][0], up[-1][1]))
    width = axes.figure.get_size_inches()[0]  # type: ignore[union-attr]
    inch = 0.7 * width / axes.get_gridspec().ncols / (across[-1][1] - across[0][0])  # type: ignore[union-attr]
    for (i, j), (value, n) in cells.items():
        (left, right), (low, high) = across[i], up[j]
        known = np.isfinite(value)
        face = colour.to_rgba(np.asarray(value)) if known else (1.0, 1.0, 1.0, 1.0)
        style: dict[str, Any] = {"edgecolor": "white" if known else "0.75"}
        style |= {"hatch": "////"} if np.isinf(value) else {}
        cell = Rectangle((left, low), right - left, high - low, facecolor=face, lw=0.4, **style)
        axes.add_patch(cell)
        if (right - left) * inch > 0.18:
            ink = "white" if known and np.dot(face[:3], (0.3, 0.59, 0.11)) < 0.5 else "black"
            middle = (left + right) / 2, (low + high) / 2
            text = f"{short_number(value)}\n{n}" if known else str(n)
            axes.text(*middle, text, fontsize=5, ha="center", va="center", color=ink)


def name_value(value: Any) -> str:
    """A setting's value as short as it can be."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def name_cells(
    axes: Axes, columns: Sequence[str], values: Sequence[Sequence[Any]], spacings: Sequence[Spacing]
) -> None:
    """Ticks in the middle of the cells, and the columns' names at the outer axes."""
    for name, column, own, spacing in zip("xy", columns, values, spacings, strict=True):
        texts = [name_value(value) for value in own]
        middles = [(low + high) / 2 for low, high in spacing.cells]
        long = name == "x" and sum(map(len, texts)) > 24
        axes.set(**{f"{name}ticks": middles, f"{name}label": column.replace("_", " ")})
        axes.set(**{f"{name}ticklabels": texts})
        getattr(axes, f"{name}axis").set_tick_params(length=0, rotation=90 if long else 0)
    axes.spines[:].set_visible(False)
    axes.label_outer()


def short_number(value: float) -> str:
    """Two figures or three, thousands as k."""
    if abs(value) >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def colour_key(
    figure: Figure, grid: Sequence[Axes], colour: ScalarMappable, title: str, never: bool
) -> None:
    """The colour bar with three ticks, and what hatching says if it occurs."""
    bar = figure.colorbar(colour, ax=list(grid), shrink=0.9, aspect=25, pad=0.02)
    norm: Any = colour.norm
    ticks = [float(norm.inverse(place)) for place in (0, 0.5, 1)]
    bar.set_ticks(ticks, labels=[short_number(tick) for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.set_label(textwrap.fill(title + "; hatched: fewer than half" * never, 36))
    bar.outline.set_linewidth(0.4)
