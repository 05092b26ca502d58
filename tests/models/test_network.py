"""Initial parameters, their padding, and which parameters a network has."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.models import layers, network, products
from grokjax.models.network import Model, Sizes
from grokjax.settings import registry
from tests import reference

P = 23
ALONE = Sizes(P, P)
SMALL = {"transformer": {"d_model": 32, "d_ff": 32}, "mlp": {"d_model": 32, "mlp_width": 32}}
EVERYTHING = {"separate_embeddings": True, "equals_token": True}


def config_of(name, **values):
    return registry.find("model", name)(name=name, **values)


def make(config, sizes=ALONE, real=None, seed=0, scale=1.0):
    model = Model(config=config, sizes=sizes)
    return model, model.init(jax.random.key(seed), sizes if real is None else real, scale)


def flat(params):
    return {
        ".".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


@pytest.mark.parametrize("activation", sorted(layers.ACTIVATIONS))
def test_activations(activation):
    x = jnp.linspace(-4, 4, 101)
    theirs = reference.ACTIVATIONS[activation](x)
    np.testing.assert_allclose(layers.ACTIVATIONS[activation](x), theirs, atol=1e-6)


# --------------------------------------------------------------------------- initialisation


def assert_uniform(leaf, bound, name):
    assert 0.9 * bound < np.abs(leaf).max() <= bound * (1 + 1e-6), name
    assert abs(leaf.std() / (bound / math.sqrt(3)) - 1) < 0.15, name


def assert_normal(leaf, size, name):
    error = 4 / math.sqrt(leaf.size)  # four standard deviations of a mean
    assert abs(leaf.std() / size - 1) < error, name
    assert abs(leaf.mean() / size) < error, name
    assert np.abs(leaf).max() > 2 * size, name


def is_constant(name, leaf):
    """Whether the parameter is of a layer norm or a bias of attention, which are 1 or 0."""
    if "norm" in name:
        assert np.all(leaf == (1 if name.endswith("scale") else 0)), name
    elif name.endswith(("qkv.bias", "out.bias")):
        assert np.all(leaf == 0), name
    else:
        return False
    return True


@pytest.mark.parametrize(
    "config",
    [config_of("transformer"), config_of("transformer", **EVERYTHING), config_of("mlp")],
    ids=["transformer", "with a third token", "mlp"],
)
def test_initialisation_has_pytorchs_distributions(config):
    _, params = make(config, Sizes(197, 197))
    for name, leaf in (values := flat(params)).items():
        if is_constant(name, leaf):
            continue
        if name.endswith("embedding"):
            assert_normal(leaf, 1, name)
            continue
        fan_in = values[name.replace("bias", "kernel")].shape[0]
        qkv = name.endswith("qkv.kernel")
        assert_uniform(leaf, math.sqrt(6 / (4 * 128)) if qkv else 1 / math.sqrt(fan_in), name)


@pytest.mark.parametrize("name", ["transformer", "mlp"])
def test_normal_initialisation_has_a_variance_by_width(name):
    _, params = make(config_of(name, initialisation="normal"), Sizes(197, 197))
    for name, leaf in flat(params).items():
        if is_constant(name, leaf):
            continue
        if name.endswith("bias"):
            assert np.all(leaf == 0), name
        else:
            n_in = leaf.shape[1] if name.endswith("embedding") else leaf.shape[0]
            assert_normal(leaf, 1 / math.sqrt(n_in), name)


@pytest.mark.parametrize("initialisation", ["pytorch", "normal"])
def test_rows_over_one_hot_vectors_are_those_of_a_linear_layer(initialisation):
    config = config_of("mlp", mlp_inputs="one_hot", initialisation=initialisation, mlp_width=400)
    _, params = make(config, Sizes(47, 47), Sizes(29, 29))
    for name in ("embed", "embed_second"):
        leaf = np.asarray(params[name]["embedding"])
        assert leaf.shape == (47, 400)
        check = assert_uniform if initialisation == "pytorch" else assert_normal
        check(leaf[:29], 1 / math.sqrt(2 * 29), name)
        assert np.all(leaf[29:] == 0)
    assert not np.array_equal(params["embed"]["embedding"], params["embed_second"]["embedding"])


PADDABLE = {
    "transformer": config_of("transformer", **SMALL["transformer"]),
    "everything": config_of("transformer", **SMALL["transformer"], **EVERYTHING),
    "no biases, normal": config_of(
        "transformer", **SMALL["transformer"], biases=False, layer_norm="post",
        initialisation="normal", separate_embeddings=True,
    ),
    "mlp": config_of("mlp", **SMALL["mlp"]),
    "one-hot": config_of("mlp", **SMALL["mlp"], mlp_inputs="one_hot"),
    "one-hot, normal": config_of("mlp", **SMALL["mlp"], mlp_inputs="one_hot",
                                 initialisation="normal"),
    "sum": config_of("mlp", **SMALL["mlp"], mlp_inputs="sum", separate_embeddings=True),
}  # fmt: skip


@pytest.mark.parametrize("config", PADDABLE.values(), ids=PADDABLE)
def test_padding_changes_no_initial_value(config):
    real, padded = Sizes(P, 17), Sizes(47, 41)
    _, alone = make(config, real)
    _, wide = make(config, padded, real)
    cut = network.row(config, jax.tree.map(lambda leaf: leaf[None], wide), 0, real)
    assert jax.tree.structure(alone) == jax.tree.structure(cut)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), alone, cut))
    assert np.all(np.asarray(network.embedding(wide))[P:] == 0)
    total = [sum(np.abs(leaf).sum() for leaf in flat(p).values()) for p in (wide, alone)]
    np.testing.assert_allclose(*total, rtol=1e-6)


@pytest.mark.parametrize("name", ["everything", "one-hot"])
def test_init_scale_multiplies_every_parameter(name):
    _, one = make(PADDABLE[name])
    _, eight = make(PADDABLE[name], scale=8.0)
    equal = jax.tree.map(lambda a, b: bool(jnp.array_equal(8 * a, b)), one, eight)
    assert jax.tree.all(equal)


def test_seeds_and_parts_are_drawn_apart():
    _, one = make(PADDABLE["everything"])
    _, other = make(PADDABLE["everything"], seed=1)
    drawn = {name: leaf for name, leaf in flat(one).items() if leaf.std() > 0}
    for name, leaf in drawn.items():
        assert not np.array_equal(leaf, flat(other)[name]), name
    kernels = [leaf for name, leaf in drawn.items() if leaf.shape == (32, 32)]
    assert len(kernels) == 6
    assert len({leaf.tobytes() for leaf in kernels}) == 6


# --------------------------------------------------------------------------- which there are

TRANSFORMER = {
    *(f"{name}.embedding" for name in ("embed", "position")),
    *(f"{name}.{part}" for name in ("norm", "blocks.0.norm1", "blocks.0.norm2")
      for part in ("scale", "bias")),
    *(f"{name}.{part}" for name in ("unembed", *(f"blocks.0.{n}" for n in
                                                 ("qkv", "out", "up", "down")))
      for part in ("kernel", "bias")),
}  # fmt: skip


def without(*ends):
    return {name for name in TRANSFORMER if not name.endswith(ends)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, TRANSFORMER),
        (EVERYTHING, TRANSFORMER | {"embed_second.embedding", "equals.embedding"}),
        ({"layer_norm": "post"}, TRANSFORMER - {"norm.scale", "norm.bias"}),
        ({"layer_norm": "none"}, {name for name in TRANSFORMER if "norm" not in name}),
        ({"biases": False}, without("qkv.bias", "out.bias", "up.bias", "down.bias", "bed.bias")),
        ({"d_ff": 0}, {name for name in TRANSFORMER
                       if not any(part in name for part in ("up", "down", "norm2"))}),
    ],
)  # fmt: skip
def test_a_transformer_has_the_parameters_of_its_flags(values, expected):
    config = config_of("transformer", **SMALL["transformer"] | {"n_layers": 1} | values)
    template = Model(config=config, sizes=Sizes(P, P)).template()
    assert flat(jax.tree.map(lambda leaf: 0, template)).keys() == expected


@pytest.mark.parametrize(
    ("values", "shapes"),
    [
        ({}, {"embed.embedding": (23, 12), "hidden.0.kernel": (24, 20)}),
        ({"mlp_inputs": "sum"}, {"embed.embedding": (23, 12), "hidden.0.kernel": (12, 20)}),
        ({"separate_embeddings": True}, {"embed.embedding": (23, 12), "hidden.0.kernel": (24, 20),
                                         "embed_second.embedding": (23, 12)}),
        ({"mlp_inputs": "one_hot"}, {"embed.embedding": (23, 20),
                                     "embed_second.embedding": (23, 20)}),
    ],
)  # fmt: skip
def test_an_mlp_has_the_parameters_of_its_flags(values, shapes):
    config = config_of("mlp", d_model=12, mlp_width=20, mlp_depth=3, biases=False, **values)
    template = Model(config=config, sizes=Sizes(P, 7)).template()
    rest = {"unembed.kernel": (20, 7), "hidden.1.kernel": (20, 20)}
    if values.get("mlp_inputs") == "one_hot":
        rest["hidden.0.kernel"] = (20, 20)
    else:
        rest["hidden.2.kernel"] = (20, 20)
    leaves = jax.tree_util.tree_leaves_with_path(template)
    found = {".".join(key.key for key in path): leaf.shape for path, leaf in leaves}
    assert found == shapes | rest


def test_hidden_matrices_are_neither_embeddings_nor_read_out():
    for config, expected in [
        (PADDABLE["everything"], ("qkv.kernel", "out.kernel", "up.kernel", "down.kernel")),
        (PADDABLE["mlp"], ("0.kernel", "1.kernel", "2.kernel")),
        (PADDABLE["one-hot"], ("0.kernel", "1.kernel")),
    ]:
        model = Model(config=config, sizes=Sizes(P, P))
        found = flat(model.hidden(model.template()))
        assert {name for name, hidden in found.items() if hidden} == {
            name for name in found if name.endswith(expected)
        }
        assert any(found.values())
    nested = {"encoder": {"table": {"embedding": jnp.zeros((2, 2)), "kernel": jnp.zeros((2, 2))}}}
    told = {"table": {"embedding": False, "kernel": True}}
    assert model.hidden(nested) == {"encoder": told}


@pytest.mark.parametrize("on", ["cpu", "tpu"])
@pytest.mark.parametrize(
    "values",
    [{}, {"layer_norm": "none", "biases": False}, EVERYTHING | {"layer_norm": "post"}],
    ids=["pre", "none", "post"],
)
def test_head_rows_are_what_the_first_block_uses(values, on, monkeypatch):
    monkeypatch.setattr(products, "platform", lambda: on)
    config = config_of("transformer", **SMALL["transformer"], **values)
    model, params = make(config)
    rows = model.head_rows(params)
    block = params["blocks"]["0"]
    second = params["embed_second" if config.separate_embeddings else "embed"]
    with jax.default_matmul_precision("highest"):
        for name, table, position, third in (
            ("query", second, 1, 0),
            ("key", params["embed"], 0, 1),
            ("value", params["embed"], 0, 2),
        ):
            x = table["embedding"] + params["position"]["embedding"][position][None]
            y = reference.layer_norm(block["norm1"], x) if config.layer_norm == "pre" else x
            expected = jnp.split(reference.linear(block["qkv"], y), 3, axis=-1)[third]
            np.testing.assert_allclose(rows[name], expected.reshape(P, 4, 8), atol=1e-5)
    assert rows.keys() == {"query", "key", "value"}


def test_an_mlp_has_no_head_rows():
    model, params = make(PADDABLE["mlp"])
    assert model.head_rows(params) == {}
