"""Frequencies of residues that stand out of an embedding, and their planes; see ``holes``.

Shapes: N residues in their cyclic order, D dimensions, F frequencies 1 … ⌊N/2⌋.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc
from threadpoolctl import threadpool_limits

from grokjax.diagnostics import persistence, surrogates

Floats = NDArray[np.float64]


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


def compare(rows: Floats, n: int, seed: Any) -> tuple[int, list[dict[str, Any]]]:
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
