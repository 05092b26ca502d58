"""Persistence landscapes and persistence images of clouds, on grids that are the same throughout.

Grids go from 0 to ``diagram_range``, whatever the diagrams, so that rows of any two checkpoints,
runs and sweeps of the same options are vectors of the same space: they can be averaged, subtracted
and handed to a classifier. Bars past the range are cut off by it; of unit rows there are none.
Definitions are ``persistence.landscapes``'s and ``persistence.image``'s.

Costs little more than persistence, and 300 and 800 rows a cloud and checkpoint.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from grokjax.diagnostics import Options, Rows, RunView, Table, persistence

DEGREES = (0, 1)
_KEY = {"cloud": "str", "degree": "int64"}
TABLES = {
    "landscapes": Table(
        columns={**_KEY, "level": "int64", "scale": "float64", "value": "float64"},
        unit=("run_id", "step", "cloud"),
        within=("degree", "level", "scale"),
    ),
    "images": Table(
        columns={**_KEY, **dict.fromkeys(("birth", "persistence", "value"), "float64")},
        unit=("run_id", "step", "cloud"),
        within=("degree", "birth", "persistence"),
    ),
}
SETTINGS = (
    *("clouds", "cloud_points", "cloud_selection", "cloud_normalisation", "ph_engine"),
    *("diagram_range", "diagram_grid", "landscape_levels", "image_pixels", "image_bandwidth"),
)
NEEDS_CLOUDS = True


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Landscapes and images of every cloud asked for; a cloud that is not finite has rows of NaN.

    ``level`` counts landscapes from 1.
    """
    reach, n_pixels = options.diagram_range, options.image_pixels
    scales = np.linspace(0, reach, options.diagram_grid)
    middles = (np.arange(n_pixels) + 0.5) * (reach / n_pixels)
    rows: dict[str, list[dict[str, Any]]] = {"landscapes": [], "images": []}
    for view, name, _, found in persistence.of_views(views, options):
        key = {"run_id": view.run_id, "step": view.step, "cloud": name}
        for degree in DEGREES:
            own = key | {"degree": degree}
            curves = np.full((options.landscape_levels, len(scales)), np.nan)
            image = np.full((n_pixels, n_pixels), np.nan)
            if found is not None:
                curves = persistence.landscapes(found[degree], scales, len(curves))
                image = persistence.image(found[degree], reach, n_pixels, options.image_bandwidth)
            rows["landscapes"] += [
                own | {"level": level, "scale": scale, "value": value}
                for level, curve in enumerate(curves.tolist(), start=1)
                for scale, value in zip(scales.tolist(), curve, strict=True)
            ]
            rows["images"] += [
                own | {"birth": birth, "persistence": length, "value": value}
                for length, line in zip(middles.tolist(), image.tolist(), strict=True)
                for birth, value in zip(middles.tolist(), line, strict=True)
            ]
    return rows
