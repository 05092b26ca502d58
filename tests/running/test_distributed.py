"""Two processes on this machine: the tables of one; a signal to one stops both at one step."""

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
from grokjax.settings.fields import InvalidSettingError
from grokjax.store.checkpoints import Reader
from tests.programs import assert_alike, call, tables

FLAGS = """
--models=mlp --d_model=16 --mlp_width=16 --mlp_depth=1 --batch_size=32 --primes=11
--train_fractions=0.5 --seeds=0:5 --checkpoint_every=500 --steps=4000 --diagnostics=none
"""
GRID = FLAGS.split()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_two(workdir):
    """Two processes of one job, their output in files beside the work directory."""
    coordinator = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    found = []
    for index in range(2):
        flags = [*GRID, f"--workdir={workdir}", f"--coordinator={coordinator}"]
        flags += ["--num_processes=2", f"--process_id={index}"]
        with open(f"{workdir}-{index}.txt", "w") as output:
            command = [sys.executable, "-m", "tests.sweep_without_pages", *flags]
            found.append(
                subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            )
    return found


def said(workdir, index):
    with open(f"{workdir}-{index}.txt") as output:
        return output.read()


def latest_steps(workdir):
    """Latest step of parameters and of optimiser states of every batch of every part."""
    found = []
    for part in sorted(workdir.glob("shard-*")):
        reader = Reader(part / "checkpoints")
        for name in reader.batches():
            found += [reader.steps(name)[-1], reader.steps(name, "opt_state")[-1]]
    return found


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Work directory of two processes, of which one was sent SIGTERM in the middle."""
    workdir = tmp_path_factory.mktemp("two") / "w"
    processes = start_two(workdir)
    try:
        while not all(re.search(r"step 1,?000 ", said(workdir, i)) for i in range(2)):
            assert all(process.poll() is None for process in processes), said(workdir, 0)
            time.sleep(0.02)
        processes[1].send_signal(signal.SIGTERM)
        codes = [process.wait(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return workdir, codes


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The same sweep by one process."""
    workdir = tmp_path_factory.mktemp("one") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    return workdir


def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(stopped):
    workdir, codes = stopped
    assert codes == [cli.EXIT_STOPPED] * 2, said(workdir, 0) + said(workdir, 1)
    assert "stopped (SIGTERM)" in said(workdir, 1)
    assert "stopped (another process was asked to)" in said(workdir, 0)
    steps = latest_steps(workdir)
    assert len(steps) == 4
    assert len(set(steps)) == 1
    assert 1000 <= steps[0] < 4000


def test_two_processes_go_on_to_the_tables_of_one(stopped, one, tmp_path):
    workdir = tmp_path / "w"
    shutil.copytree(stopped[0], workdir)
    processes = start_two(workdir)
    codes = [process.wait(timeout=300) for process in processes]
    assert codes == [0, 0], said(workdir, 0) + said(workdir, 1)
    assert "resumed at step" in said(workdir, 0)
    assert "5 runs of 2 parts joined" in said(workdir, 0)
    assert_alike(tables(workdir), tables(one))


def test_one_process_goes_on_with_the_parts_of_two(stopped, one, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "w"
    shutil.copytree(stopped[0], workdir)
    monkeypatch.setattr(drawing, "write", lambda *_: "none")
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    assert "5 runs of 2 parts joined" in capsys.readouterr().out
    assert_alike(tables(workdir), tables(one))


# --------------------------------------------------------------------------- who is there


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed.initialize is called with."""
    calls = []
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda **k: calls.append(k))
    return calls


TOLD = {
    "JAX_COORDINATOR_ADDRESS": "jobset-0:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
AS_TOLD = {"coordinator_address": "jobset-0:1234", "num_processes": 4, "process_id": 3}


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        (TOLD, AS_TOLD),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, {}),
        ({"OMPI_COMM_WORLD_SIZE": "8"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1,t2,t3"}, {}),
    ],
)
def test_launchers_are_recognised(environment, settings, joined):
    assert distributed.start("auto", None, None, None, environment)
    assert joined == [settings]
    assert distributed.start("no", None, None, None, environment) == ""
    assert len(joined) == 1


def test_flags_come_before_the_environment(joined):
    distributed.start("auto", "a:1", 2, 0, TOLD)
    assert joined == [{"coordinator_address": "a:1", "num_processes": 2, "process_id": 0}]


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
def test_a_process_alone_joins_nothing(environment, joined):
    assert distributed.start("auto", None, None, None, environment) == ""
    assert joined == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("auto", "a:1", None, 0), "--num_processes=: is needed too"),
        (("auto", None, 2, 0), "--coordinator=: is needed too"),
        (("maybe", None, None, None), "--distributed=maybe: must be one of auto, yes, no"),
    ],
)
def test_half_an_address_is_refused(settings, words, joined):
    with pytest.raises(InvalidSettingError) as caught:
        distributed.start(*settings, {})
    assert words in str(caught.value)
    assert joined == []
