"""Optimisers and tasks in one grid: killed, resumed, sharded, merged, measured."""

import json
import signal

import numpy as np
import pytest

import grokjax
from grokjax import analyze, check, cli, merge, sweep
from grokjax.report import __main__ as report
from grokjax.report import drawing
from grokjax.running import audit
from tests.programs import assert_same_tables, call, ended, started, tables

pytestmark = pytest.mark.usefixtures("no_pages")

# A run a batch: padded to another's size, the last bits of a sum may be others.
GRID = """
--models=mlp --d_model=8 --mlp_width=16 --mlp_depth=1 --optimizers=adamw,sgd --operations=add,d5
--primes=11 --train_fractions=0.5 --batch_size=32 --seeds=1 --runs_per_batch=1 --steps=20
--checkpoint_every=10 --diagnostics=persistence,fourier
""".split()
WRITE_REPORT = drawing.write
N_RUNS, N_SHARDS = 2 * 2, 2


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The grid swept in one go."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "w"
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    return workdir


@pytest.fixture(scope="module")
def merged(undisturbed, tmp_path_factory):
    """Two shards, one of them killed in the middle and resumed, merged in place."""
    workdir = tmp_path_factory.mktemp("shards") / "w"
    where = f"--workdir={workdir}"
    killed = started(*GRID, where, f"--shard=1/{N_SHARDS}", signals="SIGKILL batch 2 step 10 ")
    assert ended(killed)[0] == -signal.SIGKILL
    for i in range(N_SHARDS):
        assert call(sweep.main, *GRID, where, f"--shard={i}/{N_SHARDS}") == cli.EXIT_OK
    assert call(merge.main, where) == cli.EXIT_OK
    return workdir


def test_it_is_one_work_directory(undisturbed):
    runs = grokjax.load(undisturbed).runs
    assert len(runs) == runs["run_id"].nunique() == N_RUNS
    assert list(runs["status"]) == ["done"] * N_RUNS
    # What a run's parts do not have does not multiply it, and is null in its row.
    group = runs.query("operation == 'd5'")
    assert len(group) == 2 and group["prime"].isna().all()
    assert set(group["n_train"]) == {50}
    assert runs.query("optimizer == 'sgd'")[["beta1", "beta2", "epsilon"]].isna().all(axis=None)
    assert runs.query("optimizer == 'adamw'")["momentum"].isna().all()
    assert runs[["n_heads", "d_ff"]].isna().all(axis=None)
    assert all("-optimizer=sgd" in run_id for run_id in runs.query("optimizer == 'sgd'")["run_id"])


def test_networks_have_their_own_sizes(undisturbed):
    loaded = grokjax.load(undisturbed)
    for run in loaded.runs.itertuples():
        n = 10 if run.operation == "d5" else run.prime
        params = loaded.checkpoint(run.run_id, 20)
        assert params["embed"]["embedding"].shape == (n, run.d_model)
        assert params["unembed"]["kernel"].shape == (16, n)
        assert set(loaded.persistence.query("run_id == @run.run_id")["n_points"]) == {n}
    spectra = loaded.spectra.merge(loaded.runs[["run_id", "operation"]])
    assert set(spectra.query("operation == 'd5'")["degree"]) == {1, 2}
    assert set(spectra.query("operation == 'add'")["degree"]) == {1}


def test_killed_resumed_sharded_and_merged_its_tables_are_the_same(merged, undisturbed):
    record = json.loads((merged / "shard-001-of-002/sweep.json").read_text())
    assert len(record["starts"]) == 2
    assert set(tables(merged)) == {"runs", "metrics", "persistence", "fourier", "spectra"}
    assert_same_tables(tables(merged), tables(undisturbed))


@pytest.mark.thorough
def test_in_shared_batches_numbers_are_alike(undisturbed, tmp_path):
    """Programs by static part: runs that differ in their task train side by side, padded."""
    arguments = [*GRID, "--runs_per_batch=8", f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *arguments) == cli.EXIT_OK
    record = json.loads((tmp_path / "w/sweep.json").read_text())
    assert [len(batch) for batch in record["batches"]] == [2] * 2
    ours, theirs = (grokjax.load(folder).metrics for folder in (tmp_path / "w", undisturbed))
    assert ours[["run_id", "step"]].equals(theirs[["run_id", "step"]])
    np.testing.assert_allclose(ours.iloc[:, 2:], theirs.iloc[:, 2:], rtol=1e-4, atol=1e-5)


def test_it_is_measured_checked_and_reported(merged, undisturbed, monkeypatch, capsys):
    where = f"--workdir={merged}"
    for name in ("fourier", "persistence"):
        (merged / f"results/{name}.parquet").unlink()
    assert call(analyze.main, where) == cli.EXIT_OK
    assert_same_tables(tables(merged), tables(undisturbed))
    assert call(check.main, where) == cli.EXIT_OK
    found = audit.audit(merged)
    assert found.findings == found.unfinished == ()
    assert (found.n_runs, found.n_checkpoints) == (N_RUNS, 3 * N_RUNS)
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "write", WRITE_REPORT)
        assert call(report.main, where) == cli.EXIT_OK
    assert (merged / "report/index.html").stat().st_size > 100_000
    assert list((merged / "figures").glob("*.svg"))
    assert "d5" in capsys.readouterr().out  # the table of settings
    # Nothing is left to do.
    assert call(sweep.main, *GRID, where) == cli.EXIT_OK
    assert "4 runs in 4 batch(es)" in capsys.readouterr().out
    assert_same_tables(tables(merged), tables(undisturbed))


def test_what_has_nothing_to_be_measured_is_not_waited_for(tmp_path, capsys):
    """A task without structure has no spectra, one of features no embedding, a square no product.

    A network gone to infinity has no bars and no frequencies.
    """
    grid = """
    --models=mlp --d_model=8 --mlp_width=8 --mlp_depth=1 --operations=add,quadratic,max,digits
    --primes=7 --train_fractions=0.5 --batch_size=8 --seeds=1 --steps=10 --checkpoint_every=10
    --learning_rates=0.001,1e38 --diagnostics=persistence,fourier --clouds=embedding
    --save_diagrams --save_key_frequencies
    """.split()
    for i in range(2):
        where = [f"--workdir={tmp_path / 'w'}", f"--shard={i}/2"]
        assert call(sweep.main, *grid, *where) == cli.EXIT_OK
    capsys.readouterr()
    where = f"--workdir={tmp_path / 'w'}"
    assert call(merge.main, where) == cli.EXIT_OK
    assert "lacks some runs" not in capsys.readouterr().out
    found = audit.audit(tmp_path / "w")
    assert found.findings == found.unfinished == ()
    rows = {"metrics": 16, "persistence": 12, "fourier": 8, "spectra": 32}
    assert found.n_rows | rows == found.n_rows
    loaded = grokjax.load(tmp_path / "w")
    diverged = set(loaded.runs.query("status == 'diverged'")["run_id"])
    assert len(diverged) == 4
    with_bars, with_keys = (
        set(frame.query("step == 10")["run_id"])
        for frame in (loaded.diagrams, loaded.key_frequencies)
    )
    assert len(with_bars) == 3 and len(with_keys) == 1
    assert not diverged & (with_bars | with_keys)
    assert call(analyze.main, where) == cli.EXIT_OK
    assert "measured 1 of" not in capsys.readouterr().out  # nothing was waiting
    # What is lost of them all the same is found.
    (tmp_path / "w/results/key_frequencies.parquet").unlink()
    assert audit.audit(tmp_path / "w").unfinished == (
        "key_frequencies: 3 run checkpoints not measured yet",
    )
