"""Parts found by name: modules of four packages, and what plug-ins bring.

A module with parts has ``PARTS``, name → class; the class says of which kind it is (its
``column``). ``DEFAULT`` names the one that a sweep takes which names none. A class whose names are
a family without end, as the dihedral groups, has ``understands(name)`` and stands in ``FAMILIES``.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from grokjax.settings.fields import RUN, Field, InvalidSettingError, Part, RunSettings, fields_of


class Kind(NamedTuple):
    """A kind of part."""

    column: str  # of runs.parquet, in which a run's part of the kind stands
    flag: str  # that names parts of it
    package: str  # whose modules hold them
    noun: str  # what one is called
    group: str  # of the flags of its settings in ``--help``


# In the order in which a grid is listed.
KINDS = (
    Kind("model", "models", "grokjax.models.architectures", "architecture", "network"),
    Kind("operation", "operations", "grokjax.tasks", "task", "grid"),
    Kind("optimizer", "optimizers", "grokjax.training.optimizers", "optimiser", "training"),
    Kind("loss", "losses", "grokjax.training.losses", "loss", "training"),
)


class _Found(NamedTuple):
    """What modules offer, by column."""

    parts: dict[str, dict[str, type[Part]]]  # that of the default first
    families: dict[str, list[Any]]


@functools.cache
def _load() -> _Found:
    found = _Found({kind.column: {} for kind in KINDS}, {kind.column: [] for kind in KINDS})
    for kind in KINDS:
        package = importlib.import_module(kind.package)
        modules = [
            importlib.import_module(f"{kind.package}.{module.name}")
            for module in pkgutil.iter_modules(package.__path__)
        ]
        for module in modules:
            _add(found, module)
        # Of ours alone: a plug-in changes no run's id.
        first = next(module.DEFAULT for module in modules if hasattr(module, "DEFAULT"))
        own = found.parts[kind.column]
        found.parts[kind.column] = {first: own[first], **own}
    return found


def add(module: ModuleType) -> None:
    """Adds the parts of a module.

    Raises:
        InvalidSettingError: if another module has a part of that kind and name.
    """
    _add(_load(), module)


def _add(found: _Found, module: ModuleType) -> None:
    for name, part in getattr(module, "PARTS", {}).items():
        there = found.parts[part.column].setdefault(name, part)
        if there is not part:
            message = f"its {part.column} '{name}' is there already, in {there.__module__}"
            raise InvalidSettingError("plugins", module.__name__, message)
    for part in getattr(module, "FAMILIES", ()):
        if part not in found.families[part.column]:
            found.families[part.column].append(part)


def names(column: str) -> tuple[str, ...]:
    """Names of the parts of a kind, that of the default first; families are not among them."""
    return tuple(_load().parts[column])


def known(column: str) -> str:
    """Those names, and how names of the families of the kind are formed."""
    return ", ".join([*names(column), *(family.forms for family in _load().families[column])])


def default(column: str) -> str:
    """The part of a kind that a sweep takes which names none."""
    return names(column)[0]


def find(column: str, name: str) -> type[Any]:
    """The class of the part of that kind and name; of ``RUN``, what every run has.

    Raises:
        InvalidSettingError: naming those there are.
    """
    if column == RUN:
        return RunSettings
    found = _load()
    if name in found.parts[column]:
        return found.parts[column][name]
    for family in found.families[column]:
        if family.understands(name):
            return family
    flag = next(kind.flag for kind in KINDS if kind.column == column)
    raise InvalidSettingError(flag, name, f"each must be one of {known(column)}")


def classes() -> Iterator[type[Part]]:
    """Every class of parts there is, once, in the order of the kinds, defaults first.

    What every run has comes last.
    """
    found = _load()
    for kind in KINDS:
        own = (*found.parts[kind.column].values(), *found.families[kind.column])
        yield from dict.fromkeys(own)
    yield RunSettings


def fields() -> dict[str, Field]:
    """Name → setting of all parts there are.

    Where parts share a name, the first's: flags, columns and labels are the same in all.
    """
    found: dict[str, Field] = {}
    for part in classes():
        for name, own in fields_of(part).items():
            found.setdefault(name, own)
    return found
