"""Whole programs on a small grid: sweep, stop and resume, analyze, bad input."""

import json
import shutil
import time
import types

import numpy as np
import pandas as pd
import pytest

import grokjax
from grokjax import analyze, cli, sweep
from grokjax.measuring import analyst
from grokjax.report import drawing
from grokjax.store.checkpoints import Reader
from grokjax.store.locks import ANALYSIS_LOCK, owning
from grokjax.training import stopping, trainer
from tests.programs import assert_same_tables, call, ended, started, tables

FLAGS = """
--d_model=16 --n_heads=2 --d_ff=16 --n_layers=1 --mlp_width=16 --mlp_depth=1 --batch_size=32
--primes=11,13 --train_fractions=0.5 --seeds=1,2 --steps=40 --checkpoint_every=10
--diagnostics=persistence --save_diagrams
"""
GRID = FLAGS.split()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep."""
    workdir = tmp_path_factory.mktemp("finished") / "w"
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    return workdir


@pytest.fixture
def _no_report(monkeypatch):
    monkeypatch.setattr(drawing, "write", lambda *_: "none")


def test_a_sweep_fills_every_table_without_gaps(finished):
    found = tables(finished)
    assert set(found) == {"runs", "metrics", "persistence", "diagrams"}
    runs = found["runs"]
    assert list(runs["status"]) == ["done"] * 4
    assert list(runs["n_train"]) == [round(0.5 * p * p) for p in (11, 11, 13, 13)]
    keys = [(run_id, step) for run_id in runs["run_id"] for step in range(0, 41, 10)]
    for name in ("metrics", "persistence"):
        assert list(found[name][["run_id", "step"]].itertuples(index=False, name=None)) == keys
        numbers = found[name].select_dtypes("number").drop(columns=["step"])
        assert np.isfinite(numbers.to_numpy(float)).all()
    assert not list((finished / "results").glob(".parts/*/*"))


def test_sweep_json_says_how_to_repeat_it(finished):
    record = json.loads((finished / "sweep.json").read_text())
    assert record["config"]["axes"]["operation"]["add"]["prime"] == [11, 13]
    assert record["flags"]["steps"] == 40
    start = record["starts"][0]
    assert {"commit", "packages", "devices", "python", "command"} <= start.keys()
    assert start["packages"]["jax"]


def test_the_report_is_there(finished):
    assert (finished / "report" / "index.html").stat().st_size > 1000
    assert list((finished / "figures").glob("*.svg"))


def test_load_gives_tables_checkpoints_clouds_and_diagrams(finished):
    loaded = grokjax.load(finished)
    assert len(loaded.runs) == 4
    run_id = loaded.runs["run_id"][3]
    params = loaded.checkpoint(run_id, 20)
    assert params["embed"]["embedding"].shape == (13, 16)
    assert params["unembed"]["kernel"].shape == (16, 13)
    cloud = loaded.cloud(run_id, 20, "embedding")
    np.testing.assert_allclose(np.linalg.norm(cloud, axis=1), 1, atol=1e-6)
    diagram = loaded.diagram(run_id, 20, "embedding")
    row = loaded.persistence.query("run_id == @run_id and step == 20").iloc[0]
    assert grokjax.diagnostics.persistence.summarize(diagram).h1_max == row["h1_max"]
    saved = loaded.diagrams.query("run_id == @run_id and step == 20")
    for degree in (0, 1):
        bars = saved.query("dimension == @degree")[["birth", "death"]].to_numpy()
        np.testing.assert_array_equal(bars, diagram[degree])
    with pytest.raises(KeyError, match="no checkpoint at step 21"):
        loaded.checkpoint(run_id, 21)
    with pytest.raises(KeyError, match="no checkpoint of run 'x'"):
        loaded.checkpoint("x", 20)
    with pytest.raises(AttributeError, match="no table 'lid'"):
        _ = loaded.lid


def test_the_metrics_are_those_of_the_checkpoint(finished):
    loaded = grokjax.load(finished)
    run_id = loaded.runs["run_id"][1]
    view = loaded.view(run_id, 40)
    right = view.logits().argmax(1) == view.labels
    row = loaded.metrics.query("run_id == @run_id and step == 40").iloc[0]
    assert right[view.train_mask].mean() == pytest.approx(row["train_accuracy"])
    assert right[~view.train_mask].mean() == pytest.approx(row["test_accuracy"])


def test_diagrams_along_a_run(finished):
    loaded = grokjax.load(finished)
    run_id = loaded.runs["run_id"][0]
    persistence = grokjax.diagnostics.persistence
    first, second = (loaded.diagram(run_id, step)[0] for step in (0, 10))
    moved = loaded.diagram_distances(run_id, degree=0, metric="wasserstein")
    assert list(moved["step"]) == [10, 20, 30, 40]
    assert moved["distance"][0] == persistence.distance(first, second, "wasserstein") > 0
    betti = loaded.betti_curves(run_id, [0.0, 10.0], degree=0)
    assert betti.index.tolist() == [0, 10, 20, 30, 40]
    assert betti[0.0].tolist() == [11] * 5  # every point by itself
    assert betti[10.0].tolist() == [1] * 5  # all in one


@pytest.mark.usefixtures("_no_report")
def test_every_lens_fills_its_tables(tmp_path):
    workdir = tmp_path / "w"
    lenses = [
        "--diagnostics=persistence,fourier,dimension",
        "--clouds=all",
        "--models=transformer,mlp",
        "--primes=11",
    ]
    small = ["--cloud_points=40", "--lid_points=50", "--lid_neighbors=8", "--seeds=1", "--steps=10"]
    assert call(sweep.main, *GRID, *lenses, *small, f"--workdir={workdir}") == 0
    found = tables(workdir)
    assert {"fourier", "spectra", "dimension", "persistence"} <= found.keys()
    clouds_of = found["persistence"].groupby("run_id", sort=False)["cloud"].unique()
    for run_id, names in clouds_of.items():
        layer = "layer1" if run_id.startswith("transformer") else "hidden1"
        assert sorted(names) == sorted(["embedding", layer])
    assert len(found["fourier"]) == 2 * 2
    hidden = found["dimension"].query("cloud != 'embedding'")
    assert set(hidden["n_points"]) == {40, 50}
    for name in ("fourier", "spectra", "dimension", "persistence"):
        assert np.isfinite(found[name].select_dtypes("number").to_numpy(float)).all(), name


@pytest.mark.usefixtures("_no_report")
def test_another_engine_gives_the_same_table(finished, tmp_path):
    copy = tmp_path / "w"
    shutil.copytree(finished, copy)
    assert call(analyze.main, f"--workdir={copy}", "--ph_engine=ripser", "--ph_threads=1") == 0
    ours, theirs = (pd.read_parquet(w / "results/persistence.parquet") for w in (copy, finished))
    assert set(ours["engine"]) == {"ripser"}
    numbers = ours.select_dtypes("number").columns
    np.testing.assert_allclose(ours[numbers], theirs[numbers], atol=1e-6)
    (kept,) = (copy / "results" / "replaced").glob("persistence-*.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(kept), theirs)


@pytest.mark.usefixtures("_no_report")
def test_the_same_command_again_changes_nothing(finished, capsys):
    before = {p: p.stat().st_mtime_ns for p in (finished / "results").glob("*.parquet")}
    assert call(sweep.main, *GRID, f"--workdir={finished}") == 0
    after = {p: p.stat().st_mtime_ns for p in (finished / "results").glob("*.parquet")}
    assert {p for p in before if before[p] != after[p]} <= {finished / "results/runs.parquet"}


@pytest.mark.usefixtures("_no_report")
def test_stopped_sweeps_go_on_to_the_same_tables(finished, tmp_path, monkeypatch):
    """Stopped at its first look at the clock, again and again, until it is through."""
    workdir = tmp_path / "w"
    codes = []
    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopRequest, "due", lambda self, seconds_to_checkpoint: True)
        while not codes or codes[-1] == cli.EXIT_STOPPED:
            codes.append(call(sweep.main, *GRID, f"--workdir={workdir}"))
            assert len(codes) < 20
    # Every start is stopped after one checkpoint at the latest, and loses none.
    assert len(codes) > 3
    assert codes[-1] == 0
    assert_same_tables(tables(workdir), tables(finished))


def states_of(workdir):
    """Steps at which there are optimiser states, of a directory of one batch."""
    reader = Reader(workdir / "checkpoints")
    (name,) = reader.batches()
    return reader.steps(name, "opt_state")


@pytest.mark.usefixtures("_no_report")
def test_optimiser_states_come_by_the_clock_and_at_the_end(finished, tmp_path, monkeypatch):
    assert states_of(finished) == [40]
    right, now = trainer.BatchTrainer._train_to, [0.0]

    def slow(self, step, states):
        now[0] += 25
        return right(self, step, states)

    clock = types.SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr(trainer, "time", clock)
    monkeypatch.setattr(trainer.BatchTrainer, "_train_to", slow)
    for minutes, expected in ((1, [30, 40]), (0.8, [20, 40]), (2, [40])):
        workdir = tmp_path / f"w{minutes}"
        assert call(sweep.main, *GRID, f"--state_minutes={minutes}", f"--workdir={workdir}") == 0
        assert states_of(workdir) == expected
        assert_same_tables(tables(workdir), tables(finished))


@pytest.mark.usefixtures("_no_report")
@pytest.mark.parametrize("between", [False, True])
def test_a_stop_leaves_a_state_at_the_last_checkpoint(between, tmp_path, monkeypatch, capsys):
    """Asked to stop at the second one, or on the way to the third, which comes too late."""
    arguments, asked = [*GRID, f"--workdir={tmp_path / 'w'}"], []

    def due(self, seconds_to_checkpoint):
        asked.append((seconds_to_checkpoint > 0) == between)
        return asked[-1] and sum(asked) == 2 + between

    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopRequest, "due", due)
        # Training that waits for what measures beside it would ask meanwhile.
        patch.setattr(analyst, "_MOST_SEEN", 99)
        if between:
            patch.setattr(trainer, "calls", lambda n_steps: [n_steps // 2] * 2)
        assert call(sweep.main, *arguments) == cli.EXIT_STOPPED
    assert states_of(tmp_path / "w") == [20]
    assert call(sweep.main, *arguments) == 0
    assert "resumed at step 20\n" in capsys.readouterr().out
    assert states_of(tmp_path / "w") == [20, 40]


@pytest.mark.usefixtures("_no_report")
def test_checkpoints_after_the_last_state_are_made_again(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "w")
    for name in ("params/40", "optimizer/40"):
        shutil.rmtree(next(workdir.glob(f"checkpoints/*/{name}")))
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    output = capsys.readouterr().out
    assert "resumed at step 0, up to 30 once more" in output
    assert "step 30 |" not in output  # is known
    assert_same_tables(tables(workdir), tables(finished))


@pytest.mark.usefixtures("_no_report")
def test_ctrl_c_stops_at_a_checkpoint_and_the_command_resumes(finished, tmp_path):
    workdir = tmp_path / "w"
    grid = [*GRID, "--steps=40", f"--workdir={workdir}"]
    code, said = ended(started(*grid, signals="SIGINT batch 1 step 0 "))
    assert code == cli.EXIT_STOPPED, said
    assert "the same command resumes" in said
    assert call(sweep.main, *grid) == 0
    assert_same_tables(tables(workdir), tables(finished))


def test_a_diverging_run_is_recorded_and_reported(tmp_path):
    workdir = tmp_path / "w"
    arguments = [*GRID, "--learning_rates=0.003,100", "--primes=11", "--seeds=1", "--steps=60"]
    assert call(sweep.main, *arguments, f"--workdir={workdir}") == 0
    found = tables(workdir)
    assert list(found["runs"]["status"]) == ["done", "diverged"]
    rows = dict(list(found["persistence"].groupby("run_id", sort=False)))
    sane, diverged = (rows[run_id]["h1_max"] for run_id in found["runs"]["run_id"])
    assert len(sane) == len(diverged) == 7
    assert np.isnan(diverged.iloc[-1])
    assert np.isfinite(sane).all()


# --------------------------------------------------------------------------- what goes wrong


@pytest.mark.usefixtures("_no_report")
def test_a_batch_that_fails_takes_no_other_down(tmp_path, monkeypatch, capsys):
    right = trainer.BatchTrainer._train_to

    def wrong(self, step, states):
        if self.number == 1 and step == 20:
            raise RuntimeError("the device is gone")
        return right(self, step, states)

    workdir = tmp_path / "w"
    arguments = [*GRID, "--runs_per_batch=2", f"--workdir={workdir}"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer.BatchTrainer, "_train_to", wrong)
        assert call(sweep.main, *arguments) == cli.EXIT_FAILED
    output = capsys.readouterr()
    assert "batch 1 failed, 2 runs: RuntimeError('the device is gone')" in output.out
    assert "batch 1 failed, 2 runs" in output.err
    assert list(tables(workdir)["runs"]["status"]) == ["failed", "failed", "done", "done"]
    assert call(sweep.main, *arguments) == 0
    assert list(tables(workdir)["runs"]["status"]) == ["done"] * 4


@pytest.mark.usefixtures("_no_report")
def test_engines_that_disagree_stop_the_sweep_loudly(tmp_path, monkeypatch, capsys):
    persistence = grokjax.diagnostics.persistence
    right = persistence.diagrams

    def wrong(points, max_dimension=1, engine="redzed", n_threads=1):
        found = right(points, max_dimension, engine, n_threads)
        return [found[0] * 2, *found[1:]] if engine != "redzed" else found

    monkeypatch.setattr(persistence, "diagrams", wrong)
    arguments = [*GRID, "--ph_verify=1", f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *arguments) == cli.EXIT_FAILED
    error = capsys.readouterr().err
    assert "the numbers are in doubt" in error
    assert f"redzed and {persistence.ENGINES[1]} disagree in degree 0" in error


def test_an_analysis_beside_a_measuring_sweep_is_refused(finished, capsys):
    with owning(finished, ANALYSIS_LOCK):
        assert call(analyze.main, f"--workdir={finished}") == cli.EXIT_USAGE
    assert "is in use by process" in capsys.readouterr().err
