"""Faults put in one by one: what the user sees, and that nothing committed is lost."""

import contextlib
import errno
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent import futures
from unittest import mock

import jax
import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest

import grokjax
from grokjax import analyze, check, cli, sweep
from grokjax.diagnostics import persistence
from grokjax.measuring import isolation
from grokjax.measuring.analyst import Analyst
from grokjax.report import drawing
from grokjax.running import audit, pipeline
from grokjax.store import files, record, results
from grokjax.store.errors import DamagedTableError
from grokjax.training import mapped
from tests.programs import assert_same_tables, call, tables

pytestmark = pytest.mark.usefixtures("no_pages")

GRID = [
    *("--primes=11,13", "--train_fractions=0.5", "--seeds=1,2", "--batch_size=32"),
    *("--d_model=16", "--n_heads=2", "--d_ff=16", "--n_layers=1"),
    *("--steps=40", "--checkpoint_every=10", "--diagnostics=persistence"),
    *("--clouds=embedding,layer1", "--cloud_points=20"),
]


WRITE_REPORT = drawing.write
NO_EMITTERS = "--xla_cpu_use_fusion_emitters=false"  # see conftest.py


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep."""
    folder = tmp_path_factory.mktemp("finished") / "w"
    assert call(sweep.main, *GRID, f"--workdir={folder}") == 0
    return folder


# --------------------------------------------------------------------------- the disk


def full(path, *_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.mark.parametrize(
    "table", ["metrics", pytest.param("persistence", marks=pytest.mark.thorough), "runs"]
)
def test_a_disk_full_at_a_table(table, finished, tmp_path, monkeypatch, capsys):
    right = results.write_parquet
    writes = []

    def write(path, frame, settings=None):
        if table in str(path):
            writes.append(path)
            if len(writes) > 1:
                full(path)
        right(path, frame, settings)

    workdir = tmp_path / "w"
    with monkeypatch.context() as patch:
        for module in (results, pipeline):
            patch.setattr(module, "write_parquet", write)
        # Tables are written at the start, now and then, and at the end.
        patch.setattr("grokjax.running.pipeline._SHARE", 0)
        assert call(sweep.main, *GRID, f"--workdir={workdir}") == cli.EXIT_FAILED
    error = capsys.readouterr().err
    assert f"{workdir} cannot be written: No space left on device" in error
    assert "Everything committed before is safe" in error
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    assert_same_tables(tables(workdir), tables(finished))
    assert audit.audit(workdir).findings == ()


def test_a_disk_full_at_the_report(finished, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "w"
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "write", WRITE_REPORT)
        patch.setattr(drawing.figures, "save", lambda figure, path, kind: full(path))
        assert call(sweep.main, *GRID, f"--workdir={workdir}") == cli.EXIT_FAILED
    assert "No space left on device" in capsys.readouterr().err
    assert_same_tables(tables(workdir), tables(finished))


def test_files_that_may_not_grow(finished, tmp_path):
    """A real limit of the system, in KiB, met in a checkpoint."""
    limit = 16
    workdir = tmp_path / "w"
    command = [sys.executable, "-m", "grokjax.sweep", *GRID, f"--workdir={workdir}"]
    limited = ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash", *command]
    held = subprocess.run(limited, capture_output=True, text=True)
    assert held.returncode in (cli.EXIT_FAILED, cli.EXIT_USAGE), held.stdout + held.stderr
    assert "File too large" in held.stderr
    assert "Traceback" not in held.stderr
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    assert_same_tables(tables(workdir), tables(finished))
    assert audit.audit(workdir).findings == ()


def test_threads_that_wait_for_ever_do_not_keep_a_failed_sweep():
    """As Orbax's do after a write that failed."""
    program = """
import sys, threading
from grokjax import cli
from grokjax.store import errors
def main(values):
    threading.Thread(target=threading.Event().wait).start()
    print("said before")
    raise errors.StorageError("the folder", "No space left on device")
cli.run(main, lambda: None)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == cli.EXIT_FAILED
    assert "said before" in ended.stdout
    assert "No space left on device" in ended.stderr


# --------------------------------------------------------------------------- the device


def sweep_with_room_for_one(folder):
    """Sweeps the grid as it is, then where no two runs fit side by side: what that says."""
    drawing.write = lambda *_: "none"
    assert call(sweep.main, *GRID, f"--workdir={folder / 'whole'}") == 0
    right = mapped.train_chunk

    def small(*program):
        def chunk(state, runs, first_step):
            if len(runs.n_train) == 1:
                return right(*program)(state, runs, first_step)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 GiB")

        return chunk

    mapped.train_chunk = small
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert call(sweep.main, *GRID, f"--workdir={folder / 'halved'}") == 0
    return said.getvalue()


def test_a_batch_that_does_not_fit_is_halved(tmp_path, monkeypatch):
    """With XLA's usual emitters, in a process of its own: of others sums depend on the batch."""
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(NO_EMITTERS, ""))
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        output = pool.submit(sweep_with_room_for_one, tmp_path).result()
    assert "batch 1: out of device memory; continuing with 2 runs at a time" in output
    assert "batch 1: out of device memory; continuing with 1 runs at a time" in output
    assert_same_tables(tables(tmp_path / "halved"), tables(tmp_path / "whole"))


def test_a_run_that_does_not_fit_alone_fails(tmp_path, monkeypatch, capsys):
    def never(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 GiB")

    monkeypatch.setattr(mapped, "train_chunk", never)
    assert call(sweep.main, *GRID, f"--workdir={tmp_path / 'w'}") == cli.EXIT_FAILED
    assert "batch 1 failed, 4 runs" in capsys.readouterr().err
    assert set(tables(tmp_path / "w")["runs"]["status"]) == {"failed"}


# --------------------------------------------------------------------------- a diagnostic


class Killed(BaseException):
    """The process is gone: nothing below catches it."""


@pytest.fixture
def cursed(finished, monkeypatch):
    """A function: curses one cloud of one run, so that persistence fails on it; None lifts it."""
    right, loaded = persistence.many, grokjax.load(finished)
    run_id = loaded.runs["run_id"][2]

    def curse(cloud):
        bad = None if cloud is None else loaded.cloud(run_id, 20, cloud)

        def wrong(points, *arguments, **named):
            if any(bad is not None and np.array_equal(cloud, bad) for cloud in points):
                raise RuntimeError("this cloud is cursed")
            return right(points, *arguments, **named)

        monkeypatch.setattr(persistence, "many", wrong)
        return run_id

    return curse


def test_a_diagnostic_that_raises_on_one_cloud_harms_no_other(finished, cursed, tmp_path, capsys):
    run_id = cursed("layer1")
    workdir = tmp_path / "w"
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == cli.EXIT_FAILED
    sentence = f"persistence failed on cloud layer1 of {run_id} at step 20"
    assert sentence in capsys.readouterr().err
    theirs = tables(finished)["persistence"]
    ours = tables(workdir)["persistence"]
    lost = (theirs["run_id"] == run_id) & (theirs["step"] == 20) & (theirs["cloud"] == "layer1")
    assert lost.sum() == 1
    pd.testing.assert_frame_equal(ours, theirs[~lost].reset_index(drop=True), check_exact=True)
    assert call(check.main, f"--workdir={workdir}") == cli.EXIT_FAILED
    assert "persistence failed on cloud layer1" in capsys.readouterr().err
    # What failed is tried again, by a sweep or an analysis.
    cursed(None)
    assert call(analyze.main, f"--workdir={workdir}") == 0
    assert_same_tables(tables(workdir), tables(finished))
    assert call(check.main, f"--workdir={workdir}") == 0


def measured(workdir):
    """Everything is measured, as ``analyze`` does; the failures on record then."""
    analyst = Analyst(workdir, record.read_config(workdir))
    analyst.prepare()
    analyst.measure_all(lambda done, total: None)
    analyst.compact()
    assert isolation.read(workdir) == analyst.failures
    return isolation.sentences(analyst.failures)


@pytest.mark.parametrize("still", [None, pytest.param("embedding", marks=pytest.mark.thorough)])
def test_failures_are_known_or_measured_after_a_kill_at_any_point(
    still, finished, cursed, tmp_path, monkeypatch
):
    """What failed is measured again, killed at every write, and again where that ended."""

    def copied(origin, name):
        workdir = tmp_path / name
        shutil.copytree(origin / "results", workdir / "results")
        shutil.copy(origin / "sweep.json", workdir)
        (workdir / "checkpoints").symlink_to(finished / "checkpoints")
        return workdir

    cursed("layer1")
    first = copied(finished, "first")
    (first / "results/persistence.parquet").unlink()
    (failed,) = measured(first)
    assert "cloud layer1" in failed
    right = {name: getattr(os, name) for name in ("replace", "fsync")}
    whole, moments, killed = tables(finished)["persistence"], 0, True
    while killed:
        workdir = copied(first, f"w{moments}")
        cursed(still)
        left, killed = [moments], False

        def mortal(name, left=left):
            def act(*arguments, **named):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return right[name](*arguments, **named)

            return act

        with monkeypatch.context() as patch:
            for name in right:
                patch.setattr(os, name, mortal(name))
            try:
                assert len(measured(workdir)) == (still is not None)
            except Killed:
                killed = True
        # Of every unit of the grid: it is there whole, known to have failed, or not there at all.
        units = grokjax.load(workdir).persistence.groupby(["run_id", "step"]).size()
        known = {unit[1:] for unit in isolation.read(workdir)}
        assert all(n == 2 or unit in known for unit, n in units.items()), moments
        cursed(None)
        assert measured(workdir) == []
        found = tables(workdir)["persistence"]
        pd.testing.assert_frame_equal(found, whole, check_exact=True)
        moments += 1
    assert moments > 5


def test_a_failure_is_added_and_a_line_cut_short_is_none(tmp_path, monkeypatch):
    """Each failure writes its own line alone, however many there are."""
    units = [("persistence", f"run{i}", 10) for i in range(3)]
    isolation.write(tmp_path, {units[0]: {"layer1": "no"}})
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", None)
        isolation.append(tmp_path, {units[1]: {"all": "never"}})
        isolation.append(tmp_path, {units[0]: {}, units[2]: {"a": "b", "c": "d"}})
    after = {units[1]: {"all": "never"}, units[2]: {"a": "b", "c": "d"}}
    assert isolation.read(tmp_path) == after
    file = tmp_path / "results/failures.jsonl"
    for cut in range(1, 30):
        file.write_text(file.read_text()[:-1])
        assert isolation.read(tmp_path) == {units[1]: {"all": "never"}}, cut
    file.write_text("[1]\n")
    with pytest.raises(DamagedTableError, match="cannot be read"):
        isolation.read(tmp_path)


def test_failures_of_an_earlier_version_are_known(tmp_path):
    fields = {"diagnostic": "lid", "run_id": "a", "step": 10, "cloud": "all", "error": "no"}
    files.write_text(tmp_path / "results/failures.json", json.dumps([fields]))
    found = isolation.read(tmp_path)
    assert isolation.sentences(found) == ["lid failed on cloud all of a at step 10: no"]
    isolation.write(tmp_path, found)
    assert isolation.read(tmp_path) == found
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["failures.jsonl"]


# --------------------------------------------------------------------------- what has changed


def test_a_sweep_can_grow_by_what_is_allowed(finished, tmp_path, capsys):
    workdir = tmp_path / "w"
    small = [*GRID, "--seeds=1", "--steps=20", f"--workdir={workdir}"]
    assert call(sweep.main, *small) == 0
    grown = [*GRID, f"--workdir={workdir}"]
    assert call(sweep.main, *grown) == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert "--seeds=1 where this one has 1,2" in error
    assert "--allow=seeds" in error
    assert call(sweep.main, *grown, "--allow=seeds,steps") == 0
    assert_same_tables(tables(workdir), tables(finished))
    assert call(sweep.main, *small, "--allow=seeds,steps") == cli.EXIT_USAGE
    assert "can gain runs but not lose any" in capsys.readouterr().err


def test_too_many_open_files_are_no_damage(finished, tmp_path, monkeypatch, capsys):
    """What the process cannot open stops it with the reason; nothing is moved or made anew."""
    workdir = shutil.copytree(finished, tmp_path / "w")
    longer = [*GRID, "--steps=50", "--allow=steps", f"--workdir={workdir}"]
    before = {path: path.read_bytes() for path in (workdir / "checkpoints").rglob("*/*/_METADATA")}
    for number in (errno.EMFILE, errno.EIO, errno.ESTALE):
        problem = OSError(number, os.strerror(number))
        with monkeypatch.context() as patch:
            patch.setattr(ocp.Checkpointer, "restore", mock.Mock(side_effect=problem))
            assert call(sweep.main, *longer) == cli.EXIT_FAILED
        assert os.strerror(number) in capsys.readouterr().err
    assert before.items() <= {path: path.read_bytes() for path in before}.items()
    assert before
    assert not list(workdir.rglob("damaged"))
    assert call(sweep.main, *longer) == 0


def test_a_table_that_cannot_be_opened_is_no_damage(finished, tmp_path, monkeypatch, capsys):
    workdir = shutil.copytree(finished, tmp_path / "w")
    problem = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with monkeypatch.context() as patch:
        patch.setattr(results.pq, "read_table", mock.Mock(side_effect=problem))
        assert call(sweep.main, *GRID, f"--workdir={workdir}") == cli.EXIT_FAILED
    assert "cannot be read: [Errno 24] Too many open files" in capsys.readouterr().err
    assert not list(workdir.rglob("damaged"))


def test_analysis_that_follows_ends_when_nobody_trains(finished, tmp_path, monkeypatch, capsys):
    """Half of a sweep whose trainer is gone is measured; nothing is waited for."""
    workdir = tmp_path / "w"
    short = [*GRID, "--steps=20", "--diagnostics=none"]
    assert call(sweep.main, *short, f"--workdir={workdir}") == 0
    told = record.read_record(workdir)
    told["config"]["train"]["steps"] = 40
    record.write_record(workdir, told)
    naps = mock.Mock(side_effect=[None, None, TimeoutError])
    monkeypatch.setattr(analyze.time, "sleep", naps)
    monkeypatch.setattr(analyze, "_LAST_LOOKS", 2)
    follow = ("--follow", "--diagnostics=persistence", "--clouds=embedding")
    assert call(analyze.main, f"--workdir={workdir}", *follow) == 0
    out = capsys.readouterr().out
    assert "nobody trains in this work directory any more" in out
    assert "12 of 20 run checkpoints" in out
    assert naps.call_count == 2
    rows = grokjax.load(workdir).persistence
    assert set(rows["step"]) == {0, 10, 20}
