"""Losses and logits as functions of parameters: against evaluation, and against differences."""

import functools

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from grokjax.diagnostics import Options, _derivatives, sharpness, weights
from grokjax.measuring import functions, views
from grokjax.models.network import Model
from grokjax.settings.config import TrainConfig
from grokjax.settings.fields import FULL
from grokjax.training import data, evaluation
from grokjax.training.step import Program
from tests.helpers import make_runs

SMALL = {"prime": [7], "d_model": [8], "n_heads": [2], "d_ff": [8], "n_layers": [1]}
KINDS = {
    "transformer": SMALL,
    "mlp": {"model": ["mlp"], "prime": [7], "d_model": [8], "mlp_width": [8], "mlp_depth": [1]},
    "separate": SMALL | {"separate_embeddings": [True], "equals_token": [True]},
    "full batch": SMALL | {"batch_size": [FULL], "loss": ["squared_error"]},
    "float64": SMALL | {"loss_precision": ["float64"]},
}
kinds = pytest.mark.parametrize("kind", KINDS)
# Of a transformer with a third token the loss and the logits say that it is the same function.
most_kinds = pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=[pytest.mark.thorough] * (k == "separate")) for k in KINDS],
)


@functools.cache
def made(kind):
    """A run, its network's first parameters, and its view."""
    (run,) = make_runs(**KINDS[kind])
    model = Model(config=run.model, sizes=data.sizes([run]))
    params = jax.device_get(model.init(jax.random.key(1), model.sizes, 1.0))
    return run, params, views.view(run, params, 0, TrainConfig(), Options())


@kinds
def test_the_loss_is_that_of_evaluation(kind):
    run, params, view = made(kind)
    own = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[0]), data.stack([run]))
    found = evaluation.evaluate_run(Program.of([run], TrainConfig()), params, own)
    expected = float(found.loss[0]) / int(found.count[0])
    assert float(view.loss(4096)(params)) == pytest.approx(expected, rel=1e-5)


def test_fewer_examples_are_a_part_of_those_that_train_always_the_same():
    _, params, view = made("mlp")
    all_of_it, part = view.loss(4096), view.loss(5)
    assert part(params) == view.loss(5)(params) != all_of_it(params)
    inputs = part.args[0].train_inputs
    assert len(inputs) == 5
    assert {tuple(pair) for pair in inputs} < {tuple(i) for i in all_of_it.args[0].train_inputs}


@kinds
def test_pair_logits_are_the_views(kind):
    run, params, view = made(kind)
    logits, still = view.pair_logits(), np.zeros((2, 8), np.float32)
    for a, b in ((2, 5), (4, 4)):
        found = logits(params, np.array([a, b]), still)
        np.testing.assert_allclose(found, view.logits()[a * 7 + b], rtol=2e-4, atol=1e-5)
    # A shift of a's row is a change of the embedding; of b's where it has a table of its own too.
    shifts = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    moved = jax.tree.map(np.array, params)
    moved["embed"]["embedding"][2] += shifts[0]
    moved["embed_second" if kind == "separate" else "embed"]["embedding"][5] += shifts[1]
    other = views.view(run, moved, 0, TrainConfig(), Options())
    found = logits(params, np.array([2, 5]), shifts)
    np.testing.assert_allclose(found, other.logits()[2 * 7 + 5], rtol=2e-4, atol=1e-5)


@most_kinds
def test_the_gradient_is_that_of_small_differences(kind):
    _, params, view = made(kind)
    loss = view.loss(4096)
    gradient = _derivatives.gradient(loss, params)
    flat, unravel = ravel_pytree(params)
    direction = np.random.default_rng(0).normal(size=flat.shape).astype(np.float32)
    step = 1e-2 / np.linalg.norm(direction)
    ahead, behind = (float(loss(unravel(flat + s * step * direction))) for s in (1, -1))
    slope = float(ravel_pytree(gradient)[0] @ direction)
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=0.02, abs=2e-2)
    rows = weights.norms(params, gradient)
    total = sum(row["gradient_norm"] ** 2 for row in rows)
    assert total**0.5 == pytest.approx(np.linalg.norm(ravel_pytree(gradient)[0]), rel=1e-5)


@most_kinds
def test_hessian_products_are_differences_of_gradients(kind):
    _, params, view = made(kind)
    loss = view.loss(4096)
    flat, unravel = ravel_pytree(params)
    direction = np.random.default_rng(1).normal(size=flat.shape).astype(np.float32)
    direction /= np.linalg.norm(direction)
    product = _derivatives.hessian_product(loss, params, direction)
    ahead, behind = (
        ravel_pytree(_derivatives.gradient(loss, unravel(flat + s * 5e-3 * direction)))[0]
        for s in (1, -1)
    )
    difference = (ahead - behind) / 1e-2
    assert np.linalg.norm(product - difference) < 0.02 * np.linalg.norm(difference)


def test_sharpness_is_the_largest_eigenvalue_of_the_whole_hessian():
    _, params, view = made("mlp")
    flat, _ = ravel_pytree(params)
    rows = jax.lax.map(functools.partial(_derivatives.hessian_product, view.loss(4096), params),
                       np.eye(flat.size, dtype=np.float32))  # fmt: skip
    largest = np.linalg.eigvalsh(np.asarray(rows, np.float64))[-1]
    (row,) = sharpness.measure([view], Options())["sharpness"]
    assert row["sharpness"] == pytest.approx(largest, rel=2e-3)
    assert row["n_examples"] == view.train_mask.sum()
    assert 1 < row["n_products"] < flat.size / 2
    (few,) = sharpness.measure([view], Options(hessian_examples=5))["sharpness"]
    assert few["n_examples"] == 5
    assert few["sharpness"] != row["sharpness"]


@pytest.mark.parametrize("values", [[3.0, 2.9, -40.0], [-1.0, -2.0, -5.0], [0.0, 0.0, 0.0, 7.0]])
def test_the_largest_eigenvalue_is_the_most_positive(values):
    n = 40
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    matrix = basis[:, : len(values)] * values @ basis[:, : len(values)].T
    found = sharpness.largest_eigenvalue(lambda v: matrix @ v, n)
    assert found.value == pytest.approx(max(*values, 0), rel=1e-3, abs=1e-4)


def test_runs_of_a_kind_share_a_program():
    runs = make_runs(**KINDS["mlp"], seed=[1, 2])
    program = Program.of(runs[:1], TrainConfig())
    params = made("mlp")[1]
    before = _derivatives.gradient._cache_size()
    for run in runs:
        _derivatives.gradient(functions.loss(program, run, 7), params)
    assert _derivatives.gradient._cache_size() == before + 1
