"""The import rules of the package, read off its source."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "grokjax"
ENTRY_POINTS = {"sweep", "analyze", "report", "check", "merge"}


def imports(path):
    """Full names of everything a file imports, in functions too."""
    package = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([package, base]).rstrip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path
         for path in sorted(PACKAGE.rglob("*.py"))}  # fmt: skip
IMPORTS = {name: imports(path) for name, path in FILES.items()}


def users(library):
    """Modules that import a library or anything in it."""
    return {
        name
        for name, found in IMPORTS.items()
        if any(item == library or item.startswith(library + ".") for item in found)
    }


def test_the_package_was_found():
    assert {"train", "models", "diagnostics/persistence", "sweep"} <= FILES.keys()


@pytest.mark.parametrize("library", ["flax"])
def test_only_models_imports_flax(library):
    assert users(library) == {"models"}


def test_only_checkpoints_imports_orbax():
    assert users("orbax") == {"checkpoints"}


@pytest.mark.parametrize("engine", ["gph", "redzed_tda", "ripser", "gudhi"])
def test_only_persistence_imports_an_engine(engine):
    assert users(engine) <= {"diagnostics/persistence"}


def test_diagnostics_and_statistics_stand_alone():
    for name, found in IMPORTS.items():
        package = name.split("/")[0]
        if package in ("diagnostics", "statistics"):
            ours = {item for item in found if item.startswith("grokjax")}
            assert all(item.startswith(f"grokjax.{package}") for item in ours), name
            assert not {item.split(".")[0] for item in found} & {"flax", "orbax", "absl"}, name


def test_only_entry_points_and_their_shared_flags_use_absl():
    assert users("absl") <= ENTRY_POINTS | {"cli"}


def test_nothing_imports_an_entry_point():
    for entry in ENTRY_POINTS & FILES.keys():
        assert users(f"grokjax.{entry}") == set(), entry
    assert users("grokjax.cli") <= ENTRY_POINTS


def test_training_does_no_file_io():
    forbidden = {"pathlib", "io", "shutil", "tempfile", "pandas", "pyarrow", "json"}
    assert not {item.split(".")[0] for item in IMPORTS["train"]} & forbidden
    called = {node.func.id for node in ast.walk(ast.parse(FILES["train"].read_text()))
              if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert "open" not in called


def test_training_knows_no_topology_and_data_flows_one_way():
    order = ["grid", "tasks", "models", "train", "checkpoints", "clouds", "analysis", "pipeline"]
    for i, name in enumerate(order):
        for later in order[i + 1 :]:
            assert name not in users(f"grokjax.{later}"), f"{name} imports {later}"
    assert not users("grokjax.diagnostics") & {"train", "models", "tasks", "grid", "checkpoints"}


def test_the_figure_in_the_readme_names_the_modules_that_data_passes():
    readme = (PACKAGE.parent / "README.md").read_text()
    figure = re.search(r"```\n(flags ─▶.*?)```", readme, re.DOTALL)
    named = set(re.findall(r"[a-z]+", figure[1])) - {"flags"}
    there = {name.split("/")[0] for name in FILES}
    assert named <= there
    assert {"grid", "tasks", "models", "train", "checkpoints", "clouds", "results"} <= named
