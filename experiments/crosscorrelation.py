"""Figures 12 and 14: do accuracy and a statistic of persistence step together?"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from experiments import curves
from experiments.artefact import Artefact, Context, Output
from grokjax import statistics
from grokjax.report import panels
from grokjax.settings import labels

# Lags drawn and searched, as a share of the training: up to 5,000 of the study's 60,000 steps, and
# at least some checkpoints where there are few.
LAG_SHARE, FEWEST_LAGS = 1 / 12, 6
# A curve has a peak if fewer of its surrogates than this have one as large.
LEVEL, N_SURROGATES = 0.05, 199
CLOUDS = ("embedding", "hidden1", "hidden2", "hidden3")
LEVELS = (0.01, 0.02, 0.05, 0.1)
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
    accuracy = context.values("metrics", "test_accuracy", line.run_ids)
    own = context.values("persistence", line.column, line.run_ids, line.cloud)
    return statistics.pooled_ccf(
        [accuracy[run_id].to_numpy() for run_id in line.run_ids],
        [own[run_id].to_numpy() for run_id in line.run_ids],
        max_lag=_max_lag(len(accuracy)),
    )


def _max_lag(n: int) -> int:
    """Most checkpoints by which series of n are shifted."""
    return min(max(FEWEST_LAGS, round(LAG_SHARE * (n - 1))), n - 2)


def peak_lags(context: Context, lines: Sequence[Line]) -> pd.DataFrame:
    """Lag of each run's own peak in checkpoints: a row a seed, a column a line.

    NaN where a curve has no peak: where its largest correlation is reached anywhere within these
    lags by more than 5 % of surrogates, whose changes keep their spectrum and not their place
    (phase, see `grokjax.statistics.surrogates`). Shifted surrogates would not do here: one in six
    has its step within reach of the lags.
    """
    seeds = context.found().set_index("run_id")["seed"]
    found: dict[int, dict[int, float]] = {}
    for i, line in enumerate(lines):
        accuracy = context.values("metrics", "test_accuracy", line.run_ids)
        own = context.values("persistence", line.column, line.run_ids, line.cloud)
        both = [run_id for run_id in line.run_ids if run_id in accuracy and run_id in own]
        found[i] = {int(seeds[run_id]): own_peak(accuracy[run_id], own[run_id]) for run_id in both}
    return pd.DataFrame(found).sort_index()


def own_peak(accuracy: pd.Series, values: pd.Series) -> float:
    """Lag of the peak of two curves over steps, NaN where it is no more than surrogates have."""
    pairs = pd.concat([accuracy, values], axis=1).dropna().to_numpy()
    if len(pairs) < 4 or not np.ptp(pairs, axis=0).all():
        return np.nan
    x, y = pairs.T
    max_lag = _max_lag(len(pairs))
    peak = statistics.ccf_peak(x, y, max_lag)
    drawn = statistics.surrogates(y, "phase", N_SURROGATES, np.random.default_rng(0))
    larger = sum(np.abs(statistics.ccf(x, own, max_lag)[1]).max() >= abs(peak.value)
                 for own in drawn)  # fmt: skip
    return peak.lag if (1 + larger) / (1 + N_SURROGATES) <= LEVEL else np.nan


def lines_of(context: Context, figure: str, cloud: str) -> list[Line]:
    """Lines of Figure 12 at a cloud, or of Figure 14, whose runs are there."""
    if figure == "fig12":
        levels = [(level, "h0_total", cloud) for level in LEVELS]
    else:
        levels = [(0.0, column, own) for column in curves.STATISTICS for own in CLOUDS]
    lines = []
    for level, column, own in levels:
        run_ids = list(context.found(label_permutation=level)["run_id"])
        if run_ids:
            label = labels.in_words("label_permutation", level)
            lines.append(Line(label=label, run_ids=run_ids, column=column, cloud=own))
    return lines


def by_level(context: Context, cloud: str) -> list[Line]:
    """A line of H0 total for each share of permuted labels."""
    return [
        Line(
            label=labels.in_words("label_permutation", level),
            run_ids=list(context.runs(label_permutation=level)["run_id"]),
            column="h0_total",
            cloud=cloud,
        )
        for level in LEVELS
    ]


def by_cloud(context: Context, column: str) -> list[Line]:
    """A line of a statistic for each of the MLP's clouds, with true labels."""
    run_ids = list(context.runs(label_permutation=0.0)["run_id"])
    return [
        Line(label=curves.cloud_in_words(cloud), run_ids=run_ids, column=column, cloud=cloud)
        for cloud in CLOUDS
    ]


def transformer(context: Context, one: Artefact) -> Output:
    """A panel for each cloud."""
    names = ("embedding", "layer1", "layer2")
    chosen = {f"H0 total, {curves.cloud_in_words(c)}": by_level(context, c) for c in names}
    return figure(context, chosen, one.heading(context))


def mlp(context: Context, one: Artefact) -> Output:
    """A panel for each statistic."""
    chosen = {labels.COLUMNS[column]: by_cloud(context, column) for column in curves.STATISTICS}
    return figure(context, chosen, one.heading(context))


def figure(context: Context, chosen: Mapping[str, Sequence[Line]], title: str) -> Output:
    """Panels of cross-correlations, mean ± SD over seeds, with the band of the first line's null.

    Returns:
        The figure, and a row a line: lag of the mean's peak, every seed's peak lag in steps, the
        bootstrap interval of their mean, and whether the mean's peak leaves the surrogate band.
    """
    every = context.pool.every
    rows = []
    with panels.style():
        drawn, axes_list = curves.sheet(len(chosen), f"{title}\n{CONVENTION}", 2.0, 0.5)
        legend: dict[str, Artist] = {}
        for (name, lines), axes in zip(chosen.items(), axes_list, strict=True):
            for i, (line, stroke) in enumerate(zip(lines, curves.strokes(len(lines)), strict=True)):
                found = correlate(context, line)
                _draw(axes, found, every, stroke, band=i == 0)
                legend[line.label] = curves.handle(line.label, stroke)
                rows.append({"panel": name, **_row(line, found, every)})
            axes.set_title(name)
            axes.axvline(0, color="0.75", linewidth=0.6, zorder=0)
            axes.set_xlabel("lag in steps (− accuracy first)")
            place = axes.get_subplotspec()
            if place is not None and place.is_first_col():
                axes.set_ylabel("correlation of changes")
        band = Patch(color="0.88", label="95 % of surrogates, first line (pointwise)")
        panels.legend_below(drawn, [*legend.values(), band])
    return Output(figure=drawn, numbers=pd.DataFrame(rows))


def _draw(
    axes: Axes, found: statistics.PooledCcf, every: int, stroke: curves.Stroke, *, band: bool
) -> None:
    colour, dash = stroke
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
        "mean_peak_lag_steps": pd.Series(found.peak_lags).mean() * every,
        "interval_low_steps": found.peak_interval.low * every,
        "interval_high_steps": found.peak_interval.high * every,
        "peak_lags_steps": " ".join(f"{lag * every:g}" for lag in found.peak_lags),
    }
