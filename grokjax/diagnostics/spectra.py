"""Spectra of rows indexed by residue, and how concentrated they are; see ``fourier``.

Shapes: N residues, F = ⌊N/2⌋ frequencies.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Concentration(NamedTuple):
    """How few frequencies hold a spectrum's power, the constant left aside."""

    top_share: float  # share of the power in the n_top strongest frequencies
    effective_frequencies: float  # inverse Simpson index: m when m frequencies share equally
    gini: float  # 0 for equal shares, 1 − 1/F for one frequency


def spectrum(rows: ArrayLike) -> Floats:
    """Power of each frequency in rows indexed by residue: an embedding, or heads' q, k, v rows.

    Rows of shape (n, …, d), n at least 3, row x of residue x, give shape (…, ⌊n/2⌋ + 1), float64:
    one spectrum of an embedding (p, d), one a head of (p, h, d). Entry 0 is the constant, entry k
    frequency k: the squared coefficients of its waves, summed over the last axis. A spectrum sums
    to the squared norm of its rows. Read rows through :func:`discrete_log_order` first where the
    operation is multiplicative.

    Raises:
        ValueError: Fewer than two axes or than 3 residues.
    """
    array = np.asarray(rows, np.float64)
    if array.ndim < 2 or array.shape[0] < 3:
        raise ValueError(f"rows must have shape (n, ..., d) with n >= 3, not {array.shape}")
    n = array.shape[0]
    table = array.reshape(n, -1)
    with np.errstate(invalid="ignore", over="ignore"):
        constant = table.sum(axis=0, keepdims=True) ** 2 / n
        power = np.concatenate([constant, wave_power(table)])
        summed: Floats = power.reshape(-1, *array.shape[1:]).sum(axis=-1)
    return np.moveaxis(summed, 0, -1)


def shares(power: ArrayLike) -> Floats:
    """(…, F + 1) spectra → (…, F) shares of the power, float64, the constant left out.

    Entry k − 1 is frequency k. NaN where there is no power beside the constant.
    """
    waves = np.asarray(power, np.float64)[..., 1:]
    with np.errstate(invalid="ignore"):
        result: Floats = waves / waves.sum(axis=-1, keepdims=True)
    return result


def concentration(power: ArrayLike, n_top: int = 6) -> Concentration:
    """Three measures of how concentrated one spectrum (F + 1,) is; ``n_top`` is for ``top_share``.

    The share of the strongest frequencies; the inverse Simpson index 1 / Σ s² (Hill 1973, order
    2; the participation ratio) of shares s; and the Gini coefficient as a measure of sparsity
    (Hurley and Rickard 2009, arXiv:0811.4706), which Nanda et al. take of norms instead: pass
    ``np.sqrt(power)`` for theirs. NaN where there is no power beside the constant, or it is not
    finite.

    Raises:
        ValueError: On another shape, or ``n_top`` outside 1 … F.
    """
    array = np.asarray(power, np.float64)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"power must have shape (F + 1,) with F >= 1, not {array.shape}")
    share = np.sort(shares(array))
    n = share.size
    if not 1 <= n_top <= n:
        raise ValueError(f"n_top is {n_top}; it must be from 1 to {n}, the number of frequencies")
    weights = (n - np.arange(n) - 0.5) / n
    return Concentration(
        top_share=float(share[-n_top:].sum()),
        effective_frequencies=float(1 / (share**2).sum()),
        gini=float(1 - 2 * (share * weights).sum()),
    )


def circularity(embedding: ArrayLike, n_components: int = 4) -> float:
    """Circularity of Zhong et al. (arXiv:2306.17844): do principal components lie on one wave?

    For each of the first principal components (scores of the centred rows) of an embedding (n, d),
    the largest share of its power at one frequency, averaged; the paper takes 4 components. 1 for
    circles of distinct size. Where two frequencies have equal power, components mix them, and the
    measure falls: it is the paper's, as it stands. Components that do not exist (fewer dimensions,
    or a singular value of 0 to rounding) are left out of the average. NaN where rows are not
    finite or all the same.

    Raises:
        ValueError: Fewer than 3 rows, another shape, or no components asked for.
    """
    rows = np.asarray(embedding, np.float64)
    if rows.ndim != 2 or rows.shape[0] < 3:
        raise ValueError(f"embedding must have shape (n, d) with n >= 3, not {rows.shape}")
    if n_components < 1:
        raise ValueError(f"n_components is {n_components}; it must be at least 1")
    if not np.isfinite(rows).all():
        return math.nan
    scores, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    # Rows are float32 as a rule: what is below their rounding is no component.
    rounding = np.finfo(np.float32).eps
    if sizes[0] <= rounding * np.linalg.norm(rows):
        return math.nan
    real = sizes > rounding * max(rows.shape) * sizes[0]
    return float(wave_power(scores[:, real][:, :n_components]).max(axis=0).mean())


def wave_power(table: Floats) -> Floats:
    """(N, …) → (F, …): squared coefficients of each frequency's waves, summed over its waves."""
    n = table.shape[0]
    # The transform, unlike products with the basis, waits for no other thread.
    power: Floats = np.abs(np.fft.rfft(table, axis=0)[1:]) ** 2 * (2 / n)
    if n % 2 == 0:
        power[-1] /= 2
    return power


def discrete_log_order(p: int) -> NDArray[np.int64]:
    """Nonzero residues as powers of the least primitive root g: entry i is g^i mod p.

    The product of entries i and j is entry (i + j) mod (p − 1). The residue 0 has no logarithm and
    is left out: shape (p − 1,), starting at 1.

    Raises:
        ValueError: ``p`` is not an odd prime.
    """
    if p < 3 or any(p % d == 0 for d in range(2, math.isqrt(p) + 1)):
        raise ValueError(f"discrete logarithms need an odd prime, not {p}")
    for root in range(2, p):
        powers = [1]
        while (power := powers[-1] * root % p) != 1:
            powers.append(power)
        if len(powers) == p - 1:
            break
    return np.array(powers)
