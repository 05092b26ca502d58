"""Finite groups by name: axioms by brute force, elements as their names say."""

import itertools
import math

import numpy as np
import pytest

from grokjax.tasks import finite_groups

ORDERS = {
    "s3": 6,
    "s4": 24,
    "s5": 120,
    "d3": 6,
    "d4": 8,
    "d7": 14,
    "d50": 100,
    "z3": 3,
    "z12": 12,
    "z113": 113,
    "z2^7": 128,
    "z6xz10": 60,
    "z2^3xz5": 40,
    "z3xz2^2xz3": 36,
}


def assert_group(table):
    m = len(table)
    elements = np.arange(m)
    assert table.shape == (m, m) and table.dtype == np.int32
    np.testing.assert_array_equal(table[0], elements)
    np.testing.assert_array_equal(table[:, 0], elements)
    assert ((table == 0).sum(axis=0) == 1).all() and ((table == 0).sum(axis=1) == 1).all()
    # (x y) z against x (y z), for all three.
    np.testing.assert_array_equal(table[table], table[:, table])


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_groups_by_name_obey_the_axioms(name, order):
    group = finite_groups.find(name)
    assert finite_groups.problem(name) == ""
    assert len(group.table) == len(set(group.names)) == order
    assert_group(group.table)
    assert (group.table == group.table.T).all() == name.startswith("z")


def test_permutations_are_composed_the_second_first():
    group = finite_groups.find("s4")
    elements = [tuple(int(letter) - 1 for letter in name) for name in group.names]
    assert elements == list(itertools.permutations(range(4)))
    for (i, g), (j, h) in itertools.product(enumerate(elements), repeat=2):
        assert elements[group.table[i, j]] == tuple(g[h[x]] for x in range(4))


@pytest.mark.parametrize("n", [3, 4, 7])
def test_dihedral_elements_turn_and_reflect_the_plane(n):
    group = finite_groups.find(f"d{n}")
    names = group.names
    assert names[:3] == ("e", "r", "r2") and names[n : n + 3] == ("s", "rs", "r2s")
    angle = 2 * np.pi / n
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turns = [np.linalg.matrix_power(turn, k) for k in range(n)]
    matrices = np.array(turns + [one @ np.diag([1, -1]) for one in turns])
    np.testing.assert_allclose(
        matrices[:, None] @ matrices, matrices[group.table], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "cycles"), [("z12", (12,)), ("z6xz10", (6, 10)), ("z2^3xz5", (2, 2, 2, 5))]
)
def test_products_of_cyclic_groups_add_residues(name, cycles):
    group = finite_groups.find(name)
    assert group.cycles == cycles
    elements = np.array(list(itertools.product(*map(range, cycles))))
    written = [name.strip("()").split(",") for name in group.names]
    np.testing.assert_array_equal(np.array(written, int), elements)
    sums = (elements[:, None] + elements) % cycles
    np.testing.assert_array_equal(elements[group.table], sums)


@pytest.mark.parametrize("p", [3, 7, 31, 113])
def test_units_of_a_prime_are_a_cycle_of_powers(p):
    group = finite_groups.units(p)
    residues = group.elements
    roots = [g for g in range(1, p) if len({g**k % p for k in range(p - 1)}) == p - 1]
    assert residues.tolist() == [roots[0] ** k % p for k in range(p - 1)]
    np.testing.assert_array_equal(group.table, np.add.outer(*[np.arange(p - 1)] * 2) % (p - 1))
    assert group.cycles == (p - 1,)
    assert group.names == tuple(str(x) for x in residues)


@pytest.mark.parametrize("n", [2, 4, 8, 15, 36, 105])
def test_units_multiply(n):
    group = finite_groups.units(n)
    residues = group.elements
    assert set(residues.tolist()) == {x for x in range(n) if math.gcd(x, n) == 1}
    np.testing.assert_array_equal(residues[group.table], np.outer(residues, residues) % n)
    assert_group(group.table)
    assert group.cycles == ((1,) if n == 2 else ())


def test_groups_are_made_once_and_cannot_be_changed():
    group = finite_groups.find("s5")
    assert finite_groups.find("s5") is group
    units = finite_groups.units(12)
    for array in (group.table, finite_groups.find("d9").table, units.table, units.elements):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


# One has an Arabic digit.
OTHERS = [
    "", "s", "add", "s5_conj", "S5", "a5", "z", "z2^", "z2^0", "z0", "d07", "z2x", "xz2",
    "z3xs3", "s3xz3", "z5\n", " z5", "z٣", "z2^2^2", "s-3",
]  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_names_of_another_form_are_no_groups(name):
    assert finite_groups.problem(name) is None


def test_names_of_any_length_are_read():
    assert finite_groups.problem("z" + "9" * 5000) is None
    assert "2000 elements" in finite_groups.problem("x".join(["z999999^999999"] * 500))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s2", "s2 holds s2; there is sN from N = 3"),
        ("d1", "dN from N = 3"),
        ("z5xz1", "z5xz1 holds z1; there is zN from N = 2"),
        ("z2", "z2 must have from 3 to 2000 elements"),
        ("s7", "to 2000 elements"),
        ("s999999", "to 2000 elements"),
        ("d1001", "to 2000 elements"),
        ("z2001", "to 2000 elements"),
        ("z2^11", "to 2000 elements"),
        ("z2^999999", "to 2000 elements"),
        ("z2^5xz70", "to 2000 elements"),
    ],
)
def test_groups_that_are_not_made_say_why(name, message):
    assert message in finite_groups.problem(name)
    assert message in finite_groups.problem(f"{name}_conjugate")


def test_the_largest_groups_are_made():
    for name in ("d1000", "z2000", "z2^10", "s6"):
        assert finite_groups.problem(name) == ""
    assert finite_groups.find("z2^3xz250").table.max() == 1999


@pytest.mark.parametrize("n", [-1, 0, 1, 2001])
def test_units_of_other_moduli_are_refused(n):
    with pytest.raises(ValueError, match=f"2 to 2000, not {n}"):
        finite_groups.units(n)
