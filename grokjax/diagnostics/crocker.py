"""CROCKER matrices: Betti numbers over scale and over training.

*Contour Realization Of Computed k-dimensional hole Evolution in the Rips complex* (Topaz,
Ziegelmeier and Halverson 2015, PLoS ONE 10, e0126383).

A checkpoint is one column of the matrix: the Betti numbers of degrees 0 and 1 at scales from 0 to
``diagram_range``, the same ones throughout. ``grokjax.report.figures.crocker`` draws a run's.

Costs what persistence does, and 100 rows a cloud and checkpoint.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from grokjax.diagnostics import Options, Rows, RunView, Table, persistence

TABLES = {
    "crocker": Table(
        # A float, because a cloud that is not finite has none.
        columns={"cloud": "str", "degree": "int64", "scale": "float64", "betti": "float64"},
        unit=("run_id", "step", "cloud"),
        within=("degree", "scale"),
    )
}
SETTINGS = (
    *("clouds", "cloud_points", "cloud_selection", "cloud_normalisation", "ph_engine"),
    *("diagram_range", "diagram_grid"),
)
NEEDS_CLOUDS = True


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Betti numbers of every cloud asked for at every scale of the grid."""
    scales = np.linspace(0, options.diagram_range, options.diagram_grid)
    rows: list[dict[str, Any]] = []
    for view, name, _, found in persistence.of_views(views, options):
        key = {"run_id": view.run_id, "step": view.step, "cloud": name}
        for degree in (0, 1):
            numbers = np.full(len(scales), np.nan)
            if found is not None:
                numbers = persistence.betti_curve(found[degree], scales)
            rows += [
                key | {"degree": degree, "scale": scale, "betti": float(number)}
                for scale, number in zip(scales.tolist(), numbers.tolist(), strict=True)
            ]
    return {"crocker": rows}
