"""Decompositions of finite groups: published characters, projectors, orthogonality."""

import itertools

import numpy as np
import pytest

from grokjax.diagnostics import fourier, irreps
from grokjax.tasks import finite_groups
from tests.small_groups import TABLES, inverses, symmetric_irreps


@pytest.fixture(params=TABLES)
def table(request):
    return TABLES[request.param]


@pytest.mark.parametrize("n", [3, 4])
def test_matrices_represent_the_group(n):
    """Of the tests' own matrices; and that they, characters and blocks are of one irrep."""
    table = TABLES[f"s{n}"]
    found = irreps.decompose(table)
    written = symmetric_irreps(n)
    assert set(found.names) == written.keys()
    for name, matrices in written.items():
        k = found.names.index(name)
        np.testing.assert_allclose(matrices[:, None] @ matrices, matrices[table], atol=1e-12)
        np.testing.assert_allclose(
            np.trace(matrices, axis1=1, axis2=2), found.characters[k], atol=1e-10
        )
        elements = matrices.reshape(len(table), -1)
        block = found.basis[:, found.block == k]
        np.testing.assert_allclose(block @ (block.T @ elements), elements, atol=1e-10)


# Rows by partition, columns by cycle type: James and Liebeck, Representations and Characters of
# Groups, and any other book on the subject.
PUBLISHED = {
    4: (
        ["1111", "211", "22", "31", "4"],
        {
            "(4)": [1, 1, 1, 1, 1],
            "(3,1)": [3, 1, -1, 0, -1],
            "(2,2)": [2, 0, 2, -1, 0],
            "(2,1,1)": [3, -1, -1, 0, 1],
            "(1,1,1,1)": [1, -1, 1, 1, -1],
        },
    ),
    5: (
        ["11111", "2111", "221", "311", "32", "41", "5"],
        {
            "(5)": [1, 1, 1, 1, 1, 1, 1],
            "(4,1)": [4, 2, 0, 1, -1, 0, -1],
            "(3,2)": [5, 1, 1, -1, 1, -1, 0],
            "(3,1,1)": [6, 0, -2, 0, 0, 0, 1],
            "(2,2,1)": [5, -1, 1, -1, -1, 1, 0],
            "(2,1,1,1)": [4, -2, 0, 1, 1, 0, -1],
            "(1,1,1,1,1)": [1, -1, 1, 1, -1, -1, 1],
        },
    ),
}


def cycle_type(name):
    left, lengths = set(range(len(name))), []
    while left:
        x, length = min(left), 0
        while x in left:
            left.remove(x)
            x, length = int(name[x]) - 1, length + 1
        lengths.append(length)
    return "".join(map(str, sorted(lengths, reverse=True)))


@pytest.mark.parametrize("n", PUBLISHED)
def test_characters_of_symmetric_groups_are_those_published(n):
    group = finite_groups.find(f"s{n}")
    types, published = PUBLISHED[n]
    places = [types.index(cycle_type(name)) for name in group.names]
    found = irreps.decompose(group.table)
    assert found.names == tuple(published)
    expected = np.array(list(published.values()))[:, places]
    np.testing.assert_allclose(found.characters, expected, atol=1e-10)
    assert found.dimensions.tolist() == [row[0] for row in published.values()]
    assert found.sizes.tolist() == [row[0] ** 2 for row in published.values()]


def test_partitions_are_recognised_in_any_order_of_elements():
    table, found = TABLES["s5"], irreps.decompose(TABLES["s5"])
    order = np.random.default_rng(0).permutation(120)
    shuffled = irreps.decompose(np.argsort(order)[table[order[:, None], order]])
    assert shuffled.names == found.names
    np.testing.assert_allclose(shuffled.characters, found.characters[:, order], atol=1e-10)


def test_blocks_are_orthonormal_and_are_the_projectors_of_their_characters(table):
    found, m = irreps.decompose(table), len(table)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(m), atol=1e-12)
    np.testing.assert_array_equal(found.block, np.repeat(np.arange(len(found.sizes)), found.sizes))
    quotients = table[:, inverses(table)]
    for k, degree in enumerate(found.dimensions):
        block = found.basis[:, found.block == k]
        projector = degree / m * found.characters[k][quotients]
        np.testing.assert_allclose(block @ block.T, projector, atol=1e-10)


def test_degrees_and_characters_are_orthogonal(table):
    found, m = irreps.decompose(table), len(table)
    conjugates = found.sizes // found.dimensions**2  # irreps over the complex numbers in each
    assert set(conjugates) <= {1, 2}
    assert found.sizes.sum() == m
    assert (found.dimensions**2 * conjugates).sum() == m
    rows = found.characters @ found.characters.T
    np.testing.assert_allclose(rows, np.diag(conjugates) * m, atol=1e-9)
    # Σ_ρ χ(g) χ̄(h) is the order of the centraliser where g and h are conjugate, else 0; here
    # halves of it, for h and for its inverse.
    inverse = inverses(table)
    elements = np.arange(m)
    moved = table[table, inverse[:, None]]  # x g x⁻¹, row x
    times = (moved[:, :, None] == elements).sum(axis=0)
    columns = found.characters.T @ (found.characters / conjugates[:, None])
    np.testing.assert_allclose(columns, (times + times[:, inverse]) / 2, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "names", "sizes"),
    [
        ("quaternions", "1a 1b 1c 1d 2a", [1, 1, 1, 1, 4]),
        ("7:3", "1a 1b 3a", [1, 2, 18]),
        ("0 2 1 3 modulo 4", "1a 1b 1c", [1, 2, 1]),
        ("d4", "1a 1b 1c 1d 2a", [1, 1, 1, 1, 4]),
        ("d7", "1a 1b 2a 2b 2c", [1, 1, 4, 4, 4]),
        ("s3 x z3", "1a 1b 1c 1d 2a 2b", [1, 1, 2, 2, 4, 8]),
    ],
)
def test_names_are_degrees_with_letters(name, names, sizes):
    found = irreps.decompose(TABLES[name])
    assert found.names == tuple(names.split())
    assert found.sizes.tolist() == sizes
    np.testing.assert_allclose(found.characters[0], 1, atol=1e-10)


@pytest.mark.parametrize("n", [7, 12, 60])
def test_dihedral_irreps_come_in_the_order_of_their_frequency(n):
    found = irreps.decompose(finite_groups.find(f"d{n}").table)
    turning = found.characters[found.dimensions == 2]
    k = np.arange(1, (n + 1) // 2)
    expected = 2 * np.cos(2 * np.pi * k[:, None] * np.arange(n) / n)
    np.testing.assert_allclose(turning, np.hstack([expected, 0 * expected]), atol=1e-10)
    assert found.names[-1] == {7: "2c", 12: "2e", 60: "2ac"}[n]


@pytest.mark.parametrize("n", [3, 12, 13])
def test_irreps_of_residues_are_their_frequencies(n):
    found = irreps.decompose(finite_groups.find(f"z{n}").table)
    assert found.names == tuple(str(k) for k in range(n // 2 + 1))
    waves = np.cos(2 * np.pi * np.outer(np.arange(n // 2 + 1), np.arange(n)) / n)
    np.testing.assert_allclose(found.characters, found.sizes[:, None] * waves, atol=1e-12)


@pytest.mark.parametrize("name", ["z6xz10", "z2^3xz5", "z3xz4xz6"])
def test_irreps_of_products_are_frequency_vectors_up_to_sign(name):
    group = finite_groups.find(name)
    found = irreps.decompose(group.table)
    cycles = np.array(group.cycles)
    place = np.array(list(itertools.product(*map(range, cycles))))
    for k, wave_name in enumerate(found.names):
        frequency = np.array(wave_name.strip("()").split(","), int)
        wave = np.cos(2 * np.pi * (place @ (frequency / cycles)))
        np.testing.assert_allclose(found.characters[k], found.sizes[k] * wave, atol=1e-12)
        opposite = -frequency % cycles
        assert tuple(frequency) <= tuple(opposite)
        assert found.sizes[k] == (1 if (frequency == opposite).all() else 2)
    assert len(set(found.names)) == len(found.names)


def test_the_largest_units_are_their_frequencies():
    group = finite_groups.units(1999)
    residues = group.elements
    rows = np.random.default_rng(0).normal(size=(1998, 3))
    found = irreps.decompose(group.table)
    np.testing.assert_allclose(irreps.power(rows, found), fourier.spectrum(rows), rtol=1e-9)
    assert len(residues) == 1998 and found.names[-1] == "999"


def test_the_group_of_one_element():
    found = irreps.decompose([[0]])
    assert found.names == ("1a",)
    np.testing.assert_array_equal(found.basis, 1)


def test_decompositions_are_kept_and_cannot_be_changed():
    found = irreps.decompose(TABLES["s4"])
    assert irreps.decompose(TABLES["s4"].astype(np.int64).tolist()) is found
    for array in (found.basis, found.characters, irreps.decompose(TABLES["z13"]).basis):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# A Latin square with an identity that is no group, the smallest there is.
LOOP = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (LOOP, "not associative"),
        ([[0, 1, 2], [1, 2, 1], [2, 0, 1]], "repeats an element"),
        ([[1, 2, 0], [0, 1, 2], [2, 0, 1]], "no identity"),
        ([[0, 1], [1, 5]], "repeats an element"),
        (np.zeros((0, 0), int), "no identity"),
        (np.eye(3), "square of integers"),
        (np.zeros((2, 3), int), "square of integers"),
    ],
)
def test_other_tables_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        irreps.decompose(bad)
