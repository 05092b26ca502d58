"""Reading a work directory: what it imports, and what it says of what is not there."""

import re
import subprocess
import sys

import pandas as pd
import pytest

import grokjax
from grokjax.diagnostics import persistence
from grokjax.report.page import payload
from grokjax.store.errors import WorkdirError
from grokjax.store.results import Results
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


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Three primes, two seeds, two label permutations; without checkpoints."""
    folder = tmp_path_factory.mktemp("made up") / "w"
    axes = {"prime": [11, 13, 17], "seed": [1, 2], "label_permutation": [0.0, 1.0]}
    synthetic.make(folder, **axes)
    return folder


@pytest.mark.parametrize(
    ("wanted", "query"),
    [
        ({"prime": 13}, "prime == 13"),
        ({"prime": [11, 17], "seed": 2}, "prime != 13 and seed == 2"),
        ({"prime": range(12, 18)}, "prime > 11"),
        ({"prime": lambda p: p > 11, "seed": 1}, "prime > 11 and seed == 1"),
        ({"label_permutation": 0}, "label_permutation == 0"),
        ({"generalisation_step": None}, "label_permutation == 1"),
        ({"generalisation_step": lambda step: step > 0}, "label_permutation == 0"),
        ({"model": "transformer"}, "seed > 0"),
        ({"model": "mlp"}, "seed < 0"),
    ],
)  # fmt: skip
def test_where_gives_the_part_of_a_sweep_with_those_settings(wanted, query, grid):
    sweep = grokjax.load(grid)
    part = sweep.where(**wanted)
    runs = sweep.runs.query(query)
    pd.testing.assert_frame_equal(part.runs, runs.reset_index(drop=True))
    assert [run.run_id for run in part.config.runs] == list(runs["run_id"])
    for name in ("metrics", "persistence"):
        whole = getattr(sweep, name)
        own = whole[whole["run_id"].isin(runs["run_id"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(part, name), own)
    assert len(sweep.runs) == 12  # which is as it was


def test_a_part_of_a_part_and_a_column_that_is_none(grid):
    sweep = grokjax.load(grid)
    assert set(sweep.where(prime=[11, 13]).where(prime=[13, 17]).runs["prime"]) == {13}
    with pytest.raises(KeyError, match="no column 'p'; they have run_id, model, operation, "):
        sweep.where(p=13)


def test_tables_come_with_what_their_runs_are(grid):
    sweep = grokjax.load(grid)
    for name in ("metrics", "persistence"):
        table, both = getattr(sweep, name), sweep.with_runs(name)
        pd.testing.assert_frame_equal(both[list(table)], table)
        assert [*both] == [*table, *[column for column in sweep.runs if column != "run_id"]]
        for row in both.iloc[::17].to_dict("records"):
            assert f"-p{row['prime']}-" in row["run_id"]
            assert row["run_id"].split("-s")[1].startswith(str(row["seed"]))
    assert len(sweep.where(seed=1).with_runs("metrics")) == len(sweep.metrics) / 2


def test_a_sweep_says_what_is_there(grid):
    text = repr(grokjax.load(grid))
    lines = dict(re.findall(r"^  (\S+) +(.+)$", text, re.MULTILINE))
    assert text.startswith(f"Sweep {grid}\n")
    assert lines["runs"] == "12 (12 done); 6 generalised"
    assert (lines["prime"], lines["seed"]) == ("11, 13, 17", "1, 2")
    assert lines["steps"] == "400, 5 checkpoints, every 100 steps"
    assert lines[".metrics"] == "60 rows"
    assert lines[".persistence"].startswith("60 rows; clouds=embedding, cloud_points=256, ")
    assert lines["missing"] == "checkpoints, and so .checkpoint, .cloud and .diagram"
    part = repr(grokjax.load(grid).where(prime=11, seed=1))
    assert "2 of 12 (2 done); 1 generalised" in part and "persistence       10 rows" in part
    assert "0 of 12" in repr(grokjax.load(grid).where(prime=12))


def test_a_sweep_says_what_is_missing(tmp_path):
    config = synthetic.make(tmp_path / "w", reached=200, seed=[1])
    table = persistence.TABLES["persistence"]
    results = Results(tmp_path / "w", [run.run_id for run in config.runs])
    rows = results.read("persistence", table).query("step < 200")
    results.path("persistence").unlink()
    results.append("persistence", table, rows.to_dict("records"))
    results.compact("persistence", table, {"cloud_normalisation": "<none>"})
    text = repr(grokjax.load(tmp_path / "w"))
    missing = (
        "1 running; metrics of 2 of 5 run checkpoints; persistence of 3 of 5 run checkpoints; "
    )
    assert missing in text
    shown = grokjax.load(tmp_path / "w")._repr_html_()
    assert "cloud_normalisation=&lt;none&gt;" in shown and shown.count("<tr>") == text.count("\n")


def test_options_are_those_of_the_tables(tmp_path):
    """Which ``analyze`` may have written under others than the sweep's."""
    synthetic.make(tmp_path / "w", seed=[1])
    sweep = grokjax.load(tmp_path / "w")
    assert sweep.options() == sweep.options("dimension") == sweep.config.options
    settings = sweep.results.settings("persistence") | {"clouds": ["all"], "cloud_points": 9}
    table, rows = persistence.TABLES["persistence"], sweep.persistence.to_dict("records")
    sweep.results.path("persistence").unlink()
    sweep.results.append("persistence", table, rows)
    sweep.results.compact("persistence", table, settings)
    assert (sweep.options().clouds, sweep.options().cloud_points) == (("all",), 9)
    assert sweep.options("dimension") == sweep.config.options  # a table that is not there
    told = payload.provenance(sweep)
    assert (told["options"]["clouds"], told["options"]["cloud_points"]) == (("all",), 9)
    assert "--clouds=all" in told["command"] and "--cloud_points=9" in told["command"]
