"""Fourier measures of networks that compute in a finite group, by irreducible representation.

As Chughtai et al. (arXiv:2302.03025) carried Nanda et al.'s measures (arXiv:2301.05217, see
``fourier``) over from residues to groups. The real functions on a group of m elements are the
orthogonal sum of blocks that translations from the left and from the right leave in place. A block
holds the matrix elements g ↦ ρ_ij(g) of one complex irreducible representation ρ (irrep) and of its
conjugate, as cosine and sine do a frequency: d² dimensions for an irrep of degree d whose character
is real, 2 d² else. For residues, in their order, blocks are the frequencies 0 … ⌊m/2⌋, and each
measure here is the one of ``fourier``.

Groups come as Cayley tables: row g, column h holds the index of g·h. Arrays may be NumPy's or
JAX's; sums are float64; what comes back is NumPy's or Python's. Non-finite values give NaN (and no
key irrep), not an error.

Shapes: M elements, K irreps (up to conjugation), W neurons, Q outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics._exclusion import (
    NEGLIGIBLE,
    Inputs,
    KeySets,
    RestrictedExcluded,
    check_inputs,
    evaluate,
    side,
)
from grokjax.diagnostics.decomposition import Irreps as Irreps
from grokjax.diagnostics.decomposition import decompose as decompose

if TYPE_CHECKING:
    import jax

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Values of neurons that are looked at together: 64 MiB.
_TOGETHER = 2**23


class NeuronIrreps(NamedTuple):
    """For each neuron the irrep that explains most of it, and how much."""

    irrep: Integers  # (W,); 0, the trivial one, where a neuron is constant or not finite
    explained: Floats  # (W,); share of the neuron's variance, NaN where irrep is 0


def power(rows: ArrayLike | jax.Array, irreps: Irreps) -> Floats:
    """Power of each irrep in rows indexed by element: an embedding, or heads' q, k, v rows.

    Args:
        rows: Shape (m, …, d): row g belongs to element g.
        irreps: As from :func:`decompose`.

    Returns:
        Shape (…, K), float64: the squared norm of the rows' projection on the irrep's block,
        summed over the last axis. It sums to the squared norm of the rows.

    Raises:
        ValueError: Fewer than two axes, or another number of rows.
    """
    array = np.asarray(rows, np.float64)
    if array.ndim < 2 or len(array) != len(irreps.basis):
        raise ValueError(f"rows must have shape ({len(irreps.basis)}, ..., d), not {array.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (irreps.basis.T @ array.reshape(len(array), -1)) ** 2
        by_irrep = _by_irrep(squares, irreps).reshape(-1, *array.shape[1:]).sum(axis=-1)
    result = np.moveaxis(by_irrep, 0, -1)
    return np.where(np.isfinite(result).all(axis=-1, keepdims=True), result, np.nan)


def neuron_irreps(neurons: ArrayLike | jax.Array, irreps: Irreps) -> NeuronIrreps:
    """The irrep whose functions of two elements explain most of each neuron's variance.

    The functions of irrep ρ on pairs (g, h) are those of its block B in g alone, in h alone, and
    all products of the two: the span of B(g), B(h) and B(g) ⊗ B(h), of s² + 2 s dimensions for a
    block of s. The products hold the matrix elements ρ_ij(g·h) and ρ_ij(g·h⁻¹). Spans of different
    irreps are orthogonal. For residues the span is that of a frequency's eight waves, and the
    result is :func:`fourier.neuron_frequencies`'. Blocks differ in size, and a neuron without
    structure falls to one of the largest: it is ``explained`` that tells.

    Args:
        neurons: Shape (m², w), rows g·m + h, m at least 3: post-activation values. They are
            centred over all m² inputs.
        irreps: As from :func:`decompose`.

    Returns:
        :class:`NeuronIrreps`. A neuron that varies by less than 1e-5 of its root mean square has
        no irrep.

    Raises:
        ValueError: On another shape.
    """
    array = np.asarray(neurons)
    n, m = side(array, "neurons"), len(irreps.basis)
    if n != m:
        raise ValueError(f"neurons must have a row for each of {m}^2 pairs, not {n}^2 rows")
    width = array.shape[1]
    parts = np.array_split(array, min(width, 1 + array.size // _TOGETHER), axis=1)
    found = [_winners(part, irreps) for part in parts]
    return NeuronIrreps(*(np.concatenate(fields) for fields in zip(*found, strict=True)))


def key_irreps(neurons: ArrayLike | jax.Array, irreps: Irreps) -> tuple[int, ...]:
    """The distinct irreps that :func:`neuron_irreps` finds, ascending.

    Args:
        neurons: As for :func:`neuron_irreps`.
        irreps: As from :func:`decompose`.

    Returns:
        Integers in 1 … K − 1; empty where no neuron varies or is finite.

    Raises:
        ValueError: On another shape.
    """
    irrep = neuron_irreps(neurons, irreps).irrep
    return tuple(int(k) for k in np.unique(irrep[irrep > 0]))


def restricted_and_excluded(
    logits: ArrayLike | jax.Array,
    labels: ArrayLike | jax.Array,
    train_mask: ArrayLike | jax.Array,
    irrep_indices: Iterable[int],
    table: ArrayLike,
    irreps: Irreps,
) -> RestrictedExcluded:
    """Loss and accuracy with the key irreps' functions of g·h alone, and without them.

    Each output's logits, as a function of the m² inputs, are projected on the functions f(g·h) for
    f in the key irreps' blocks, which the matrix elements ρ_ij(g·h) span. All else is as in
    :func:`fourier.restricted_and_excluded`: *restricted* are these projections plus each output's
    mean, over all inputs; *excluded* the logits less the projections, over the training inputs.

    Args:
        logits: Shape (m², q), rows g·m + h, m at least 3, without padding.
        labels: Shape (m²,), integers below q: what the loss is taken against.
        train_mask: Shape (m²,), boolean.
        irrep_indices: Irreps in 1 … K − 1, as from :func:`key_irreps`; repeated ones count once.
            May be empty.
        table: Shape (m, m), element g·h for each input: the group's table, or that of another
            operation on its elements, such as g·h·g⁻¹, whose rows hold each element once.
        irreps: Of the group, as from :func:`decompose`.

    Returns:
        Four floats. All are NaN where any logit is not finite; the excluded ones where nothing
        trains.

    Raises:
        ValueError: On other shapes, labels, tables or irreps.
    """
    inputs, keys = _checked(logits, labels, train_mask, irrep_indices, table, irreps)
    parts = functools.partial(_in_blocks, irreps=irreps)
    return RestrictedExcluded(*evaluate(inputs, [keys], parts)[:, 0].tolist())


def restricted_and_excluded_by_irrep(
    logits: ArrayLike | jax.Array,
    labels: ArrayLike | jax.Array,
    train_mask: ArrayLike | jax.Array,
    irrep_indices: Iterable[int],
    table: ArrayLike,
    irreps: Irreps,
) -> RestrictedExcluded:
    """:func:`restricted_and_excluded` with each key irrep alone, restricted or excluded.

    Args:
        logits: As for :func:`restricted_and_excluded`, and so for the others.
        labels: See above.
        train_mask: See above.
        irrep_indices: See above.
        table: See above.
        irreps: See above.

    Returns:
        Four arrays, float64, with an entry for each distinct irrep in ascending order.

    Raises:
        ValueError: As :func:`restricted_and_excluded`.
    """
    inputs, keys = _checked(logits, labels, train_mask, irrep_indices, table, irreps)
    parts = functools.partial(_in_blocks, irreps=irreps)
    return RestrictedExcluded(*evaluate(inputs, [[k] for k in keys], parts))


def _checked(
    logits: ArrayLike | jax.Array,
    labels: ArrayLike | jax.Array,
    train_mask: ArrayLike | jax.Array,
    irrep_indices: Iterable[int],
    table: ArrayLike,
    irreps: Irreps,
) -> tuple[Inputs, list[int]]:
    keys, n_irreps = sorted({int(k) for k in irrep_indices}), len(irreps.names)
    if keys and (keys[0] < 1 or keys[-1] >= n_irreps):
        raise ValueError(f"key irreps are from 1 to {n_irreps - 1}, not {keys}")
    if np.shape(table) != irreps.basis.shape:
        raise ValueError(
            f"a table of shape {np.shape(table)} is not of {len(irreps.basis)} elements"
        )
    return check_inputs(logits, labels, train_mask, table), keys


def _in_blocks(sums: Floats, key_sets: KeySets, irreps: Irreps) -> Floats:
    """(M, Q) sums by product → (S, M, Q): parts of an input's logits in each set's blocks."""
    parts = np.zeros((len(key_sets), *sums.shape))
    for part, keys in zip(parts, key_sets, strict=True):
        basis = irreps.basis[:, np.isin(irreps.block, keys)]
        part[:] = basis @ (basis.T @ sums) / len(sums)
    return parts


def _by_irrep(squares: Floats, irreps: Irreps) -> Floats:
    """(M, …) by column of the basis → (K, …): sums over each block."""
    starts = np.cumsum(irreps.sizes) - irreps.sizes
    result: Floats = np.add.reduceat(squares, starts, axis=0)
    return result


def _winners(neurons: NDArray[np.floating], irreps: Irreps) -> NeuronIrreps:
    """:func:`neuron_irreps` of neurons few enough for what is computed of them to be in memory."""
    basis, m = irreps.basis, len(irreps.basis)
    first = neurons[0].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        # Less its first value a neuron loses little to cancellation, and a constant is 0.
        centred = neurons - first
        mean = centred.mean(axis=0)
        centred -= mean
        variance = np.einsum("nw,nw->w", centred, centred)
        mean_square = variance + m**2 * (mean + first) ** 2
        table = centred.reshape(m, m, -1)
        in_h = basis.T @ table.sum(axis=0)
        rows = (basis.T @ table.reshape(m, -1)).reshape(table.shape)  # by column, h, neuron
        explained = _by_irrep((in_h**2 + rows.sum(axis=1) ** 2) / m, irreps)
        for k in range(1, len(explained)):
            columns = irreps.block == k
            products = np.tensordot(basis[:, columns], rows[columns], axes=(0, 1))
            explained[k] += (products**2).sum(axis=(0, 1))
        explained = explained[1:]
        varies = np.isfinite(explained).all(axis=0) & (variance > NEGLIGIBLE * mean_square)
        winner = np.where(varies, explained.argmax(axis=0), 0)
        best = np.take_along_axis(explained, winner[None], axis=0)[0]
        share = np.divide(best, variance, out=np.full_like(best, np.nan), where=varies)
    return NeuronIrreps(np.where(varies, winner + 1, 0), share)
