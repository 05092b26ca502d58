"""Operations on the residues modulo n, prime or composite."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.fields import Part, field
from grokjax.tasks.finite_groups import units
from grokjax.tasks.task import PairTask, Structure

LARGEST = 1999  # n² x n logits are evaluated; beyond this they do not fit anywhere


class Operation(NamedTuple):
    """What is asked of a pair of residues.

    Attributes:
        function: of (a, b, n), integer arrays and a number, with values in 0 … n − 1.
        about: in a line.
        group: whose product it is: sums, or products of the units; empty if of none.
        second: which b makes it that product with the group's element: itself or its inverse.
        elements: whether residues are a cycle to it although it is no product.
    """

    function: Callable[[Any, Any, int], Any]
    about: str
    group: str = ""
    second: int = 1
    elements: bool = True


def _divide(a: Any, b: Any, n: int) -> Any:
    inverse = np.full(n, -1)
    for unit in range(n):
        if math.gcd(unit, n) == 1:
            inverse[unit] = pow(unit, -1, n)
    return np.where(inverse[b] < 0, -1, a * inverse[b] % n)


OPERATIONS = {
    "add": Operation(lambda a, b, n: (a + b) % n, "a + b modulo n", "sums"),
    "subtract": Operation(lambda a, b, n: (a - b) % n, "a - b modulo n", "sums", -1),
    "multiply": Operation(lambda a, b, n: a * b % n, "a · b modulo n", "units"),
    "divide": Operation(_divide, "a / b modulo n, where b has an inverse", "units", -1),
    "square_sum": Operation(lambda a, b, n: (a * a + b * b) % n, "a² + b² modulo n"),
    "quadratic": Operation(lambda a, b, n: (a * a + a * b + b * b) % n, "a² + ab + b² modulo n"),
    "quadratic_plus": Operation(
        lambda a, b, n: (a * a + a * b + b * b + a) % n, "a² + ab + b² + a modulo n"
    ),
    "cubic": Operation(lambda a, b, n: (a * a % n * a + a * b) % n, "a³ + ab modulo n"),
    "cubic_plus": Operation(
        lambda a, b, n: (a * a % n * a + a * b % n * b + b) % n, "a³ + ab² + b modulo n"
    ),
    "average": Operation(
        lambda a, b, n: (a + b) // 2, "⌊(a + b) / 2⌋, which no group stands behind", elements=False
    ),
    "max": Operation(lambda a, b, n: np.maximum(a, b), "the larger of a and b", elements=False),
}


@functools.lru_cache(maxsize=16)
def _truth(name: str, n: int) -> NDArray[np.int32]:
    a, b = np.divmod(np.arange(n * n, dtype=np.int64), n)
    labels = np.asarray(OPERATIONS[name].function(a, b, n)).astype(np.int32)
    labels.flags.writeable = False
    return labels


@functools.lru_cache(maxsize=16)
def _structure(name: str, n: int) -> Structure | None:
    operation = OPERATIONS[name]
    if operation.group == "units":
        residues, group = units(n)
        inverse = np.array([pow(int(unit), -1, n) for unit in residues])
        return Structure(
            kind="cyclic" if group.cycles else "group",
            elements=residues,
            second=residues if operation.second > 0 else inverse,
            cycles=group.cycles,
            table=group.table,
            asked=group.table,
            names=group.element_names,
        )
    if not operation.elements:
        return None
    residues = np.arange(n)
    table = np.add.outer(residues, residues).astype(np.int32) % n
    return Structure(
        kind="cyclic",
        elements=residues,
        second=operation.second * residues % n,
        cycles=(n,),
        table=table,
        asked=table if operation.group else None,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modulus(Part):
    """The setting of a task of residues."""

    prime: int = field(
        113,
        help="moduli n, prime or not",
        allowed=f"an integer from 3 to {LARGEST}",
        accepts=lambda v: 3 <= v <= LARGEST,
        grid=(113, 149, 197),
        traced=True,
        flag="primes",
        symbol="p",
        always=True,
        label="p = {}",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modular(PairTask, Modulus):
    """An operation on the residues modulo n."""

    @property
    def n_elements(self) -> int:
        """The residues."""
        return self.prime

    @property
    def n_examples(self) -> int:
        """Pairs for which the operation is defined."""
        return int((self.truth >= 0).sum())

    @property
    def truth(self) -> NDArray[np.int32]:
        """(n²,) values of the operation."""
        return _truth(self.name, self.prime)

    @property
    def structure(self) -> Structure | None:
        """A cycle of residues; of products and quotients the group of the units."""
        return _structure(self.name, self.prime)

    @property
    def in_words(self) -> str:
        """Whose pairs they are."""
        return f"prime {self.prime}" if _is_prime(self.prime) else f"modulus {self.prime}"

    @classmethod
    def about(cls, name: str) -> str:
        """The operation in a line."""
        return OPERATIONS[name].about


def _is_prime(n: int) -> bool:
    return all(n % d for d in range(2, math.isqrt(n) + 1))


PARTS: dict[str, type[Part]] = dict.fromkeys(OPERATIONS, Modular)
DEFAULT = "add"
