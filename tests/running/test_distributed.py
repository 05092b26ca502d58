"""Two processes on this machine: the tables of one, and neither waits for the other."""

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from grokjax import cli, sweep
from grokjax.report import drawing
from grokjax.running import distributed
from grokjax.running.distributed import Process
from grokjax.settings.config import Shard
from grokjax.settings.fields import InvalidSettingError
from grokjax.store import locks, record
from grokjax.store.checkpoints import Reader
from grokjax.training.stopping import Stopped, StopRequest
from tests.helpers import make_config
from tests.programs import assert_alike, call, tables

FLAGS = """
--models=mlp --d_model=16 --mlp_width=16 --mlp_depth=1 --batch_size=32 --primes=11
--train_fractions=0.5 --seeds=0:5 --checkpoint_every=250 --steps=2000 --diagnostics=none
"""
GRID = FLAGS.split()


def start_two(
    workdir, module="tests.sweep_without_pages", more=(), signals=("", ""), **environment
):
    """Two processes of one job, their output in files beside the work directory.

    ``signals`` are what each sends itself, and after which line: see ``sweep_without_pages``.
    """
    found = []
    for index in range(2):
        told = {"PYTHONUNBUFFERED": "1", "GROKJAX_TESTS_SIGNAL": signals[index], **environment}
        flags = [*GRID, f"--workdir={workdir}", *more]
        flags += ["--num_processes=2", f"--process_id={index}"]
        with open(f"{workdir}-{index}.txt", "w") as output:
            command = [sys.executable, "-m", module, *flags]
            found.append(
                subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | told
                )
            )
    return found


def said(workdir, index):
    with open(f"{workdir}-{index}.txt") as output:
        return output.read()


def wait_for(pattern, workdir, index, processes):
    """Returns when a process has said something; fails if it ends before."""
    while not re.search(pattern, said(workdir, index)):
        assert processes[index].poll() is None, said(workdir, index)
        time.sleep(0.02)


def latest_steps(part):
    """Latest step of parameters and of optimiser states of every batch of a part."""
    reader = Reader(part / "checkpoints")
    return [
        max(reader.steps(name, item), default=0)
        for name in reader.batches()
        for item in ("params", "opt_state")
    ]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Work directory of two processes, of which one was sent SIGTERM in the middle."""
    workdir = tmp_path_factory.mktemp("two") / "w"
    signals = "", "SIGTERM batch 1 step 500 "
    processes = start_two(workdir, signals=signals, GROKJAX_TESTS_PATIENCE="2")
    return workdir, [process.wait(timeout=300) for process in processes]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The same sweep by one process."""
    workdir = tmp_path_factory.mktemp("one") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    return workdir


def test_a_signal_to_one_of_two_processes_stops_that_one_alone(stopped):
    workdir, codes = stopped
    assert codes == [cli.EXIT_STOPPED] * 2, said(workdir, 0) + said(workdir, 1)
    assert "stopped (SIGTERM)" in said(workdir, 1)
    ended = "stopped (process 1 is not at work, and .*shard-001-of-002 is not finished); the same"
    assert re.search(ended.replace("(", r"\(").replace(")", r"\)"), said(workdir, 0))
    finished, left = (latest_steps(workdir / f"shard-00{i}-of-002") for i in range(2))
    assert finished == [2000, 2000]
    assert left[0] == left[1]
    assert 500 <= left[0] < 2000


def test_two_processes_go_on_to_the_tables_of_one(stopped, one, tmp_path):
    workdir = tmp_path / "w"
    shutil.copytree(stopped[0], workdir)
    processes = start_two(workdir)
    codes = [process.wait(timeout=300) for process in processes]
    assert codes == [0, 0], said(workdir, 0) + said(workdir, 1)
    assert "resumed at step" in said(workdir, 1)
    assert "5 runs of 2 parts joined" in said(workdir, 0)
    assert_alike(tables(workdir), tables(one))
    starts = json.loads((workdir / "sweep.json").read_text())["starts"]
    assert [start["process"] for start in starts] == ["0 of 2"] * 2 + ["1 of 2"] * 2


def test_one_process_goes_on_with_the_parts_of_two(stopped, one, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "w"
    shutil.copytree(stopped[0], workdir)
    monkeypatch.setattr(drawing, "write", lambda *_: "none")
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    assert "5 runs of 2 parts joined" in capsys.readouterr().out
    assert_alike(tables(workdir), tables(one))


@pytest.mark.parametrize("slow", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_no_process_waits_for_a_slower_one(slow, one, tmp_path):
    workdir = tmp_path / "w"
    signals = ["", ""]
    signals[slow] = "SIGSTOP batch 1 step 500 "
    processes = start_two(workdir, signals=signals)
    try:
        wait_for(r"step 500 ", workdir, slow, processes)
        if slow == 0:
            assert processes[1].wait(timeout=300) == 0, said(workdir, 1)
        else:
            wait_for("waiting for .* parts: shard-001-of-002", workdir, 0, processes)
        assert latest_steps(workdir / f"shard-00{1 - slow}-of-002") == [2000, 2000]
        assert max(latest_steps(workdir / f"shard-00{slow}-of-002")) < 2000
        processes[slow].send_signal(signal.SIGCONT)
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert_alike(tables(workdir), tables(one))


def test_processes_that_jax_has_joined_as_on_a_slice_write_the_same_tables(one, tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    workdir = tmp_path / "w"
    module = "tests.running.sweep_on_a_slice"
    processes = start_two(workdir, module, [f"--coordinator={address}"])
    codes = [process.wait(timeout=300) for process in processes]
    assert codes == [0, 0], said(workdir, 0) + said(workdir, 1)
    assert "1 of 2 for JAX" in said(workdir, 1)
    assert_alike(tables(workdir), tables(one))


# --------------------------------------------------------------------------- what is waited for


@pytest.fixture
def part(tmp_path):
    """A part's configuration and the work directory that it is to have."""
    config = dataclasses.replace(make_config(), shard=Shard(index=1, count=2))
    folder = tmp_path / config.shard.folder
    folder.mkdir()
    return config, folder


def wait(part, stop=None):
    config, folder = part
    parts = {folder.parent / "own": config, folder: config}
    distributed.wait(parts, Process(count=2), stop or StopRequest())


def test_a_finished_part_is_not_waited_for(part, capsys):
    config, folder = part
    record.finish(folder, config)
    wait(part)
    assert capsys.readouterr().out == ""


def test_a_part_that_was_finished_as_something_else_is_waited_for(part, monkeypatch):
    config, folder = part
    other = dataclasses.replace(config.train, steps=2 * config.train.steps)
    record.finish(folder, dataclasses.replace(config, train=other))
    monkeypatch.setattr(distributed, "_PATIENCE", 0.1)
    with pytest.raises(Stopped, match=r"process 1 is not at work, and .*shard-001-of-002 is not"):
        wait(part)


def test_a_part_at_work_is_waited_for_until_it_is_time_to_stop(part, monkeypatch):
    config, folder = part
    record.finish(folder, config)  # a part that is made anew
    monkeypatch.setattr(distributed, "_PATIENCE", 0.1)
    with locks.owning(folder), pytest.raises(Stopped, match="--max_seconds"):
        wait(part, StopRequest(max_seconds=1.5))
    wait(part)


# --------------------------------------------------------------------------- who is there


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed.initialize is called with, on a machine with TPU chips."""
    calls = []
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda **k: calls.append(k))
    monkeypatch.setattr(distributed.checkpoints, "belong_to_one_process", lambda: None)
    monkeypatch.setattr(distributed, "_has_tpu", lambda: True)
    return calls


NUMBERS = {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
TOLD = NUMBERS | {"JAX_COORDINATOR_ADDRESS": "jobset-0:1234"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (NUMBERS, (3, 4)),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, (1, 2)),
        ({"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "0"}, (0, 8)),
    ],
)
def test_launchers_tell_the_place_and_jax_joins_nothing(environment, place, joined):
    for mode in ("auto", "yes"):
        found = distributed.find(mode, None, None, None, environment)
        assert (found.index, found.count) == place
        assert found.source
    assert distributed.find("no", None, None, None, environment) == Process()
    assert joined == []


def test_jax_joins_the_processes_of_a_slice(joined, monkeypatch):
    slices = [("auto", {"TPU_WORKER_HOSTNAMES": "t0,t1,t2,t3"}), ("yes", {}), ("auto", TOLD)]
    for mode, environment in slices:
        distributed.find(mode, None, None, None, environment)
    assert all(settings.pop("shutdown_timeout_seconds") > 1e6 for settings in joined)
    told = {"coordinator_address": "jobset-0:1234", "num_processes": 4, "process_id": 3}
    assert joined == [{}, {}, told]
    monkeypatch.setattr(distributed, "_has_tpu", lambda: False)
    assert distributed.find("auto", None, None, None, TOLD).count == 4
    assert len(joined) == 3


def test_flags_come_before_the_environment(joined):
    found = distributed.find("auto", "a:1", 2, 0, TOLD)
    assert (found.index, found.count, joined[0]["coordinator_address"]) == (0, 2, "a:1")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # a job script outside of srun
        {"SLURM_STEP_NUM_TASKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"},
        {"JAX_COORDINATOR_ADDRESS": "a:1"},
    ],
)
def test_a_process_alone_is_alone(environment, joined):
    assert distributed.find("auto", None, None, None, environment) == Process()
    assert joined == []


@pytest.mark.parametrize(
    ("settings", "environment", "words"),
    [
        (("auto", "a:1", None, 0), {}, "--num_processes=: is needed too"),
        (("auto", "a:1", None, None), {}, "--num_processes=: is needed too"),
        (("auto", None, 2, None), {}, "--process_id=: is needed too"),
        (("auto", None, 2, 2), {}, "--process_id=2: must be below the number of processes, 2"),
        (("auto", None, 2, -1), {}, "--process_id=-1: must be an integer of at least 0"),
        (("auto", None, None, None), {"SLURM_STEP_NUM_TASKS": "2"}, "--process_id=: must be an"),
        (("maybe", None, None, None), {}, "--distributed=maybe: must be one of auto, yes, no"),
    ],
)
def test_half_a_place_is_refused(settings, environment, words, joined):
    with pytest.raises(InvalidSettingError) as caught:
        distributed.find(*settings, environment)
    assert words in str(caught.value)
    assert joined == []


def test_jax_that_finds_no_others_is_told_of():
    with pytest.raises(InvalidSettingError, match="--distributed=yes: "):
        distributed.find("yes", None, None, None, {})
