"""A user's own parts and diagnostics: modules that a command names."""

import dataclasses
import hashlib
import importlib
import importlib.metadata
import pathlib
from collections.abc import Iterable, Mapping
from types import ModuleType

from grokjax import diagnostics
from grokjax.diagnostics import Options
from grokjax.settings import grid, registry
from grokjax.settings.config import TrainConfig
from grokjax.settings.fields import InvalidSettingError, Part, check, fields_of
from grokjax.settings.registry import KINDS

GROUP = "grokjax.plugins"  # of entry points, by whose names installed packages offer theirs

_COLUMNS = {"run_id", "n_train", "status", "memorisation_step", "generalisation_step"}

_loaded: dict[str, str] = {}  # name → hash of its source


def load(names: Iterable[str]) -> None:
    """Imports modules, or what entry points of ``GROUP`` name, and adds what they bring.

    That is parts (see ``registry``) or a diagnostic (see ``grokjax.diagnostics``), or both.

    Raises:
        InvalidSettingError: naming a plug-in that is missing, or brings nothing or a taken name.
    """
    offered = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    for name in names:
        if name in _loaded:
            continue
        try:
            module = offered[name].load() if name in offered else importlib.import_module(name)
        except Exception as error:
            raise InvalidSettingError("plugins", name, f"cannot be imported: {error!r}") from error
        parts = [*getattr(module, "PARTS", {}).values(), *getattr(module, "FAMILIES", ())]
        measures = hasattr(module, "TABLES") and hasattr(module, "measure")
        check(bool(parts) or measures, "plugins", name, "brings no part and is no diagnostic")
        _check_settings(name, parts)
        registry.add(module)
        if measures:
            try:
                diagnostics.add(module)
            except ValueError as error:
                raise InvalidSettingError("plugins", name, str(error)) from error
        _loaded[name] = _source_hash(module)


def _check_settings(name: str, parts: Iterable[type[Part]]) -> None:
    """Raises ``InvalidSettingError`` if a flag or column of a part's stands for something else."""
    columns = grid.columns()
    others = {kind.column for kind in KINDS} | {kind.flag for kind in KINDS} | _COLUMNS
    others |= {own.name for kind in (TrainConfig, Options) for own in dataclasses.fields(kind)}
    for part in parts:
        for own in fields_of(part).values():
            same = columns.get(own.name, own.kind) is own.kind and not {own.name, own.flag} & others
            message = f"its setting '{own.name}' is there already, as something else"
            check(same, "plugins", name, message)


def _source_hash(module: ModuleType) -> str:
    """SHA-256 of the module's file; of a package, of all its Python files."""
    path = pathlib.Path(str(module.__file__))
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def loaded() -> dict[str, str]:
    """Name → hash of the source of every plug-in that this process has loaded."""
    return dict(_loaded)


def problem(recorded: Mapping[str, str]) -> str:
    """What is wrong with the plug-ins of a directory: one not named, or changed; else empty."""
    for name, found in recorded.items():
        if name not in _loaded:
            return f"was made with the plug-in {name}, which has to be named: --plugins={name}"
        if _loaded[name] != found:
            return f"was made with another version of the plug-in {name}: its source has changed"
    return ""
