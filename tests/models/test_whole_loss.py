"""Derivatives in both modes and of second order of the loss of whole networks."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from grokjax.models import products
from grokjax.models.architectures import transformer
from grokjax.settings.config import TrainConfig
from grokjax.training import data, mapped, step, work
from grokjax.training.step import Program
from tests import reference
from tests.helpers import make_runs
from tests.models.test_products import TINY, P, curvature_of, normal

pytestmark = pytest.mark.device


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


@functools.cache
def network(kind, **shape):
    """Loss as a function of one vector of parameters, the textbook's, and such a vector."""
    sizes = {name: [value] for name, value in (TINY | shape).items()}
    (run,) = make_runs(model=[kind], prime=[P], batch_size=[16], **sizes)
    program = Program.of([run], TrainConfig())
    own = jax.tree.map(lambda leaf: leaf[0], data.stack([run]))
    rng = np.random.default_rng(0)
    pairs = jnp.asarray(rng.integers(0, P, (16, 2)), jnp.int32)
    label = jnp.asarray(rng.integers(0, P, 16), jnp.int32)
    template = program.model.template()
    vector, tree = ravel_pytree(jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape), template))

    def loss(vector):
        return step.loss(tree(vector), program, own, pairs, label)

    def textbook(vector):
        logits = reference.NETWORKS[kind](tree(vector), run.model, pairs)[0]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], axis=1).mean()

    return loss, textbook, vector


KINDS = pytest.mark.parametrize("kind", ["transformer", "mlp"])


@KINDS
def test_derivatives_of_the_loss_equal_finite_differences(kind):
    loss, _, x = network(kind)
    (along,) = normal(x.shape, seed=1)

    @jax.jit
    def at(x):
        return jax.jvp(jax.value_and_grad(loss), (x,), (along,))

    small = 1e-5
    ((_, gradient), (slope, curvature)), *around = (at(x + c * along) for c in (0, small, -small))
    differences = [
        (ahead - behind) / (2 * small)
        for ahead, behind in zip(around[0][0], around[1][0], strict=True)
    ]
    np.testing.assert_allclose(slope, gradient @ along, rtol=1e-12)
    np.testing.assert_allclose(slope, differences[0], rtol=1e-7)
    np.testing.assert_allclose(curvature, differences[1], atol=1e-7 * np.abs(curvature).max())


@pytest.mark.parametrize(
    "kind, shape",
    [
        ("transformer", {}),
        ("transformer", {"equals_token": True, "causal": True, "separate_embeddings": True}),
        ("mlp", {}),
    ],
)
def test_every_layout_gives_the_loss_and_the_gradient_of_the_others(kind, shape, monkeypatch):
    loss, _, x = network(kind, **shape)
    found = {}
    for on in (None, *products.ACCELERATORS):
        monkeypatch.setattr(products, "platform", lambda on=on: on)
        found[on] = jax.jit(jax.value_and_grad(loss))(x)
    value, gradient = found.pop(None)
    for ours, theirs in found.values():
        np.testing.assert_allclose(ours, value, rtol=1e-13)
        np.testing.assert_allclose(theirs, gradient, atol=1e-13 * np.abs(gradient).max())


def test_a_tpu_neither_gathers_nor_reshapes_heads(monkeypatch):
    loss, _, x = network("transformer")
    gathers = {}
    for on in ("cpu", "tpu"):
        monkeypatch.setattr(products, "platform", lambda on=on: on)
        text = jax.jit(jax.grad(loss)).lower(x).as_text()
        gathers[on] = text.count("stablehlo.gather"), text.count("16x2x4xf64")
    assert gathers["tpu"] == (0, 0)
    assert min(gathers["cpu"]) > 0


def test_an_accelerator_projects_half_as_many_keys(monkeypatch):
    loss, _, x = network("transformer")
    flops, joined_once = {}, {}
    for on in (None, *products.ACCELERATORS):
        monkeypatch.setattr(products, "platform", lambda on=on: on)
        jaxpr = jax.make_jaxpr(jax.grad(loss))(x)
        flops[on] = work.flops(work.products(jaxpr))
        joined_once[on] = "optimization_barrier" in str(jaxpr)
    # Of the second block: 16 rows of 8, by 8 × 8, and two products of its gradient.
    assert flops[None] - flops["gpu"] == 3 * 2 * 16 * 8 * 8
    assert flops["tpu"] > flops["gpu"]  # heads and rows are products there
    assert joined_once == {None: False, "gpu": True, "tpu": True}


def test_an_accelerator_sums_the_first_bias_over_elements(monkeypatch):
    monkeypatch.setattr(products, "platform", lambda: "gpu")
    loss, _, x = network("transformer")

    def sums():  # over both tokens of 16 examples, and of 11 elements
        text = jax.jit(jax.grad(lambda x: loss(x))).lower(x).as_text()
        return [text.count(f"across dimensions = [0] : (tensor<{n}x8xf64>") for n in (32, 22)]

    of_examples, of_elements = sums()
    monkeypatch.setattr(transformer.Transformer, "_biased_tables", lambda self: False)
    assert sums() == [of_examples + 1, of_elements - 1]


def test_a_gpu_takes_queries_keys_and_values_out_of_one_table(monkeypatch):
    loss, _, x = network("transformer")
    monkeypatch.setattr(products, "platform", lambda: "gpu")
    text = jax.jit(jax.grad(loss)).lower(x).as_text()
    assert len(re.findall(r"stablehlo.gather.*: \(tensor<22x24xf64>", text)) == 3


@KINDS
def test_the_hessian_of_the_loss_is_symmetric_and_the_textbooks(kind):
    loss, textbook, x = network(kind, d_model=4, d_ff=4, mlp_width=4, n_layers=1)
    hessian = jax.jit(jax.hessian(loss))(x)
    assert np.abs(hessian).max() > 0.1
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-13)
    np.testing.assert_allclose(hessian, jax.jit(jax.hessian(textbook))(x), atol=1e-12)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_curvature_over_runs_and_steps_equals_that_of_each(one_by_one, monkeypatch):
    loss, _, x = network("transformer", n_layers=1)
    curvature = curvature_of(loss)

    def power_iteration(x, along):
        return jax.lax.scan(lambda v, _: (curvature(x, v), v), along, length=3)[0]

    runs = jnp.stack([x, 0.5 * x]), jnp.stack(normal(x.shape, x.shape, seed=1))
    monkeypatch.setattr(mapped, "_one_by_one", lambda mesh: one_by_one)
    program = types.SimpleNamespace(precision="float32")
    found = mapped.over_runs(program, mapped.runs_mesh(1), power_iteration)(*runs)
    alone = jax.jit(curvature)
    for ours, x, along in zip(found, *runs, strict=True):
        wanted = alone(x, alone(x, alone(x, along)))
        np.testing.assert_allclose(ours, wanted, atol=1e-11 * np.abs(wanted).max())
