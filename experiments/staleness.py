"""Which code a module rests on: its own file and all of ours that it comes to import.

Read off the sources, so that nothing has to be listed by hand. An import counts wherever it
stands, in functions too; so does the name of a module of ours as a string, which is how modules
are named that are loaded later. A package that looks through its own folder (``__path__``) rests
on everything in it.
"""

import ast
import functools
import pathlib
import re

import grokjax
from experiments import sweeps

_MODULE = re.compile(r"(experiments|grokjax)(\.\w+)+")


def _roots() -> dict[str, pathlib.Path]:
    return {"experiments": sweeps.FOLDER, "grokjax": pathlib.Path(next(iter(grokjax.__path__)))}


def behind(module: str) -> list[pathlib.Path]:
    """Files that a module rests on, its own among them, in a fixed order.

    Raises:
        ValueError: if there is no such module here.
    """
    roots = _roots()
    if _file(module, roots) is None:
        raise ValueError(f"there is no module {module} in {' or '.join(roots)}")
    found: dict[str, pathlib.Path] = {}
    waiting = {module}
    while waiting:
        name = waiting.pop()
        path = _file(name, roots)
        if path is None or name in found:
            continue
        found[name] = path
        waiting |= _mentioned(path.read_text(encoding="utf-8"), name)
        # A module's packages are loaded before it.
        waiting |= {name.rpartition(".")[0]}
    return [found[name] for name in sorted(found)]


def _file(name: str, roots: dict[str, pathlib.Path]) -> pathlib.Path | None:
    """The file of a module or package of ours."""
    first, *rest = name.split(".")
    if first not in roots:
        return None
    path = roots[first].joinpath(*rest)
    for candidate in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _mentioned(source: str, module: str) -> set[str]:
    """Modules that a module of this source imports, names, or finds by looking through a folder."""
    imported, named, looks = _read(source)
    found = set(imported | named)
    # A package that is named as a string is looked through by whoever reads the name.
    for package in (*named, *([module] if looks else ())):
        path = _file(package, _roots())
        if path is not None and path.name == "__init__.py":
            found |= {f"{package}.{own.stem}" for own in path.parent.glob("*.py")}
    return found


@functools.cache
def _read(source: str) -> tuple[frozenset[str], frozenset[str], bool]:
    """Names that a source imports, strings that may be modules of ours, and uses of __path__."""
    imported, named, looks = set(), set(), False
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and _MODULE.fullmatch(str(node.value)):
            named.add(str(node.value))
        looks |= isinstance(node, ast.Name) and node.id == "__path__"
    return frozenset(imported), frozenset(named), looks
