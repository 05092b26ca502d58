"""Operations on residues against plain loops, and the structure that stands behind them."""

import math

import numpy as np
import pytest

from grokjax.settings import registry
from grokjax.settings.fields import InvalidSettingError
from grokjax.tasks.modular import OPERATIONS
from tests.helpers import make_runs


def quotients(a, b, n):
    """Every x with x b = a, if b has an inverse."""
    if math.gcd(b, n) > 1:
        return -1
    (found,) = [x for x in range(n) if x * b % n == a]
    return found


PLAIN = {
    "add": lambda a, b, n: (a + b) % n,
    "subtract": lambda a, b, n: (a - b) % n,
    "multiply": lambda a, b, n: (a * b) % n,
    "divide": quotients,
    "square_sum": lambda a, b, n: (a**2 + b**2) % n,
    "quadratic": lambda a, b, n: (a**2 + a * b + b**2) % n,
    "quadratic_plus": lambda a, b, n: (a**2 + a * b + b**2 + a) % n,
    "cubic": lambda a, b, n: (a**3 + a * b) % n,
    "cubic_plus": lambda a, b, n: (a**3 + a * b**2 + b) % n,
    "average": lambda a, b, n: math.floor((a + b) / 2),
    "max": lambda a, b, n: a if a > b else b,
}
WITHOUT_STRUCTURE = {"average", "max"}
NO_PRODUCTS = {"square_sum", "quadratic", "quadratic_plus", "cubic", "cubic_plus"}


def task(name, n):
    return registry.find("operation", name)(name=name, prime=n, train_fraction=0.5)


def test_there_is_a_loop_for_every_operation():
    assert PLAIN.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("n", [3, 4, 6, 9, 12, 23, 30])
@pytest.mark.parametrize("name", PLAIN)
def test_labels_are_those_of_a_plain_loop(name, n):
    own = task(name, n)
    expected = [PLAIN[name](a, b, n) for a in range(n) for b in range(n)]
    assert own.truth.tolist() == expected
    assert own.n_elements == own.n_outputs == n
    assert own.n_examples == sum(label >= 0 for label in expected)
    assert max(expected) < own.n_outputs
    assert not own.truth.flags.writeable


def test_no_power_overflows():
    n = 1999  # prime
    for name in ("cubic_plus", "quadratic_plus", "divide"):
        truth = task(name, n).truth.reshape(n, n)
        for a, b in [(1998, 1998), (1998, 1997), (1, 1998), (1998, 1)]:
            assert truth[a, b] == PLAIN[name](a, b, n)


def test_a_composite_modulus_leaves_out_quotients_by_what_has_no_inverse():
    (run,) = make_runs(operation=["divide"], prime=[12])
    assert run.task.n_examples == 12 * 4  # by 1, 5, 7, 11
    assert run.task.n_train == 24
    assert run.task.n_places == 144
    assert set(np.flatnonzero(run.task.truth >= 0) % 12) == {1, 5, 7, 11}


@pytest.mark.parametrize("n", [3, 8, 12, 23])
@pytest.mark.parametrize("name", PLAIN)
def test_the_structure_tells_which_label_is_asked(name, n):
    own = task(name, n)
    structure = own.structure
    assert (structure is None) == (name in WITHOUT_STRUCTURE)
    if structure is None:
        return
    m = len(structure.elements)
    of_units = name in ("multiply", "divide")
    units = [x for x in range(n) if math.gcd(x, n) == 1]
    assert sorted(structure.elements.tolist()) == (units if of_units else list(range(n)))
    assert sorted(structure.second.tolist()) == sorted(structure.elements.tolist())
    prime = units == list(range(1, n))
    assert structure.kind == ("group" if of_units and not prime else "cyclic")
    assert structure.cycles == (() if of_units and not prime else (m,))
    # Its table is that of the elements: sums, or products of units.
    for i, x in enumerate(structure.elements):
        for j, y in enumerate(structure.elements):
            product = (x * y if of_units else x + y) % n
            assert structure.elements[structure.table[i, j]] == product
    assert (structure.asked is None) == (name in NO_PRODUCTS)
    if structure.asked is None:
        return
    for i, a in enumerate(structure.elements):
        for j, b in enumerate(structure.second):
            assert own.truth[a * n + b] == structure.elements[structure.asked[i, j]]
    np.testing.assert_array_equal(structure.asked, structure.table)


@pytest.mark.parametrize("n", [5, 13])
def test_units_of_a_prime_run_in_the_order_of_their_cycle(n):
    structure = task("multiply", n).structure
    root = structure.elements[1]
    assert structure.elements.tolist() == [pow(int(root), k, n) for k in range(n - 1)]
    k = np.arange(n - 1)
    np.testing.assert_array_equal(structure.table, (k[:, None] + k) % (n - 1))


@pytest.mark.parametrize("n", [2, 2000])
def test_other_moduli_are_refused(n):
    with pytest.raises(InvalidSettingError, match=f"--primes={n}: must be an integer from 3"):
        task("add", n)


@pytest.mark.parametrize(("n", "words"), [(13, "prime 13"), (12, "modulus 12"), (25, "modulus 25")])
def test_a_prime_is_called_one(n, words):
    (run,) = make_runs(operation=["add"], prime=[n])
    assert run.task.in_words == words
