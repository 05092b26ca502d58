"""Orders of residues in which operations on them become addition of places."""

import math

import numpy as np
from numpy.typing import NDArray

ADDITIVE = ("add", "subtract")
MULTIPLICATIVE = ("multiply", "divide")


def residue_order(n_residues: int, operation: str) -> NDArray[np.int64]:
    """The order in which residues are read so that the operation becomes addition of places.

    Args:
        n_residues: p; a prime for multiplicative operations.
        operation: ``"add"`` or ``"subtract"`` (the residues as they are), ``"multiply"`` or
            ``"divide"`` (:func:`discrete_log_order`).

    Returns:
        Shape (p,) or, multiplicative, (p − 1,): ``rows[residue_order(p, op)]`` is what
        :func:`spectra.spectrum` and :func:`spectra.circularity` are to be given. Rows of pairs are
        read likewise, ``rows[(order[:, None] * p + order).ravel()]``; outputs may keep their order.

    Raises:
        ValueError: An unknown operation, or as :func:`discrete_log_order`.
    """
    if operation in ADDITIVE:
        return np.arange(n_residues)
    if operation in MULTIPLICATIVE:
        return discrete_log_order(n_residues)
    known = ", ".join(ADDITIVE + MULTIPLICATIVE)
    raise ValueError(f"operation is {operation!r}; orders are known for {known}")


def discrete_log_order(p: int) -> NDArray[np.int64]:
    """Nonzero residues as powers of the least primitive root g: entry i is g^i mod p.

    The product of entries i and j is entry (i + j) mod (p − 1). The residue 0 has no logarithm and
    is left out.

    Args:
        p: An odd prime.

    Returns:
        Shape (p − 1,), integers; a permutation of 1 … p − 1 starting at 1.

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
