"""Products and conjugates in finite groups, multiplied element by element."""

import itertools

import numpy as np
import pytest

from grokjax.settings import registry
from grokjax.settings.fields import InvalidSettingError
from grokjax.tasks.task import make_data
from tests.helpers import make_runs


def permutations(n):
    """The elements of sN, and how two are composed: the second first."""
    return list(itertools.permutations(range(n))), lambda g, h: tuple(g[h[x]] for x in range(n))


def symmetries(n):
    """Those of the n-gon, as maps x ↦ k ± x of its corners: first the rotations."""

    def compose(g, h):
        return ((g[0] + g[1] * h[0]) % n, g[1] * h[1])

    return [(k, 1) for k in range(n)] + [(k, -1) for k in range(n)], compose


def residues(*sizes):
    """Tuples of residues, added factor by factor."""

    def compose(g, h):
        return tuple((x + y) % n for x, y, n in zip(g, h, sizes, strict=True))

    return list(itertools.product(*map(range, sizes))), compose


GROUPS = {
    "s3": permutations(3),
    "s4": permutations(4),
    "d5": symmetries(5),
    "d6": symmetries(6),
    "z12": residues(12),
    "z2^3": residues(2, 2, 2),
    "z3xz2^2": residues(3, 2, 2),
}


def task(name):
    return registry.find("operation", name)(name=name, train_fraction=0.5)


def inverse(element, elements, compose):
    (found,) = [other for other in elements if compose(element, other) == elements[0]]
    return found


@pytest.mark.parametrize("name", GROUPS)
def test_labels_are_products(name):
    elements, compose = GROUPS[name]
    own = task(name)
    expected = [elements.index(compose(g, h)) for g in elements for h in elements]
    assert own.truth.tolist() == expected
    assert own.n_elements == own.n_outputs == len(elements)
    assert own.n_examples == own.n_places == len(elements) ** 2


@pytest.mark.parametrize("name", GROUPS)
def test_labels_are_conjugates(name):
    elements, compose = GROUPS[name]
    expected = [
        elements.index(compose(compose(g, h), inverse(g, elements, compose)))
        for g in elements
        for h in elements
    ]
    assert task(f"{name}_conjugate").truth.tolist() == expected


@pytest.mark.parametrize("suffix", ["", "_conjugate"])
@pytest.mark.parametrize("name", GROUPS)
def test_the_structure_is_the_groups_and_tells_which_label_is_asked(name, suffix):
    elements, compose = GROUPS[name]
    own = task(name + suffix)
    structure, m = own.structure, len(elements)
    np.testing.assert_array_equal(structure.elements, np.arange(m))
    np.testing.assert_array_equal(structure.second, np.arange(m))
    for (i, g), (j, h) in itertools.product(enumerate(elements), repeat=2):
        assert structure.table[i, j] == elements.index(compose(g, h))
        label = own.truth[structure.elements[i] * m + structure.second[j]]
        assert label == structure.elements[structure.asked[i, j]]
    kinds = {"z12": ("cyclic", (12,)), "z2^3": ("cycles", (2, 2, 2)),
             "z3xz2^2": ("cycles", (3, 2, 2))}  # fmt: skip
    assert (structure.kind, structure.cycles) == kinds.get(name, ("group", ()))
    assert len(set(structure.names)) == m


def test_names_tell_the_elements():
    assert task("s3").structure.names == ("123", "132", "213", "231", "312", "321")
    assert task("d3_conjugate").structure.names == ("e", "r", "r2", "s", "rs", "r2s")
    assert task("z2xz3").structure.names[4] == "(1,1)"


def test_novel_pairs_of_a_group_that_does_not_commute_by_their_definition():
    elements, compose = GROUPS["s3"]
    (run,) = make_runs(operation=["s3"], label_permutation=[0.3])
    data = make_data(run)
    labels, train = (x.reshape(6, 6) for x in (data.labels, data.train_mask))
    novel = []
    for (a, g), (b, h) in itertools.product(enumerate(elements), repeat=2):
        asked = elements.index(compose(g, h))
        given_away = train[b, a] and labels[b, a] == asked
        novel.append(not train[a, b] and not given_away)
    assert data.novel_mask.tolist() == novel
    # Some pairs train the other way round, with another label.
    commute = [compose(g, h) == compose(h, g) for g in elements for h in elements]
    turned = train.T.ravel() & ~train.ravel() & ~np.array(commute)
    assert (data.novel_mask & turned).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s2", "s2 holds s2; there is sN from N = 3"),
        ("s7_conjugate", "s7 must have from 3 to 2000 elements"),
        ("z2", "z2 must have from 3"),
    ],
)
def test_groups_that_are_not_made_are_refused(name, message):
    with pytest.raises(InvalidSettingError, match=f"--operations={name}: {message}"):
        task(name)


@pytest.mark.parametrize("name", ["s3_conj", "_conjugate", "add_conjugate", "z6z10"])
def test_names_of_another_form_are_no_tasks(name):
    with pytest.raises(InvalidSettingError, match=f"--operations={name}: each must be one of"):
        task(name)
