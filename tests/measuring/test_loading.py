"""Reading a work directory: what it imports, and what it says of what is not there."""

import re
import subprocess
import sys

import pytest

import grokjax
from grokjax.store.errors import WorkdirError
from tests import synthetic

# What takes seconds to import, or may not even be installed where tables are looked at.
HEAVY = ("jax", "jaxlib", "flax", "orbax", "optax", "absl", "sklearn", "matplotlib", "plotly")
READING = """
import grokjax
sweep = grokjax.load({folder!r})
assert len(sweep.runs) == 2 and len(sweep.metrics) == len(sweep.persistence) == 10
assert len(sweep.config.runs) == 2 and sweep.tables() == ("persistence",)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A work directory without checkpoints."""
    folder = tmp_path_factory.mktemp("made up") / "w"
    synthetic.make(folder, seed=[1], model=["transformer", "mlp"])
    return folder


def test_tables_and_settings_are_read_without_jax(folder):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", READING.format(folder=str(folder))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported = set(re.findall(r"^import time:.*\| *([\w.]+)$", done.stderr, re.MULTILINE))
    assert {"grokjax.measuring.loading", "grokjax.settings.grid", "pandas"} <= imported
    assert not {name for name in imported if name.split(".")[0] in HEAVY}


def test_what_is_not_there_is_said(folder, tmp_path):
    loaded = grokjax.load(folder)
    with pytest.raises(AttributeError, match=r"no table 'fourier'$"):
        _ = loaded.fourier
    with pytest.raises(AttributeError, match="no table 'lid'; tables are runs, metrics, "):
        _ = loaded.lid
    with pytest.raises(KeyError, match="no checkpoint of run"):
        loaded.checkpoint(loaded.runs["run_id"][0], 0)
    with pytest.raises(WorkdirError, match=r"holds no sweep: there is no sweep\.json"):
        grokjax.load(tmp_path)


def test_a_task_of_features_is_read_without_its_data(tmp_path):
    """What is asked of a directory of images is no reason to look for them."""
    axes = {"operation": ["mnist"], "model": ["mlp"], "batch_size": [200]}
    synthetic.make(tmp_path / "w", clouds=("hidden1",), diagnostics=(), **axes)
    loaded = grokjax.load(tmp_path / "w")
    assert set(loaded.runs["operation"]) == {"mnist"}
    assert loaded.runs["prime"].isna().all()
