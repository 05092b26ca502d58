"""The parts for a borrowed accelerator: done once each, in their time, whatever stops them."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments import accelerator
from experiments.accelerator import Folder, Part
from experiments.benchmarks import device, profile
from experiments.sweeps import TRAININGS
from grokjax import cli

# The parts are started by a process without JAX, which these tests are not.
pytestmark = [
    pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
ROOT = pathlib.Path(__file__).parents[2]
# Leaves a line a start, and a result.
NOTES = """
import os, pathlib, sys, time
name, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
with open(f"{name}.starts", "a") as file:
    print(os.getpid(), file=file)
time.sleep(seconds)
print("all that there is to say")
sys.exit(code)
"""


def part(where, name, seconds=0, code=0, share=1.0, sweep=None):
    arguments = ("-c", NOTES, str(where / name), str(seconds), str(code))
    return Part(name, arguments, share, sweep)


def folder(where, seconds=60):
    return Folder(where / "results", time.monotonic() + seconds, seconds)


def starts(where, name):
    path = where / f"{name}.starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_each_part_is_done_once_by_this_device_and_code(tmp_path):
    def run(*every, device="a device"):
        code = accelerator.run_parts(folder(tmp_path), every, device)
        return code, [len(starts(tmp_path, name)) for name in ("one", "two")]

    one, two = part(tmp_path, "one"), part(tmp_path, "two", code=3)
    assert run(one, two) == (cli.EXIT_FAILED, [1, 1])
    records = json.loads((tmp_path / "results/parts.json").read_text())
    assert records["one"]["device"] == "a device"
    assert records["one"]["command"].startswith("python -c ")
    assert records["one"].keys() >= {"commit", "sources", "began", "seconds"}
    assert records["two"]["status"] == "failed"
    assert records["two"]["error"] == "exit code 3; all that there is to say\n"
    # What failed is tried again; another device, or another command, has not done it.
    assert run(one, two) == (cli.EXIT_FAILED, [1, 2])
    assert run(one, part(tmp_path, "two")) == (cli.EXIT_OK, [1, 3])
    assert run(one, part(tmp_path, "two"), device="another") == (cli.EXIT_OK, [2, 4])


def test_a_part_that_takes_too_long_is_ended_and_the_rest_goes_on(tmp_path, capsys):
    slow = part(tmp_path, "slow", seconds=60, share=0.1)
    own = folder(tmp_path, seconds=10)
    assert accelerator.run_parts(own, [slow, part(tmp_path, "rest")], "") == cli.EXIT_FAILED
    assert "took longer than its 1 s" in own.records["slow"]["error"]
    assert own.records["rest"]["status"] == "done"
    assert "failed: slow" in capsys.readouterr().err
    (pid,) = starts(tmp_path, "slow")
    assert not pathlib.Path(f"/proc/{pid}").exists()
    late = folder(tmp_path, seconds=0.5)
    assert accelerator.run_parts(late, [part(tmp_path, "late")], "") == cli.EXIT_FAILED
    assert late.records["late"]["status"] == "not begun"


PROGRAM = """
import pathlib, sys, time
from experiments import accelerator
where, notes = sys.argv[1:]
every = [
    accelerator.Part(name, ("-c", notes, f"{where}/{name}", seconds, "0"), 1.0)
    for name, seconds in (("one", "0"), ("two", "300"))
]
folder = accelerator.Folder(pathlib.Path(where, "results"), time.monotonic() + 300, 300)
sys.exit(accelerator.run_parts(folder, every, "a device"))
"""


def gone(pid):
    """Whether a process has ended; one that nobody waits for stays as a zombie."""
    status = pathlib.Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_killed_in_the_middle_and_started_again_it_goes_on(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path, NOTES], cwd=ROOT)
    while not starts(tmp_path, "two"):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while not gone(starts(tmp_path, "two")[0]):
        assert time.monotonic() < until
        time.sleep(0.02)
    own = folder(tmp_path)
    every = [part(tmp_path, name) for name in ("one", "two")]
    assert accelerator.run_parts(own, every, "a device") == cli.EXIT_OK
    assert [len(starts(tmp_path, name)) for name in ("one", "two")] == [1, 2]
    assert {record["status"] for record in own.records.values()} == {"done"}


def test_a_signal_ends_the_part_and_the_exit_code_says_so(tmp_path):
    def stop():
        while not starts(tmp_path, "slow"):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, accelerator._stop)
    threading.Thread(target=stop).start()
    try:
        with pytest.raises(SystemExit, match="75"):
            accelerator.run_parts(folder(tmp_path), [part(tmp_path, "slow", seconds=300)], "")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert gone(starts(tmp_path, "slow")[0])


def test_a_sweep_out_of_time_is_no_failure_and_leaves_its_tables(tmp_path):
    sweep = tmp_path / "sweep"
    frame = pd.DataFrame({"step": np.arange(3)})
    (sweep / "results").mkdir(parents=True)
    frame.to_parquet(sweep / "results/metrics.parquet")
    (sweep / "sweep.json").write_text(json.dumps({"starts": [{"commit": "x"}]}))
    own = folder(tmp_path, seconds=1.5)
    slow = part(tmp_path, "slow", seconds=60, sweep=sweep)
    assert accelerator.run_parts(own, [slow, part(tmp_path, "n", sweep=sweep)], "") == cli.EXIT_OK
    assert [own.records[name]["status"] for name in ("slow", "n")] == ["stopped", "not begun"]
    there = tmp_path / "results/study/slow"
    pd.testing.assert_frame_equal(pd.read_parquet(there / "metrics.parquet"), frame)
    assert json.loads((there / "starts.json").read_text()) == [{"commit": "x"}]


def test_large_tables_become_small_files_in_their_order(tmp_path, monkeypatch):
    frame = pd.DataFrame({"value": np.random.default_rng(0).random(3001)})
    (tmp_path / "results").mkdir()
    frame.to_parquet(tmp_path / "results/metrics.parquet")
    monkeypatch.setattr(accelerator, "MOST_BYTES", 12_000)
    for _ in range(2):  # the second time over the first's files
        accelerator.collect(tmp_path, tmp_path / "small")
    paths = sorted((tmp_path / "small").iterdir())
    assert len(paths) > 2
    assert max(path.stat().st_size for path in paths) <= 12_000
    pd.testing.assert_frame_equal(pd.concat(map(pd.read_parquet, paths)), frame)


def test_a_file_that_is_not_small_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "MOST_BYTES", 100)
    assert accelerator.run_parts(folder(tmp_path), [part(tmp_path, "one")], "") == cli.EXIT_FAILED
    assert "parts.json has" in capsys.readouterr().out


def test_small_and_full_ask_the_same_parts_and_the_study_is_the_papers(tmp_path):
    names = [[own.name for own in accelerator.parts(tmp_path, tmp_path, "cpu", small)]
             for small in (True, False)]  # fmt: skip
    assert names[0] == names[1] == [
        "tests", "train_transformer", "train_mlp", "lenses", "profile", *TRAININGS
    ]  # fmt: skip
    every = accelerator.parts(tmp_path, tmp_path, "gpu", False)
    for own in every:
        if own.sweep is None:
            continue
        training = TRAININGS[own.name]
        assert own.sweep == training.workdir(tmp_path / "paper", "paper")
        assert own.arguments[2] == f"--flagfile=experiments/{own.name}.flags"
        assert set(training.rest.split()) <= set(own.arguments)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "ten"])
def test_minutes_that_are_none_are_refused(minutes, capsys):
    with pytest.raises(SystemExit, match="2"):
        accelerator.main([minutes])
    assert "minutes" in capsys.readouterr().err


# --------------------------------------------------------------------------- device and profile


def test_an_accelerator_that_jax_does_not_see_is_said(tmp_path, monkeypatch):
    row = "NVIDIA H100 80GB HBM3, 580.95.05, 81559 MiB, 700.00 W, 1980 MHz"
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\necho '{row}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    (gpu,) = device.nvidia()
    assert (gpu["name"], gpu["driver_version"]) == ("NVIDIA H100 80GB HBM3", "580.95.05")
    assert device.unseen("cpu", [gpu]) == "NVIDIA H100 80GB HBM3, driver 580.95.05"
    assert device.unseen("gpu", [gpu]) == ""
    with pytest.raises(SystemExit, match="JAX computes on the CPU: install the extra cuda"):
        device.measure()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert device.unseen("cpu", [gpu]) == ""


def test_own_times_are_those_of_a_clock_that_asks_every_nanosecond_who_runs():
    rng, events = np.random.default_rng(0), []

    def add(start, end, depth):
        events.append((f"{depth}.{len(events)}", start, end - start))
        while depth < 4 and end - start > 9:
            left, right = np.sort(
                rng.choice(np.arange(start, start + (end - start) // 2), 2, False)
            )
            add(int(left), int(right), depth + 1)
            start = int(right)

    add(0, 300, 0)
    add(300, 500, 0)  # begins as the other ends
    expected = dict.fromkeys((name for name, _, _ in events), 0)
    for now in range(500):
        inside = [name for name, start, length in events if start <= now < start + length]
        expected[max(inside)] += 1  # the deepest
    assert dict(profile.own_times(rng.permutation(np.array(events, object)).tolist())) == expected
    assert {name[0] for name in expected} == set("0123")


def test_kernels_of_one_name_are_one_row():
    found = [[("add_3", 0, 6000), ("dot.1", 6000, 10_000)], [("add", 0, 4000)]]
    frame = profile.table(found, n_steps=2)
    assert frame.to_dict("list") == {
        "kernel": ["add", "dot"],
        "calls_a_step": [1.0, 0.5],
        "microseconds_a_step": [5.0, 5.0],
        "share": [0.5, 0.5],
    }


# jaxlib 0.12 warns within C++, which an exception cannot leave.
@pytest.mark.filterwarnings("ignore:builtin type event_stats:DeprecationWarning")
def test_a_trace_holds_the_kernels_that_ran(tmp_path):
    product = jax.jit(lambda x: jnp.sort(x @ x, axis=0))
    x = jnp.ones((200, 200))
    product(x).block_until_ready()
    with jax.profiler.trace(str(tmp_path)):
        product(x).block_until_ready()
    (path,) = tmp_path.rglob("*.xplane.pb")
    frame = profile.table(profile.lines(jax.profiler.ProfileData.from_file(str(path))), n_steps=1)
    assert frame["kernel"].str.contains("sort").any()
    assert frame["share"].sum() == pytest.approx(1)


@pytest.mark.thorough
def test_the_whole_rehearsal_on_a_cpu_killed_in_the_middle(tmp_path):
    own = tmp_path / "answers"
    command = ["bash", ROOT / "launch/accelerator.sh", "20", f"--folder={own}", "--sizes=small"]
    told = os.environ | {"GROKJAX_PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, env=told)
    while not (own / "train_mlp.log").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    before = json.loads((own / "parts.json").read_text())
    assert list(before) == ["device", "tests", "train_transformer"]
    done = subprocess.run(command, env=told, timeout=1200)
    assert done.returncode == 0
    records = json.loads((own / "parts.json").read_text())
    assert {record["status"] for record in records.values()} == {"done"}
    for name, record in before.items():
        assert name == "device" or record == records[name]
    every = {path for path in own.rglob("*") if path.is_file()}
    assert max(path.stat().st_size for path in every) < 2**21
    for name in TRAININGS:
        assert not pd.read_parquet(own / "study" / name / "metrics.parquet").empty
    tests = json.loads((own / "tests.json").read_text())
    assert tests["counts"]["passed"] == len(tests["tests"]) > 0
    (result,) = json.loads((own / "train_mlp.json").read_text())["results"]
    assert result["milliseconds_per_run_step"]["grokjax, 1 run a batch"] > 0
    assert not pd.read_parquet(own / "profile-mlp.parquet").empty
    shutil.rmtree(tmp_path)
