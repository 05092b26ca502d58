"""Many devices: eight virtual ones give the numbers of one; states move between device counts."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from grokjax import cli, sweep
from grokjax.report import drawing
from tests.programs import assert_alike, assert_same_tables, call, tables

# Six runs, of which three diverge: they divide by none of 4 and 8 devices.
FLAGS = """
--models=mlp --d_model=16 --mlp_width=16 --mlp_depth=2 --batch_size=32 --primes=11
--train_fractions=0.5 --seeds=0:3 --learning_rates=0.003,100 --steps=40 --checkpoint_every=10
--diagnostics=persistence
"""
GRID = FLAGS.split()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Folder of sweeps on 8 devices, on 4 (stopped after a checkpoint), and on from there on 2."""
    folder = tmp_path_factory.mktemp("devices")
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.on_devices", str(folder), *GRID],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The sweep on this process's one device."""
    workdir = tmp_path_factory.mktemp("one") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    return workdir


def test_eight_devices_give_the_tables_of_one(many, one):
    folder, said = many
    assert said["codes"][0] == cli.EXIT_OK
    assert set(tables(one)["runs"]["status"]) == {"done", "diverged"}
    assert_alike(tables(folder / "eight"), tables(one))


def test_a_sweep_begun_on_four_devices_ends_on_two_or_one(many, one, tmp_path, monkeypatch):
    folder, said = many
    assert said["codes"][1:] == [cli.EXIT_STOPPED, cli.EXIT_OK]
    before = tables(folder / "four")["metrics"]
    reached = before["step"].max()
    assert reached < 40
    shutil.copytree(folder / "four", tmp_path / "one")
    monkeypatch.setattr(drawing, "write", lambda *_: "none")
    assert call(sweep.main, *GRID, f"--workdir={tmp_path / 'one'}") == 0
    for ended in (folder / "two", tmp_path / "one"):
        assert_alike(tables(ended), tables(one))
        kept = tables(ended)["metrics"].query("step <= @reached").reset_index(drop=True)
        assert_same_tables({"metrics": kept}, {"metrics": before})


def test_no_device_talks_to_another(many):
    assert many[1]["collectives"] == []


def test_no_device_has_padding_alone_to_do(many):
    # 1, 3, 8, 9, 20 and 64 runs on eight devices; 20 take three rounds, for which seven do.
    assert many[1]["meshes"] == [1, 3, 8, 5, 7, 8]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, len(os.sched_getaffinity(0))),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
    ],
)
def test_a_sweep_takes_each_core_for_a_device_unless_told_otherwise(told, expected):
    program = """
import jax
from grokjax.training import mapped
mapped.use_every_core()
print(len(jax.devices()))
mapped.use_every_core()  # in use by now
"""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"} | told
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{expected}\n"
