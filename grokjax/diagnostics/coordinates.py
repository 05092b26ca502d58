"""Circular and toroidal coordinates of point clouds, and which waves of the residues they follow.

A class of persistent cohomology in degree 1 is a map from the cloud to a circle (de Silva, Morozov
and Vejdemo-Johansson 2011, Discrete Comput. Geom. 45, 737-759). Its cocycle, from ripser.py with
coefficients in a prime field, is lifted to the integers and smoothed to the harmonic one; what was
taken away, modulo 1, is the angle of each point. Several classes together map to a torus, in a
basis that persistence chooses by chance. Reducing the lattice that they span, in the energy of the
harmonic cocycles, gives a basis of short maps (Scoccola, Gakhar, Bush, Schonsheck, Rask, Zhou and
Perea 2023, SoCG, Toroidal coordinates).

What is harmonic depends on the weights of edges. Here they fall linearly from 1 to 0 at the scale,
and are divided by the sums of both ends, so that dense places say no more than others (Coifman and
Lafon 2006, Appl. Comput. Harmon. Anal. 21, 5-30, α = 1). That is nearer to true angles than edges
that count alike (experiments/results/coordinates).

Shapes: N points, C classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from grokjax.diagnostics import Options, Rows, RunView, Structure, Table

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Tried in turn: no integer cocycle may be near one over the field, by torsion or bad luck.
PRIMES = (47, 43, 41, 37, 53)
# Lifts are made primitive at these: none of their combinations is a multiple of another class.
_DIVISORS = (2, 3, 5, 7)
MOST_CLASSES = 6
METHODS = ("tapered", "perea")
# δ of Lovász's condition (Lenstra, Lenstra and Lovász 1982, Math. Ann. 261, 515-534).
_LOVASZ = 0.99


class Coordinates(NamedTuple):
    """Maps of a cloud to circles, the longest bar's first."""

    angles: Floats  # (N, C) in radians, 0 ≤ angle < 2π; each up to sign and a shift
    bars: Floats  # (C, 2): birth and death
    p_values: Floats  # (C,) of the bars among all of the cloud, as from `bar_p_values`
    prime: int  # of the coefficients
    residuals: Floats  # (C,): largest change along an edge, in turns; from 0.5 on it is no map
    # (N, C), (C,): the same in the shortest basis of the torus, in no order; the same where no
    # scale is common to the classes.
    reduced: Floats
    reduced_residuals: Floats


class Wave(NamedTuple):
    """The wave of the residues that a coordinate follows best."""

    frequency: int  # k in 1 … ⌊N/2⌋: the coordinate is ±2πkx/N and a shift
    correlation: float  # from 0 to 1, where it is exactly so
    p_value: float


def circular(
    points: ArrayLike, n_classes: int = 1, prime: int | None = None, method: str = METHODS[0]
) -> Coordinates:
    """Circular coordinates of a cloud (N, d), Euclidean, from its longest bars of degree 1.

    Each class is taken at the middle of the scales at which all of them are alive, or of its own
    bar where there are none. Fewer classes come back than asked for where the cloud has fewer bars.
    N = 113 points take 0.3 s, N = 197 a second.

    Args:
        points: (N, d), real and finite.
        n_classes: 1 to 6.
        prime: of the coefficients, odd; by default the first of ``PRIMES`` whose cocycles have a
            lift: signs are lost over 2.
        method: how edges count. "tapered" is said above; by "perea" they count alike, and an angle
            is averaged over the ball of half the scale, by the linear partition of unity: the
            angles of DREiMac (Perea 2020, Abel Symposia 15, 435-458), with all points as landmarks
            and ``standard_range=False``. Residuals are of the angles before that average.

    Raises:
        ValueError: Bad arguments, or no integer lift: torsion of that prime, or too small a one.
    """
    cloud = np.asarray(points, np.float64)
    if cloud.ndim != 2 or not cloud.size or not np.isfinite(cloud).all():
        raise ValueError(f"points must be finite, of shape (n, d), not {cloud.shape}")
    if not 1 <= n_classes <= MOST_CLASSES:
        raise ValueError(f"n_classes must lie in 1 … {MOST_CLASSES}, not {n_classes}")
    if prime is not None and (prime < 3 or any(prime % n == 0 for n in range(2, prime))):
        raise ValueError(f"prime must be an odd prime, not {prime}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, not {method!r}")
    distances = squareform(pdist(cloud))
    for candidate in PRIMES if prime is None else (prime,):
        bars, p_values, cocycles = _longest(distances, n_classes, candidate)
        scales = _scales(bars)
        near = [distances <= scale for scale in scales]
        lifts = [_lift(c, candidate, edges) for c, edges in zip(cocycles, near, strict=True)]
        there = [lift for lift in lifts if lift is not None]
        if len(there) == len(bars):
            break
    else:
        raise ValueError(f"the cocycles over {prime or PRIMES} have no integer lift")
    smooth = [_smoothed(*one, distances, method) for one in zip(there, scales, strict=True)]
    own = _as_angles(smooth, len(cloud))
    if len(bars) > 1 and bars[:, 0].max() < bars[:, 1].min():
        basis = _saturated(np.array(there))
        smooth = [_smoothed(lift, scales[0], distances, method) for lift in basis]
        potentials, changes = (np.array(each) for each in zip(*smooth, strict=True))
        # Alike as Scoccola et al. have it: short edges alone see few directions of the torus.
        weights = _weights(scales[0], distances, "perea")
        change = _reduce(np.einsum("aij,ij,bij->ab", changes, weights, changes, optimize=True))
        mixed = (np.tensordot(change, each, axes=1) for each in (potentials, changes))
        smooth = list(zip(*mixed, strict=True))
    reduced = _as_angles(smooth, len(cloud))
    return Coordinates(own[0], bars, p_values, candidate, own[1], *reduced)


def wave(angles: ArrayLike, n_permutations: int = 999, seed: int = 0) -> Wave:
    """Which wave k·x/N of the residues x = 0 … N − 1 their angles (N,) follow best.

    The correlation is |Σ exp(i(angle − 2πkx/N))| / N, the largest over k and both signs. Its
    p-value is against the same angles at permuted residues, so it is exact however concentrated
    they are. A constant coordinate has the correlation 0.

    Raises:
        ValueError: fewer than three angles, or another shape.
    """
    theta = np.asarray(angles, np.float64)
    if theta.ndim != 1 or len(theta) < 3:
        raise ValueError(f"angles must have shape (n,), n at least 3, not {theta.shape}")
    n, turns = len(theta), np.exp(1j * theta)
    power = np.abs(np.fft.fft(turns))[1:] / n
    frequency = 1 + int(power.argmax())
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.tile(turns, (n_permutations, 1)), axis=1)
    null = np.abs(np.fft.fft(drawn, axis=1))[:, 1:].max(axis=1) / n
    # Sums of the same numbers in another order.
    as_large = np.count_nonzero(null >= power.max() - 1e-12)
    p_value = (1 + as_large) / (1 + n_permutations)
    return Wave(min(frequency, n - frequency), float(power.max()), p_value)


def bar_p_values(bars: ArrayLike) -> Floats:
    """p-values (k,) of bars (k, 2) of one degree, births above 0: is it longer than noise's?

    Bobrowski and Skraba 2023 (Sci. Rep. 13, 12274) conjecture, with evidence over many models, that
    log log(death / birth) of noise follows, once its mean is taken off, a left-skewed Gumbel
    distribution. Not corrected for the number of bars. NaN for fewer than two bars; a bar that
    never dies has 0.

    Raises:
        ValueError: bars that are not births above 0 and deaths above them.
    """
    pairs = np.asarray(bars, np.float64).reshape(-1, 2)
    if not ((pairs[:, 0] > 0) & (pairs[:, 1] > pairs[:, 0])).all():
        raise ValueError("bars must have births above 0 and deaths above their births")
    if len(pairs) < 2:
        return np.full(len(pairs), np.nan)
    with np.errstate(divide="ignore"):
        value = np.log(np.log(pairs[:, 1] / pairs[:, 0]))
    level = value[np.isfinite(value)].mean()
    return np.exp(-np.exp(value - level - np.euler_gamma))


_NUMBERS = ("birth", "death", "bar_p_value", "residual", "correlation", "p_value",
            "reduced_correlation", "reduced_residual")  # fmt: skip
TABLES = {
    "coordinates": Table(
        columns={
            "cloud": "str",
            **dict.fromkeys(("place", "frequency", "reduced_frequency"), "int64"),
            **dict.fromkeys(_NUMBERS, "float64"),
        },
        unit=("run_id", "step", "cloud"),
        within=("place",),
        empty=_NUMBERS,  # of an embedding without bars
    )
}
SETTINGS = ("cloud_normalisation", "coordinate_classes")
NEEDS_STRUCTURE = True


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Coordinates of the embedding at one checkpoint: a row a class, the longest bar's first.

    ``place`` numbers them from 0. ``frequency`` and ``correlation`` are `wave`'s, NaN and 0 for a
    task whose elements are no single cycle; ``reduced_…`` the same in the shortest basis, whose
    order has nothing to do with that of the bars. An embedding without bars, or that is not finite,
    has one row of NaN. Beside 500 steps of the study's transformer it costs 2 to 5 %.
    """
    rows: list[dict[str, Any]] = []
    for view in views:
        if view.structure is not None:
            rows += _measure_one(view, view.structure, options.coordinate_classes)
    return {"coordinates": rows}


def _measure_one(view: RunView, structure: Structure, n_classes: int) -> list[dict[str, Any]]:
    key = {"run_id": view.run_id, "step": view.step, "cloud": "embedding"}
    names = TABLES["coordinates"].columns
    nothing = {name: 0 if kind == "int64" else math.nan for name, kind in names.items()}
    points = view.cloud("embedding")[structure.elements]
    if not np.isfinite(points).all() or not (found := circular(points, n_classes)).bars.size:
        return [{**nothing, **key}]
    cyclic = len(structure.cycles) == 1
    nowhere = Wave(0, math.nan, math.nan)
    rows = []
    for place, ((birth, death), p_value) in enumerate(zip(found.bars, found.p_values, strict=True)):
        own, reduced = (
            wave(angles[:, place]) if cyclic else nowhere
            for angles in (found.angles, found.reduced)
        )
        rows.append(
            {
                **key,
                "place": place,
                "birth": birth,
                "death": death,
                "bar_p_value": p_value,
                "residual": found.residuals[place],
                **own._asdict(),
                "reduced_frequency": reduced.frequency,
                "reduced_correlation": reduced.correlation,
                "reduced_residual": found.reduced_residuals[place],
            }
        )
    return rows


# --------------------------------------------------------------------------- cocycles


def _longest(
    distances: Floats, n_classes: int, prime: int
) -> tuple[Floats, Floats, list[NDArray[np.int64]]]:
    """The longest bars (C, 2), their p-values, and cocycles as rows (vertex, vertex, value)."""
    from ripser import ripser  # which loads scikit-learn

    found = ripser(distances, 1, coeff=prime, distance_matrix=True, do_cocycles=True)
    bars = np.asarray(found["dgms"][1], np.float64).reshape(-1, 2)
    order = np.argsort(bars[:, 0] - bars[:, 1], kind="stable")[:n_classes]
    cocycles = [found["cocycles"][1][place] for place in order]
    return bars[order], bar_p_values(bars)[order], cocycles


def _scales(bars: Floats) -> list[float]:
    """The scale that each class is taken at: a common one where there is one."""
    if len(bars) and bars[:, 0].max() < bars[:, 1].min():
        return [float(bars[:, 0].max() + bars[:, 1].min()) / 2] * len(bars)
    return [float(birth + death) / 2 for birth, death in bars]


def _lift(cocycle: NDArray[np.int64], prime: int, edges: NDArray[np.bool_]) -> Integers | None:
    """(N, N) antisymmetric integers on edges: the smallest multiple that is a cocycle, if any is.

    A multiple of a class maps to the same circle, and that by 1 / 2, say, has large values alone.
    """
    values = np.zeros(edges.shape, np.int64)
    i, j, value = cocycle.T
    values[i, j], values[j, i] = value, -value
    values = np.where(edges, values, 0)
    half = prime // 2
    multiples = [(values * m + half) % prime - half for m in range(1, half + 1)]
    for lift in sorted(multiples, key=lambda lift: int((lift**2).sum())):
        if _is_cocycle(lift, edges):
            lift = _along_tree(lift, edges)
            return lift // max(int(np.gcd.reduce(lift, axis=None)), 1)
    return None


def _along_tree(lift: Integers, edges: NDArray[np.bool_]) -> Integers:
    """The cohomologous cocycle that is 0 on a tree of edges, so that each value is a period."""
    value, seen = np.zeros(len(lift), np.int64), np.zeros(len(lift), bool)
    for root in range(len(lift)):
        queue = [] if seen[root] else [root]
        seen[root] = True
        for i in queue:
            new = np.flatnonzero(edges[i] & ~seen)
            value[new], seen[new] = value[i] + lift[i, new], True
            queue.extend(new.tolist())
    return np.where(edges, lift - (value[None, :] - value[:, None]), 0)


def _saturated(lifts: Integers) -> Integers:
    """(C, N, N) cocycles, 0 on a tree → a basis of all that are rational combinations of them."""
    basis = lifts.copy()
    for divisor in _DIVISORS:
        combinations = [
            np.array(shares)
            for shares in itertools.product(range(divisor), repeat=len(basis))
            if next((share for share in shares if share), 0) == 1
        ]
        divisible = True
        while divisible:
            periods = np.unique(basis.reshape(len(basis), -1), axis=1)
            found = (one for one in combinations if not (one @ periods % divisor).any())
            divisible = (shares := next(found, None)) is not None
            if shares is not None:
                first = np.flatnonzero(shares)[0]
                basis[first] = np.tensordot(shares, basis, axes=1) // divisor
    return basis


def _is_cocycle(lift: Integers, edges: NDArray[np.bool_]) -> bool:
    """Whether the values add up to 0 around every triangle of edges."""
    for i in range(len(lift)):
        j = np.flatnonzero(edges[i, i + 1 :]) + i + 1
        around = lift[i, j][:, None] + lift[np.ix_(j, j)] - lift[i, j][None, :]
        if around[edges[np.ix_(j, j)]].any():
            return False
    return True


def _weights(scale: float, distances: Floats, method: str) -> Floats:
    if method == "perea":
        return (distances <= scale).astype(np.float64)
    weights = np.maximum(1 - distances / scale, 0)
    return weights / np.outer(weights.sum(axis=1), weights.sum(axis=1))


def _smoothed(
    lift: Integers, scale: float, distances: Floats, method: str
) -> tuple[Floats, Floats]:
    """(N,) values in turns whose changes come closest to the cocycle; (N, N) what is left of it."""
    weights = _weights(scale, distances, method)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    potential = -np.linalg.lstsq(laplacian, (weights * lift).sum(axis=1))[0]
    left = np.where(distances <= scale, lift - (potential[None, :] - potential[:, None]), 0)
    if method == "perea":
        share = np.maximum(scale / 2 - distances, 0)
        potential = potential - (share * left).sum(axis=1) / share.sum(axis=1)
    return potential, left


def _as_angles(smooth: Sequence[tuple[Floats, Floats]], n_points: int) -> tuple[Floats, Floats]:
    """(N, C) angles, (C,) residuals."""
    turns = np.reshape([potential for potential, _ in smooth], (len(smooth), n_points))
    residuals = np.array([np.abs(left).max() for _, left in smooth])
    return 2 * np.pi * np.mod(turns.T, 1), residuals


def _reduce(gram: Floats) -> Integers:
    """(C, C) rows: a short basis of the lattice whose basis has these inner products (LLL)."""
    basis = np.asarray(np.linalg.cholesky(gram), np.float64)  # rows with this Gram matrix
    change, k = np.eye(len(basis), dtype=np.int64), 1
    while k < len(basis):
        for j in range(k - 1, -1, -1):
            orthogonal, shares = _orthogonalised(basis)
            times = round(shares[k, j])
            basis[k] -= times * basis[j]
            change[k] -= times * change[j]
        orthogonal, shares = _orthogonalised(basis)
        squares = (orthogonal**2).sum(axis=1)
        if squares[k] >= (_LOVASZ - shares[k, k - 1] ** 2) * squares[k - 1]:
            k += 1
        else:
            basis[[k, k - 1]], change[[k, k - 1]] = basis[[k - 1, k]], change[[k - 1, k]]
            k = max(k - 1, 1)
    return change


def _orthogonalised(basis: Floats) -> tuple[Floats, Floats]:
    """Gram-Schmidt: orthogonal rows, and the share of each in the others."""
    orthogonal, shares = basis.copy(), np.eye(len(basis))
    for k in range(len(basis)):
        for j in range(k):
            shares[k, j] = basis[k] @ orthogonal[j] / (orthogonal[j] @ orthogonal[j])
            orthogonal[k] -= shares[k, j] * orthogonal[j]
    return orthogonal, shares
