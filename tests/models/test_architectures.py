"""The fast networks against textbook ones, whatever their flags, with padding and without."""

import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.models import network
from grokjax.models.network import Model, Sizes
from grokjax.settings import registry
from tests import reference

REAL, PADDED = Sizes(13, 11), Sizes(19, 17)
CHOICES = {
    "transformer": {
        "layer_norm": ("pre", "none", "post"),
        "activation": ("gelu", "relu", "quadratic"),
        "attention_rate": (1.0, 0.4, 0.0),
        "biases": (True, False),
        "d_ff": (24, 0),
        "n_layers": (2, 1),
        "n_heads": (2, 1),
        "equals_token": (False, True),
        "causal": (False, True),
        "separate_embeddings": (False, True),
    },
    "mlp": {
        "mlp_inputs": ("concatenate", "sum", "one_hot"),
        "activation": ("gelu", "relu", "quadratic"),
        "mlp_depth": (3, 1),
        "biases": (True, False),
        "separate_embeddings": (False, True),
    },
}
SMALL = {"transformer": {"d_model": 16}, "mlp": {"d_model": 12, "mlp_width": 20}}


def all_pairs(choices):
    """Rows of values in which every pair of values of two settings occurs; the defaults first."""
    source = random.Random(0)

    def pairs(row):
        return set(itertools.combinations(row.items(), 2))

    columns = itertools.combinations(choices, 2)
    missing = {((a, x), (b, y)) for a, b in columns for x in choices[a] for y in choices[b]}
    rows = [{name: values[0] for name, values in choices.items()}]
    while missing := missing - pairs(rows[-1]):
        drawn = [{n: source.choice(v) for n, v in choices.items()} for _ in range(200)]
        rows.append(max(drawn, key=lambda row: len(pairs(row) & missing)))
    return rows


# The study's own without padding.
ROWS = [
    (name, row, PADDED if i else REAL)
    for name, choices in CHOICES.items()
    for i, row in enumerate(all_pairs(choices))
]
# Depths and heads beyond those above.
ROWS += [("transformer", {"n_layers": 3, "n_heads": 4}, PADDED), ("mlp", {"mlp_depth": 2}, PADDED)]
IDS = [f"{name}-{'-'.join(map(str, row.values()))}" for name, row, _ in ROWS]


def config_of(name, **values):
    return registry.find("model", name)(name=name, **SMALL[name] | values)


def drawn(config, sizes, real):
    """A network and parameters of moderate size, those of padding large."""
    model = Model(config=config, sizes=sizes)
    source = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: source.normal(size=leaf.shape, scale=0.4).astype(np.float32), model.template()
    )

    def poison(leaf, axis, which):
        np.moveaxis(leaf, axis, 0)[getattr(real, which) :] = 1e4
        return leaf

    return model, network.map_vocabulary(config, poison, params)


def cut(config, params, real=REAL):
    return network.row(config, jax.tree.map(lambda leaf: np.asarray(leaf)[None], params), 0, real)


def assert_close(ours, theirs, what, tolerance=2e-5):
    size = np.abs(theirs).max() + 1e-6
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * size, err_msg=what)


@pytest.fixture(scope="module")
def inputs():
    source = np.random.default_rng(0)
    return jnp.asarray(source.integers(0, REAL.elements, (40, 2)), jnp.int32)


@pytest.fixture(autouse=True)
def _exact_products():
    with jax.default_matmul_precision("highest"):
        yield


# --------------------------------------------------------------------------- against textbooks


@pytest.mark.parametrize(("name", "row", "sizes"), ROWS, ids=IDS)
def test_logits_states_and_gradients_equal_the_textbook_network(name, row, sizes, inputs):
    config = config_of(name, **row)
    model, params = drawn(config, sizes, REAL)
    weights = np.zeros((len(inputs), sizes.outputs), np.float32)
    weights[:, : REAL.outputs] = np.random.default_rng(1).normal(size=(len(inputs), REAL.outputs))

    @jax.jit
    def ours(params):
        def value(params):
            logits = model.logits(params, inputs)
            return (logits * weights).mean(), logits

        gradient, logits = jax.grad(value, has_aux=True)(params)
        return logits, gradient, model.states(params, inputs)

    @jax.jit
    def theirs(params):
        def value(params):
            logits, *others = reference.NETWORKS[name](params, config, inputs)
            total = (logits * weights[:, : REAL.outputs]).sum()
            return total / weights.size, (logits, *others)

        gradient, (logits, states, neurons) = jax.grad(value, has_aux=True)(params)
        return logits, gradient, states, neurons

    logits, gradient, found = ours(params)
    expected, slope, states, neurons = theirs(cut(config, params))
    assert_close(logits[:, : REAL.outputs], expected, "logits")
    assert_close(found.pop("logits")[:, : REAL.outputs], expected, "logits beside states")
    assert_close(found.pop("neurons"), neurons, "neurons")
    assert found.keys() == set(config.state_names)
    for layer, state in zip(config.state_names, states, strict=True):
        assert_close(found[layer], state, layer)
    own = dict(jax.tree_util.tree_leaves_with_path(cut(config, gradient)))
    other = dict(jax.tree_util.tree_leaves_with_path(slope))
    assert own.keys() == other.keys()
    for path, leaf in own.items():
        assert_close(leaf, other[path], str(path), 1e-4)
    # Padding has no gradient.
    total = sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(total, sum(np.abs(leaf).sum() for leaf in own.values()), rtol=1e-6)
