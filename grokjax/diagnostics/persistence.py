"""Vietoris-Rips persistent homology of point clouds: diagrams, summaries, distances.

A *diagram* is a float64 array of shape (k, 2), one row (birth, death) per bar of one homology
degree. Rows are in lexicographic order, bars of zero length are left out, and a bar that never
dies has death ``inf``. *Diagrams* are a list of them, one per degree from 0 up.

Engines check each other: ``redzed`` (Kapulkin and Kershaw 2026, arXiv:2606.06310), the fast
default, ``giotto`` (giotto-ph; Burella Pérez et al. 2021, arXiv:2107.05412), which is there below
CPython 3.13, and ``ripser`` (ripser.py; Bauer 2021, arXiv:1908.02518). All are given Euclidean
distances computed in float64 and rounded once to float32, in which the latter two work; since pairs
depend on the order of distances alone, all return the same numbers to the bit, float64 that are
exact in float32. Homology has coefficients in Z/2.
"""

import importlib.util
import itertools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import redzed_tda
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from grokjax.diagnostics import Options, Rows, RunView, Table
from grokjax.diagnostics._diagrams import METRICS as METRICS
from grokjax.diagnostics._diagrams import Diagram, Summary, canonical, require_same
from grokjax.diagnostics._diagrams import EngineMismatch as EngineMismatch
from grokjax.diagnostics._diagrams import betti_curve as betti_curve
from grokjax.diagnostics._diagrams import distance as distance
from grokjax.diagnostics._diagrams import image as image
from grokjax.diagnostics._diagrams import landscapes as landscapes
from grokjax.diagnostics._diagrams import summarize as summarize

Diagrams: TypeAlias = list[Diagram]

_PACKAGES = {"redzed": "redzed_tda", "giotto": "gph", "ripser": "ripser"}
# Those that are installed. Each is checked by the first of the others.
ENGINES = tuple(name for name, package in _PACKAGES.items() if importlib.util.find_spec(package))

# giotto-ph's own threads cost more than they bring on smaller clouds.
_GIOTTO_THREADS_FROM = 200
# Worker processes take seconds to start: about four random clouds of 197 points in degree 1.
_INLINE_WORK = 4 * 197**4


def diagrams(
    points: ArrayLike, max_dimension: int = 1, engine: str = "redzed", n_threads: int = 1
) -> Diagrams:
    """Persistence diagrams of the Euclidean Vietoris-Rips filtration of a point cloud.

    The filtration value of an edge is its length (not half of it). There is no threshold: every
    bar is followed to its death. Degree 0 comes first, and always has one infinite bar; higher
    degrees never do. Coinciding points share one bar.

    Args:
        points: Shape (n, d), n and d at least 1, real and finite; any dtype, read as float64.
        max_dimension: Highest homology degree, 0, 1 or 2.
        engine: One of ``ENGINES``.
        n_threads: Threads inside the giotto engine, used from 200 points on; others have none.

    Raises:
        ValueError: Bad arguments, or distances that overflow float32.
    """
    _check_options(engine, max_dimension, n_threads)
    return _compute(_as_cloud(points), engine, max_dimension, n_threads)


def critical_edges(points: ArrayLike) -> tuple[Diagram, NDArray[np.int64]]:
    """The bars of H1, and the two edges of each whose lengths its birth and its death are.

    A loop is born with the edge that closes it and dies with the triangle that fills it, as long
    as the longest of its edges. While the order of the distances stays, so do the edges, and a
    bar's gradient is that of the two lengths (Poulenard, Skraba and Ovsjanikov 2018, CGF 37(5),
    13-25; Carrière et al. 2021, arXiv:2010.08356). Among equal distances the edges are one choice.

    Args:
        points: As in `diagrams`.

    Returns:
        (k, 2) bars, the longest first, and (k, 2, 2) edges, of birth and of death, two points each.

    Raises:
        ValueError: As for `diagrams`.
    """
    distances = _distances(_as_cloud(points))
    diagrams, simplices = redzed_tda.rips(distances, 1, simplex_pairs=True)
    bars, square = np.reshape(diagrams[1], (-1, 2)), squareform(distances)
    longest = np.argsort(bars[:, 0] - bars[:, 1], kind="stable")
    edges = np.zeros((len(bars), 2, 2), np.int64)
    for place, i in enumerate(longest):
        birth, triangle = simplices[1][i]
        sides = itertools.combinations(triangle, 2)
        edges[place] = birth, max(sides, key=lambda side: square[side])
    n = np.count_nonzero(bars[:, 1] > bars[:, 0])
    return bars[longest][:n], edges[:n]


def many(
    clouds: Iterable[ArrayLike],
    *,
    engine: str = "redzed",
    n_threads: int = 1,
    max_dimension: int = 1,
) -> list[Diagrams | Exception]:
    """:func:`diagrams` of many clouds, in order, in parallel over the clouds; sizes may differ.

    ``n_threads`` are the cores to use; 1 computes everything in the calling thread. redzed releases
    the GIL and runs in threads. The others hold it and run in worker processes, never forked and
    kept for later calls; fewer clouds than cores get threads each, and small work runs inline.

    Where a cloud's diagrams should be is the exception that it alone raised (NaN gives a
    ValueError). If a worker process dies, the clouds still unfinished hold that error.

    Raises:
        ValueError: Bad engine, max_dimension or n_threads: wrong for every cloud.
    """
    _check_options(engine, max_dimension, n_threads)
    prepared = [_attempt(_as_cloud, cloud) for cloud in clouds]
    good = [cloud for cloud in prepared if not isinstance(cloud, Exception)]
    computed = iter(_in_parallel(good, engine, max_dimension, n_threads))
    return [c if isinstance(c, Exception) else next(computed) for c in prepared]


def of_views(
    views: Sequence[RunView], options: Options
) -> Iterator[tuple[RunView, str, NDArray[Any], Diagrams | None]]:
    """Every cloud asked for of every view, and its diagrams; None of one that is not finite."""
    keys = [(view, name) for view in views for name in view.cloud_names]
    clouds = [view.cloud(name) for view, name in keys]
    computed = many(clouds, engine=options.ph_engine, n_threads=options.ph_threads)
    for (view, name), cloud, found in zip(keys, clouds, computed, strict=True):
        if not isinstance(found, Exception):
            yield view, name, cloud, found
        elif np.isfinite(cloud).all():
            raise found
        else:
            yield view, name, cloud, None


def verify(
    points: ArrayLike, computed: Sequence[ArrayLike], engine_used: str, n_threads: int = 1
) -> None:
    """Recompute a cloud's diagrams with another engine and compare them to the bit.

    The number of those computed by ``engine_used`` says up to which degree.

    Raises:
        EngineMismatch: The engines disagree; see `require_same`.
        ValueError: As for `diagrams`.
    """
    _check_options(engine_used)
    other = next(engine for engine in ENGINES if engine != engine_used)
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
    compute = {"redzed": _redzed, "giotto": _giotto, "ripser": _ripser}[engine]
    return [canonical(bars) for bars in compute(_distances(cloud), max_dimension, n_threads)]


def _redzed(distances: NDArray[np.float64], max_dimension: int, n_threads: int) -> list[Any]:
    return list(redzed_tda.rips(distances, max_dimension))  # which has no threads of its own


def _giotto(distances: NDArray[np.float64], max_dimension: int, n_threads: int) -> list[Any]:
    # Imported here because it loads scikit-learn, which takes seconds.
    from gph import ripser_parallel

    square = squareform(distances)
    n_threads = n_threads if len(square) >= _GIOTTO_THREADS_FROM else 1
    # No finite thresh and no collapse_edges: both switch to the sparse backend. Without them
    # giotto-ph stops at the enclosing radius, beyond which the complex is a cone.
    found = ripser_parallel(square, max_dimension, metric="precomputed", n_threads=n_threads)
    return list(found["dgms"])


def _ripser(distances: NDArray[np.float64], max_dimension: int, n_threads: int) -> list[Any]:
    from ripser import ripser  # which loads scikit-learn too

    found = ripser(squareform(distances), max_dimension, distance_matrix=True)
    return list(found["dgms"])


def _attempt(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result, or the exception it raised."""
    try:
        return function(*args)
    except Exception as error:
        return error


def _in_parallel(
    clouds: list[NDArray[np.float64]], engine: str, max_dimension: int, n_threads: int
) -> list[Diagrams | Exception]:
    n_workers = min(n_threads, len(clouds))
    work = sum(len(cloud) ** (max_dimension + 3) for cloud in clouds)
    inline = n_workers < 2 or (engine != "redzed" and work < _INLINE_WORK)
    share = n_threads if inline else n_threads // n_workers
    jobs = [(cloud, engine, max_dimension, share) for cloud in clouds]
    if inline:
        return [_attempt(_compute, *job) for job in jobs]
    if engine == "redzed":
        with ThreadPoolExecutor(n_workers) as pool:
            return list(pool.map(lambda job: _attempt(_compute, *job), jobs))
    # loky rather than the standard pools: they fork, or import the caller's main module again.
    from joblib import Parallel, delayed

    workers = Parallel(
        n_jobs=n_workers, backend="loky", batch_size=1, max_nbytes=None, return_as="generator"
    )
    results: list[Diagrams | Exception] = []
    try:
        for result in workers(delayed(_attempt)(_compute, *job) for job in jobs):
            results.append(result)
    except BrokenExecutor as error:
        results += [error] * (len(clouds) - len(results))
    return results


_SUMMARY_COLUMNS = dict.fromkeys(Summary._fields, "float64")
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
        only_where=lambda persistence: persistence["connectivity"].notna(),  # finite clouds
    ),
}
SETTINGS = ("clouds", "cloud_points", "cloud_selection", "cloud_normalisation", "ph_engine")
NEEDS_CLOUDS = True


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Diagrams and their summaries of every cloud of the runs at one checkpoint.

    A share ``options.ph_verify`` of the clouds is recomputed by another engine. A cloud that is
    not finite gives a row of NaN.

    Raises:
        EngineMismatch: the engines disagree; the message names the cloud.
    """
    rows: dict[str, list[dict[str, Any]]] = {"persistence": [], "diagrams": []}
    for view, name, cloud, result in of_views(views, options):
        key = {"run_id": view.run_id, "step": view.step, "cloud": name}
        numbers: dict[str, Any] = dict.fromkeys(_SUMMARY_COLUMNS, math.nan) | {"h1_count": 0}
        if result is not None:
            if _sampled(key, options.ph_verify):
                try:
                    verify(cloud, result, options.ph_engine)
                except EngineMismatch as error:
                    raise EngineMismatch(f"cloud {name} of {view.run_id}: {error}") from None
            numbers = summarize(result)._asdict()
            rows["diagrams"] += [
                {**key, "dimension": degree, "birth": birth, "death": death}
                for degree, bars in enumerate(result)
                for birth, death in bars.tolist()
            ]
        described = {"n_points": len(cloud), **numbers, "engine": options.ph_engine}
        rows["persistence"].append(key | described)
    return rows


def _sampled(key: Mapping[str, Any], share: float) -> bool:
    """Whether a cloud belongs to the share that is verified: the same ones every time."""
    return zlib.crc32(repr(sorted(key.items())).encode()) < share * 2**32
