"""A wheel of the package works where there is no checkout."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")
GRID = """
--models=mlp --d_model=8 --mlp_width=8 --mlp_depth=1 --primes=11 --train_fractions=0.5 --seeds=0:2
--batch_size=16 --steps=20 --checkpoint_every=10 --diagnostics=persistence,fourier --clouds=all
""".split()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder outside the checkout, and a function that runs Python there with the wheel alone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, for a build leaves files behind
    shutil.copytree(ROOT / "grokjax", source / "grokjax")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder]
    subprocess.run([*command, source], check=True, capture_output=True)
    (wheel,) = folder.glob("grokjax-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    (folder / "work").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(folder / "site")}

    def run(*arguments):
        command = [sys.executable, "-P", *arguments]
        return subprocess.run(
            command, cwd=folder / "work", env=environment, capture_output=True, text=True
        )

    return folder, run


def test_the_wheel_is_what_is_imported(elsewhere):
    folder, run = elsewhere
    code = "import grokjax, importlib.metadata as m; print(grokjax.__file__, m.version('grokjax'))"
    where, version = run("-c", code).stdout.split()
    assert pathlib.Path(where).is_relative_to(folder / "site")
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()


def test_it_trains_measures_reports_and_checks(elsewhere):
    folder, run = elsewhere
    swept = run("-m", "grokjax.sweep", *GRID, "--workdir=w")
    assert swept.returncode == 0, swept.stderr
    page = (folder / "work/w/report/index.html").read_text()
    assert "<style>" in page
    assert "<script" in page
    assert run("-m", "grokjax.check", "--workdir=w").returncode == 0
    code = "import grokjax; print(len(grokjax.load('w').persistence))"
    assert run("-c", code).stdout.split() == [str(2 * 3 * 2)]
