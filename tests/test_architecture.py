"""The house as its source tells: who imports whom, who knows whose name, and how large it is."""

import ast
import pathlib
import subprocess
import sys
import tomllib

import pytest

from grokjax.settings import registry
from grokjax.settings.registry import KINDS
from tests import synthetic

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "grokjax"
COMMANDS = {"sweep", "analyze", "check", "merge", "report/__main__"}
# Every room imports from those before it alone.
ROOMS = ("statistics", "diagnostics", "clouds", "settings", "tasks", "models", "store", "training",
         "measuring", "running", "report")  # fmt: skip

LENSES = {"statistics", "diagnostics"}


def imports(tree):
    """Full names of everything a file imports: in functions too, and what it loads when used."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lazy":
            found.add(node.args[0].value)
    return found


FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path
         for path in sorted(PACKAGE.rglob("*.py"))}  # fmt: skip
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
IMPORTS = {name: imports(tree) for name, tree in TREES.items()}
DOTTED = {name: f"grokjax.{name.replace('/', '.')}".removesuffix(".__init__") for name in FILES}


def users(module):
    """Files that import a module or anything in it."""
    return {
        name
        for name, found in IMPORTS.items()
        if any(item == module or item.startswith(module + ".") for item in found)
    }


def room(name):
    return name.split("/")[0]


def rooms_of(found):
    """The rooms of our own that imports lead to."""
    return {item.split(".")[1] for item in found if item.startswith("grokjax.")}


def test_the_package_was_found():
    assert COMMANDS | {"cli", "clouds", "training/step", "models/network"} <= FILES.keys()
    assert "grokjax.models.network" in IMPORTS["models/architectures/mlp"]  # when first used


# --------------------------------------------------------------------------- arrows


@pytest.mark.parametrize("name", [name for name in FILES if name not in COMMANDS and "/" in name])
def test_rooms_import_from_those_below_alone(name):
    place = ROOMS.index(room(name))
    assert rooms_of(IMPORTS[name]) <= set(ROOMS[: place + 1])


def test_directly_in_the_house_are_the_commands_and_three_files():
    top = {name for name in FILES if "/" not in name}
    assert top == (COMMANDS - {"report/__main__"}) | {"__init__", "cli", "clouds"}
    assert {room(name) for name in FILES if "/" in name} == set(ROOMS) - {"clouds"}


@pytest.mark.parametrize("name", ["statistics", "diagnostics", "clouds"])
def test_lenses_stand_alone(name):
    for file, found in IMPORTS.items():
        if room(file) == name:
            assert rooms_of(found) <= {name}
            assert not {item.split(".")[0] for item in found} & {"flax", "orbax", "absl"}, file


def test_training_knows_no_lens_but_where_its_loss_has_one():
    for name in ("tasks", "models", "training"):
        files = {file for file in FILES if room(file) == name}
        used = files & (users("grokjax.diagnostics") | users("grokjax.statistics"))
        assert used <= {"training/topology"}, name


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_nothing_imports_a_command(command):
    assert users(DOTTED[command]) == set()


def test_commands_alone_know_how_commands_run():
    assert users("grokjax.cli") == COMMANDS


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("absl", COMMANDS | {"cli", "settings/flags"}),
        ("orbax", {"store/checkpoints"}),
        ("gph", {"diagnostics/persistence"}),
        ("redzed_tda", {"diagnostics/persistence"}),
        ("ripser", {"diagnostics/persistence", "diagnostics/coordinates"}),
        ("gudhi", {"diagnostics/_diagrams"}),
        ("sklearn", {"tasks/datasets"}),
    ],
)
def test_a_library_has_one_place(library, allowed):
    assert users(library) == allowed


@pytest.mark.parametrize(("library", "own"), [("flax", "models"), ("optax", "training")])
def test_a_library_has_one_room(library, own):
    assert {room(name) for name in users(library)} == {own}


def test_training_does_no_file_io():
    forbidden = {"pathlib", "io", "shutil", "tempfile", "pandas", "pyarrow", "json"}
    writing = {"training/trainer", "training/compilation"}
    for name in (name for name in FILES if room(name) == "training" and name not in writing):
        assert not {item.split(".")[0] for item in IMPORTS[name]} & forbidden, name
        assert "store" not in rooms_of(IMPORTS[name]), name
        names = {node.id for node in ast.walk(TREES[name]) if isinstance(node, ast.Name)}
        assert "open" not in names, name


# --------------------------------------------------------------------------- what is not needed


def loaded_by(code):
    """Which of the libraries of training a fresh process has loaded after running this."""
    heavy = ("jax", "flax", "optax", "orbax")
    code += f"\nimport sys; print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1]


NEED_JAX = ("store/checkpoints", "diagnostics/_twonn", "diagnostics/_on_device",
            "diagnostics/_derivatives")  # fmt: skip


def test_settings_tables_and_lenses_need_no_jax():
    light = ("settings", "tasks", "store", "statistics", "diagnostics", "clouds")
    names = [DOTTED[name] for name in FILES if room(name) in light and name not in NEED_JAX]
    assert len(names) > 30
    assert loaded_by(f"import {', '.join(names)}") == "[]"


def test_parts_are_found_and_directories_read_without_jax(tmp_path):
    assert loaded_by("from grokjax.settings import registry; list(registry.classes())") == "[]"
    synthetic.make(tmp_path / "w")
    read = f"import grokjax; sweep = grokjax.load({str(tmp_path / 'w')!r})\n"
    read += "sweep.runs, sweep.metrics, sweep.persistence, sweep.config.runs[0].task.structure"
    assert loaded_by(read) == "[]"
    assert loaded_by("import jax") == "['jax']"


# --------------------------------------------------------------------------- names of parts

PARTS = {
    name: next(file for file, dotted in DOTTED.items() if dotted == part.__module__)
    for kind in KINDS
    for name in registry.names(kind.column)
    if (part := registry.find(kind.column, name)).__module__.startswith("grokjax.")
}
# The same words for something else: an activation, what pandas takes of a group, an end of colours.
HOMONYMS = {
    ("models/architectures/shared", "quadratic"),
    ("models/layers", "quadratic"),
    ("report/panels", "max"),
    ("running/audit", "max"),
}


def own_files(part):
    """The module of a part, and those of its package that it alone imports."""
    package = part.rpartition("/")[0]
    helpers = {name for name in FILES if name.rpartition("/")[0] == package}
    return {part} | {name for name in helpers if users(DOTTED[name]) == {part}}


def constants(tree):
    """Every string of a file that is no docstring."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
    }


def test_no_module_but_a_parts_own_knows_its_name():
    known = {"transformer", "mlp", "add", "average", "mnist", "adamw", "muon", "cross_entropy"}
    assert known <= PARTS.keys()
    found = {
        (file, name)
        for file, tree in TREES.items()
        for name in constants(tree) & PARTS.keys()
        if file not in own_files(PARTS[name])
    }
    assert found == HOMONYMS


def test_nothing_imports_a_part():
    for part in set(PARTS.values()):
        assert {name.rpartition("/")[0] for name in users(DOTTED[part])} <= {
            part.rpartition("/")[0]
        }, part


# --------------------------------------------------------------------------- size


@pytest.mark.parametrize("folder", ["grokjax", "experiments", "tests"])
def test_files_and_functions_are_short(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 60, (path, node.name)


@pytest.mark.parametrize("name", FILES)
def test_dataclasses_are_frozen(name):
    for node in ast.walk(TREES[name]):
        for decorator in getattr(node, "decorator_list", ()):
            words = ast.unparse(decorator)
            assert "dataclass" not in words or "frozen=True" in words, node.name


def test_the_engine_can_be_read_in_an_afternoon():
    # Lenses and statistics come with questions; each is read by itself.
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert sum(n for name, n in lines.items() if room(name) not in LENSES) <= 13_060


def test_a_wheel_holds_every_file():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = patterns["tool"]["setuptools"]["package-data"]["grokjax"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    there = {path for path in PACKAGE.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert packed == {path for path in there if path.is_file()}


def test_the_long_tests_that_come_first_are_there():
    tree = ast.parse((ROOT / "tests" / "conftest.py").read_text())
    (names,) = (ast.literal_eval(node.value) for node in tree.body
                if isinstance(node, ast.Assign) and node.targets[0].id == "LONGEST")  # fmt: skip
    there = [path.stem for path in (ROOT / "tests").rglob("test_*.py")]
    assert [there.count(f"test_{name}") for name in names] == [1] * len(names)


def test_the_tests_that_mutants_are_tried_on_are_there():
    tree = ast.parse((ROOT / "experiments" / "mutation.py").read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ELSEWHERE"
    )
    paths = [path for own in eval(ast.unparse(value)).values() for path in own]
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []
