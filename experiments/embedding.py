"""Figures 1 and 2: the transformer's embedding of one prime as it learns."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import curves
from experiments.artefact import Artefact, Context, Output
from grokjax.diagnostics import persistence
from grokjax.report import figures, panels

# Steps 0 (the study: 1), 20,000, 30,000 and 50,000 of 60,000.
SHARES = (0.0, 1 / 3, 1 / 2, 5 / 6)

ACCURACIES = {
    "test_accuracy": "test accuracy",
    "restricted_accuracy": "restricted to key frequencies",
    "excluded_accuracy": "key frequencies excluded",
}


def diagrams(context: Context, one: Artefact) -> Output:
    """Diagrams of the first seed at four steps; their longest and second-longest H1 bars."""
    run_id = _first_seed(one.runs(context))
    steps = context.pool.steps
    shown = [min(steps, key=lambda step: abs(step - share * steps[-1])) for share in SHARES]
    found = {step: context.pool.sweep_of(run_id).diagram(run_id, step) for step in shown}
    figure = figures.persistence_diagrams(found)
    with panels.style():
        figure.suptitle(one.heading(context), fontsize=8)
    rows = []
    for step, bars in found.items():
        longest = persistence.summarize(bars)
        bars_of = {"h1_max": longest.h1_max, "h1_second": longest.h1_second}
        rows.append({"run_id": run_id, "step": step, **bars_of})
    return Output(figure=figure, numbers=pd.DataFrame(rows))


def spectrum(context: Context, one: Artefact) -> Output:
    """Shares of power of the first seed, and accuracies over seeds."""
    runs = one.runs(context)
    spectra = context.table("spectra")
    own = spectra[(spectra["run_id"] == _first_seed(runs)) & (spectra["matrix"] == "embedding")]
    power = own[own["frequency"] > 0].pivot(index="frequency", columns="step", values="power")
    merged = context.table("fourier").merge(context.table("metrics"), on=["run_id", "step"])
    note = f"a: first seed; b: mean ± SD of {len(runs)} seeds"
    lines = curves.strokes(len(ACCURACIES))
    numbers = []
    with panels.style():
        title = f"{one.heading(context)}\n{note}"
        figure, (left, right) = curves.sheet(2, title, 2.6, 0)
        _draw_spectrum(figure, left, power / power.sum())
        for (column, label), stroke in zip(ACCURACIES.items(), lines, strict=True):
            values = figures.wide(merged, column, list(runs["run_id"]))
            panels.draw_mean(right, values, *stroke)
            numbers.append(curves.summary(values, {"quantity": label}))
        right.set(title="b: accuracy", xlabel="step", ylabel="accuracy", ylim=(-0.03, 1.03))
        panels.step_axis(right)
        panels.legend_below(figure, [*map(curves.handle, ACCURACIES.values(), lines)])
    return Output(figure=figure, numbers=pd.concat(numbers, ignore_index=True))


def _first_seed(runs: pd.DataFrame) -> str:
    return str(runs.sort_values("seed")["run_id"].iloc[0])


def _draw_spectrum(figure: Figure, axes: Axes, shares: pd.DataFrame) -> None:
    steps = shares.columns.to_numpy(np.float64)
    image = axes.pcolormesh(
        steps, shares.index, shares.to_numpy(), cmap="cividis", shading="nearest", rasterized=True
    )
    axes.set(title="a: power of the embedding", xlabel="step", ylabel="frequency")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    panels.step_axis(axes)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label="share of power", pad=0.02)
    bar.outline.set_linewidth(0.4)
