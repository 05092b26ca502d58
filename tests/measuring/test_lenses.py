"""Lenses on the devices: all runs at once as one by one, and as from the definitions."""

import dataclasses
import functools
import threading

import jax
import numpy as np
import pytest

from grokjax import analyze, diagnostics, sweep
from grokjax.diagnostics import Options
from grokjax.measuring import isolation, lenses, views
from grokjax.measuring.lenses import Lenses
from grokjax.models import network
from grokjax.report import drawing
from grokjax.settings.config import TrainConfig
from grokjax.training import data, mapped
from grokjax.training.evaluator import Evaluator
from grokjax.training.step import Program
from tests.helpers import make_runs
from tests.programs import assert_same_tables, call, tables

pytestmark = pytest.mark.device

CONFIG = TrainConfig(steps=20, checkpoint_every=10)
OPTIONS = Options(
    diagnostics=("fourier", "dimension"),
    clouds=("embedding", "hidden1"),
    cloud_points=24,
    lid_points=60,
    lid_neighbors=8,
    save_key_frequencies=True,
)
SMALL = {"d_model": [16], "d_ff": [16], "mlp_width": [16], "n_layers": [1], "mlp_depth": [1]}
# Runs of one static part, several sizes and structures in a batch.
CASES = {
    "primes": [("add", 12), ("multiply", 13)],
    "groups": ["d5", "s3_conjugate"],
    "mlp": [("divide", 11), ("quadratic", 12)],
}
MLP, GROUPS = (pytest.param(case, marks=pytest.mark.thorough) for case in ("mlp", "groups"))
OTHERS_THOROUGHLY = ["primes", GROUPS, MLP]
# Of groups no dimension, for each size is compiled.
OF_CASE = {"groups": dataclasses.replace(OPTIONS, diagnostics=("fourier",))}


@functools.cache
def batch(case):
    """The runs of a case, and initial parameters of all of them, NumPy arrays with padding."""
    axes = SMALL | {"model": ["mlp" if case == "mlp" else "transformer"]}
    runs = [
        make_runs(operation=[task], seed=[1, 2, 3], **axes)
        if isinstance(task, str)
        else make_runs(operation=[task[0]], prime=[task[1]], seed=[1, 2, 3], **axes)
        for task in CASES[case]
    ]
    runs = sum(runs, ())
    program, mesh = Program.of(runs, CONFIG), mapped.runs_mesh(len(runs))
    state = mapped.init(program, mesh)(mapped.place(mesh, data.stack(runs)))
    return runs, jax.tree.map(lambda leaf: np.asarray(leaf)[: len(runs)], state.params)


def see(case, index=None):
    """Run id → what is seen of the runs of a case, or of some of them."""
    runs, params = batch(case)
    index = list(range(len(runs))) if index is None else index
    of_runs = Lenses(OF_CASE.get(case, OPTIONS), CONFIG)
    some = jax.tree.map(lambda leaf: leaf[index], params)
    return of_runs.of_batch(of_runs.evaluator([runs[i] for i in index]), 10, some)


seen = functools.cache(see)


def assert_alike(ours, theirs, rtol):
    """Asserts that what was seen is the same: integers, text and NaN to the bit."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, own), other in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        # Float32 is that of the forward pass, whose products are of other shapes.
        np.testing.assert_allclose(own, other, rtol=rtol, atol=rtol, err_msg=str(path))


@pytest.mark.parametrize("case", [pytest.param("primes", marks=pytest.mark.thorough), GROUPS, MLP])
def test_all_runs_at_once_as_accelerators_take_them_are_those_one_by_one(case, monkeypatch):
    one_by_one = seen(case)
    runs_at_a_time = []

    def at_once(mesh, bytes_each):
        runs_at_a_time.append(2)
        return 2

    programs = (mapped.examine, mapped.evaluate, lenses._program, lenses._states)
    for cached in programs:
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(mapped, "_one_by_one", lambda mesh: False)
        patch.setattr(mapped, "runs_at_once", at_once)
        together = see(case)
    for cached in programs:
        cached.cache_clear()
    assert runs_at_a_time
    assert together.keys() == one_by_one.keys()
    for run_id, own in together.items():
        assert_alike(own, one_by_one[run_id], 2e-5)


@pytest.mark.parametrize("case", OTHERS_THOROUGHLY)
def test_a_run_is_the_same_whatever_its_batch(case):
    runs, _ = batch(case)
    alone = see(case, [1])
    assert set(alone) == {runs[1].run_id}
    assert_alike(alone[runs[1].run_id], seen(case)[runs[1].run_id], 0)


def assert_same_row(ours, theirs):
    """Asserts that numbers are those of other sums of the same, and all else is equal."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True)
        assert ours[name] == value, name


def view_of(case, i, options, own):
    runs, params = batch(case)
    cut = network.row(runs[i].model, params, i, data.sizes([runs[i]]))
    return views.view(runs[i], cut, 10, CONFIG, options, own)


@pytest.mark.parametrize("case", OTHERS_THOROUGHLY)
def test_rows_are_those_of_the_public_functions(case):
    runs, _ = batch(case)
    for i in range(0, len(runs), 3):
        own = seen(case)[runs[i].run_id]
        for name in OF_CASE.get(case, OPTIONS).diagnostics:
            assert own.reduced[name]
            lens = diagnostics.get(name)
            ours = lens.measure([view_of(case, i, OPTIONS, own)], OPTIONS)
            theirs = lens.measure([view_of(case, i, OPTIONS, None)], OPTIONS)
            assert ours.keys() == theirs.keys()
            for table, rows in ours.items():
                assert len(rows) == len(theirs[table]) > 0 or table == "key_frequencies"
                # Dictionaries come from a device in alphabetical order.
                keys = ("matrix", "cloud", "frequency")
                pairs = (
                    sorted(own, key=lambda row: [row.get(key, 0) for key in keys])
                    for own in (rows, theirs[table])
                )
                for row, other in zip(*pairs, strict=True):
                    assert_same_row(row, other)
    if case != "mlp":
        measured = [own.reduced["fourier"]["frequency"] for own in seen(case).values()]
        assert any(len(set(own.tolist())) > 1 for own in measured)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_that_is_not_finite_has_no_numbers_and_harms_no_other(bad):
    runs, params = batch("primes")
    poisoned = jax.tree.map(np.copy, params)
    poisoned["unembed"]["kernel"][3] = bad
    of_runs = Lenses(OPTIONS, CONFIG)
    found = of_runs.of_batch(of_runs.evaluator(runs), 10, poisoned)
    own = found[runs[3].run_id]
    cut = network.row(runs[3].model, poisoned, 3, data.sizes([runs[3]]))
    rows = [
        diagnostics.get("fourier").measure(
            [views.view(runs[3], cut, 10, CONFIG, OPTIONS, looked)], OPTIONS
        )["fourier"]
        for looked in (own, None)
    ]
    assert_same_row(rows[0][0], rows[1][0])
    assert np.isnan(rows[0][0]["excluded_loss"]) and np.isnan(rows[0][0]["restricted_accuracy"])
    for i in (2, 4):
        assert_alike(found[runs[i].run_id], seen("primes")[runs[i].run_id], 0)


def test_evaluation_by_chunks_is_that_of_the_batch():
    runs, params = batch("groups")
    program, mesh = Program.of(runs, CONFIG), mapped.runs_mesh(len(runs))
    placed = mapped.place(mesh, params), mapped.place(mesh, data.stack(runs))
    whole = jax.device_get(mapped.evaluate(program, mesh)(*placed))
    by_chunks = Evaluator(runs, CONFIG)
    found = by_chunks.gathered([(c, c.evaluate()) for c in by_chunks.chunks(params)])
    examined = by_chunks.gathered([(c, c.examine()[0]) for c in by_chunks.chunks(params)])
    for ours, own, theirs in zip(found, examined, whole, strict=True):
        np.testing.assert_array_equal(ours, own)
        np.testing.assert_allclose(ours, theirs[: len(runs)], rtol=1e-5)
    assert (found.count.sum(axis=1) == [run.task.n_places for run in runs]).all()


GRID = """
--models=mlp --operations=add --primes=11,13 --train_fractions=0.5 --seeds=1
--d_model=16 --n_heads=2 --d_ff=16 --n_layers=1 --mlp_width=16 --mlp_depth=1 --batch_size=32
--steps=40 --checkpoint_every=10 --clouds=all --cloud_points=20 --lid_points=40 --lid_neighbors=8
--diagnostics=persistence,fourier,dimension
""".split()


def test_a_sweep_looks_between_chunks_and_an_analysis_gives_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "write", lambda *_: "none")
    looked, right = [], Lenses.look

    def look(self, step, *arguments):
        looked.append((step, threading.current_thread() is threading.main_thread()))
        return right(self, step, *arguments)

    monkeypatch.setattr(Lenses, "look", look)
    monkeypatch.setattr(views, "_hidden", None)  # the thread asks the device for nothing
    workdir = tmp_path / "w"
    assert call(sweep.main, *GRID, f"--workdir={workdir}") == 0
    assert {step for step, _ in looked} == {0, 10, 20, 30, 40}
    assert all(in_training for _, in_training in looked)
    before = tables(workdir)
    assert {"fourier", "spectra", "dimension", "persistence"} <= before.keys()
    for name in ("fourier", "spectra", "dimension", "persistence"):
        (workdir / f"results/{name}.parquet").unlink()
    assert call(analyze.main, f"--workdir={workdir}") == 0
    assert_same_tables(tables(workdir), before)


def test_what_raises_on_the_device_is_that_diagnostics_failure_alone(monkeypatch):
    def wrong(run, constants, options):
        raise ArithmeticError("not today")

    monkeypatch.setattr(diagnostics.get("dimension"), "on_device", wrong)
    found = see("mlp", [0, 1])
    for i, own in enumerate(found.values()):
        view = view_of("mlp", i, OPTIONS, own)
        rows, failures = isolation.measure("dimension", [view], OPTIONS)
        assert rows == {"dimension": []}
        assert isolation.sentences(failures) == [
            f"dimension failed on cloud all of {view.run_id} at step 10: "
            "ArithmeticError('not today')"
        ]
        assert isolation.measure("fourier", [view], OPTIONS)[1] == {}
