"""Finite groups by name, as Cayley tables, and the tasks of multiplying in them.

``sN`` is the symmetric group on N letters and ``dN`` the dihedral group of order 2N, N from 3;
``zN`` is the cyclic group of order N, ``zN^K`` its power, and factors stand side by side with an
``x`` between them: ``z2^3xz5``.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.fields import Part, check
from grokjax.tasks.task import PairTask, Structure

LARGEST = 2000  # elements; a task on a group has the square of this many inputs

_CONJUGATE = "_conjugate"
_NUMBER = "[1-9][0-9]{0,5}"
_CYCLE = rf"z{_NUMBER}(\^{_NUMBER})?"
_FORM = re.compile(rf"[sd]{_NUMBER}|{_CYCLE}(x{_CYCLE})*")


@dataclasses.dataclass(frozen=True, eq=False)
class FiniteGroup:
    """A finite group of m elements; element 0 is the identity."""

    name: str  # as :func:`find` takes it, or ``units(n)``
    table: NDArray[np.int32]  # (m, m), read-only: row i, column j holds the index of g_i · g_j
    # Permutations x ↦ g(x) in one-line notation (``21345``), rotations and reflections (``e``,
    # ``r2``, ``r2s``), residues (``4``, ``(1,0,4)``).
    element_names: tuple[str, ...]
    # Orders of the factors of a product of cyclic groups, of which the last runs fastest along the
    # elements; empty for other groups.
    cycles: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.table.setflags(write=False)


def problem(name: str) -> str:
    """Why a name of the right form cannot be used; empty if it can, or is of no such form."""
    parsed = _parse(name)
    if parsed is None:
        return ""
    family, sizes = parsed
    least = 2 if family == "z" else 3
    if min(sizes) < least:
        return f"{name} holds {family}{min(sizes)}; there is {family}N from N = {least}"
    order = {"s": math.factorial(min(sizes[0], 7)), "d": 2 * sizes[0], "z": math.prod(sizes)}
    if not 3 <= order[family] <= LARGEST:
        return f"{name} must have from 3 to {LARGEST} elements"
    return ""


@functools.lru_cache
def find(name: str) -> FiniteGroup | None:
    """The group of that name; None if the name is not of the form or has a :func:`problem`."""
    parsed = _parse(name)
    if parsed is None or problem(name):
        return None
    family, sizes = parsed
    if family == "z":
        return FiniteGroup(name, _cyclic(sizes), _residues(sizes), sizes)
    return FiniteGroup(name, *{"s": _symmetric, "d": _dihedral}[family](sizes[0]))


@functools.lru_cache
def units(n: int) -> tuple[NDArray[np.int64], FiniteGroup]:
    """The residues that have an inverse modulo n, read-only, and their group of multiplication.

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
        powers = (_powers(root, n) for root in found)
        found = next(sequence for sequence in powers if len(sequence) == n - 1)
    residues = np.array(found)
    residues.setflags(write=False)
    place = np.zeros(n, np.int32)
    place[residues] = np.arange(len(residues))
    table = place[residues[:, None] * residues % n]
    cycles = (n - 1,) if prime else ()
    return residues, FiniteGroup(f"units({n})", table, tuple(map(str, found)), cycles)


def _parse(name: str) -> tuple[str, tuple[int, ...]] | None:
    """Family and sizes of the factors; None if the name is not of the form."""
    if not _FORM.fullmatch(name):
        return None
    sizes: list[int] = []
    for factor in name.split("x"):
        n, _, power = factor[1:].partition("^")
        # No group that is made has as many factors as this.
        sizes += [int(n)] * min(int(power or 1), LARGEST.bit_length())
    return name[0], tuple(sizes)


def _powers(root: int, n: int) -> list[int]:
    """1, root, root², … modulo n, to the last before 1 comes again."""
    powers = [1]
    while (power := powers[-1] * root % n) != 1:
        powers.append(power)
    return powers


def _cyclic(sizes: Sequence[int]) -> NDArray[np.int32]:
    elements = np.arange(math.prod(sizes), dtype=np.int32)
    table = np.zeros((elements.size, elements.size), np.int32)
    for n, residue in zip(sizes, np.unravel_index(elements, sizes), strict=True):
        table = table * n + np.add.outer(residue, residue).astype(np.int32) % n
    return table


def _residues(sizes: Sequence[int]) -> tuple[str, ...]:
    if len(sizes) == 1:
        return tuple(map(str, range(sizes[0])))
    elements = itertools.product(*map(range, sizes))
    return tuple(f"({','.join(map(str, element))})" for element in elements)


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


@functools.lru_cache(maxsize=16)
def _structure(name: str) -> Structure:
    group = _group(name)
    elements = np.arange(len(group.table))
    asked = group.table
    if name.endswith(_CONJUGATE):
        inverse = np.argmin(group.table, axis=1)  # where the product is the identity, element 0
        asked = group.table[group.table, inverse[:, None]]
    return Structure(
        kind={0: "group", 1: "cyclic"}.get(len(group.cycles), "cycles"),
        elements=elements,
        second=elements,
        cycles=group.cycles,
        table=group.table,
        asked=asked,
        names=group.element_names,
    )


def _group(name: str) -> FiniteGroup:
    group = find(name.removesuffix(_CONJUGATE))
    assert group is not None  # names are checked when the task is made
    return group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group(PairTask):
    """The product of two elements of a finite group, or the conjugate of one by the other."""

    forms: ClassVar[str] = "sN, dN, zNxzM…, zN^k, or one of these with _conjugate behind"

    @classmethod
    def understands(cls, name: str) -> bool:
        """Whether this is a name of such a task."""
        base = name.removesuffix(_CONJUGATE)
        return bool(problem(base)) or find(base) is not None

    def validate(self) -> None:
        """The group must be small enough."""
        why = problem(self.name.removesuffix(_CONJUGATE))
        check(not why, "operations", self.name, why)
        super().validate()

    @property
    def n_elements(self) -> int:
        """The group's order."""
        return len(_group(self.name).table)

    @property
    def truth(self) -> NDArray[np.int32]:
        """(n²,) products or conjugates."""
        return np.ravel(self.structure.asked)  # type: ignore[arg-type]

    @property
    def structure(self) -> Structure:
        """That of the group."""
        return _structure(self.name)


PARTS: dict[str, type[Part]] = {}
FAMILIES = (Group,)
