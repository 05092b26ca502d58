"""Local intrinsic dimension of point clouds by TwoNN on neighbourhoods.

TwoNN (Facco et al. 2017, doi:10.1038/s41598-017-11873-y): where points lie uniformly on a
d-dimensional manifold, the ratio μ of a point's distances to its second and to its first nearest
neighbour has P(μ > x) = x^-d, so d is the slope of −log(1 − F(μ)) against log μ. Fitted to the
neighbourhood of each point in turn it is a pointwise estimate. Everything here follows
scikit-dimension 0.5, ``TwoNN().fit_transform_pw``:

* the neighbourhood of a point is its ``n_neighbors`` nearest points, itself not among them;
* both distances of a member of it are taken among the members only;
* members that coincide with another one (first distance 0) are left out;
* of the N ratios left, the largest are discarded: the ⌊0.9 N⌋ smallest are fitted by least
  squares through the origin, with the i-th smallest at F = i / N. Releases before 0.5 put it at
  F = (i − 1) / N, which gives estimates about 5 % lower: ``empirical="from_zero"``.

Of points equally far those of lowest index enter a neighbourhood (in scikit-dimension it is an
accident which), and coinciding points are at distance 0 exactly (there, above 25 dimensions, up to
1e-8 apart). Neighbourhoods are chosen by float64 distances, whatever the input and
``jax_enable_x64``: float32 would change the last to enter at one point in ten thousand, and the
estimate there by several percent. The ratios within come from the same distances rounded to
float32, an error of 1e-7; distances below 1e-19 of the largest count as 0.

Shapes: N points, D dimensions, K neighbours.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Options, Rows, RunArrays, RunView, Table

EMPIRICAL = ("from_one", "from_zero")

# The fit needs two ratios below the discarded tenth.
_MIN_POINTS = 3


class DimensionSummary(NamedTuple):
    """Mean and standard deviation of pointwise estimates over the points of one cloud."""

    lid_mean: float
    lid_std: float


def twonn_pointwise(
    points: ArrayLike, n_neighbors: int = 64, *, empirical: str = "from_one"
) -> NDArray[np.float64]:
    """TwoNN estimate of the dimension about each point (Facco et al. 2017, scikit-dimension 0.5).

    Takes about 30 n² bytes where ``points`` lie; a program is compiled for each shape.

    Args:
        points: Shape (n, d), d at least 1, n above ``n_neighbors``; any real dtype.
        n_neighbors: Points in a neighbourhood, at least 3; the paper's study used 64.
        empirical: ``"from_one"`` or ``"from_zero"``, see the module's text.

    Returns:
        Shape (n,), float64, no unit. NaN throughout where any coordinate is infinite or NaN; NaN
        at a point whose neighbourhood has fewer than three members that coincide with no other
        (scikit-dimension refuses the whole cloud then); 0 where all fitted ratios are exactly 1.

    Raises:
        ValueError: On another shape, too few points, or an unknown ``empirical``.
    """
    array = _checked(points, empirical)
    n = array.shape[0]
    if n_neighbors < _MIN_POINTS:
        raise ValueError(f"TwoNN needs at least {_MIN_POINTS} neighbours, not {n_neighbors}")
    if n <= n_neighbors:
        few = f"{n} points are too few for neighbourhoods of {n_neighbors}"
        raise ValueError(f"{few}: at least {n_neighbors + 1} are needed")
    from grokjax.diagnostics import _twonn  # here, because it needs JAX

    return _twonn.in_float64(_twonn.pointwise, array, n_neighbors, empirical == "from_zero")


def twonn_global(points: ArrayLike, *, empirical: str = "from_one") -> float:
    """One TwoNN estimate for a whole cloud (n, d), as scikit-dimension 0.5's ``TwoNN().fit``.

    NaN where any coordinate is infinite or NaN, or fewer than three points coincide with no other.

    Raises:
        ValueError: On another shape, fewer than 3 points, or an unknown ``empirical``.
    """
    array = _checked(points, empirical)
    if array.shape[0] < _MIN_POINTS:
        raise ValueError(f"TwoNN needs at least {_MIN_POINTS} points, not {array.shape[0]}")
    from grokjax.diagnostics import _twonn

    return float(_twonn.in_float64(_twonn.whole, array, empirical == "from_zero"))


def summarize(pointwise: ArrayLike) -> DimensionSummary:
    """Mean and standard deviation (divisor n) of pointwise estimates, shape (n,), n at least 1.

    Both are NaN where any estimate is.

    Raises:
        ValueError: On another shape, or no points.
    """
    values = np.asarray(pointwise, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"pointwise must have shape (n,) with n >= 1, not {values.shape}")
    return DimensionSummary(float(values.mean()), float(values.std()))


def _checked(points: Any, empirical: str) -> Any:
    """The points as they are if they are an array of NumPy's or JAX's, else as one of NumPy's."""
    array = points if hasattr(points, "dtype") else np.asarray(points)
    if array.ndim != 2 or array.shape[1] < 1:
        raise ValueError(f"points must have shape (n, d) with d >= 1, not {array.shape}")
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ValueError(f"points must be real numbers, not {array.dtype}")
    if empirical not in EMPIRICAL:
        raise ValueError(f"empirical is {empirical!r}; it must be one of {', '.join(EMPIRICAL)}")
    return array


TABLES = {
    "dimension": Table(
        columns={"cloud": "str", "n_points": "int64", "n_neighbors": "int64"}
        | dict.fromkeys((*DimensionSummary._fields, "lid_global"), "float64")
        | {"normalisation": "str", "empirical": "str"},
        unit=("run_id", "step", "cloud"),
        too_little=lambda rows: rows["n_points"] <= rows["n_neighbors"],
    )
}
SETTINGS = ("clouds", "cloud_points", "cloud_selection", "cloud_normalisation", "lid_points",
            "lid_neighbors", "lid_empirical")  # fmt: skip
ON_DEVICE = ("clouds", "last_states")


def on_device(run: RunArrays, constants: None, options: Options) -> dict[str, Any]:
    """Cloud → pointwise estimates and that of the whole; of the last states under no name.

    NaN where a cloud has no more points than neighbours.
    """
    import jax.numpy as jnp

    from grokjax.diagnostics import _twonn  # here, because it needs JAX

    clouds = run.clouds | {"": _twonn.centred(run.last_states)}
    n_neighbors, from_zero = options.lid_neighbors, options.lid_empirical == "from_zero"
    return {
        name: _twonn.both(cloud, n_neighbors, from_zero)
        if len(cloud) > n_neighbors
        else (jnp.full(len(cloud), jnp.nan), jnp.nan)
        for name, cloud in clouds.items()
    }


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Local dimension of every cloud asked for, and of the study's: states of the last layer.

    NaN where a cloud has no more points than neighbours.
    """
    rows = []
    n_neighbors, empirical = options.lid_neighbors, options.lid_empirical
    for view in views:
        last, reduced = view.last_states_name, view.reduced.get("dimension")
        names = [name for name in view.cloud_names if name != last]
        for name in [*names, last]:
            how = "none" if name == last else options.cloud_normalisation
            key = {"run_id": view.run_id, "step": view.step, "cloud": name, "normalisation": how}
            if reduced:
                pointwise, whole = reduced["" if name == last else name]
            else:
                cloud = view.last_states(options.lid_points) if name == last else view.cloud(name)
                pointwise, whole = np.full(len(cloud), np.nan), np.nan
                # One cloud a call: a program is compiled for each shape, however many there are.
                if len(cloud) > n_neighbors:
                    pointwise = twonn_pointwise(cloud, n_neighbors, empirical=empirical)
                    whole = twonn_global(cloud, empirical=empirical)
            numbers = summarize(pointwise)._asdict() | {"lid_global": float(whole)}
            described = {
                "n_points": len(pointwise),
                "n_neighbors": n_neighbors,
                "empirical": empirical,
            }
            rows.append(key | numbers | described)
    return {"dimension": rows}
