"""Persistence diagrams as such: their form, summaries and distances; see ``persistence``."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

Diagram: TypeAlias = NDArray[np.float64]

METRICS = ("bottleneck", "wasserstein")


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
    """Summary statistics of the finite bars in degrees 0 and 1; degrees above are not read.

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

    Raises:
        ValueError: Fewer than two degrees, or rows that are not bars.
    """
    if len(diagrams) < 2:
        raise ValueError(f"diagrams must hold degrees 0 and 1, got {len(diagrams)} degree(s)")
    h0, h1 = (bars[np.isfinite(bars[:, 1])] for bars in map(_as_diagram, diagrams[:2]))
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
    """Bars (k, 2) of one degree, (t,) thresholds in any order → (t,) int64 numbers of bars alive.

    The Betti number of the complex at that scale. A bar is alive at t if birth <= t < death, so an
    infinite bar, which counts here, is alive from its birth on.

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
    """Bottleneck or 1-Wasserstein distance between two diagrams (k, 2), (l, 2) of the same degree.

    A partial matching pairs bars of one diagram with bars of the other at the larger of the two
    differences (L-infinity norm) and every other bar with the diagonal at half its length. The
    bottleneck distance is the smallest possible maximum of these costs, exact but for the last
    bits; the Wasserstein distance, of order 1, their smallest possible sum, to 1e-9 relative.
    Infinite bars are matched among themselves by birth; where their numbers differ the distance is
    ``inf``. Computed by GUDHI and, in it, Hera (Kerber, Morozov and Nigmetov 2017, ACM JEA 22,
    1.4).

    Raises:
        ValueError: Rows that are not bars, or a metric not in ``METRICS``.
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
    return float(hera.wasserstein_distance(a, b, order=1.0, delta=1e-9))


class EngineMismatch(RuntimeError):
    """Two engines gave different diagrams; the message says which, where and by how much."""


def require_same(
    diagrams_a: Sequence[ArrayLike],
    diagrams_b: Sequence[ArrayLike],
    engines: tuple[str, str] = ("redzed", "giotto"),
) -> None:
    """Check that two engines' diagrams are equal as sorted rows, to the bit.

    Raises:
        EngineMismatch: They differ. Names the engines, the first degree that differs, and the
            largest absolute difference between its sorted rows: ``inf`` where the numbers of
            bars differ or an infinite bar meets a finite one.
        ValueError: The numbers of degrees differ.
    """
    if len(diagrams_a) != len(diagrams_b):
        both = f"{len(diagrams_a)} and {len(diagrams_b)}"
        raise ValueError(f"diagrams must have equally many degrees, got {both}")
    for degree, pair in enumerate(zip(diagrams_a, diagrams_b, strict=True)):
        a, b = (canonical(diagram) for diagram in pair)
        if not np.array_equal(a, b):
            unequal = a != b if len(a) == len(b) else None
            difference = math.inf if unequal is None else np.abs(a[unequal] - b[unequal]).max()
            raise EngineMismatch(
                f"engines {engines[0]} and {engines[1]} disagree in degree {degree}: "
                f"{len(a)} and {len(b)} bars, largest difference {difference:g}"
            )


def _as_diagram(diagram: ArrayLike) -> Diagram:
    """One diagram as a checked float64 array in canonical form."""
    bars = canonical(diagram)
    if np.isnan(bars).any() or np.isinf(bars[:, 0]).any() or (bars[:, 1] < bars[:, 0]).any():
        raise ValueError("diagram rows must be bars (birth, death) with finite birth <= death")
    return bars


def canonical(diagram: ArrayLike) -> Diagram:
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


def landscapes(diagram: ArrayLike, scales: ArrayLike, n_levels: int = 3) -> Diagram:
    """Persistence landscapes (Bubenik 2015, JMLR 16, 77-102) of one degree's finite bars.

    Level m at t is the m-th largest of max(0, min(t − birth, death − t)) over the bars (k, 2).
    Computed by GUDHI, whose own are √2 times these.

    Returns:
        (n_levels, t) float64, for ``scales`` (t,) evenly spaced, at least 2.

    Raises:
        ValueError: Rows that are not bars, or scales that are not evenly spaced.
    """
    from gudhi.representations import Landscape

    at = np.asarray(scales, np.float64)
    if at.ndim != 1 or len(at) < 2 or not np.allclose(np.diff(at, 2), 0, atol=1e-9 * np.ptp(at)):
        raise ValueError("scales must be evenly spaced, of shape (t,) with t >= 2")
    lens = Landscape(n_levels, len(at), sample_range=[at[0], at[-1]])
    values = lens(_finite(diagram)).reshape(n_levels, len(at)) / math.sqrt(2)
    return np.asarray(values, np.float64)


def image(diagram: ArrayLike, reach: float, n_pixels: int = 20, bandwidth: float = 0.1) -> Diagram:
    """Persistence image (Adams et al. 2017, JMLR 18, 1-35) of one degree's finite bars.

    The sum of a Gaussian density about (birth, persistence) of each bar (k, 2), times a weight that
    grows linearly with persistence, 1 at ``reach``, so that what is near the diagonal counts for
    nothing; taken at the middles of n × n pixels on [0, reach]². Computed by GUDHI.

    Returns:
        (n_pixels, n_pixels) float64, row the persistence, column the birth, both ascending.

    Raises:
        ValueError: Rows that are not bars.
    """
    from gudhi.representations import PersistenceImage

    ends = [reach / n_pixels / 2, reach - reach / n_pixels / 2]
    lens = PersistenceImage(
        bandwidth, lambda bar: bar[1] / reach, [n_pixels, n_pixels], im_range=ends * 2
    )
    return np.asarray(lens(_finite(diagram)), np.float64).reshape(n_pixels, n_pixels)


def _finite(diagram: ArrayLike) -> Diagram:
    bars = _as_diagram(diagram)
    return bars[np.isfinite(bars[:, 1])]
