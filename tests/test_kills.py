"""Killed at random moments and started again, a sweep ends with the tables of one left alone.

Each start has another idea of what is kept (--keep) and how often a state is (--state_minutes).

Six kills by default, half as many asked for politely; ``pytest tests/test_kills.py --kills=40``.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

import grokjax
from grokjax import cli
from grokjax.running import audit
from tests.programs import assert_same_tables, tables

COMMAND = [
    *(sys.executable, "-m", "grokjax.sweep", "--primes=11,13", "--train_fractions=0.5"),
    *("--models=mlp", "--seeds=1", "--batch_size=32", "--d_model=16", "--mlp_width=16"),
    *("--mlp_depth=1", "--runs_per_batch=1", "--steps=60", "--checkpoint_every=10"),
    *("--diagnostics=persistence,fourier", "--save_diagrams"),
]


def start(workdir, *more):
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep left alone, and how many seconds it lived."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "w"
    begun = time.monotonic()
    process = start(workdir)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return workdir, time.monotonic() - begun


def wait_for_life(process):
    """Returns once the sweep has begun, past the imports; or ended."""
    for line in process.stdout:
        if "work directory" in line:
            return


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_killed_at_random_moments_it_ends_with_the_same_tables(
    number, undisturbed, tmp_path, request
):
    reference, life = undisturbed
    moments = random.Random(int(number))
    kills = chains = 0
    wanted = request.config.getoption("--kills")
    if number == signal.SIGTERM and wanted < 40:
        wanted = -(-wanted // 2)
    alone = tables(reference)
    while kills < wanted:
        workdir = tmp_path / f"w{chains}"
        while True:
            keep = moments.choice(["all", "measured", "every:4", "last"])
            minutes = moments.choice([0, 0.005, 3])
            process = start(workdir, f"--keep={keep}", f"--state_minutes={minutes}")
            # A few die young, in the imports or as they open the directory.
            if moments.random() < 0.9:
                wait_for_life(process)
            left = moments.uniform(0, 0.7 * life) if kills < wanted else None
            try:
                output, _ = process.communicate(timeout=left)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                output, _ = process.communicate()
            if process.returncode == 0:
                break
            allowed = {-number, cli.EXIT_STOPPED} - ({-9} if number == signal.SIGTERM else set())
            assert process.returncode in allowed, output
            kills += 1
            if (workdir / "results" / "metrics.parquet").exists():
                # Tables are whole at every moment, with every row once.
                metrics = grokjax.load(workdir).metrics
                assert not metrics.duplicated(["run_id", "step"]).any()
        assert_same_tables(tables(workdir), alone)
        ours, theirs = audit.audit(workdir), audit.audit(reference)
        assert ours.n_checkpoints + ours.n_gone == theirs.n_checkpoints
        assert (ours.findings, ours.unfinished, ours.n_rows) == ((), (), theirs.n_rows)
        chains += 1
    print(f"{kills} times {number.name} over {chains} sweeps of {life:.1f} s")


def test_a_second_signal_ends_it_at_once_and_loses_nothing(undisturbed, tmp_path):
    reference, _ = undisturbed
    workdir = tmp_path / "w"
    process = start(workdir)
    for line in process.stdout:
        if "step 0 " in line:
            break
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == cli.EXIT_STOPPED, output
    finishing = start(workdir)
    output, _ = finishing.communicate()
    assert finishing.returncode == 0, output
    assert_same_tables(tables(workdir), tables(reference))
