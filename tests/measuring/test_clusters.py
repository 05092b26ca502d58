"""Analysis on dask workers: the tables of a local one, also where a worker is killed."""

import os
import shutil
import signal

import distributed
import pytest

from grokjax import analyze, cli, sweep
from grokjax.measuring import clusters
from grokjax.report import drawing
from tests.programs import assert_same_tables, call, tables

FLAGS = """
--models=mlp --d_model=16 --mlp_width=16 --mlp_depth=1 --batch_size=32 --primes=11
--train_fractions=0.5 --seeds=0:3 --steps=60 --checkpoint_every=10
"""
GRID = FLAGS.split()
LENSES = ["--diagnostics=persistence,fourier", "--ph_threads=1", "--save_diagrams"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sweep that nothing has measured."""
    workdir = tmp_path_factory.mktemp("trained") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        assert call(sweep.main, *GRID, "--diagnostics=none", f"--workdir={workdir}") == 0
    return workdir


def test_a_killed_worker_changes_nothing(trained, tmp_path, monkeypatch):
    local, away = tmp_path / "local", tmp_path / "away"
    for copy in (local, away):
        shutil.copytree(trained, copy)
    assert call(analyze.main, f"--workdir={local}", *LENSES) == 0
    monkeypatch.setattr(clusters, "_RUNS_A_TASK", 2)
    killed = []

    def kill_one(done, total):
        assert total == 2 * 7
        if not killed:
            busy = max(client.processing().items(), key=lambda item: len(item[1]))[0]
            pids = client.run(os.getpid)
            killed.append(pids[busy])
            os.kill(pids[busy], signal.SIGKILL)

    monkeypatch.setattr(analyze, "_tell", kill_one)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=100
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        address = cluster.scheduler_address
        assert call(analyze.main, f"--workdir={away}", f"--scheduler={address}", *LENSES) == 0
    assert killed
    assert {"persistence", "fourier", "diagrams"} <= tables(away).keys()
    assert_same_tables(tables(away), tables(local))


def test_a_damaged_checkpoint_met_by_a_worker_is_named(trained, tmp_path, capsys):
    away = shutil.copytree(trained, tmp_path / "w")
    (folder,) = away.glob("checkpoints/*/params/30/params")
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    flags = ["--diagnostics=persistence", "--ph_threads=1", "--scheduler=local"]
    assert call(analyze.main, f"--workdir={away}", *flags) == cli.EXIT_FAILED
    assert "at step 30 cannot be read" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_named(trained, capsys, monkeypatch):
    code = call(analyze.main, f"--workdir={trained}", "--scheduler=nowhere", *LENSES)
    assert code == cli.EXIT_USAGE
    assert "--scheduler=nowhere: does not answer" in capsys.readouterr().err
