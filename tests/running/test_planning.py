"""What a plan says, against the sweep itself and sums by hand; that it writes nothing."""

import os

import pytest

from grokjax import cli, sweep
from grokjax.diagnostics import Options
from grokjax.report import drawing
from grokjax.running import planning, rates, storage
from grokjax.settings import grid
from grokjax.settings.config import Saving
from grokjax.store import record
from grokjax.training import compilation, work
from tests.helpers import make_config
from tests.programs import call

GRID = [
    *("--primes=11,13", "--train_fractions=0.5", "--models=mlp", "--seeds=1:4", "--batch_size=32"),
    *("--d_model=64", "--mlp_width=128", "--mlp_depth=2", "--steps=60", "--checkpoint_every=10"),
    *("--diagnostics=persistence,fourier", "--save_diagrams", "--state_minutes=0"),
]
RATES = {
    "compiling": 7.0, "training": 0.01, "evaluation": 0.1, "a checkpoint": 0.5,
    "compiling lenses": 3.0, "lenses": {"persistence": [[0, 0.4], [0, 0.2]]}, "rows": {},
    "base": 10**8,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pages(monkeypatch):
    monkeypatch.setattr(drawing, "write", lambda *_: "none")


def of(folder, *names):
    return sum(storage.there(folder / "checkpoints" / batch.name / name)
               for batch in (folder / "checkpoints").iterdir() for name in names)  # fmt: skip


@pytest.mark.parametrize("keep", [pytest.param("all", marks=pytest.mark.thorough), "last"])
def test_the_disk_is_that_of_the_sweep(keep, tmp_path, capsys):
    workdir = tmp_path / "w"
    arguments = [*GRID, f"--keep={keep}", f"--workdir={workdir}"]
    assert call(sweep.main, *arguments, "--plan") == 0
    assert not workdir.exists()
    said = capsys.readouterr().out
    assert "6 runs of 60 steps, 7 checkpoints: --primes=11,13 --seeds=1,2,3\n1 program, 1 b" in said
    assert call(sweep.main, *arguments) == 0
    config = record.read_config(workdir)
    found = storage.disk(config, record.batches_of(workdir, config, None))
    assert found.checkpoints == pytest.approx(of(workdir, "params", "let_go"), rel=0.1)
    assert found.states == pytest.approx(of(workdir, "optimizer"), rel=0.1)
    assert found.tables == pytest.approx(storage.there(workdir / "results"), rel=0.3)
    there = storage.there(workdir / "checkpoints")
    assert call(sweep.main, *arguments, "--plan") == 0
    assert "(100% is done)" in capsys.readouterr().out
    assert storage.there(workdir / "checkpoints") == there


def test_files_may_go_while_they_are_counted(tmp_path, monkeypatch):
    for name in ("a", "b/c", "b/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1234567")
    assert storage.there(tmp_path) == 21
    walk = os.walk

    def beside_a_sweep(folder):
        for found in walk(folder):
            (tmp_path / "b/d").unlink(missing_ok=True)
            (tmp_path / "a").unlink(missing_ok=True)  # has been listed
            yield found

    monkeypatch.setattr(storage.os, "walk", beside_a_sweep)
    assert storage.there(tmp_path) == 7
    assert storage.there(tmp_path / "nowhere") == 0


def test_a_disk_that_is_too_small_is_said_before_the_first_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(storage, "free", lambda folder: 1_234_567)
    workdir = tmp_path / "w"
    arguments = [*GRID, f"--workdir={workdir}"]
    assert call(sweep.main, *arguments) == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert f"--workdir={workdir}: the sweep needs" in error
    assert "its disk has 1,234,567 free (1.23 MB)" in error
    assert "--keep=last" in error and "--allow=disk" in error
    assert not workdir.exists()
    assert call(sweep.main, *arguments, "--allow=disk") == 0
    # What is there is not needed again.
    assert call(sweep.main, *arguments) == 0


@pytest.fixture
def counted(monkeypatch):
    """Counts measurements, whose outcomes are given."""
    found = []

    def measure(sample, config, n_steps):
        found.append(len(sample))
        return RATES

    monkeypatch.setattr(rates, "measure", measure)
    monkeypatch.setattr(rates, "_base", lambda *_: 10**8)
    return found


def planned(tmp_path, config):
    batches = grid.plan_batches(config.runs, 100)
    return planning.plan({tmp_path / "w": (config, batches)})


def test_times_are_sums_of_rates(tmp_path, counted):
    options = Options(diagnostics=("persistence",))
    axes = {"prime": [11], "seed": range(5), "batch_size": [16]}
    config = make_config(steps=400, every=100, options=options, **axes)
    found = planned(tmp_path, config)
    wanted = {"compiling": 10.0, "training": 20.0, "evaluation": 2.5, "checkpoints": 2.5,
              "diagnostics": 5.0}  # fmt: skip
    assert {k: found.seconds[k] for k in wanted} == pytest.approx(wanted, rel=0.01)
    assert found.total_seconds == pytest.approx(40 + found.seconds["start"], rel=0.01)
    assert (found.n_runs, found.n_programs, found.batches, found.done) == (5, 1, (5,), 0)
    assert found.padding == 0
    one = work.memory(config.runs, config.train, 5).of(5)
    assert found.memory == 10**8 + one


def test_others_are_scaled_by_their_operations(tmp_path, counted):
    options = Options(diagnostics=())
    config = make_config(options=options, model=["mlp"], prime=[11, 29], mlp_depth=[1, 2, 3, 4, 5],
                         mlp_width=[64], batch_size=[16])  # fmt: skip
    found = planned(tmp_path, config)
    assert len(counted) == 4  # of five programs
    costs = [work.trace(batch[-1], config.train).flops[0] for batch in
             grid.plan_batches(config.runs, 100)]  # fmt: skip
    assert len(costs) == 5
    measured, missing = [costs[i] for i in (0, 1, 3, 4)], costs[2]
    nearest = min(measured, key=lambda cost: max(cost / missing, missing / cost))
    expected = 0.01 * 400 * 2 * (4 + missing / nearest)
    assert found.seconds["training"] == pytest.approx(expected)
    own = work.costs(config.runs, config.train)
    padded = 2 * sum(max(own[i : i + 2]) for i in range(0, 10, 2))
    assert found.padding == pytest.approx(1 - sum(own) / padded)
    assert 0.01 < found.padding < 0.5


def test_rates_are_measured_once(tmp_path, counted, monkeypatch):
    compilation.jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setitem(compilation.jax.config.values, "jax_compilation_cache_dir", str(tmp_path))
    axes = {"prime": [7], "batch_size": [8], "seed": [1]}
    options = Options(diagnostics=("persistence",))
    for _ in range(2):
        planned(tmp_path, make_config(options=options, **axes))
    assert len(counted) == 1
    planned(tmp_path, make_config(options=options, **axes | {"d_model": [64]}))
    assert len(counted) == 2


def test_states_are_as_many_as_there_is_time_for():
    config = make_config(saving=Saving(keep="measured"), prime=[11], batch_size=[16])
    batches = grid.plan_batches(config.runs, 100)
    long, short = (storage.disk(config, batches, seconds=[s]) for s in (600, 10))
    assert long.states == 2 * short.states
    assert long.checkpoints > short.checkpoints
