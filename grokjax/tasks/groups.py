"""Products a·b in finite groups, and conjugates a·b·a⁻¹."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.fields import Part, check
from grokjax.tasks import finite_groups
from grokjax.tasks.finite_groups import FiniteGroup
from grokjax.tasks.task import PairTask, Structure

_CONJUGATE = "_conjugate"


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
    group = finite_groups.find(name.removesuffix(_CONJUGATE))
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
        return bool(finite_groups.problem(base)) or finite_groups.find(base) is not None

    def validate(self) -> None:
        """The group must be small enough."""
        problem = finite_groups.problem(self.name.removesuffix(_CONJUGATE))
        check(not problem, "operations", self.name, problem)
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
