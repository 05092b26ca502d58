"""Figure 2: the embedding's spectrum, and restricted and excluded accuracy, p = 197, α = 0.3.

Claim:    the spectrum concentrates on few frequencies; both accuracies track test accuracy.
Command:  python -m experiments.figure2 --workdir=work/paper [--scale=small]
Device:   the sweep transformer_grid (its flagfile says how long); the figure takes seconds.
Expected: about six frequencies hold most of the power by the end. By Nanda et al.'s definition
          excluded accuracy is over the training pairs; in our run at p = 113
          (experiments/results/paper_p113) it stays at 0.8 to 1 and does not track test accuracy.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments import curves
from experiments.artefact import Artefact, Context, Output, main
from grokjax.report import figures, panels

COLUMNS = {
    "test_accuracy": "test accuracy",
    "restricted_accuracy": "restricted to key frequencies",
    "excluded_accuracy": "key frequencies excluded",
}


def make(context: Context) -> Output:
    """Shares of power of the first seed, and accuracies over seeds."""
    prime, fraction = context.prime(197), context.fraction(0.3)
    runs = context.runs(prime=prime, train_fraction=fraction)
    run_ids = list(runs["run_id"])
    spectra = context.table("spectra")
    own = spectra[(spectra["run_id"] == curves.typical(runs)) & (spectra["matrix"] == "embedding")]
    power = own[own["frequency"] > 0].pivot(index="frequency", columns="step", values="power")
    shares = power / power.sum()
    keys = ["run_id", "step"]
    merged = context.table("fourier").merge(context.table("metrics"), on=keys)
    with panels.style():
        figure = Figure(figsize=(figures.PAGE, 2.6))
        title = f"Figure 2: transformer, p = {prime}, α = {fraction:g}"
        note = f"a: first seed; b: mean ± SD of {len(runs)} seeds"
        figure.suptitle(f"{context.title(title)}\n{note}", fontsize=8)
        left, right = figure.subplots(1, 2)
        _draw_spectrum(figure, left, shares)
        numbers, handles = [], []
        for (column, label), colour, dash in zip(
            COLUMNS.items(), panels.PALETTE, panels.DASHES, strict=False
        ):
            values = figures.wide(merged, column, run_ids)
            panels.draw_mean(right, values, colour, dash)
            handles.append(Line2D([], [], color=colour, linestyle=dash, label=label))
            numbers.append(_summary(label, values))
        right.set(title="b: accuracy", xlabel="step", ylabel="accuracy", ylim=(-0.03, 1.03))
        panels.step_axis(right)
        panels.legend_below(figure, handles)
    return Output(figure=figure, numbers=pd.concat(numbers, ignore_index=True))


def _summary(label: str, values: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "quantity": label,
            "step": values.index,
            "mean": values.mean(axis=1).to_numpy(),
            "sd": values.std(axis=1, ddof=1).to_numpy(),
            "n_runs": values.notna().sum(axis=1).to_numpy(),
        }
    )


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


ARTEFACT = Artefact(
    name="figure2",
    training="transformer_grid",
    caption="Spectrum of the embedding; restricted and excluded accuracy",
    make=make,
)

if __name__ == "__main__":
    main("figure2")
