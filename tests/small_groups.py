"""Small groups for tests: Cayley tables, and matrices of symmetric groups written out."""

import itertools

import numpy as np

from grokjax.tasks import finite_groups


def group_of(matrices):
    """Cayley table of the group that these matrices generate."""
    elements = [np.eye(len(matrices[0]))]
    for element in elements:
        for generator in matrices:
            product = generator @ element
            if not any(np.allclose(product, other) for other in elements):
                elements.append(product)
    flat = np.array(elements).reshape(len(elements), -1)
    products = np.einsum("gij,hjk->ghik", elements, elements).reshape(
        len(flat), -1, 1, flat.shape[1]
    )
    return np.isclose(products, flat).all(axis=-1).argmax(axis=-1)


def quaternions():
    return group_of([np.diag([1j, -1j]), np.array([[0, 1], [-1, 0]])])


def seven_by_three():
    """Affine maps x ↦ a x + b of residues modulo 7 with a = 1, 2 or 4."""
    maps = list(itertools.product((1, 2, 4), range(7)))
    return np.array([[maps.index((a * c % 7, (a * d + b) % 7)) for c, d in maps] for a, b in maps])


def direct_product(first, second):
    g, h = np.divmod(np.arange(len(first) * len(second)), len(second))
    return first[g[:, None], g] * len(second) + second[h[:, None], h]


TABLES = {
    name: finite_groups.find(name).table
    for name in ("s3", "s4", "s5", "d4", "d7", "d12", "d60", "z12", "z13", "z2^5", "z6xz10")
} | {
    "units of 105": finite_groups.units(105).table,
    "quaternions": quaternions(),
    "7:3": seven_by_three(),
    "0 2 1 3 modulo 4": np.array([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 1, 0], [3, 2, 0, 1]]),
    "s3 x z3": direct_product(finite_groups.find("s3").table, finite_groups.find("z3").table),
}


def inverses(table):
    return np.argmax(table == 0, axis=1)


def permutations(n):
    """(n!, n, n): the permutation matrices of the elements of s3, s4, …, by their names."""
    names = finite_groups.find(f"s{n}").names
    images = np.array([[int(letter) - 1 for letter in name] for name in names])
    return np.eye(n)[:, images].transpose(1, 0, 2)


def without_constant(matrices):
    """The action of permutation matrices on vectors that sum to 0."""
    n = matrices.shape[1]
    frame = np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1]
    return frame.T @ matrices @ frame


def symmetric_irreps(n):
    """Name → (n!, d, d) orthogonal matrices of all irreps of S3 or S4."""
    sign = np.linalg.det(permutations(n)).round()[:, None, None]
    standard = without_constant(permutations(n))
    known = {(n,): np.ones((len(sign), 1, 1)), (1,) * n: sign, (n - 1, 1): standard}
    if n == 4:
        known[2, 1, 1] = sign * standard
        # S4 permutes the three ways to part four letters into two pairs.
        one, other = np.triu_indices(4, 1)
        ways = np.eye(3)[:, [0, 1, 2, 2, 1, 0]]
        p, rows, others = permutations(4), one[:, None], other[:, None]
        pairs = p[:, rows, one] * p[:, others, other] + p[:, rows, other] * p[:, others, one]
        known[2, 2] = without_constant(ways @ pairs @ ways.T / 2)
    return {f"({','.join(map(str, name))})": matrices for name, matrices in known.items()}
