"""Tables: parts, compacting, atomic writes, settings."""

import itertools
import os
import socket
import subprocess

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokjax.diagnostics import Table
from grokjax.store import files, results
from grokjax.store.results import DamagedTableError, Results

TABLE = Table(columns={"cloud": "str", "value": "float64"}, unit=("run_id", "step", "cloud"))
RUNS = ["b", "a", "c"]


def rows(run_ids, steps, clouds=("x",), value=1.0):
    return [
        {"run_id": run_id, "step": step, "cloud": cloud, "value": value}
        for run_id, step, cloud in itertools.product(run_ids, steps, clouds)
    ]


def test_rows_come_back_once_in_the_grids_order(tmp_path):
    tables = Results(tmp_path, RUNS)
    tables.append("t", TABLE, rows(["a", "b"], [100]))
    tables.append("t", TABLE, rows(["c", "b"], [0], ("y", "x")))
    tables.compact("t", TABLE)
    tables.append("t", TABLE, rows(["a"], [0]))
    frame = tables.read("t", TABLE)
    assert frame[["run_id", "step", "cloud"]].values.tolist() == [
        ["b", 0, "x"], ["b", 0, "y"], ["b", 100, "x"],
        ["a", 0, "x"], ["a", 100, "x"],
        ["c", 0, "x"], ["c", 0, "y"],
    ]  # fmt: skip
    tables.compact("t", TABLE)
    pd.testing.assert_frame_equal(pd.read_parquet(tables.path("t")), frame)


def test_a_part_that_outlived_its_compacting_counts_once(tmp_path):
    tables = Results(tmp_path, RUNS)
    tables.append("t", TABLE, rows(["a"], [0]))
    (part,) = tables._parts("t")
    content = part.read_bytes()
    tables.compact("t", TABLE)
    assert tables._parts("t") == []
    part.write_bytes(content)  # as if the process had been killed before removing it
    assert len(tables.read("t", TABLE)) == 1
    tables.compact("t", TABLE)
    assert len(pd.read_parquet(tables.path("t"))) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(RUNS), st.integers(0, 3)), max_size=12), st.data())
def test_any_order_of_appending_and_compacting_gives_the_same_table(tmp_path_factory, units, data):
    folder = tmp_path_factory.mktemp("w")
    tables = Results(folder, RUNS)
    for run_id, step in units:
        tables.append("t", TABLE, rows([run_id], [step], ("x", "y"), step * 0.5))
        if data.draw(st.booleans()):
            tables.compact("t", TABLE)
    expected = sorted(set(units), key=lambda unit: (RUNS.index(unit[0]), unit[1]))
    found = tables.read("t", TABLE)
    assert found[["run_id", "step"]].values.tolist() == [list(u) for u in expected for _ in "xy"]


def test_an_empty_table_has_its_columns(tmp_path):
    tables = Results(tmp_path, RUNS)
    tables.compact("t", TABLE, {"k": 1})
    frame = pd.read_parquet(tables.path("t"))
    assert list(frame.columns) == ["run_id", "step", "cloud", "value"]
    assert len(frame) == 0
    assert tables.settings("t") == {"k": 1}


def test_compacting_without_news_leaves_the_file_alone(tmp_path):
    tables = Results(tmp_path, RUNS)
    tables.append("t", TABLE, rows(["a"], [0]))
    tables.compact("t", TABLE)
    before = tables.path("t").stat()
    tables.compact("t", TABLE)
    assert tables.path("t").stat().st_mtime_ns == before.st_mtime_ns


def test_a_table_set_aside_is_kept_with_all_its_rows(tmp_path):
    tables = Results(tmp_path, RUNS)
    tables.append("t", TABLE, rows(["a"], [0]))
    tables.compact("t", TABLE)
    tables.append("t", TABLE, rows(["b"], [0]))
    kept = tables.set_aside("t", TABLE)
    assert len(pd.read_parquet(kept)) == 2
    assert not tables.path("t").exists()
    assert len(tables.read("t", TABLE)) == 0
    assert tables.set_aside("t", TABLE) is None


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "x.json"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_part_that_is_compacted_while_it_is_read_is_not_missed(tmp_path, monkeypatch):
    """Its rows go into the table after that was read, and before the part is."""
    written = Results(tmp_path, ["a", "b"])
    written.append("t", TABLE, rows(["a"], [0]))
    written.compact("t", TABLE)
    written.append("t", TABLE, rows(["b"], [0]))
    read, opened = results.read_parquet, []

    def compacted_beside(path):
        frame = read(path)
        opened.append(path)
        if len(opened) == 1:
            Results(tmp_path, ["a", "b"]).compact("t", TABLE)
        return frame

    monkeypatch.setattr(results, "read_parquet", compacted_beside)
    assert list(written.read("t", TABLE)["run_id"]) == ["a", "b"]


def test_a_part_that_goes_as_it_is_looked_at_is_no_damage(tmp_path, monkeypatch):
    """Another thread compacts between any two looks at the file."""
    written = Results(tmp_path, ["a", "b"])
    written.append("t", TABLE, rows(["a"], [0]))
    written.compact("t", TABLE)
    written.append("t", TABLE, rows(["b"], [0]))
    (part,) = written._parts("t")
    look = os.stat

    def compacted_behind(path, *args, **named):
        found = look(path, *args, **named)
        if str(path) == str(part):
            monkeypatch.setattr(os, "stat", look)
            Results(tmp_path, ["a", "b"]).compact("t", TABLE)
        return found

    monkeypatch.setattr(os, "stat", compacted_behind)
    assert list(written.read("t", TABLE)["run_id"]) == ["a", "b"]
    assert os.stat is look and not part.exists()


def test_cleaning_spares_what_is_being_written(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    here = socket.gethostname()
    dead = subprocess.Popen(["true"])
    dead.wait()
    living = folder / f".t.parquet.{os.getpid()}-1@{here}.tmp"
    left = folder / f".t.parquet.{dead.pid}-1@{here}.tmp"
    elsewhere, long_ago = folder / ".t.parquet.7-1@other.tmp", folder / ".t.parquet.8-1@other.tmp"
    for path in (living, left, elsewhere, long_ago):
        path.touch()
    os.utime(long_ago, (0, 0))
    Results(tmp_path, ["a"]).clean()
    assert set(folder.iterdir()) == {living, elsewhere}


@pytest.mark.parametrize("n_bytes", [0, 3, 100, -10, -1])
def test_a_truncated_table_is_named(tmp_path, n_bytes):
    tables = Results(tmp_path, RUNS)
    tables.append("t", TABLE, rows(["a"], [0]))
    tables.compact("t", TABLE)
    path = tables.path("t")
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(DamagedTableError, match=r"t\.parquet cannot be read"):
        tables.read("t", TABLE)


def test_a_row_with_other_columns_is_refused(tmp_path):
    tables = Results(tmp_path, RUNS)
    with pytest.raises(ValueError, match="columns"):
        tables.append("t", TABLE, [{"run_id": "a", "step": 0, "cloud": "x"}])
