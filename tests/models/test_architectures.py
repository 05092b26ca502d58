"""The fast networks against textbook ones, their initialisation, and the padding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax import models
from grokjax.settings.grid import ModelConfig
from grokjax.models import Model
from tests import reference
from tests.helpers import SMALL

P = 23
CONFIGS = [
    ModelConfig(model="transformer", **SMALL),
    ModelConfig(model="transformer", **SMALL | {"n_layers": 1}),
    ModelConfig(model="transformer", **SMALL | {"n_layers": 3, "n_heads": 1}),
    ModelConfig(model="mlp", **SMALL),
    ModelConfig(model="mlp", **SMALL | {"mlp_depth": 1}),
]
IDS = ["transformer", "one block", "three blocks, one head", "mlp", "one hidden layer"]


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.integers(0, P, 64), jnp.int32) for _ in range(2))


def make(config, n_tokens=P, prime=P, seed=0, scale=1.0):
    model = Model(config=config, n_tokens=n_tokens)
    return model, model.init(jax.random.key(seed), prime, scale)


def textbook(config):
    """(parameters, a, b) → logits, states."""
    network = reference.NETWORKS[config.model]
    return jax.jit(lambda params, a, b: network(params, config, a, b))


@pytest.fixture(autouse=True)
def _exact_products():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_logits_and_states_equal_the_textbook_network(config, pairs):
    model, params = make(config)
    logits, states = textbook(config)(params, *pairs)
    np.testing.assert_allclose(jax.jit(model.logits)(params, *pairs), logits, atol=2e-5)
    found = jax.jit(model.states)(params, *pairs)
    np.testing.assert_allclose(found["logits"], logits, atol=2e-5)
    for name, state in zip(model.state_names, states, strict=True):
        by_token = state[None] if config.model == "mlp" else jnp.moveaxis(state, 1, 0)
        np.testing.assert_allclose(found[name], by_token, atol=2e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_gradients_equal_the_textbook_network(config, pairs):
    model, params = make(config)
    weights = jax.random.normal(jax.random.key(1), (64, P))
    network = textbook(config)
    ours = jax.jit(jax.grad(lambda p: (model.logits(p, *pairs) * weights).mean()))(params)
    theirs = jax.jit(jax.grad(lambda p: (network(p, *pairs)[0] * weights).mean()))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(theirs):
        found = ours
        for key in path:
            found = found[key.key]
        np.testing.assert_allclose(found, leaf, atol=1e-6, rtol=1e-4, err_msg=str(path))


@pytest.mark.parametrize("activation", sorted(models.ACTIVATIONS))
def test_activations(activation):
    x = jnp.linspace(-4, 4, 101)
    theirs = {
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "relu": lambda x: jnp.maximum(x, 0),
        "silu": lambda x: x / (1 + jnp.exp(-x)),
    }[activation]
    np.testing.assert_allclose(models.ACTIVATIONS[activation](x), theirs(x), atol=1e-6)


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_initialisation_has_pytorchs_distributions(kind):
    config = ModelConfig(model=kind)
    _, params = make(config, 197, 197)
    flat = {
        ".".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    for name, leaf in flat.items():
        if name.endswith("embedding"):
            assert abs(leaf.std() - 1) < 0.1
        elif "norm" in name:
            assert np.all(leaf == (1 if name.endswith("scale") else 0))
        elif name.endswith(("qkv.bias", "out.bias")):
            assert np.all(leaf == 0)
        else:
            kernel = flat[name.replace("bias", "kernel")]
            fan_in = kernel.shape[0]
            bound = 1 / math.sqrt(fan_in)
            if name.endswith("qkv.kernel"):
                bound = math.sqrt(6 / (4 * 128))
            assert np.abs(leaf).max() <= bound
            assert np.abs(leaf).max() > 0.9 * bound
            assert abs(leaf.std() / (bound / math.sqrt(3)) - 1) < 0.15


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_padding_changes_no_initial_value(kind):
    config = ModelConfig(model=kind, **SMALL)
    _, alone = make(config, P, P)
    _, padded = make(config, 47, P)
    cut = models.row(jax.tree.map(lambda leaf: leaf[None], padded), 0, P)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), alone, cut))
    assert np.all(np.asarray(models.embedding(padded))[P:] == 0)


def test_init_scale_multiplies_every_parameter():
    config = ModelConfig(model="transformer", **SMALL)
    _, one = make(config)
    _, eight = make(config, scale=8.0)
    equal = jax.tree.map(lambda a, b: bool(jnp.array_equal(8 * a, b)), one, eight)
    assert jax.tree.all(equal)


def test_head_rows_are_what_the_first_block_uses():
    config = ModelConfig(model="transformer", **SMALL)
    model, params = make(config)
    rows = model.head_rows(params)
    block = params["blocks"]["0"]
    for name, position, third in (("query", 1, 0), ("key", 0, 1), ("value", 0, 2)):
        x = params["embed"]["embedding"] + params["position"]["embedding"][position][None]
        qkv = reference.linear(block["qkv"], reference.layer_norm(block["norm1"], x))
        expected = jnp.split(qkv, 3, axis=-1)[third].reshape(P, 4, 8)
        np.testing.assert_allclose(rows[name], expected, atol=1e-5)
    assert make(ModelConfig(model="mlp", **SMALL))[0].head_rows({}) == {}
