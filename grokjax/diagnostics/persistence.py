"""Vietoris-Rips persistent homology of point clouds: diagrams, summaries, distances.

A *diagram* is a float64 array of shape (k, 2), one row (birth, death) per bar of one homology
degree. Rows are in lexicographic order, bars of zero length are left out, and a bar that never
dies has death ``inf``. *Diagrams* are a list of them, one per degree from 0 up.

Two engines compute the same thing by different algorithms, so that each can check the other:
``redzed`` (Kapulkin and Kershaw 2026, arXiv:2606.06310), the fast default, and ``giotto``
(giotto-ph; Burella Pérez et al. 2021, arXiv:2107.05412). giotto-ph works in float32, so both are
given the Euclidean distances computed in float64 and rounded once to float32. Persistence pairs
depend on the order of the distances alone, hence both return the same numbers to the bit, as
float64 values that are exact in float32. Homology has coefficients in Z/2.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import redzed_tda
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import entr

from grokjax.diagnostics import Options, Rows, RunView, Table

Diagram: TypeAlias = NDArray[np.float64]
Diagrams: TypeAlias = list[Diagram]

ENGINES = ("redzed", "giotto")
METRICS = ("bottleneck", "wasserstein")

# giotto-ph's own threads cost more than they bring on smaller clouds.
_GIOTTO_THREADS_FROM = 200
# Worker processes take seconds to start: about four random clouds of 197 points in degree 1.
_GIOTTO_INLINE_WORK = 4 * 197**4
# Relative error allowed to the Wasserstein solver; far below what float32 distances carry.
_WASSERSTEIN_ERROR = 1e-9


def diagrams(
    points: ArrayLike, max_dimension: int = 1, engine: str = "redzed", n_threads: int = 1
) -> Diagrams:
    """Persistence diagrams of the Euclidean Vietoris-Rips filtration of a point cloud.

    The filtration value of an edge is its length (not half of it). There is no threshold: every
    bar is followed to its death.

    Args:
        points: Shape (n, d), n and d at least 1, real and finite; any dtype, read as float64.
        max_dimension: Highest homology degree, 0, 1 or 2.
        engine: ``"redzed"`` or ``"giotto"``.
        n_threads: Threads inside the giotto engine, used from 200 points on; redzed has none.

    Returns:
        ``max_dimension + 1`` diagrams, degree 0 first, including infinite bars: degree 0 always
        has one infinite bar, higher degrees never do. Coinciding points share one bar.

    Raises:
        ValueError: Bad points, engine, max_dimension or n_threads, or distances that overflow
            float32.
    """
    _check_options(engine, max_dimension, n_threads)
    return _compute(_as_cloud(points), engine, max_dimension, n_threads)


def many(
    clouds: Iterable[ArrayLike],
    *,
    engine: str = "redzed",
    n_threads: int = 1,
    max_dimension: int = 1,
) -> list[Diagrams | Exception]:
    """Diagrams of many clouds, in parallel over the clouds.

    redzed releases the GIL and runs in threads. giotto-ph holds it and runs in worker processes
    that are started afresh, never forked, and kept for later calls; when there are fewer clouds
    than ``n_threads`` each also gets a share of threads, and small total work runs inline.

    Args:
        clouds: Point clouds as for `diagrams`; sizes may differ.
        engine: ``"redzed"`` or ``"giotto"``.
        n_threads: Cores to use; 1 computes everything in the calling thread.
        max_dimension: Highest homology degree, 0, 1 or 2.

    Returns:
        One entry a cloud, in the order of the input: its diagrams, or the exception that this
        cloud alone raised (a cloud with NaN gives a ValueError). If a worker process dies, the
        clouds still unfinished hold that error.

    Raises:
        ValueError: Bad engine, max_dimension or n_threads: wrong for every cloud.
    """
    _check_options(engine, max_dimension, n_threads)
    prepared = [_attempt(_as_cloud, cloud) for cloud in clouds]
    good = [cloud for cloud in prepared if not isinstance(cloud, Exception)]
    run = _many_threads if engine == "redzed" else _many_processes
    computed = iter(run(good, max_dimension, n_threads) if good else [])
    return [c if isinstance(c, Exception) else next(computed) for c in prepared]


class Summary(NamedTuple):
    """Numbers of a cloud's diagrams in degrees 0 and 1; see `summarize`."""

    h0_max: float
    h0_total: float
    h0_entropy: float
    h1_max: float
    h1_second: float
    h1_gap: float
    h1_total: float
    h1_count: int
    h1_entropy: float
    connectivity: float


def summarize(diagrams: Sequence[ArrayLike]) -> Summary:
    """Summary statistics of the finite bars in degrees 0 and 1.

    Infinite bars are left out of every number: the one component that never dies has no length.
    A degree without finite bars gives 0.0 throughout. The order of the rows does not matter, not
    even in the last bit.

    * ``h0_max``, ``h1_max``: longest bar, death - birth, in the unit of the distances;
      ``h1_second``: second longest; ``h1_gap``: ``h1_max - h1_second``.
    * ``h0_total``, ``h1_total``: sum of all bar lengths; ``h1_count``: number of bars.
    * ``h0_entropy``, ``h1_entropy``: persistence entropy in nats, -sum q_i ln q_i with q_i a
      bar's share of the total length (Chintakunta et al. 2015, Pattern Recognition 48, 391-401;
      Rucco et al. 2016, Proceedings of ECCS 2014, 117-128), between 0 and ln(number of bars);
      not normalised.
    * ``connectivity``: largest finite death in degree 0, the scale at which the cloud becomes
      connected.

    Args:
        diagrams: Diagrams of degrees 0, 1, ..., each (k, 2); degrees above 1 are not read.

    Raises:
        ValueError: Fewer than two degrees, or rows that are not bars.
    """
    if len(diagrams) < 2:
        raise ValueError(f"diagrams must hold degrees 0 and 1, got {len(diagrams)} degree(s)")
    h0, h1 = (_as_diagram(diagram) for diagram in diagrams[:2])
    h0, h1 = (bars[np.isfinite(bars[:, 1])] for bars in (h0, h1))
    lengths_0, lengths_1 = (bars[:, 1] - bars[:, 0] for bars in (h0, h1))
    first, second = [*sorted(lengths_1.tolist(), reverse=True), 0.0, 0.0][:2]
    return Summary(
        h0_max=float(lengths_0.max(initial=0.0)),
        h0_total=math.fsum(lengths_0),
        h0_entropy=_entropy(lengths_0),
        h1_max=first,
        h1_second=second,
        h1_gap=first - second,
        h1_total=math.fsum(lengths_1),
        h1_count=len(lengths_1),
        h1_entropy=_entropy(lengths_1),
        connectivity=float(h0[:, 1].max(initial=0.0)),
    )


def betti_curve(diagram: ArrayLike, thresholds: ArrayLike) -> NDArray[np.int64]:
    """Number of bars alive at each threshold: the Betti number of the complex at that scale.

    A bar is alive at t if birth <= t < death, so an infinite bar, which counts here, is alive
    from its birth on.

    Args:
        diagram: Bars of one degree, shape (k, 2).
        thresholds: Scales, shape (t,), finite, in any order.

    Returns:
        Counts, shape (t,), int64.

    Raises:
        ValueError: Rows that are not bars, or thresholds that are not finite and one-dimensional.
    """
    bars = _as_diagram(diagram)
    scales = np.asarray(thresholds, dtype=np.float64)
    if scales.ndim != 1 or not np.isfinite(scales).all():
        raise ValueError(f"thresholds must be finite and of shape (t,), got shape {scales.shape}")
    born, dead = (np.searchsorted(np.sort(ends), scales, side="right") for ends in bars.T)
    return (born - dead).astype(np.int64)


def distance(diagram_a: ArrayLike, diagram_b: ArrayLike, metric: str = "bottleneck") -> float:
    """Bottleneck or 1-Wasserstein distance between two diagrams of the same degree.

    A partial matching pairs bars of one diagram with bars of the other at the larger of the two
    differences (L-infinity norm) and every other bar with the diagonal at half its length. The
    bottleneck distance is the smallest possible maximum of these costs, exact but for the last
    bits; the Wasserstein distance, of order 1, their smallest possible sum, to 1e-9 relative.
    Both change continuously with the points (Cohen-Steiner, Edelsbrunner and Harer 2007, Discrete
    Comput. Geom. 37, 103-120; Skraba and Turner 2020, arXiv:2006.16824). Infinite bars are matched
    among themselves by birth; where their numbers differ the distance is ``inf``.
    Computed by GUDHI and, inside it, Hera (Kerber, Morozov and Nigmetov 2017, ACM JEA 22, 1.4).

    Args:
        diagram_a: Bars, shape (k, 2).
        diagram_b: Bars of the same degree, shape (l, 2).
        metric: ``"bottleneck"`` or ``"wasserstein"``.

    Raises:
        ValueError: Rows that are not bars, or an unknown metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    # Imported here because the worker processes import this module and never need it.
    from gudhi import bottleneck_distance, hera

    a, b = _as_diagram(diagram_a), _as_diagram(diagram_b)
    if np.array_equal(a, b):
        return 0.0  # where GUDHI gives the smallest normal number
    if metric == "bottleneck":
        return float(bottleneck_distance(a, b))
    return float(hera.wasserstein_distance(a, b, order=1.0, delta=_WASSERSTEIN_ERROR))


class EngineMismatch(RuntimeError):
    """Two engines gave different diagrams; the message says which, where and by how much."""


def require_same(
    diagrams_a: Sequence[ArrayLike],
    diagrams_b: Sequence[ArrayLike],
    engines: tuple[str, str] = ("redzed", "giotto"),
) -> None:
    """Check that two engines' diagrams are equal as sorted rows, to the bit.

    Args:
        diagrams_a: Diagrams by the first engine, degree 0 first, rows in any order.
        diagrams_b: Diagrams by the second engine.
        engines: Names of the two, for the message.

    Raises:
        EngineMismatch: They differ. Names the engines, the first degree that differs, and the
            largest absolute difference between its sorted rows: ``inf`` where the numbers of
            bars differ or an infinite bar meets a finite one.
        ValueError: The numbers of degrees differ.
    """
    if len(diagrams_a) != len(diagrams_b):
        raise ValueError(
            f"diagrams must have equally many degrees, got {len(diagrams_a)} and {len(diagrams_b)}"
        )
    for degree, pair in enumerate(zip(diagrams_a, diagrams_b, strict=True)):
        a, b = (_canonical(diagram) for diagram in pair)
        if not np.array_equal(a, b):
            unequal = a != b if len(a) == len(b) else None
            difference = math.inf if unequal is None else np.abs(a[unequal] - b[unequal]).max()
            raise EngineMismatch(
                f"engines {engines[0]} and {engines[1]} disagree in degree {degree}: "
                f"{len(a)} and {len(b)} bars, largest difference {difference:g}"
            )


def verify(
    points: ArrayLike, computed: Sequence[ArrayLike], engine_used: str, n_threads: int = 1
) -> None:
    """Recompute a cloud's diagrams with the other engine and compare them to the bit.

    Args:
        points: The cloud, as for `diagrams`.
        computed: Its diagrams as ``engine_used`` gave them, degree 0 first, rows in any order;
            their number says up to which degree to recompute.
        engine_used: ``"redzed"`` or ``"giotto"``.
        n_threads: As for `diagrams`.

    Raises:
        EngineMismatch: The engines disagree; see `require_same`.
        ValueError: As for `diagrams`.
    """
    _check_options(engine_used)
    (other,) = set(ENGINES) - {engine_used}
    recomputed = diagrams(points, len(computed) - 1, other, n_threads)
    require_same(computed, recomputed, (engine_used, other))


def _check_options(engine: str, max_dimension: int = 0, n_threads: int = 1) -> None:
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if max_dimension not in (0, 1, 2):
        raise ValueError(f"max_dimension must be 0, 1 or 2, got {max_dimension!r}")
    if n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, got {n_threads!r}")


def _as_cloud(points: ArrayLike) -> NDArray[np.float64]:
    """Points as a checked float64 array of shape (n, d)."""
    if np.iscomplexobj(points):
        raise ValueError("points must be real, got complex numbers")
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2 or cloud.size == 0:
        raise ValueError(f"points must have shape (n, d) with n, d >= 1, got shape {cloud.shape}")
    if not np.isfinite(cloud).all():
        bad = np.count_nonzero(~np.isfinite(cloud).all(axis=1))
        raise ValueError(f"points must be finite, got NaN or inf in {bad} of {len(cloud)} rows")
    return cloud


def _as_diagram(diagram: ArrayLike) -> Diagram:
    """One diagram as a checked float64 array in canonical form."""
    bars = _canonical(diagram)
    if np.isnan(bars).any() or np.isinf(bars[:, 0]).any() or (bars[:, 1] < bars[:, 0]).any():
        raise ValueError("diagram rows must be bars (birth, death) with finite birth <= death")
    return bars


def _canonical(diagram: ArrayLike) -> Diagram:
    """Rows in lexicographic order without zero-length bars, float64 of shape (k, 2)."""
    bars = np.asarray(diagram, dtype=np.float64)
    if bars.ndim != 2 or bars.shape[1] != 2:
        raise ValueError(f"diagram must have shape (k, 2), got shape {bars.shape}")
    bars = bars[bars[:, 0] != bars[:, 1]]
    return bars[np.lexsort((bars[:, 1], bars[:, 0]))]


def _entropy(lengths: NDArray[np.float64]) -> float:
    """Shannon entropy, in nats, of positive lengths taken as shares of their sum."""
    if len(lengths) < 2:
        return 0.0
    return math.fsum(entr(lengths / math.fsum(lengths)))


def _distances(cloud: NDArray[np.float64]) -> NDArray[np.float64]:
    """Condensed Euclidean distances, float64 holding values rounded to float32."""
    # Differences of coordinates in float64: |a|^2 - 2ab + |b|^2 would cancel for close points.
    with np.errstate(over="ignore"):
        rounded = pdist(cloud).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError("points lie too far apart: their distances overflow float32")
    return rounded.astype(np.float64)


def _compute(
    cloud: NDArray[np.float64], engine: str, max_dimension: int, n_threads: int
) -> Diagrams:
    compute = _redzed if engine == "redzed" else _giotto
    return [_canonical(bars) for bars in compute(_distances(cloud), max_dimension, n_threads)]


def _redzed(distances: NDArray[np.float64], max_dimension: int, n_threads: int) -> list[Any]:
    """Diagrams by redzed-tda from condensed distances; it has no threads of its own."""
    return list(redzed_tda.rips(distances, maxdim=max_dimension))


def _giotto(distances: NDArray[np.float64], max_dimension: int, n_threads: int) -> list[Any]:
    """Diagrams by giotto-ph from condensed distances, float32."""
    # Imported here because it loads scikit-learn, which takes seconds.
    from gph import ripser_parallel

    square = squareform(distances)
    # No finite thresh and no collapse_edges: both switch to the sparse backend. Without them
    # giotto-ph stops at the enclosing radius, beyond which the complex is a cone.
    result = ripser_parallel(
        square,
        maxdim=max_dimension,
        thresh=np.inf,
        coeff=2,
        metric="precomputed",
        collapse_edges=False,
        n_threads=n_threads if len(square) >= _GIOTTO_THREADS_FROM else 1,
    )
    return list(result["dgms"])


def _attempt(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result, or the exception it raised."""
    try:
        return function(*args)
    except Exception as error:
        return error


def _many_threads(
    clouds: list[NDArray[np.float64]], max_dimension: int, n_threads: int
) -> list[Diagrams | Exception]:
    def one(cloud: NDArray[np.float64]) -> Diagrams | Exception:
        return _attempt(_compute, cloud, "redzed", max_dimension, 1)

    if n_threads == 1 or len(clouds) == 1:
        return [one(cloud) for cloud in clouds]
    with ThreadPoolExecutor(min(n_threads, len(clouds))) as pool:
        return list(pool.map(one, clouds))


def _many_processes(
    clouds: list[NDArray[np.float64]], max_dimension: int, n_threads: int
) -> list[Diagrams | Exception]:
    n_processes = min(n_threads, len(clouds))
    work = sum(len(cloud) ** (max_dimension + 3) for cloud in clouds)
    if n_processes == 1 or work < _GIOTTO_INLINE_WORK:
        return [_attempt(_compute, c, "giotto", max_dimension, n_threads) for c in clouds]
    # loky rather than the standard pools: they fork, or import the caller's main module again.
    from joblib import Parallel, delayed

    workers = Parallel(
        n_jobs=n_processes, backend="loky", batch_size=1, max_nbytes=None, return_as="generator"
    )
    share = n_threads // n_processes
    jobs = (delayed(_attempt)(_compute, c, "giotto", max_dimension, share) for c in clouds)
    results: list[Diagrams | Exception] = []
    try:
        for result in workers(jobs):
            results.append(result)
    except BrokenExecutor as error:
        results += [error] * (len(clouds) - len(results))
    return results


# --------------------------------------------------------------------------- as a diagnostic

_SUMMARY_COLUMNS = {
    name: "int64" if kind is int else "float64" for name, kind in Summary.__annotations__.items()
}
TABLES = {
    "persistence": Table(
        columns={"cloud": "str", "n_points": "int64", **_SUMMARY_COLUMNS, "engine": "str"},
        unit=("run_id", "step", "cloud"),
    ),
    "diagrams": Table(
        columns={"cloud": "str", "dimension": "int64", "birth": "float64", "death": "float64"},
        unit=("run_id", "step", "cloud"),
        within=None,  # bars may be equal
        optional=True,
    ),
}
SETTINGS = ("clouds", "cloud_points", "cloud_selection", "cloud_normalisation", "ph_engine")


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Diagrams and their summaries of every cloud of the runs at one checkpoint.

    A share ``options.ph_verify`` of the clouds, chosen by a hash of run, step and cloud, is
    recomputed by the other engine. A cloud that is not finite gives a row of NaN.

    Raises:
        EngineMismatch: the engines disagree; the message names the cloud.
    """
    keys = [(view, name) for view in views for name in view.cloud_names]
    points = [view.cloud(name) for view, name in keys]
    computed = many(points, engine=options.ph_engine, n_threads=options.ph_threads)
    rows: dict[str, list[dict[str, Any]]] = {"persistence": [], "diagrams": []}
    for (view, name), cloud, result in zip(keys, points, computed, strict=True):
        key = {"run_id": view.run_id, "step": view.step, "cloud": name}
        finite = bool(np.isfinite(cloud).all())
        if isinstance(result, Exception):
            if finite:
                raise result
            nothing = dict.fromkeys(_SUMMARY_COLUMNS, math.nan) | {"h1_count": 0}
        else:
            if _sampled(key, options.ph_verify):
                try:
                    verify(cloud, result, options.ph_engine)
                except EngineMismatch as error:
                    raise EngineMismatch(f"cloud {name} of {view.run_id}: {error}") from None
            rows["diagrams"] += [
                {**key, "dimension": degree, "birth": float(birth), "death": float(death)}
                for degree, bars in enumerate(result)
                for birth, death in bars
            ]
        numbers = nothing if isinstance(result, Exception) else summarize(result)._asdict()
        rows["persistence"].append(
            {**key, "n_points": len(cloud), **numbers, "engine": options.ph_engine}
        )
    return rows


def _sampled(key: Mapping[str, Any], share: float) -> bool:
    """Whether a cloud belongs to the share that is verified: the same ones every time."""
    return zlib.crc32(repr(sorted(key.items())).encode()) < share * 2**32
