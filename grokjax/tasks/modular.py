"""Operations on the residues modulo n, prime or composite."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.caching import bounded
from grokjax.settings.fields import Part, field
from grokjax.tasks.finite_groups import find, units
from grokjax.tasks.task import PairTask, Structure

LARGEST = 1999  # n² x n logits are evaluated; beyond this they do not fit anywhere


class Operation(NamedTuple):
    """What is asked of a pair of residues."""

    function: Callable[[Any, Any, int], Any]  # (a, b, n) → 0 … n − 1; a and b are integer arrays
    group: str = ""  # whose product it is: sums, or products of the units; empty if of none
    second: int = 1  # 1 or -1: whether b or its inverse makes it that product
    elements: bool = True  # whether residues are a cycle to it although it is no product


def _divide(a: Any, b: Any, n: int) -> Any:
    """A / b, where b has an inverse."""
    inverse = np.array([pow(x, -1, n) if math.gcd(x, n) == 1 else -1 for x in range(n)])
    return np.where(inverse[b] < 0, -1, a * inverse[b] % n)


OPERATIONS = {
    "add": Operation(lambda a, b, n: (a + b) % n, "sums"),
    "subtract": Operation(lambda a, b, n: (a - b) % n, "sums", -1),
    "multiply": Operation(lambda a, b, n: a * b % n, "units"),
    "divide": Operation(_divide, "units", -1),
    "square_sum": Operation(lambda a, b, n: (a * a + b * b) % n),
    "quadratic": Operation(lambda a, b, n: (a * a + a * b + b * b) % n),
    "quadratic_plus": Operation(lambda a, b, n: (a * a + a * b + b * b + a) % n),
    "cubic": Operation(lambda a, b, n: (a * a % n * a + a * b) % n),
    "cubic_plus": Operation(lambda a, b, n: (a * a % n * a + a * b % n * b + b) % n),
    "average": Operation(lambda a, b, n: (a + b) // 2, elements=False),
    "max": Operation(lambda a, b, n: np.maximum(a, b), elements=False),
}


@bounded(2**27)
def _truth(name: str, n: int) -> NDArray[np.int32]:
    a, b = np.divmod(np.arange(n * n, dtype=np.int64), n)
    labels = np.asarray(OPERATIONS[name].function(a, b, n)).astype(np.int32)
    labels.flags.writeable = False
    return labels


@bounded(2**28)
def _structure(name: str, n: int) -> Structure | None:
    operation = OPERATIONS[name]
    if not operation.group and not operation.elements:
        return None
    found = units(n) if operation.group == "units" else find(f"z{n}")
    if not operation.group:
        return dataclasses.replace(found, asked=None)
    if operation.second > 0:
        return found
    of_units = operation.group == "units"
    inverse = [pow(int(x), -1, n) if of_units else -int(x) % n for x in found.elements]
    return dataclasses.replace(found, second=np.array(inverse))


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
        is_prime = all(self.prime % d for d in range(2, math.isqrt(self.prime) + 1))
        return f"{'prime' if is_prime else 'modulus'} {self.prime}"


PARTS: dict[str, type[Part]] = dict.fromkeys(OPERATIONS, Modular)
DEFAULT = "add"
