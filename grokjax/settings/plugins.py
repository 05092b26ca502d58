"""A user's own parts and diagnostics: modules that a command names."""

import hashlib
import importlib
import importlib.metadata
import pathlib
from collections.abc import Iterable, Mapping
from types import ModuleType

from grokjax import diagnostics
from grokjax.settings import registry
from grokjax.settings.fields import InvalidSettingError

GROUP = "grokjax.plugins"  # of entry points, by whose names installed packages offer theirs

_loaded: dict[str, str] = {}  # name → hash of its source


def load(names: Iterable[str]) -> None:
    """Imports modules, or what entry points of ``GROUP`` name, and adds what they bring.

    That is parts (see ``registry``) or a diagnostic (see ``grokjax.diagnostics``), or both.

    Raises:
        InvalidSettingError: naming the plug-in that is not there, brings nothing, or brings a name
            that is taken.
    """
    offered = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    for name in names:
        if name in _loaded:
            continue
        try:
            module = offered[name].load() if name in offered else importlib.import_module(name)
        except Exception as error:
            raise InvalidSettingError("plugins", name, f"cannot be imported: {error!r}") from error
        found = registry.add(module)
        if hasattr(module, "TABLES") and hasattr(module, "measure"):
            try:
                found.append(diagnostics.add(module))
            except ValueError as error:
                raise InvalidSettingError("plugins", name, str(error)) from error
        if not found and not getattr(module, "FAMILIES", ()):
            raise InvalidSettingError("plugins", name, "brings no part and is no diagnostic")
        _loaded[name] = _source_hash(module)


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
