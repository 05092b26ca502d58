"""Finite groups by name, as Cayley tables, and the tasks of multiplying in them.

``sN`` is the symmetric group on N letters and ``dN`` the dihedral group of order 2N, N from 3;
``zN`` is the cyclic group of order N, ``zN^K`` its power, and factors stand side by side with an
``x`` between them: ``z2^3xz5``.
"""

import dataclasses
import itertools
import math
import re
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.caching import bounded
from grokjax.settings.fields import Part, check
from grokjax.tasks.task import Integers, PairTask, Structure

LARGEST = 2000  # elements; a task on a group has the square of this many inputs

_CONJUGATE = "_conjugate"
_NUMBER = "[1-9][0-9]{0,5}"
_CYCLE = rf"z{_NUMBER}(\^{_NUMBER})?"
_FORM = re.compile(rf"[sd]{_NUMBER}|{_CYCLE}(x{_CYCLE})*")


def problem(name: str) -> str | None:
    """Why a name of the right form cannot be used; empty if it can, None if it is of no such form.

    With ``_conjugate`` behind, a name is as good as without.
    """
    name = name.removesuffix(_CONJUGATE)
    if not _FORM.fullmatch(name):
        return None
    family, sizes = _parse(name)
    least = 2 if family == "z" else 3
    if min(sizes) < least:
        return f"{name} holds {family}{min(sizes)}; there is {family}N from N = {least}"
    order = {"s": math.factorial(min(sizes[0], 7)), "d": 2 * sizes[0], "z": math.prod(sizes)}
    if not 3 <= order[family] <= LARGEST:
        return f"{name} must have from 3 to {LARGEST} elements"
    return ""


@bounded(2**28)  # tables of the largest have 16 MB
def find(name: str) -> Structure:
    """The group of a name that has no :func:`problem`, element 0 its identity.

    Asked are its products, or with ``_conjugate`` behind the name g · h · g⁻¹. Elements are called
    by one-line notation of x ↦ g(x) (``21345``), as rotations and reflections (``e``, ``r2``,
    ``r2s``), or as residues (``4``, ``(1,0,4)``).
    """
    base = name.removesuffix(_CONJUGATE)
    if base != name:
        table = find(base).table
        inverse = np.argmin(table, axis=1)  # where the product is the identity
        return dataclasses.replace(find(base), asked=table[table, inverse[:, None]])
    family, sizes = _parse(name)
    if family == "z":
        return _group(*_cyclic(sizes), sizes)
    return _group(*{"s": _symmetric, "d": _dihedral}[family](sizes[0]))


@bounded(2**27)
def units(n: int) -> Structure:
    """The residues that have an inverse modulo n, as the group of their multiplication.

    For a prime they are the powers of its least primitive root, so that the group is the cyclic one
    of order n − 1; otherwise they ascend, and ``cycles`` is empty.

    Raises:
        ValueError: for an n below 2 or above ``LARGEST``.
    """
    if not 2 <= n <= LARGEST:
        raise ValueError(f"units are known modulo 2 to {LARGEST}, not {n}")
    found = [x for x in range(1, n) if math.gcd(x, n) == 1]
    prime = len(found) == n - 1
    if prime:
        powers = ([pow(root, k, n) for k in range(n - 1)] for root in found)
        found = next(sequence for sequence in powers if len(set(sequence)) == n - 1)
    residues = np.array(found)
    place = np.zeros(n, np.int32)
    place[residues] = np.arange(len(residues))
    table = place[residues[:, None] * residues % n]
    return _group(table, tuple(map(str, found)), (n - 1,) if prime else (), residues)


def _group(
    table: NDArray[np.int32],
    names: tuple[str, ...],
    cycles: tuple[int, ...] = (),
    elements: Integers | None = None,
) -> Structure:
    """A group whose products are asked, read-only; its elements are those of the task."""
    elements = np.arange(len(table)) if elements is None else elements
    for array in (table, elements):
        array.setflags(write=False)
    return Structure(
        elements=elements, second=elements, cycles=cycles, table=table, asked=table, names=names
    )


def _parse(name: str) -> tuple[str, tuple[int, ...]]:
    """Family and sizes of the factors of a name of the right form."""
    sizes: list[int] = []
    for factor in name.split("x"):
        n, _, power = factor[1:].partition("^")
        # No group that is made has as many factors as this.
        sizes += [int(n)] * min(int(power or 1), LARGEST.bit_length())
    return name[0], tuple(sizes)


def _cyclic(sizes: tuple[int, ...]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Residues, or tuples of them of which the last runs fastest, added factor by factor."""
    m = math.prod(sizes)
    residues = np.unravel_index(np.arange(m), sizes)
    table = np.zeros((m, m), np.int32)
    for n, residue in zip(sizes, residues, strict=True):
        table = table * n + np.add.outer(residue, residue).astype(np.int32) % n
    names = (",".join(map(str, element)) for element in np.transpose(residues).tolist())
    return table, tuple(names if len(sizes) == 1 else (f"({name})" for name in names))


def _symmetric(n: int) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Permutations in lexicographic order; g · h is h first, then g."""
    permutations = np.array(list(itertools.permutations(range(n))))
    codes = permutations @ n ** np.arange(n)[::-1]
    products = permutations[:, permutations] @ n ** np.arange(n)[::-1]
    names = tuple("".join(map(str, row)) for row in (permutations + 1).tolist())
    return np.searchsorted(codes, products).astype(np.int32), names


def _dihedral(n: int) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Rotations r^k, then reflections r^k s, where s r = r⁻¹ s."""
    flipped, turn = np.divmod(np.arange(2 * n), n)
    turns = (turn[:, None] + np.where(flipped, -1, 1)[:, None] * turn) % n
    table = turns + n * (flipped[:, None] ^ flipped)
    rotations = ["", "r", *(f"r{k}" for k in range(2, n))]
    return table.astype(np.int32), ("e", *rotations[1:], *(f"{r}s" for r in rotations))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group(PairTask):
    """The product of two elements of a finite group, or the conjugate of one by the other."""

    forms: ClassVar[str] = "sN, dN, zNxzM…, zN^k, or one of these with _conjugate behind"

    @classmethod
    def understands(cls, name: str) -> bool:
        """Whether this is a name of such a task."""
        return problem(name) is not None

    def validate(self) -> None:
        """The group must be small enough."""
        why = problem(self.name) or ""
        check(not why, "operations", self.name, why)
        super().validate()

    @property
    def n_elements(self) -> int:
        """The group's order."""
        return len(self.structure.elements)

    @property
    def truth(self) -> NDArray[np.int32]:
        """(n²,) products or conjugates."""
        return np.ravel(self.structure.asked)  # type: ignore[arg-type]

    @property
    def structure(self) -> Structure:
        """That of the group."""
        return find(self.name)


PARTS: dict[str, type[Part]] = {}
FAMILIES = (Group,)
