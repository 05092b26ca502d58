"""Killed at random moments and started again, a sweep ends with the tables of one left alone.

A grid of two tasks, in two batches. Each start has another idea of what is kept (--keep) and how
often a state is (--state_minutes).

One kill by default, and one asked for politely, two for each five of more. ``pytest
tests/test_kills.py --kills=100 --thorough`` makes a hundred and forty, of a grid with two networks
and two widths that draws its report too, and kills one of two processes twenty times.
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
from tests.programs import assert_same_tables, ended, started, tables

GRID = [
    *("--operations=add,d5", "--primes=11", "--train_fractions=0.5", "--seeds=1"),
    *("--models=mlp", "--d_model=8", "--mlp_width=16", "--mlp_depth=1"),
    *("--batch_size=32", "--runs_per_batch=1"),
    *("--steps=40", "--checkpoint_every=10", "--diagnostics=persistence,fourier"),
    "--save_diagrams",
]
# Later flags count.
LARGER = [
    *("--models=mlp,transformer", "--d_model=8,16", "--n_heads=2", "--d_ff=16", "--n_layers=1"),
    "--runs_per_batch=2",
]


@pytest.fixture(scope="module")
def grid(request):
    """Flags of the grid."""
    return [*GRID, *LARGER] if request.config.getoption("--thorough") else GRID


@pytest.fixture(scope="module")
def start(grid, request):
    """Starts a sweep."""
    thorough = request.config.getoption("--thorough")
    program = "grokjax.sweep" if thorough else "tests.sweep_without_pages"

    def begin(workdir, *more, output=subprocess.PIPE):
        return subprocess.Popen(
            [sys.executable, "-m", program, *grid, f"--workdir={workdir}", *more],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )

    return begin


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """A sweep left alone, and how many lines it said."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "w"
    process = start(workdir)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return workdir, output.count("\n")


def wait_for_lines(process, number):
    """Returns once it has said so many lines, or ended; no load of the machine moves that."""
    for _ in zip(range(number), process.stdout, strict=False):
        pass


def assert_clean(workdir, reference):
    """Asserts that all is there and nothing is wrong."""
    ours, theirs = audit.audit(workdir), audit.audit(reference)
    assert ours.n_checkpoints + ours.n_gone == theirs.n_checkpoints
    assert (ours.findings, ours.unfinished, ours.n_rows) == ((), (), theirs.n_rows)


# SIGTERM at a moment that is told, and a second signal after it, are tested elsewhere and below.
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="SIGKILL"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.thorough),
    ],
)
def test_killed_at_random_moments_it_ends_with_the_same_tables(
    number, undisturbed, start, tmp_path, request
):
    reference, n_lines = undisturbed
    moments = random.Random(int(number))
    kills = chains = 0
    wanted = request.config.getoption("--kills")
    if number == signal.SIGTERM:
        wanted = -(-2 * wanted // 5)
    alone = tables(reference)
    while kills < wanted:
        workdir = tmp_path / f"w{chains}"
        while True:
            keep = moments.choice(["all", "measured", "every:4", "last"])
            minutes = moments.choice([0, 0.005, 3])
            process = start(workdir, f"--keep={keep}", f"--state_minutes={minutes}")
            # A few die young, in the imports or as they open the directory.
            if moments.random() < 0.9:
                wait_for_lines(process, moments.randrange(1, n_lines))
            left = moments.uniform(0, 0.5) if kills < wanted else None
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
        assert_clean(workdir, reference)
        chains += 1
    print(f"{kills} times {number.name} over {chains} sweeps")


class Job:
    """Two processes of one job, what they say in files beside the work directory."""

    def __init__(self, start, workdir):
        self.start, self.workdir = start, workdir
        self.processes = [self._start(index) for index in range(2)]

    def _start(self, index):
        told = [f"--process_id={index}", "--num_processes=2"]
        with open(f"{self.workdir}-{index}.txt", "a") as output:
            return self.start(self.workdir, *told, output=output)

    def ended(self, seconds=None):
        """Exit codes, once all have ended; None if they have not after so many seconds."""
        until = time.monotonic() + (seconds if seconds is not None else 600)
        while any(process.poll() is None for process in self.processes):
            if time.monotonic() > until:
                return None
            time.sleep(0.02)
        return [process.returncode for process in self.processes]

    def start_again(self, indices):
        """Ends these, where they have not, and starts them anew; the others go on."""
        for index in indices:
            self.processes[index].kill()
            self.processes[index].wait()
            self.processes[index] = self._start(index)

    def said(self):
        return "\n".join(open(f"{self.workdir}-{index}.txt").read() for index in range(2))


@pytest.mark.thorough
def test_one_of_two_processes_killed_at_random_moments(start, tmp_path, request):
    """The one that was killed is started again, alone or with the other, as schedulers do it."""
    moments, kills, chains = random.Random(2), 0, 0
    wanted = -(-request.config.getoption("--kills") // 5)
    reference = tmp_path / "reference"
    for workdir in (reference, tmp_path / "again"):  # by now all is compiled
        job, begun = Job(start, workdir), time.monotonic()
        assert job.ended() == [0, 0], job.said()
    life = time.monotonic() - begun
    while kills < wanted:
        job = Job(start, tmp_path / f"w{chains}")
        while kills < wanted and job.ended(moments.uniform(0.1 * life, 0.9 * life)) is None:
            victim = moments.randrange(2)
            kills += job.processes[victim].poll() is None
            job.start_again([victim] if moments.random() < 0.5 else [0, 1])
        assert job.ended() == [0, 0], job.said()
        assert_same_tables(tables(job.workdir), tables(reference))
        assert_clean(job.workdir, reference)
        chains += 1
    print(f"{kills} times SIGKILL over {chains} jobs of {life:.1f} s")


def test_a_second_signal_ends_it_at_once_and_loses_nothing(undisturbed, grid, start, tmp_path):
    reference, _ = undisturbed
    workdir = tmp_path / "w"
    code, said = ended(
        started(*grid, f"--workdir={workdir}", signals="SIGTERM,SIGINT batch 1 step 0 ")
    )
    assert code == cli.EXIT_STOPPED, said
    finishing = start(workdir)
    output, _ = finishing.communicate()
    assert finishing.returncode == 0, output
    assert_same_tables(tables(workdir), tables(reference))
