"""A finished sweep, and a copy of it to be damaged."""

import shutil

import pytest

from grokjax import sweep
from tests.damaged.damage import GRID
from tests.programs import call


@pytest.fixture(scope="module")
def finished(tmp_path_factory, no_pages):
    """A finished sweep."""
    folder = tmp_path_factory.mktemp("finished") / "w"
    assert call(sweep.main, *GRID, f"--workdir={folder}") == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(finished, tmp_path / "w")
