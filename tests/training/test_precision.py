"""Precision: of the loss, and of matrix products."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grokjax.models import products
from grokjax.settings.config import PRECISIONS
from grokjax.settings.fields import InvalidSettingError
from grokjax.tasks.task import make_data
from grokjax.training import float64, mapped
from tests.helpers import make_runs
from tests.training.batches import Batch

pytestmark = pytest.mark.device


def test_cross_entropy_in_float64_is_numpys():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 13)).astype(np.float32)
    label = rng.integers(0, 13, 50).astype(np.int32)
    logits[np.arange(50), label] += np.linspace(0, 40, 50, dtype=np.float32)  # surer and surer
    rows = np.arange(50)
    wrong = np.exp(logits - logits[rows, label].astype(np.float64)[:, None])
    wrong[rows, label] = 0
    loss = np.log1p(wrong.sum(1))
    to_logits = wrong / (1 + wrong.sum(1, keepdims=True))
    to_logits[rows, label] = -to_logits.sum(1)
    value, pull = jax.vjp(lambda x: float64.cross_entropy(x, label), jnp.asarray(logits))
    (gradient,) = pull(jnp.full(50, 0.5, jnp.float32))
    assert value.dtype == gradient.dtype == jnp.float32
    assert loss[-1] < 1e-14  # small numbers keep their digits
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.5 * to_logits, rtol=1e-6)
    in_float32 = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), label)
    np.testing.assert_allclose(value, in_float32, atol=1e-6)
    assert in_float32[-1] == 0  # what this is for


def test_the_loss_in_float64_trains_and_evaluates():
    plain, wide = (
        Batch(make_runs(model=["mlp"], prime=[13, 23], loss_precision=[precision]))
        for precision in ("float32", "float64")
    )
    np.testing.assert_allclose(plain.train(10), wide.train(10), rtol=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(wide.state.params)} == {np.dtype(np.float32)}
    # Scaled up, the network is sure of its answers, right or wrong.
    sums = {}
    for batch in (plain, wide):
        params = jax.tree.map(lambda leaf: 4 * leaf, plain.state.params)
        sums[batch] = jax.device_get(mapped.evaluate(batch.program, batch.mesh)(params, batch.data))
    pairs = np.stack(np.divmod(np.arange(23 * 23), 23), axis=1).astype(np.int32)
    with jax.default_matmul_precision("highest"):
        second = jax.tree.map(lambda leaf: leaf[1], params)
        logits = jax.jit(plain.program.model.logits)(second, pairs)
    logits = np.asarray(logits, np.float64)
    gap = logits - logits.max(1, keepdims=True)
    loss = np.log(np.exp(gap).sum(1)) - gap[np.arange(529), pairs.sum(1) % 23]
    trained = make_data(plain.runs[1]).train_mask
    np.testing.assert_allclose(sums[wide].loss[1, 0], loss[trained].sum(), rtol=1e-5)
    np.testing.assert_array_equal(sums[wide].right, sums[plain].right)


def test_bfloat16_rounds_the_factors_and_adds_up_in_float32():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 30), (30, 10)))
    rounded = [z.astype(jnp.bfloat16).astype(np.float64) for z in (x, y)]
    with jax.default_matmul_precision(PRECISIONS["bfloat16"]):
        product = np.asarray(jax.jit(products.product)(x, y))
    np.testing.assert_allclose(product, rounded[0] @ rounded[1], atol=1e-5)
    assert np.abs(product - x @ y).max() > 1e-3


def test_the_step_keeps_to_the_precision_asked_for():
    losses = {}
    for precision in ("float32", "bfloat16"):
        losses[precision] = Batch(make_runs(model=["mlp"]), precision=precision).train(3)
    gap = np.abs(losses["float32"] - losses["bfloat16"])
    assert gap.min() > 1e-6
    assert gap.max() < 0.05


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_tf32_is_refused_where_there_is_none(precision, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    with pytest.raises(InvalidSettingError, match=f"--precision={precision}: only a GPU has TF32"):
        mapped.check_precision(precision)
    mapped.check_precision("bfloat16")
    mapped.check_precision("bfloat16x3")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    mapped.check_precision(precision)


def test_three_passes_are_the_three_larger_products_of_bfloat16_halves():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 300), (300, 10)))
    halves = []
    for z in (x, y):
        rounded = np.asarray(jnp.asarray(z).astype(jnp.bfloat16).astype(jnp.float32))
        rest = np.asarray(jnp.asarray(z - rounded).astype(jnp.bfloat16)).astype(np.float64)
        halves.append((rounded.astype(np.float64), rest))
    (x_1, x_2), (y_1, y_2) = halves
    with jax.default_matmul_precision(PRECISIONS["bfloat16x3"]):
        product = np.asarray(jax.jit(products.product)(x, y))
    np.testing.assert_allclose(product, x_1 @ y_1 + x_1 @ y_2 + x_2 @ y_1, atol=2e-5)
    exact, size = x.astype(np.float64) @ y, np.abs(x) @ np.abs(y)
    assert np.abs(product - exact).max() < 2**-14 * size.max()
    # Of the order of 2^-16, so neither one pass nor float32.
    assert 2**-21 < np.abs((product - exact) / size).max() < 2**-14
