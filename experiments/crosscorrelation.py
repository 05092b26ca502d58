"""Figures of cross-correlations: do accuracy and a statistic of persistence step together?"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.artefact import Context, Output
from grokjax import statistics
from grokjax.report import figures, panels

# Lags drawn and searched, as a share of the training: up to 5,000 of the study's 60,000 steps, and
# at least some checkpoints where there are few.
LAG_SHARE, FEWEST_LAGS = 1 / 12, 6
CONVENTION = "mean ± SD over seeds; at a negative lag accuracy moves first, at a positive topology"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a panel: the cross-correlation over some runs.

    Attributes:
        label: in the legend.
        run_ids: the seeds.
        column: of the table of persistence.
        cloud: which cloud.
    """

    label: str
    run_ids: Sequence[str]
    column: str
    cloud: str


def correlate(context: Context, line: Line) -> statistics.PooledCcf:
    """Cross-correlation of test accuracy and a statistic over seeds, lags in checkpoints."""
    accuracy = figures.wide(context.table("metrics"), "test_accuracy", line.run_ids)
    table = context.table("persistence")
    own = figures.wide(table[table["cloud"] == line.cloud], line.column, line.run_ids)
    n = len(context.sweep.config.train.checkpoint_steps)
    return statistics.pooled_ccf(
        [accuracy[run_id].to_numpy() for run_id in line.run_ids],
        [own[run_id].to_numpy() for run_id in line.run_ids],
        max_lag=min(max(FEWEST_LAGS, round(LAG_SHARE * (n - 1))), n - 2),
    )


def figure(context: Context, chosen: Mapping[str, Sequence[Line]], title: str) -> Output:
    """Panels of cross-correlations, mean ± SD over seeds, with the band of the first line's null.

    Returns:
        The figure, and a row a line: lag of the mean's peak, every seed's peak lag in steps, the
        bootstrap interval of their mean, and whether the mean's peak leaves the surrogate band.
    """
    every = context.sweep.config.train.checkpoint_every
    rows = []
    with panels.style():
        n_columns = min(len(chosen), 3 if len(chosen) != 4 else 2)
        n_rows = -(-len(chosen) // n_columns)
        drawn = Figure(figsize=(figures.PAGE, 2.0 * n_rows + 0.5))
        drawn.suptitle(f"{context.title(title)}\n{CONVENTION}", fontsize=8)
        axes_list = [drawn.add_subplot(n_rows, n_columns, i + 1) for i in range(len(chosen))]
        legend: dict[str, Artist] = {}
        for (name, lines), axes in zip(chosen.items(), axes_list, strict=True):
            colours = panels.colours(len(lines))
            for i, line in enumerate(lines):
                found = correlate(context, line)
                dash = panels.DASHES[i % len(panels.DASHES)]
                _draw(axes, found, every, colours[i], dash, band=i == 0)
                legend[line.label] = Line2D(
                    [], [], color=colours[i], linestyle=dash, label=line.label
                )
                rows.append({"panel": name, **_row(line, found, every)})
            axes.set_title(name)
            axes.axvline(0, color="0.75", linewidth=0.6, zorder=0)
            axes.set_xlabel("lag in steps (− accuracy first)")
        for axes in axes_list[::n_columns]:
            axes.set_ylabel("correlation of changes")
        band = Patch(color="0.88", label="95 % of surrogates, first line (pointwise)")
        panels.legend_below(drawn, [*legend.values(), band])
    return Output(figure=drawn, numbers=pd.DataFrame(rows))


def _draw(
    axes: Axes,
    found: statistics.PooledCcf,
    every: int,
    colour: str,
    dash: panels.Dash,
    *,
    band: bool,
) -> None:
    lags = found.lags * every
    if band:
        axes.fill_between(lags, *found.band, color="0.88", linewidth=0, zorder=0)
    axes.plot(lags, found.mean, color=colour, linestyle=dash)
    low, high = found.mean - found.sd, found.mean + found.sd
    axes.fill_between(lags, low, high, color=colour, alpha=0.12, linewidth=0)


def _row(line: Line, found: statistics.PooledCcf, every: int) -> dict[str, object]:
    peak = statistics.Peak(np.nan, np.nan)
    outside = False
    if not np.isnan(found.mean).any():
        at = int(np.argmax(np.abs(found.mean)))
        peak = statistics.Peak(float(found.lags[at]), float(found.mean[at]))
        outside = not found.band[0, at] <= peak.value <= found.band[1, at]
    return {
        "line": line.label,
        "cloud": line.cloud,
        "statistic": line.column,
        "n_seeds": int(np.isfinite(found.peak_lags).sum()),
        "peak_of_mean_steps": peak.lag * every,
        "correlation_there": peak.value,
        "outside_band": outside,
        "mean_peak_lag_steps": _mean(found.peak_lags) * every,
        "interval_low_steps": found.peak_interval.low * every,
        "interval_high_steps": found.peak_interval.high * every,
        "peak_lags_steps": " ".join(f"{lag * every:g}" for lag in found.peak_lags),
    }


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else np.nan
