"""Fourier measures of networks that compute in a finite group, by irreducible representation.

As Chughtai et al. (arXiv:2302.03025) carried those of ``fourier`` over to groups. The real
functions on a group of m elements are the orthogonal sum of blocks that translations from the left
and from the right leave in place. A block holds the matrix elements g ↦ ρ_ij(g) of one complex
irreducible representation ρ (irrep) and of its conjugate, as cosine and sine do a frequency: d²
dimensions for an irrep of degree d whose character is real, 2 d² else. For residues, in their
order, blocks are the frequencies 0 … ⌊m/2⌋, and each measure here is the one of ``fourier``.

Groups come as Cayley tables: row g, column h holds the index of g·h. Arrays are as there, and
non-finite values give NaN (and no key irrep), not an error.

Shapes: M elements, K irreps (up to conjugation), W neurons, Q outputs.
"""

import collections
import functools
import itertools
import math
import string
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Structure, _exclusion
from grokjax.diagnostics._exclusion import Floats, Lens, NeuronFrequencies

Integers = NDArray[np.int64]

# Values of characters closer than this are the same.
_SAME = 1e-6
# Values of neurons that are looked at together: 64 MiB.
_TOGETHER = 2**23


class Irreps(NamedTuple):
    """The irreps of a group, those that are each other's conjugates as one; the trivial one first.

    Names are frequencies (``3``, ``(1,0,2)`` up to sign) where the elements are the residues, or
    tuples of residues of which the last runs fastest; partitions (``(3,1,1)``, the trivial one
    ``(5)``) in descending order for a symmetric group on 3 to 6 letters, in whatever order its
    elements come (for 6 letters up to the outer automorphism then); for others the degree and
    letters, ``1a``, ``1b``, ``2a``. Order and names follow from the table alone.
    """

    names: tuple[str, ...]  # (K,)
    dimensions: Integers  # (K,): degrees d of the complex irreps
    sizes: Integers  # (K,): dimensions of their blocks, d² or 2 d²; they sum to M
    characters: Floats  # (K, M): of the irrep, summed with its conjugate's where that is another
    basis: Floats  # (M, M): orthonormal columns, block after block
    block: Integers  # (M,): the irrep that each column belongs to


def decompose(table: ArrayLike) -> Irreps:
    """The irreps of a group, given by its Cayley table (m, m), and an orthonormal basis by irrep.

    Of an abelian group the characters are written down exactly, from the generators. Otherwise a
    real symmetric matrix that commutes with all translations, Σ_g c(g) L_g with c constant on
    conjugacy classes and equal for inverses, is a multiple of the identity on each block; with c
    drawn at random (from a fixed seed) the multiples differ, and its eigenspaces are the blocks.
    That costs m³. Arrays are read-only, and kept for the next call with this table.

    Raises:
        ValueError: The table is not a group's, or not a square of integers.
    """
    array = np.asarray(table)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.dtype.kind not in "iu":
        raise ValueError(f"a table must be a square of integers, not {array.dtype} {array.shape}")
    return _decompose(array.astype(np.int64).tobytes())


def power(rows: ArrayLike, irreps: Irreps) -> Floats:
    """Power of each irrep in rows indexed by element: an embedding, or heads' q, k, v rows.

    Rows of shape (m, …, d), one an element, give shape (…, K), float64: the squared norm of their
    projection on the irrep's block, summed over the last axis. It sums to that of the rows.

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


def neuron_irreps(neurons: ArrayLike, irreps: Irreps) -> NeuronFrequencies:
    """The irrep whose functions of two elements explain most of each neuron's variance.

    The functions of irrep ρ on pairs (g, h) are those of its block B in g alone, in h alone, and
    all products of the two, which hold the matrix elements ρ_ij(g·h) and ρ_ij(g·h⁻¹). Spans of
    different irreps are orthogonal. For residues the result is :func:`fourier.neuron_frequencies`'.
    A neuron without structure falls to one of the largest blocks: it is ``explained`` that tells.

    Neurons, (m², w) in rows g·m + h, m at least 3, and errors are as there.
    """
    array = np.asarray(neurons)
    n, m = _exclusion.side(array, "neurons"), len(irreps.basis)
    if n != m:
        raise ValueError(f"neurons must have a row for each of {m}^2 pairs, not {n}^2 rows")
    width = array.shape[1]
    parts = np.array_split(array, min(width, 1 + array.size // _TOGETHER), axis=1)
    found = [_winners(part, irreps) for part in parts]
    return NeuronFrequencies(*(np.concatenate(fields) for fields in zip(*found, strict=True)))


def lens(irreps: Irreps, totals: ArrayLike | None = None) -> Lens:
    """The measures of a group for :func:`fourier.restricted_and_excluded`, by irrep.

    Each output's logits, as a function of the m² inputs (rows g·m + h), are projected on the
    functions f(g·h) for f in the key irreps' blocks, which the matrix elements ρ_ij(g·h) span. Key
    irreps are in 1 … K − 1. ``totals``, shape (m, m), hold the element g·h for each input: the
    group's table, or that of another operation on its elements, such as g·h·g⁻¹, whose rows hold
    each element once. None where inputs ask for no product: nothing can be restricted then.

    Raises:
        ValueError: The table is not of the group's elements.
    """
    if totals is not None and np.shape(totals) != irreps.basis.shape:
        shape = np.shape(totals)
        raise ValueError(f"a table of shape {shape} is not of {len(irreps.basis)} elements")
    measures: list[Any] = [power, neuron_irreps, _in_blocks]
    spectra, neurons, parts = (functools.partial(own, irreps=irreps) for own in measures)
    return Lens(irreps.names, irreps.dimensions, irreps.sizes, spectra, neurons, parts, totals)


def _in_blocks(sums: Floats, key_sets: _exclusion.KeySets, irreps: Irreps) -> Floats:
    """(M, Q) sums by product → (S, M, Q): parts of an input's logits in each set's blocks."""
    parts = np.zeros((len(key_sets), *sums.shape))
    for part, keys in zip(parts, key_sets, strict=True):
        basis = irreps.basis[:, np.isin(irreps.block, keys)]
        part[:] = basis @ (basis.T @ sums) / len(sums)
    return parts


def _by_irrep(squares: Floats, irreps: Irreps) -> Floats:
    """(M, …) by column of the basis → (K, …): sums over each block."""
    return np.add.reduceat(squares, np.cumsum(irreps.sizes) - irreps.sizes, axis=0)


def constants(structure: Structure, cycle: bool) -> dict[str, Any]:
    """What ``_on_device`` needs of a structure, by frequency of a ``cycle``, else by irrep."""
    found = decompose(structure.table)
    first, sizes = np.cumsum(found.sizes) - found.sizes, found.sizes[1:]
    # Irreps but the trivial one, those of one size together: (C,) which, (C, size) columns.
    of_size = {size: 1 + np.flatnonzero(sizes == size) for size in np.unique(sizes)}
    squares = [(own, first[own][:, None] + np.arange(size)) for size, own in of_size.items()]
    told: dict[str, Any] = {
        "basis": found.basis,
        "kinds": (found.block == np.arange(len(first))[:, None]).astype(np.float64),
        "order": (structure.elements, structure.second),
        "squares": None if cycle else squares,
    }
    if all(np.array_equal(order, np.arange(len(order))) for order in told["order"]):
        told["order"] = None  # which spares a copy
    if structure.asked is not None:
        # The second of a first element and a total: each row holds each total once.
        told |= {"totals": structure.asked, "second": np.argsort(structure.asked, axis=1)}
    return told


def _winners(neurons: NDArray[np.floating], irreps: Irreps) -> NeuronFrequencies:
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
        return _exclusion.strongest(explained[1:], 1, variance, mean_square)


@functools.lru_cache(maxsize=4)  # of the largest group some 100 MB
def _decompose(table_bytes: bytes) -> Irreps:
    flat = np.frombuffer(table_bytes, np.int64)
    table = flat.reshape([math.isqrt(flat.size)] * 2)
    identity = _check_group(table)
    irreps = (_abelian if (table == table.T).all() else _nonabelian)(table, identity)
    for array in irreps[1:]:
        np.asarray(array).setflags(write=False)
    return irreps


def _check_group(table: Integers) -> int:
    """The identity of the group that the table is of."""
    m = len(table)
    elements = np.arange(m)
    latin = [(np.sort(way, axis=1) == elements).all() for way in (table, table.T)]
    identity = np.flatnonzero(((table == elements) & (elements == table.T)).all(axis=1))
    if not all(latin) or not identity.size:
        raise ValueError("not a group's table: a row or column repeats an element, or no identity")
    generated = elements == identity[0]
    while not generated.all():
        # Products are associative if they are with each generator in the middle (Light's test).
        generator = np.argmin(generated)
        if (table[table[:, generator]] != table[:, table[generator]]).any():
            raise ValueError("not a group's table: its product is not associative")
        generated[generator], n_before = True, 0
        while n_before < generated.sum():
            n_before = generated.sum()
            members = np.flatnonzero(generated)
            generated[table[np.ix_(members, members)]] = True
    return int(identity[0])


def _abelian(table: Integers, identity: int) -> Irreps:
    """Characters exp(2πi phase / m) of whole phases, extended from one generator to the next."""
    m = len(table)
    members, phases = np.array([identity]), np.zeros((1, 1), np.int64)  # (characters, members)
    # Orders of the generators modulo those before, and their places; those found last come first.
    orders: list[int] = []
    places: list[int] = []
    direct = True
    while len(members) < m:
        generator = np.setdiff1d(np.arange(m), members)[0]
        powers = np.array([identity])
        while not (within := np.flatnonzero(members == table[powers[-1], generator])).size:
            powers = np.append(powers, table[powers[-1], generator])
        orders.insert(0, len(powers))
        places.insert(0, len(members))
        direct &= within[0] == 0
        step = np.arange(len(powers))
        # The generator's value may be any root of the value of its power that is a member.
        roots = (phases[:, within[0]] + m * step[:, None]) // len(powers)
        members = table[np.ix_(powers, members)].ravel()
        phases = phases[:, None] + roots[:, :, None, None] * step[:, None]
        phases = phases.reshape(len(members), -1) % m
    keys = phases[:, np.array(places, int)]
    key, conjugate = keys.tolist(), (-keys % m).tolist()
    kept = [c for c in range(m) if key[c] <= conjugate[c]]
    sizes = np.array([1 if key[c] == conjugate[c] else 2 for c in kept])
    angles = np.empty((len(kept), m))
    angles[:, members] = 2 * np.pi * phases[kept] / m
    characters = sizes[:, None] * np.cos(angles)
    basis = np.repeat(characters.T / np.sqrt(sizes * m), sizes, axis=1)
    basis[:, np.cumsum(sizes)[sizes == 2] - 1] = np.sin(angles[sizes == 2]).T * np.sqrt(2 / m)
    degrees = np.ones_like(sizes)
    names = _lettered(degrees)
    if direct and m > 1 and (members == np.arange(m)).all():
        frequencies = np.transpose(np.unravel_index(kept, orders)).tolist()
        texts = [",".join(map(str, k)) for k in frequencies]
        names = tuple(f"({text})" if len(orders) > 1 else text for text in texts)
    block = np.repeat(np.arange(len(kept)), sizes)
    return Irreps(names, degrees, sizes, characters, basis, block)


def _nonabelian(table: Integers, identity: int) -> Irreps:
    """The eigenspaces of Σ_g c(g) L_g; see :func:`decompose`."""
    m = len(table)
    inverse = np.argmax(table == identity, axis=1)
    classes = np.full(m, -1)  # of conjugates and their inverses; as many as there are blocks
    first: list[int] = []  # elements of the classes
    for g in range(m):
        if classes[g] < 0:
            conjugates = table[table[:, g], inverse]
            classes[conjugates] = classes[inverse[conjugates]] = len(first)
            first.append(g)
    n_blocks, counts = len(first), np.bincount(classes)
    weights = np.random.default_rng(0).normal(size=n_blocks) / np.sqrt(counts)
    values, vectors = np.linalg.eigh(weights[classes][table[:, inverse]])
    starts = [0, *(np.sort(np.argsort(np.diff(values))[m - n_blocks :]) + 1)]
    sizes = np.diff([*starts, m])
    root = np.sqrt(sizes).round().astype(int)
    degrees = np.where(root**2 == sizes, root, np.sqrt(sizes / 2).round().astype(int))
    # The projector on a block takes the identity to the character, times d / m.
    projected = np.add.reduceat(vectors * vectors[identity], starts, axis=1).T
    sums = np.array([np.bincount(classes, function) for function in projected])
    by_class = sums * m / (counts * degrees[:, None])
    involutions = table[first, first] == identity
    partitions = _by_partition(m, degrees, by_class[:, involutions], counts[involutions])
    order, names = partitions or (_order(degrees, sizes, by_class), None)
    block = np.argsort(order)[np.repeat(np.arange(n_blocks), sizes)]
    columns = np.argsort(block, kind="stable")
    return Irreps(
        names or _lettered(degrees[order]),
        degrees[order],
        sizes[order],
        by_class[order][:, classes],
        vectors[:, columns],
        block[columns],
    )


def _order(degrees: Integers, sizes: Integers, by_class: Floats) -> Integers:
    """Irreps by degree, real ones first, then by characters, the largest values first."""
    # Class by class, as ranks: values that rounding alone tells apart have the same.
    places = np.argsort(by_class, axis=0)
    rises = np.diff(np.take_along_axis(by_class, places, axis=0), axis=0, prepend=-np.inf) > _SAME
    ranks = np.empty_like(places)
    np.put_along_axis(ranks, places, np.cumsum(rises, axis=0), axis=0)
    return np.lexsort([*-ranks.T[::-1], sizes, degrees])


def _by_partition(
    m: int, degrees: Integers, at_involutions: Floats, counts: Integers
) -> tuple[list[int], tuple[str, ...]] | None:
    """Order of the irreps by partition, and their names, if the group is a symmetric one.

    Up to 6 letters an irrep is known by its degree (the hook length formula) and its character at
    a transposition (Frobenius: degree times the mean content of the partition's cells).
    """
    n = next((n for n in range(3, 7) if math.factorial(n) == m), 0)
    transpositions = np.flatnonzero(counts == math.comb(n, 2))
    if not n or not transpositions.size:
        return None
    values = at_involutions[:, transpositions[0]].round().astype(int)
    found = list(zip(degrees.tolist(), values.tolist(), strict=True))
    wanted, names = [], []
    for partition in _partitions(n, n):
        cells = [(i, j) for i, row in enumerate(partition) for j in range(row)]
        hooks = (partition[i] - j + sum(r > j for r in partition) - i - 1 for i, j in cells)
        degree = m // math.prod(hooks)
        wanted.append((degree, degree * sum(j - i for i, j in cells) // math.comb(n, 2)))
        names.append(f"({','.join(map(str, partition))})")
    if sorted(wanted) != sorted(found):
        return None
    return [found.index(pair) for pair in wanted], tuple(names)


def _partitions(n: int, largest: int) -> Iterator[tuple[int, ...]]:
    if not n:
        yield ()
    for part in range(min(n, largest), 0, -1):
        for rest in _partitions(n - part, part):
            yield (part, *rest)


def _lettered(degrees: Integers) -> tuple[str, ...]:
    letters: dict[int, Iterator[str]] = collections.defaultdict(_letters)
    return tuple(f"{d}{next(letters[d])}" for d in degrees.tolist())


def _letters() -> Iterator[str]:
    """The words a … z, aa, ab … without end."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))
