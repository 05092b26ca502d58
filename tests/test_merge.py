"""Shards swept apart and joined: the tables of an unsharded sweep, whatever the order."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import grokjax
from grokjax import analyze, cli, merge, sweep
from grokjax.report import __main__ as report
from grokjax.report import page
from grokjax.report.page import payload
from grokjax.settings.config import SweepConfig
from tests.programs import assert_same_tables, call, tables

pytestmark = pytest.mark.usefixtures("no_pages")

FLAGS = """
--models=mlp --d_model=16 --mlp_width=16 --mlp_depth=1 --batch_size=32 --primes=11
--train_fractions=0.5 --seeds=0:6 --runs_per_batch=2 --steps=20 --checkpoint_every=10
--diagnostics=persistence
"""
GRID = FLAGS.split()
N_SHARDS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unsharded sweep."""
    workdir = tmp_path_factory.mktemp("whole") / "w"
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    return workdir


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """All shards, in one shared work directory."""
    workdir = tmp_path_factory.mktemp("shared") / "w"
    for i in range(N_SHARDS):
        assert call(sweep.main, *GRID, f"--workdir={workdir}", f"--shard={i}/{N_SHARDS}") == 0
    return workdir


@pytest.fixture
def merged(shared, tmp_path):
    """The shared work directory, merged in place."""
    workdir = tmp_path / "w"
    shutil.copytree(shared, workdir)
    assert call(merge.main, f"--workdir={workdir}") == 0
    return workdir


def shards_of(workdir):
    return sorted(workdir.glob("shard-*"))


def test_merged_shards_give_the_tables_of_an_unsharded_sweep(merged, whole):
    # Batches are of one shape here, so even the bits are the same.
    assert set(tables(whole)) == {"runs", "metrics", "persistence"}
    assert_same_tables(tables(merged), tables(whole))


def test_the_merged_directory_is_a_sweep_like_any_other(merged, whole, capsys):
    record = json.loads((merged / "sweep.json").read_text())
    assert record["merged"] == ["0/3", "1/3", "2/3"]
    assert [start["shard"] for start in record["starts"]] == ["0/3", "1/3", "2/3"]
    loaded, other = grokjax.load(merged), grokjax.load(whole)
    for run_id in loaded.runs["run_id"]:
        ours, theirs = (w.checkpoint(run_id, 20)["embed"]["embedding"] for w in (loaded, other))
        np.testing.assert_array_equal(ours, theirs)
    before = tables(merged)
    arguments = [f"--workdir={merged}"]
    assert call(analyze.main, *arguments) == 0
    assert "18 of 18 run checkpoints are there and measured" in capsys.readouterr().out
    assert call(sweep.main, *GRID, *arguments) == 0  # nothing is left to train
    assert_same_tables(tables(merged), before)
    assert call(report.main, *arguments) == 0
    assert len(page.render(payload.build(loaded))) > 1000


def test_the_shard_is_told_and_recorded(shared, tmp_path, capsys):
    again = shutil.copytree(shared, tmp_path / "w")
    assert call(sweep.main, *GRID, f"--workdir={again}", f"--shard=1/{N_SHARDS}") == 0
    assert f"shard 1/{N_SHARDS} (from --shard)" in capsys.readouterr().out
    for i, folder in enumerate(shards_of(shared)):
        record = json.loads((folder / "sweep.json").read_text())
        assert record["config"]["shard"] == record["flags"]["shard"] == f"{i}/{N_SHARDS}"
        assert len(grokjax.load(folder).runs) == 2


def test_merging_again_changes_nothing(merged):
    before, record = tables(merged), json.loads((merged / "sweep.json").read_text())
    assert call(merge.main, f"--workdir={merged}") == 0
    assert_same_tables(tables(merged), before)
    assert json.loads((merged / "sweep.json").read_text()) == record


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(N_SHARDS)), first=st.integers(1, N_SHARDS))
def test_any_order_and_any_stages_give_the_same_tables(merged, tmp_path_factory, order, first):
    folders = shards_of(merged)
    workdir = tmp_path_factory.mktemp("order") / "w"
    named = [str(folders[i]) for i in order]
    parts = [part for part in (named[:first], named[first:]) if part]
    codes = [
        call(merge.main, f"--workdir={workdir}", "--sources=" + ",".join(part)) for part in parts
    ]
    assert codes == ([1, 0] if first < N_SHARDS else [0])
    assert_same_tables(tables(workdir), tables(merged))


def test_what_is_missing_is_said_and_a_sweep_trains_it(shared, whole, tmp_path, capsys):
    workdir = tmp_path / "w"
    shutil.copytree(shared, workdir)
    shutil.rmtree(shards_of(workdir)[1])
    assert call(merge.main, f"--workdir={workdir}") == cli.EXIT_FAILED
    out, err = capsys.readouterr()
    assert "4 of 6 runs from 2 sources" in out
    assert "missing: 2 runs (shards 1/3): mlp-add-p11" in err
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    assert_same_tables(tables(workdir), tables(whole))


# --------------------------------------------------------------------------- refusals


def change_metrics(folder):
    path = folder / "results" / "metrics.parquet"
    frame = pd.read_parquet(path)
    frame.loc[3, "test_loss"] += 1e-6
    frame.to_parquet(path)
    return frame["run_id"][3]


def change_record(folder, change):
    record = json.loads((folder / "sweep.json").read_text())
    change(record)
    (folder / "sweep.json").write_text(json.dumps(record))


def ask_for_other_seeds(record):
    record["config"]["axes"]["run"]["run"]["seed"] = [0, 1, 2]
    plan_anew(record)


def split_otherwise(record):
    record["config"]["shard"] = "0/2"
    plan_anew(record)


def plan_anew(record):
    record["config"]["members"] = None
    runs = SweepConfig.from_json(record["config"]).runs
    record["batches"] = [[run.run_id for run in runs]]


def test_duplicates_that_differ_are_refused_and_nothing_changes(merged, tmp_path, capsys):
    other = tmp_path / "again"
    shutil.copytree(shards_of(merged)[0], other)
    assert call(merge.main, f"--workdir={merged}", f"--sources={other}") == 0  # equal: fine
    run_id = change_metrics(other)
    before = sorted((p, p.stat().st_mtime_ns) for p in merged.rglob("*") if p.is_file())
    assert call(merge.main, f"--workdir={merged}", f"--sources={other}") == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert f"both hold table metrics of run {run_id} at step 0" in error
    after = sorted((p, p.stat().st_mtime_ns) for p in merged.rglob("*") if p.is_file())
    assert [f for f in after if ".lock" not in f[0].name] == [
        f for f in before if ".lock" not in f[0].name
    ]


def other_checksums(folder):
    """As if the batch's last parameters had come out otherwise."""
    (meta,) = folder.glob("checkpoints/*/params/20/meta/metadata")
    content = json.loads(meta.read_text())
    content["checksums"] = dict.fromkeys(content["checksums"], "0")
    meta.unlink()  # it may be linked to the source's
    meta.write_text(json.dumps(content))


def test_sources_that_hold_the_same_batch_are_joined_or_refused(shared, merged, tmp_path, capsys):
    other = shutil.copytree(shards_of(shared)[0], tmp_path / "again")
    named = f"--sources={','.join(map(str, [*shards_of(shared), other]))}"
    assert call(merge.main, f"--workdir={tmp_path / 'w'}", named) == 0
    assert_same_tables(tables(tmp_path / "w"), tables(merged))
    other_checksums(other)
    assert call(merge.main, f"--workdir={tmp_path / 'v'}", named) == cli.EXIT_USAGE
    words = f"again holds another checkpoint of run .* at step 20 than {shards_of(shared)[0]}; keep"
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "v" / "sweep.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["config"]["train"].update(steps=40), "--steps=40: they are not parts of one"),
        (ask_for_other_seeds, "--seeds=0,1,2: they are not"),
        (split_otherwise, "shards of different splits"),
        (lambda r: r["starts"][0].update(sources="abc"), "by abc); --mixed_code joins them"),
    ],
)
def test_sources_that_do_not_fit_are_refused(change, words, shared, tmp_path, capsys):
    folders = [tmp_path / name for name in "abc"]
    for origin, folder in zip(shards_of(shared), folders, strict=True):
        shutil.copytree(origin, folder)
    change_record(folders[1], change)
    named = ",".join(map(str, folders))
    workdir = tmp_path / "w"
    assert call(merge.main, f"--workdir={workdir}", f"--sources={named}") == cli.EXIT_USAGE
    assert words in capsys.readouterr().err
    assert not (workdir / "sweep.json").exists()
    if "mixed_code" in words:
        assert call(merge.main, f"--workdir={workdir}", f"--sources={named}", "--mixed_code") == 0


def test_tables_of_other_settings_are_refused(shared, tmp_path, capsys):
    workdir = tmp_path / "w"
    shutil.copytree(shared, workdir)
    other = shards_of(workdir)[0]
    assert call(analyze.main, f"--workdir={other}", "--cloud_normalisation=none") == 0
    assert call(merge.main, f"--workdir={workdir}") == cli.EXIT_USAGE
    assert "table persistence was measured with different settings" in capsys.readouterr().err


def test_bad_targets_and_sources_are_refused(shared, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    for arguments, words in [
        ([f"--workdir={tmp_path / 'w'}"], "there is no shard-"),
        ([f"--workdir={tmp_path}", f"--sources={shards_of(shared)[0]}"], "holds no sweep but"),
        ([f"--workdir={tmp_path / 'w'}", f"--sources={tmp_path}"], "holds no sweep"),
        ([f"--workdir={shards_of(shared)[0]}", f"--sources={shards_of(shared)[1]}"], "itself"),
        ([], "--workdir"),
    ]:
        assert call(merge.main, *arguments) == cli.EXIT_USAGE
        assert words in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
