"""Other code, packages or precision than a work directory was made with: refused unless allowed."""

import pathlib
import shutil

import pytest

from grokjax import cli, sweep
from grokjax.store import record
from tests.programs import call
from tests.test_faults import GRID

pytestmark = pytest.mark.usefixtures("no_pages")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"sources": "0123abc"}, "code"),
        ({"packages": {"jax": "0.1", "jaxlib": "", "flax": "", "optax": "", "numpy": ""}}, "pack"),
    ],
)
def test_other_code_is_refused_unless_allowed(change, name, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "w"
    right = record.provenance
    arguments = [*GRID, "--steps=10", "--diagnostics=none", f"--workdir={workdir}"]
    with monkeypatch.context() as patch:
        patch.setattr(record, "provenance", lambda: right() | change)
        assert call(sweep.main, *arguments) == 0
    assert call(sweep.main, *arguments) == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert f"with {name}" in error
    full_name = {"code": "code", "pack": "packages"}[name]
    assert f"--allow={full_name}" in error
    assert call(sweep.main, *arguments, f"--allow={full_name}") == 0
    told = record.read_record(workdir)
    assert told["changes"][0][full_name][0] != told["changes"][0][full_name][1]
    assert call(sweep.main, *arguments) == 0


def test_code_is_its_sources_and_not_the_commit(tmp_path, monkeypatch):
    """The same files are the same code; further changes to a changed checkout are others."""
    workdir = tmp_path / "w"
    arguments = [*GRID, "--steps=10", "--diagnostics=none", f"--workdir={workdir}"]
    assert call(sweep.main, *arguments) == 0
    monkeypatch.setattr(record, "commit", lambda: "0123abc+changes")
    assert call(sweep.main, *arguments) == 0
    package = shutil.copytree(pathlib.Path(record.__file__).parents[1], tmp_path / "grokjax")
    monkeypatch.setattr(record, "__file__", str(package / "store" / "record.py"))
    assert call(sweep.main, *arguments) == 0
    with open(package / "models" / "products.py", "a", encoding="utf-8") as file:
        file.write("# another line\n")
    assert call(sweep.main, *arguments) == cli.EXIT_USAGE


def test_another_precision_is_refused_unless_allowed(tmp_path, capsys):
    workdir = tmp_path / "w"
    arguments = [*GRID, "--steps=10", "--diagnostics=none", f"--workdir={workdir}"]
    assert call(sweep.main, *arguments) == 0
    longer = [*arguments, "--steps=20", "--precision=bfloat16"]
    assert call(sweep.main, *longer, "--allow=steps") == cli.EXIT_USAGE
    assert "--precision=float32 where this one has bfloat16" in capsys.readouterr().err
    assert call(sweep.main, *longer, "--allow=steps,precision") == 0
    assert call(sweep.main, *longer, "--allow=colour") == cli.EXIT_USAGE
    assert "--allow=colour: of models" in capsys.readouterr().err
