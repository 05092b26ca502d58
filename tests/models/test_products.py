"""Derivatives in both modes and of second order of the parts of networks."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.models import layers, products
from grokjax.settings.config import PRECISIONS
from grokjax.training import mapped

pytestmark = pytest.mark.device

P = 11
TINY = {"d_model": 8, "n_heads": 2, "d_ff": 8, "n_layers": 2, "mlp_width": 8, "mlp_depth": 2}
INDEX = np.array([[3, 3, 0, 4], [1, 2, 2, 2]], np.int32)  # rows met twice, and never


def normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape) for shape in shapes)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


# --------------------------------------------------------------------------- the parts


def plain_affine(x, kernel, bias):
    return jnp.einsum("ni,io->no", x, kernel) + bias[None]


def plain_rows(tables):
    return jnp.concatenate([tables[s][INDEX[s]] for s in (0, 1)])


def plain_attention(n_heads, q, k, v):
    n_pairs, width = len(k) // 2, q.shape[1]
    q, k, v = (x.reshape(-1, n_pairs, n_heads, width // n_heads) for x in (q, k, v))
    scores = jnp.einsum("nbhd,tbhd->nbht", q, k) / np.sqrt(width // n_heads)
    mixed = jnp.einsum("nbht,tbhd->nbhd", jax.nn.softmax(scores, axis=-1), v)
    return mixed.reshape(-1, width)


def attention(q, k, v):
    return products.attend(2, q, *products.gaps(k, v))


def attention_of_rows(first, y, kernel, bias):
    of_y = types.SimpleNamespace(kernel=kernel, bias=bias)
    q, *seen = layers.queries_gaps(y, of_y, first)
    return products.attend(2, q, *seen)


def plain_attention_of_rows(first, y, kernel, bias):
    q, k, v = jnp.split(plain_affine(y, kernel, bias), 3, axis=-1)
    return plain_attention(2, q[first:], k, v)


def of_rows(first):
    return [functools.partial(f, first) for f in (attention_of_rows, plain_attention_of_rows)]


def rows_and_gaps(tables):
    x, *others = jnp.split(tables, 4, axis=-1)
    parts = products.take_rows_and_gaps([x, *products.as_looked_up(others)], jnp.asarray(INDEX))
    return jnp.concatenate([part[-4:] for part in parts], axis=-1)


def plain_rows_and_gaps(tables):
    first, second = jnp.split(plain_rows(tables), 2)
    x, q, _, value = jnp.split(second, 4, axis=-1)
    _, _, key_gap, value_gap = jnp.split(first - second, 4, axis=-1)
    return jnp.concatenate([x, q, key_gap, value, value_gap], axis=-1)


ATTEND = attention, functools.partial(plain_attention, 2)
# Ours, a textbook's, and what to call them with.
PARTS = {
    "affine": (products.affine, plain_affine, normal((4, 3), (3, 5), (5,))),
    "rows": (
        lambda x: products.take_rows([x], jnp.asarray(INDEX))[0],
        plain_rows,
        normal((2, 5, 3)),
    ),
    "rows of parts": (
        lambda x: jnp.concatenate(
            products.take_rows(jnp.split(x, [2], axis=-1), jnp.asarray(INDEX)), axis=-1
        ),
        plain_rows,
        normal((2, 5, 6)),
    ),
    "second token asks": (*ATTEND, normal((3, 4), (6, 4), (6, 4))),
    "both tokens ask": (*ATTEND, normal((6, 4), (6, 4), (6, 4))),
    "second of rows asks": (*of_rows(3), normal((6, 4), (4, 12), (12,))),
    "both of rows ask": (*of_rows(0), normal((6, 4), (4, 12), (12,))),
    "rows and gaps": (rows_and_gaps, plain_rows_and_gaps, normal((2, 5, 8))),
}


def each_mapped(f):
    """The same with each array in turn mapped over and the rest shared, and mapped along axis 1."""

    def one(i, x):
        return jax.vmap(lambda c: f((*x[:i], c * x[i], *x[i + 1 :])))(jnp.arange(1.0, 3.0)).sum()

    def axis_1(x):
        return jax.vmap(f, in_axes=1)(tuple(jnp.stack([leaf, -leaf], 1) for leaf in x)).sum()

    return lambda x: sum(one(i, x) for i in range(len(x))) + axis_1(x)


def curvature_of(f):
    """(x, along) → Hessian times along, forward over reverse."""
    return lambda x, along: jax.jvp(jax.grad(f), (x,), (along,))[1]


def inner(x, y):
    return sum(jax.tree.leaves(jax.tree.map(lambda a, b: (a * b).sum(), x, y)))


# (f, x, along) → derivatives of a scalar function.
ORDERS = {
    "reverse": lambda f, x, along: jax.grad(f)(x),
    "forward": lambda f, x, along: jax.jvp(f, (x,), (along,)),
    "forward over reverse": lambda f, x, along: curvature_of(f)(x, along),
    "reverse over forward": lambda f, x, along: jax.grad(lambda x: jax.jvp(f, (x,), (along,))[1])(
        x
    ),
    "reverse over reverse": lambda f, x, along: jax.grad(lambda x: inner(jax.grad(f)(x), along))(x),
    "third": lambda f, x, along: jax.grad(lambda x: inner(curvature_of(f)(x, along), along))(x),
}
MAPPED = {"forward over reverse": ORDERS["forward over reverse"]}


PLATFORMS = ("cpu", *products.ACCELERATORS)


@pytest.fixture(params=PLATFORMS)
def laid_out(request, monkeypatch):
    """As programs for that platform are, which this CPU then runs."""
    monkeypatch.setattr(products, "platform", lambda: request.param)
    return request.param


def test_the_platform_is_that_of_the_mesh():
    seen = []

    def part(x):
        seen.append(products.platform())
        return x

    mesh, spec = mapped.runs_mesh(1), jax.sharding.PartitionSpec()
    jax.jit(jax.shard_map(part, mesh=mesh, in_specs=spec, out_specs=spec)).trace(np.ones(2))
    for name in products.ACCELERATORS:
        device = jax.sharding.AbstractDevice("chip", 1, name)
        mesh = jax.sharding.AbstractMesh((1,), ("runs",), abstract_device=device)
        with jax.sharding.use_abstract_mesh(mesh):
            jax.jit(part).trace(np.ones(2))  # to be lowered, it would have to be there
    assert products.platform() is None
    assert seen == ["cpu", *products.ACCELERATORS]


# Parts of which not every platform has a layout of its own.
SHARED = {
    "affine": ["cpu"],
    "rows": ["cpu", "tpu"],
    "second token asks": ["cpu", "tpu"],
    "both tokens ask": ["cpu", "tpu"],
}
LAYOUTS = [(name, on) for name in PARTS for on in SHARED.get(name, PLATFORMS)]
WAYS = {"alone": (ORDERS, lambda f: f), "mapped": (MAPPED, each_mapped)}


def derivatives(part, way, arrays):
    """Of each order, of a scalar of the part."""
    orders, over = WAYS[way]
    along = normal(*(array.shape for array in arrays), seed=1)
    f = over(lambda x: jnp.tanh(part(*x)).sum() ** 2)
    return jax.jit(lambda: {order: derive(f, arrays, along) for order, derive in orders.items()})()


@functools.cache
def of_the_textbook(name, way):
    _, plain, arrays = PARTS[name]
    return derivatives(plain, way, arrays)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name, on", LAYOUTS)
def test_derivatives_of_the_parts_equal_the_textbooks(name, on, way, monkeypatch):
    monkeypatch.setattr(products, "platform", lambda: on)
    part, _, arrays = PARTS[name]
    found, wanted = derivatives(part, way, arrays), of_the_textbook(name, way)
    for order, value in wanted.items():
        scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(value))
        assert scale > 1e-3
        for a, b in zip(jax.tree.leaves(found[order]), jax.tree.leaves(value), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12 * scale, err_msg=order)


@pytest.mark.parametrize("over", ["runs", "nothing"])
def test_each_gradient_is_one_product_in_its_own_orientation(over):
    lead, arrays = ("6x", normal((6, 4, 3), (6, 3, 5), (6, 5))) if over == "runs" else (
        "", normal((4, 3), (3, 5), (5,)))  # fmt: skip
    gradient = jax.grad(lambda x, *rest: (products.affine(x, *rest) ** 2).sum(), argnums=(0, 1, 2))
    text = jax.jit(jax.vmap(gradient) if lead else gradient).lower(*arrays).as_text()
    dots = re.findall(r"dot_general.*", text)
    shapes = {re.search(r"-> tensor<(.*)xf64>", dot)[1] for dot in dots}
    assert len(dots) == 3 and shapes == {f"{lead}{shape}" for shape in ("4x5", "4x3", "3x5")}
    assert all(("batching_dims = [0] x [0]" in dot) == bool(lead) for dot in dots)
    assert text.count("stablehlo.transpose") == 2  # of two factors, of no result


def test_no_gradient_of_rows_is_a_scatter():
    (tables,) = normal((2, 5, 3))
    index = np.stack([INDEX, INDEX[::-1]])

    def loss(tables):
        (rows,) = jax.vmap(products.take_rows, (None, 0))([tables], index)
        return (rows**3).sum()

    def curvature(x):
        return jax.jvp(jax.grad(loss), (x,), (x,))[1]

    assert "scatter" not in jax.jit(curvature).lower(tables).as_text()


def test_the_gradient_of_attention_is_padded_nowhere():
    part, _, arrays = PARTS["both tokens ask"]
    gradient = jax.jit(jax.grad(lambda x: part(*x).sum()))
    assert "stablehlo.pad" not in gradient.lower(arrays).as_text()


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_bfloat16_rounds_the_factors_of_every_derivative(order):
    x, y, dx, dy, gradient = (
        array.astype(np.float32)
        for array in normal((20, 30), (30, 10), (20, 30), (30, 10), (20, 10))
    )

    def rounded(x, y):
        x, y = (z.astype(jnp.bfloat16).astype(np.float64) for z in (x, y))
        return x @ y

    # The precision is that of where the product is called, wherever derivatives are then taken.
    if order == "forward":
        with jax.default_matmul_precision(PRECISIONS["bfloat16"]):
            _, push = jax.linearize(products.product, x, y)
        found, wanted = (push(dx, dy),), (rounded(dx, y) + rounded(x, dy),)
    else:
        with jax.default_matmul_precision(PRECISIONS["bfloat16"]):
            _, pull = jax.vjp(products.product, x, y)
        found, wanted = pull(gradient), (rounded(gradient, y.T), rounded(x.T, gradient))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_tables_are_in_whole_tiles_on_a_tpu(laid_out):
    (tables,) = normal((2, 11, 3))
    found = products.in_tiles(jnp.asarray(tables))
    assert found.shape == (2, 16 if laid_out == "tpu" else 11, 3)
    np.testing.assert_array_equal(found[:, :11], tables)
    assert not found[:, 11:].any()
