"""How many holes a cloud has, and how many waves its rows are.

**Betti numbers.** b0, b1, b2 of the Vietoris-Rips complex are constant between the scales at which
bars of any of the three degrees begin or end. A *stretch* is a longest interval of scale, from
``low`` to ``high``, over which all three stay the same and b1 or b2 is not 0; its length is
high / low, a ratio, as Bobrowski and Skraba 2023 (Sci. Rep. 13, 12274) measure bars, so that no
unit matters. ``space`` names a space with these numbers: a circle has (1, 1, 0), a torus (1, 2, 1),
two circles that touch (1, 2, 0), a sphere (1, 0, 1). Coefficients are in Z/2, so that a Klein
bottle has a torus's numbers.

Any cloud has some longest stretch. Whether one is longer than chance's is what surrogates of the
cloud's own covariance say (null ``covariance`` of ``surrogates``, exact for Gaussian points): the
p-value is (1 + surrogates whose longest is as long) / (1 + surrogates), so that it holds for all
stretches of a cloud together. Above ``LEVEL`` the space is ``undecided``; one in twenty clouds of
noise is called something by accident. Several stretches may be long: p residues on the torus of
two waves are a circle at scales at which each sees but its nearest neighbours along one direction,
and the torus above. Of three or more waves a hundred points show a circle or torus of fewer, as a
rule, or nothing: read ``space`` beside ``waves``.

**Planes.** Of an embedding of residues, X (n, d), the frequencies that stand out: the strongest is
tested against rows that are independent and Gaussian, whose share of the power at one frequency of
m left follows Beta(r, (m − 1) r), r the participation ratio of their covariance (Satterthwaite's
approximation), corrected for m; then the next, without the first. ``waves`` counts them. In noise
one is found in 0 to 5 of 100, where variances of the columns fall as 1, 1/2, 1/3 … in 9.

Each has a plane: that of the features which carry its cosine and sine. Filtered to the frequency,
rows lie on an ellipse there whatever X is, which says nothing. So *all* of X is projected on the
plane, other waves and noise with it; the longest bar of degree 1 over the root mean square radius
is then compared with the same of surrogates, each in the plane of its own frequency of the same
place. ``purity``, the share of the projected power at the frequency, says how much the plane is its
alone, ``aspect`` how round it is (short over long axis). With purity near 1 and aspect near 1 a
circle follows: the test says that these are larger than chance gives, no more.

With 19 surrogates an embedding takes 0.6 s of a core at 113 points and 8 s at 197; at every tenth
checkpoint 1 and 4 % of 500 steps of the study's transformer. Hidden states, 256 points, take 20 s.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc
from threadpoolctl import threadpool_limits

from grokjax.diagnostics import (
    Options,
    Rows,
    RunView,
    Table,
    coordinates,
    persistence,
    surrogates,
)
from grokjax.diagnostics._diagrams import Diagram

Floats = NDArray[np.float64]

LEVEL = 0.05
_MOST_STRETCHES = 5
UNDECIDED, OTHER = "undecided", "other"
SPACES = {
    (1, 1, 0): "circle",
    (1, 2, 0): "two circles",
    (1, 2, 1): "torus",
    (1, 0, 1): "sphere",
    (1, 3, 3): "3-torus",
}


class Stretch(NamedTuple):
    """Betti numbers and the scales between which they stay the same."""

    b0: int
    b1: int
    b2: int
    low: float
    high: float

    @property
    def ratio(self) -> float:
        """Its length."""
        return self.high / self.low


_NOWHERE = Stretch(1, 0, 0, math.nan, math.nan)


class Comparison(NamedTuple):
    """A cloud's stretches beside those of surrogates."""

    stretches: list[Stretch]  # the longest first
    p_values: list[float]
    diagrams: list[Diagram]  # of degrees 0, 1, 2


def stretches(diagrams: Sequence[ArrayLike]) -> list[Stretch]:
    """The stretches with holes of diagrams of degrees 0, 1 and 2, the longest first.

    Scales below the first merger of points are left out, and bars that never die but the first of
    degree 0.

    Raises:
        ValueError: unless there are three degrees.
    """
    if len(diagrams) != 3:
        raise ValueError(f"diagrams must hold degrees 0, 1 and 2, got {len(diagrams)}")
    bars = [np.asarray(one, np.float64).reshape(-1, 2) for one in diagrams]
    ends = np.unique(np.concatenate([one.ravel() for one in bars]))
    ends = ends[(ends > 0) & np.isfinite(ends)]
    numbers = np.array([persistence.betti_curve(one, ends) for one in bars]).T
    # Where nothing changes though a bar ends, another begins.
    new = np.ones(len(ends), bool)
    new[1:] = (numbers[1:] != numbers[:-1]).any(axis=1)
    found = [
        Stretch(b0, b1, b2, float(ends[first]), float(ends[behind]))
        for first, behind in itertools.pairwise(np.flatnonzero(new))
        for b0, b1, b2 in [numbers[first].tolist()]
        if b1 or b2
    ]
    return sorted(found, key=lambda own: own.ratio, reverse=True)


def name_of(stretch: Stretch, p_value: float, level: float = LEVEL) -> str:
    """What space has these numbers; ``undecided`` above the level."""
    if not p_value <= level:
        return UNDECIDED
    return SPACES.get((stretch.b0, stretch.b1, stretch.b2), OTHER)


def compare(
    points: ArrayLike,
    n: int = 19,
    *,
    seed: Any = (0,),
    normalise: Callable[[Any], Any] = lambda cloud: cloud,
    engine: str = "redzed",
    n_threads: int = 1,
) -> Comparison:
    """The stretches of a cloud (rows, columns) and their p-values.

    Surrogates are drawn of the points as they are; then all are normalised alike.

    Raises:
        ValueError: on points that are not finite or of another shape, or n below 1.
    """
    # Threads of products this small wait for each other, and beside training for its threads.
    with threadpool_limits(limits=1, user_api="blas"):
        drawn = surrogates.draw(points, "covariance", n, seed)
        clouds = [normalise(cloud) for cloud in (np.asarray(points), *drawn)]
    found = persistence.many(clouds, max_dimension=2, engine=engine, n_threads=n_threads)
    failed = next((one for one in found if isinstance(one, Exception)), None)
    if failed is not None:
        raise failed
    own, *null = (one for one in found if not isinstance(one, Exception))
    longest = np.array([max((one.ratio for one in stretches(each)), default=1.0) for each in null])
    ours = stretches(own)
    p_values = [(1 + int((longest >= one.ratio).sum())) / (1 + n) for one in ours]
    return Comparison(ours, p_values, own)


def n_long(diagram: ArrayLike, level: float = LEVEL) -> int:
    """Bars longer than noise's (``coordinates.bar_p_values``), corrected for their number."""
    bars = np.asarray(diagram, np.float64).reshape(-1, 2)
    return int((coordinates.bar_p_values(bars) * len(bars) < level).sum())


class Plane(NamedTuple):
    """What the rows are in the plane of one frequency."""

    purity: float
    aspect: float
    loop: float  # longest bar of degree 1 over the root mean square radius


def standing_out(rows: ArrayLike, level: float = 0.05) -> tuple[int, ...]:
    """Frequencies of rows (N, D) that hold more power than chance, the strongest first.

    Raises:
        ValueError: fewer than three rows, another shape, or rows that are not finite.
    """
    waves = _waves(rows)
    power = (waves**2).sum(axis=(1, 2))
    kept = np.ones(len(power), bool)
    found: list[int] = []
    while kept.sum() > 1 and power[kept].sum() > 0:
        strongest = int(np.argmax(np.where(kept, power, -1)))
        left = waves[kept]
        # ½ for the two dimensions of a wave; the last of an even number of residues has one.
        sizes = np.abs(left).any(axis=2).sum(axis=1) / 2
        gram = left.reshape(-1, left.shape[2]) @ left.reshape(-1, left.shape[2]).T
        shapes = sizes * np.trace(gram) ** 2 / (gram**2).sum()
        share = power[strongest] / power[kept].sum()
        if betaincc(shapes, shapes.sum() - shapes, share).sum() > level:
            break
        found.append(strongest + 1)
        kept[strongest] = False
    return tuple(found)


def plane(rows: ArrayLike, frequency: int) -> tuple[Plane, Floats]:
    """The plane of a frequency, and the centred rows (N, D) projected on it, (N, 2).

    Raises:
        ValueError: fewer than three rows, another shape, rows that are not finite, or no such
            frequency.
    """
    waves = _waves(rows)
    if not 1 <= frequency <= len(waves):
        raise ValueError(f"frequency must lie in 1 … {len(waves)}, not {frequency}")
    _, sizes, axes = np.linalg.svd(waves[frequency - 1], full_matrices=False)
    cloud = np.asarray(rows, np.float64)
    projected = (cloud - cloud.mean(axis=0)) @ axes.T
    total = (projected**2).sum()
    if not total > 0:
        return Plane(0.0, 0.0, 0.0), projected
    bars = persistence.diagrams(projected)[1]
    longest = float((bars[:, 1] - bars[:, 0]).max(initial=0))
    loop = longest / float(np.sqrt(total / len(projected)))
    aspect = float(sizes[1] / sizes[0]) if sizes[0] > 0 else 0.0
    return Plane(float((sizes**2).sum() / total), aspect, loop), projected


def compare_planes(rows: Floats, n: int, seed: Any) -> tuple[int, list[dict[str, Any]]]:
    """How many frequencies stand out; a row for each, and for the strongest whether it does or not.

    Each is compared with n surrogates in the plane of their own frequency of the same place.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        n_waves = len(standing_out(rows))
        n_places = max(n_waves, 1)
        drawn = surrogates.draw(rows, "covariance", n, [*seed, *b"planes"])
        null = np.array([[own[2].loop for own in _strongest(one, n_places)] for one in drawn])
        found = _strongest(rows, n_places)
    as_long = (null >= [own[2].loop for own in found]).sum(axis=0)
    return n_waves, [
        {"place": place, "frequency": k, "share": share, **own._asdict()}
        | {"p_value": (1 + int(count)) / (1 + n)}
        for place, ((k, share, own), count) in enumerate(zip(found, as_long, strict=True))
    ]


def _strongest(rows: Floats, n: int) -> list[tuple[int, float, Plane]]:
    """Frequency, share of the power, and plane of the n strongest."""
    power = (_waves(rows) ** 2).sum(axis=(1, 2))
    shares = power / power.sum() if power.any() else power
    order = np.argsort(-power, kind="stable")[:n].tolist()
    return [(k + 1, float(shares[k]), plane(rows, k + 1)[0]) for k in order]


def _waves(rows: ArrayLike) -> Floats:
    """(F, 2, D) coefficients of the normalised cosine and sine of each frequency."""
    cloud = np.asarray(rows, np.float64)
    if cloud.ndim != 2 or len(cloud) < 3 or not np.isfinite(cloud).all():
        raise ValueError(f"rows must be finite, of shape (n, d) with n >= 3, not {cloud.shape}")
    n = len(cloud)
    transform = np.fft.rfft(cloud, axis=0)[1:] * np.sqrt(2 / n)
    if n % 2 == 0:
        transform[-1] /= np.sqrt(2)
    return np.stack([transform.real, -transform.imag], axis=1)


_SCALES = ("low", "high", "ratio", "p_value")
TABLES = {
    "holes": Table(
        columns={"cloud": "str", "n_points": "int64", "place": "int64", "space": "str"}
        | dict.fromkeys(("b0", "b1", "b2"), "int64")
        | dict.fromkeys(_SCALES, "float64")
        | {"long_bars_1": "int64", "long_bars_2": "int64", "waves": "float64"},
        unit=("run_id", "step", "cloud"),
        within=("place",),
        empty=(*_SCALES, "waves"),  # without holes; of what is no embedding of residues
    ),
    "planes": Table(
        columns={"place": "int64", "frequency": "int64"}
        | dict.fromkeys(("share", *Plane._fields, "p_value"), "float64"),
        within=("place",),
        only_where=lambda holes: holes["waves"].notna(),
    ),
}
SETTINGS = (
    *("clouds", "cloud_points", "cloud_selection", "cloud_normalisation", "ph_engine"),
    "hole_surrogates",
)
NEEDS_CLOUDS = True


def steps(checkpoint_steps: Sequence[int], options: Options) -> set[int]:
    """The checkpoints that are measured: every k-th, and the last."""
    return {*checkpoint_steps[:: options.hole_every], checkpoint_steps[-1]}


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Betti numbers of every cloud asked for, and planes of embeddings of residues.

    ``place`` numbers stretches from 0, the longest's, which is there whether it is longer than
    chance's or not, and planes likewise from the strongest frequency's. A cloud that is not finite,
    or without holes at any scale, has a row of NaN. ``long_bars_1`` and ``long_bars_2`` count bars
    of degrees 1 and 2 longer than noise's.
    """
    rows: dict[str, list[dict[str, Any]]] = {"holes": [], "planes": []}
    for view in views:
        for name in view.cloud_names:
            key = {"run_id": view.run_id, "step": view.step, "cloud": name}
            digest = hashlib.sha256(repr(key).encode()).digest()
            seed = np.frombuffer(digest, "<u4").tolist()
            own, points = _holes(view, name, seed, options), view.points(name)
            n_waves = math.nan
            if name == "embedding" and _on_a_cycle(view) and np.isfinite(points).all():
                assert view.structure is not None
                ordered = points[view.structure.elements].astype(np.float64)
                n_waves, found = compare_planes(ordered, options.hole_surrogates, seed)
                run = {"run_id": view.run_id, "step": view.step}
                rows["planes"] += [run | one for one in found]
            rows["holes"] += [key | row | {"waves": float(n_waves)} for row in own]
    return rows


def _on_a_cycle(view: RunView) -> bool:
    return view.structure is not None and view.structure.kind == "cyclic"


def _holes(view: RunView, name: str, seed: Any, options: Options) -> list[dict[str, Any]]:
    points: NDArray[Any] = view.points(name)
    found = Comparison([], [], [np.zeros((0, 2))] * 3)
    if np.isfinite(points).all():
        found = compare(
            points,
            options.hole_surrogates,
            seed=seed,
            normalise=view.normalise,
            engine=options.ph_engine,
            n_threads=options.ph_threads,
        )
    both = list(zip(found.stretches, found.p_values, strict=True))[:_MOST_STRETCHES]
    kept = both[:1] + [pair for pair in both[1:] if pair[1] <= LEVEL]
    told = {"n_points": len(points)}
    told |= {f"long_bars_{degree}": n_long(found.diagrams[degree]) for degree in (1, 2)}
    return [
        told
        | {"place": place, "space": name_of(own, p_value)}
        | {**own._asdict(), "ratio": own.ratio, "p_value": p_value}
        for place, (own, p_value) in enumerate(kept or [(_NOWHERE, math.nan)])
    ]
