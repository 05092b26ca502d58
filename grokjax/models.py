"""The transformer and the MLPs of the study, as pure functions on plain dictionaries.

Flax NNX describes the modules and their initialisation; everything outside this file sees only
``Model``: ``init`` makes parameters, ``logits`` and ``states`` apply them. Parameters are plain
nested dictionaries of arrays, so they pass through ``vmap``, ``grad``, ``scan`` and Orbax as is.

Shapes: R runs, B input pairs, P padded prime (rows of the vocabulary), D d_model, H heads,
F d_ff, W mlp_width; S = 2 token positions. A network is applied to pairs (a, b) given as two
integer vectors of length B; a network of images is applied to image a * side + b.

Three facts about the task shape the code. Only 2P distinct (position, token) rows can enter the
first layer, so its projections are computed once per row and then looked up. Attention over two
tokens is a sigmoid of the difference of two scores. Only the second token is read out, so the last
block computes a single query. ``tests/reference.py`` holds the textbook model these must equal.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from grokjax import datasets
from grokjax.grid import IMAGE_MODELS, IMAGE_SETS, PRECISIONS, ModelConfig

Params = dict[str, Any]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    # jax.nn.gelu's exact form goes through erfc, at three times the cost of erf on a CPU.
    "gelu": lambda x: 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5))),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


# --------------------------------------------------------------------------- initialisation
# PyTorch's defaults, which are what the authors' code had: U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for
# the weight and the bias of a linear layer, N(0, 1) for embeddings, Xavier-uniform for the joint
# query-key-value projection, zero for the biases of attention, one and zero for layer norms.


def _uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def _linear(
    n_in: int, n_out: int, rngs: nnx.Rngs, *, bound: float | None = None, zero_bias: bool = False
) -> nnx.Linear:
    """A linear layer as PyTorch initialises it.

    The kernel is drawn as (n_out, n_in), one output after the other, and transposed: the draws of
    an output unit then do not depend on how many units follow it, so padding the vocabulary leaves
    the real rows as they are.
    """
    bound = 1 / math.sqrt(n_in) if bound is None else bound
    bias_bound = 0.0 if zero_bias else 1 / math.sqrt(n_in)
    return nnx.Linear(
        n_in,
        n_out,
        kernel_init=lambda key, shape, dtype: _uniform(key, shape[::-1], bound).T,
        bias_init=lambda key, shape, dtype: _uniform(key, shape, bias_bound),
        rngs=rngs,
    )


def _embedding(n_rows: int, n_columns: int, rngs: nnx.Rngs) -> nnx.Embed:
    return nnx.Embed(n_rows, n_columns, embedding_init=jax.nn.initializers.normal(1.0), rngs=rngs)


# --------------------------------------------------------------------------- products
# Every matrix product of either network is in here. The functions have the gradients one would
# derive; written out, they reach the matrix library in the orientation in which it is fast. The
# ones XLA arrives at by itself copy and transpose.


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """``x @ y`` at the precision in force (``jax.default_matmul_precision``).

    A CPU multiplies in float32 whatever it is told, so bfloat16 factors are rounded here. Their
    float32 products are exact, on any device, and so differ in the order of the sum alone.
    """
    # By name, because the oldest JAX supported does not declare it to type checkers.
    name = "jax_default_matmul_precision"
    if getattr(jax.config, name) == PRECISIONS["bfloat16"]:
        # Unlike a cast there and back, this is never taken out by the compiler.
        x, y = (jax.lax.reduce_precision(z, exponent_bits=8, mantissa_bits=7) for z in (x, y))
    return x @ y


@jax.custom_vjp
def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """``x @ kernel + bias`` for rows x (N, n_in)."""
    return product(x, kernel) + bias[None]


def _affine_forward(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> tuple[Any, Any]:
    return affine(x, kernel, bias), (x, kernel)


def _affine_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[Any, ...]:
    x, kernel = saved
    return product(gradient, kernel.T), product(x.T, gradient), gradient.sum(0)


affine.defvjp(_affine_forward, _affine_backward)


@jax.custom_vjp
def take_rows(tables: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of S tables (S, P, C) at indices (S, B), as (S * B, C).

    The gradient is a one-hot product instead of a scatter: XLA's scatter-add collapses under
    colliding indices on GPUs and is serial on CPUs, and the product is as exact.
    """
    n_tables, n_rows, _ = tables.shape
    flat = index + n_rows * jnp.arange(n_tables)[:, None]
    return jnp.take(tables.reshape(n_tables * n_rows, -1), flat.ravel(), axis=0, mode="clip")


def _take_rows_forward(tables: jax.Array, index: jax.Array) -> tuple[Any, Any]:
    # An array of no columns carries the number of rows, which must stay static.
    return take_rows(tables, index), (index, tables[:, :, :0])


def _take_rows_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[Any, None]:
    index, empty = saved
    n_tables, n_rows, _ = empty.shape
    gradient_SBC = gradient.reshape(n_tables, -1, gradient.shape[-1])
    products = [
        product(jax.nn.one_hot(index[s], n_rows, dtype=gradient.dtype).T, gradient_SBC[s])
        for s in range(n_tables)
    ]
    return jnp.stack(products), None


take_rows.defvjp(_take_rows_forward, _take_rows_backward)


def _weights(layer: nnx.Linear) -> tuple[jax.Array, jax.Array]:
    assert layer.bias is not None  # every layer here has one
    return layer.kernel[...], layer.bias[...]


def _apply(layer: nnx.Linear, x: jax.Array) -> jax.Array:
    return affine(x, *_weights(layer))


# --------------------------------------------------------------------------- transformer


class Block(nnx.Module):
    """A pre-layer-norm encoder block: attention, then a feed-forward layer."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        width, hidden = config.d_model, config.d_ff
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.qkv = _linear(width, 3 * width, rngs, bound=math.sqrt(6 / (4 * width)), zero_bias=True)
        self.out = _linear(width, width, rngs, zero_bias=True)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.up = _linear(width, hidden, rngs)
        self.down = _linear(hidden, width, rngs)


class Transformer(nnx.Module):
    """Encoder over the two tokens [a, b]; the second token's final state is read out."""

    def __init__(self, config: ModelConfig, n_tokens: int, rngs: nnx.Rngs):
        self.embed = _embedding(n_tokens, config.d_model, rngs)
        self.position = _embedding(2, config.d_model, rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.n_layers)])
        self.norm = nnx.LayerNorm(config.d_model, epsilon=1e-5, rngs=rngs)
        self.unembed = _linear(config.d_model, n_tokens, rngs)


def _sum_heads(rows: jax.Array, n_heads: int) -> jax.Array:
    """(N, D) → (N, H): columns summed head by head."""
    return rows.reshape(rows.shape[0], n_heads, -1).sum(-1)


def _spread_heads(weights: jax.Array, width: int) -> jax.Array:
    """(N, H) → (N, D): each head's number in all of its columns."""
    n, n_heads = weights.shape
    spread = jnp.broadcast_to(weights[:, :, None], (n, n_heads, width // n_heads))
    return spread.reshape(n, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(n_heads: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of queries (nB, D) to two keys and values (2B, D), first tokens then second.

    Softmax over two scores is a sigmoid of their gap. n is 1 (second tokens ask) or 2 (both).
    """
    return _attend_forward(n_heads, q, k, v)[0]


def _tile(rows: jax.Array, n: int) -> jax.Array:
    return jnp.concatenate([rows] * n) if n > 1 else rows


def _attend_forward(n_heads: int, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[Any, Any]:
    n_pairs, width = k.shape[0] // 2, q.shape[-1]
    n = q.shape[0] // n_pairs
    key_gap = _tile(k[:n_pairs] - k[n_pairs:], n)
    value_gap = _tile(v[:n_pairs] - v[n_pairs:], n)
    weight_H = jax.nn.sigmoid(math.sqrt(n_heads / width) * _sum_heads(q * key_gap, n_heads))
    out = _tile(v[n_pairs:], n) + _spread_heads(weight_H, width) * value_gap
    return out, (q, key_gap, value_gap, weight_H, k[:n_pairs, :0])


def _attend_backward(n_heads: int, saved: tuple[jax.Array, ...], gradient: jax.Array) -> Any:
    q, key_gap, value_gap, weight_H, pairs = saved
    n_pairs, width = pairs.shape[0], q.shape[-1]
    to_score = weight_H * (1 - weight_H) * _sum_heads(gradient * value_gap, n_heads)
    to_gap = _spread_heads(math.sqrt(n_heads / width) * to_score, width)
    to_key, to_first = to_gap * q, _spread_heads(weight_H, width) * gradient
    if q.shape[0] > n_pairs:  # both tokens asked: their gradients add up
        to_key = to_key[:n_pairs] + to_key[n_pairs:]
        to_first = to_first[:n_pairs] + to_first[n_pairs:]
        gradient = gradient[:n_pairs] + gradient[n_pairs:]
    to_k = jnp.concatenate([to_key, -to_key])
    return to_gap * key_gap, to_k, jnp.concatenate([to_first, gradient - to_first])


attend.defvjp(_attend_forward, _attend_backward)


def _transformer_tables(net: Transformer) -> jax.Array:
    """First-layer input and its query, key, value for every (position, token): (2, P, 4D)."""
    x_SPD = net.embed.embedding[...][None] + net.position.embedding[...][:, None]
    rows = x_SPD.reshape(-1, x_SPD.shape[-1])
    first = net.blocks[0]
    table = jnp.concatenate([rows, _apply(first.qkv, first.norm1(rows))], axis=-1)
    return table.reshape(2, x_SPD.shape[1], -1)


def _transformer_states(
    net: Transformer, config: ModelConfig, a: jax.Array, b: jax.Array, both: bool
) -> tuple[list[jax.Array], jax.Array]:
    """States after each block, (2B, D), first tokens then second, and the last block's neurons.

    The last state is (B, D), the second token alone, unless ``both``.
    """
    width, n_pairs = config.d_model, a.shape[0]
    rows = take_rows(_transformer_tables(net), jnp.stack([a, b]))
    x, q, k, v = jnp.split(rows, 4, axis=-1)
    states = []
    neurons = x
    for depth, block in enumerate(net.blocks):
        alone = depth == config.n_layers - 1 and not both
        first = n_pairs if alone else 0
        if depth == 0:
            q = q[first:]
        else:
            y = block.norm1(x)
            kernel, bias = _weights(block.qkv)
            q = affine(y[first:], kernel[:, :width], bias[:width])
            k, v = jnp.split(affine(y, kernel[:, width:], bias[width:]), 2, axis=-1)
        x = x[first:] + _apply(block.out, attend(config.n_heads, q, k, v))
        neurons = ACTIVATIONS[config.activation](_apply(block.up, block.norm2(x)))
        x = x + _apply(block.down, neurons)
        states.append(x)
    return states, neurons[-n_pairs:]


# --------------------------------------------------------------------------- MLP


class MLP(nnx.Module):
    """One embedding shared by a and b, concatenated, then equal hidden layers and a read-out."""

    def __init__(self, config: ModelConfig, n_tokens: int, rngs: nnx.Rngs):
        widths = [2 * config.d_model] + [config.mlp_width] * config.mlp_depth
        self.embed = _embedding(n_tokens, config.d_model, rngs)
        self.hidden = nnx.List([_linear(n, m, rngs) for n, m in itertools.pairwise(widths)])
        self.unembed = _linear(config.mlp_width, n_tokens, rngs)


def _mlp_states(net: MLP, config: ModelConfig, a: jax.Array, b: jax.Array) -> list[jax.Array]:
    """Hidden states after each layer's activation, (B, W) each."""
    activation = ACTIVATIONS[config.activation]
    embed_PD = net.embed.embedding[...]
    width, n_pairs = config.d_model, a.shape[0]
    # The first layer acts on a pair of embedding rows: two tables of P rows, looked up and added.
    kernel, bias = _weights(net.hidden[0])
    tables = [affine(embed_PD, kernel[:width], bias), product(embed_PD, kernel[width:])]
    rows = take_rows(jnp.stack(tables), jnp.stack([a, b]))
    states = [activation(rows[:n_pairs] + rows[n_pairs:])]
    for layer in list(net.hidden)[1:]:
        states.append(activation(_apply(layer, states[-1])))
    return states


# --------------------------------------------------------------------------- MLP of images


class ImageMLP(nnx.Module):
    """Pixels through equal hidden layers to a read-out: Omnigrok's (arXiv:2210.01117)."""

    def __init__(self, config: ModelConfig, n_classes: int, rngs: nnx.Rngs):
        n_pixels, _ = datasets.PIXELS[IMAGE_MODELS[config.model]]
        widths = [n_pixels] + [config.mlp_width] * config.mlp_depth
        self.hidden = nnx.List([_linear(n, m, rngs) for n, m in itertools.pairwise(widths)])
        self.unembed = _linear(config.mlp_width, n_classes, rngs)


def _image_states(net: ImageMLP, config: ModelConfig, index: jax.Array) -> list[jax.Array]:
    """Hidden states of images after each layer's activation, (B, W) each."""
    name = IMAGE_MODELS[config.model]
    # A constant of the program: bytes, so that it stays small. Places after the last image, which
    # evaluation passes over in whole rows, read the last one.
    pixels = jnp.take(jnp.asarray(datasets.load(name).pixels), index, axis=0, mode="clip")
    state = pixels.astype(jnp.float32) / datasets.PIXELS[name][1]
    states = []
    for layer in net.hidden:
        state = ACTIVATIONS[config.activation](_apply(layer, state))
        states.append(state)
    return states


# --------------------------------------------------------------------------- what others use


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A network for up to ``n_tokens`` residues (or classes of images), as functions.

    Hashable and static under ``jit``; parameters are nested dictionaries of float32 arrays.
    Vocabulary rows at or past a run's own prime are padding: ``init`` sets them to zero, no
    function reads them into a real row, and logits of padding outputs are for the caller to mask.
    """

    config: ModelConfig
    n_tokens: int

    @property
    def of_images(self) -> bool:
        """Whether it learns images, under a squared loss, instead of an operation."""
        return self.config.model in IMAGE_MODELS

    @property
    def side(self) -> int:
        """Side of the square in which examples are laid out: residues, or what holds all images."""
        if not self.of_images:
            return self.n_tokens
        return math.isqrt(IMAGE_SETS[IMAGE_MODELS[self.config.model]] - 1) + 1

    def _build(self, rngs: nnx.Rngs) -> Transformer | MLP | ImageMLP:
        module: Any = Transformer if self.config.model == "transformer" else MLP
        return (ImageMLP if self.of_images else module)(self.config, self.n_tokens, rngs)

    def _mlp_states(self, net: Any, a: jax.Array, b: jax.Array) -> list[jax.Array]:
        if self.of_images:
            return _image_states(net, self.config, a * self.side + b)
        return _mlp_states(net, self.config, a, b)

    def _merge(self, params: Params) -> Any:
        return nnx.merge(_graphdef(self), _with_integer_keys(params))

    def template(self) -> Params:
        """Shapes and dtypes of the parameters."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        return jax.eval_shape(lambda key: self.init(key, self.n_tokens, 1.0), key)

    def init(self, key: jax.Array, prime: jax.Array | int, scale: jax.Array | float) -> Params:
        """Parameters drawn as PyTorch does by default, every one multiplied by ``scale``."""
        state = nnx.state(self._build(nnx.Rngs(key)), nnx.Param)
        params = _with_string_keys(nnx.to_pure_dict(state))
        return mask_padding(jax.tree.map(lambda leaf: leaf * scale, params), prime)

    def logits(self, params: Params, a: jax.Array, b: jax.Array) -> jax.Array:
        """(B, P) logits of the pairs; columns at or past the prime are meaningless."""
        net = self._merge(params)
        if self.config.model == "transformer":
            states, _ = _transformer_states(net, self.config, a, b, both=False)
            return _apply(net.unembed, net.norm(states[-1]))
        return _apply(net.unembed, self._mlp_states(net, a, b)[-1])

    def states(self, params: Params, a: jax.Array, b: jax.Array) -> dict[str, jax.Array]:
        """What the layers hold for the pairs.

        Returns:
            transformer: ``layer1`` …: (2, B, D), first then second token, after each block;
            the others: ``hidden1`` …: (1, B, W) after each activation;
            ``neurons``: (B, F) or (B, W), post-activation neurons of the last (feed-forward) layer,
            at the second token; ``logits``: (B, P).
        """
        net = self._merge(params)
        if self.config.model == "transformer":
            states, neurons = _transformer_states(net, self.config, a, b, both=True)
            logits = _apply(net.unembed, net.norm(states[-1][a.shape[0] :]))
        else:
            states = self._mlp_states(net, a, b)
            neurons = states[-1]
            logits = _apply(net.unembed, neurons)
        by_token = [state.reshape(-1, a.shape[0], state.shape[-1]) for state in states]
        named = dict(zip(self.state_names, by_token, strict=True))
        return named | {"neurons": neurons, "logits": logits}

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the hidden layers, in order: layer1 … or hidden1 …."""
        transformer = self.config.model == "transformer"
        stem, depth = (
            ("layer", self.config.n_layers) if transformer else ("hidden", self.config.mlp_depth)
        )
        return tuple(f"{stem}{i + 1}" for i in range(depth))

    def head_rows(self, params: Params) -> dict[str, jax.Array]:
        """Per-head rows over residues in the first block: (P, H, D/H) each; none for an MLP.

        ``query`` as the second token asks, ``key`` and ``value`` as the first token answers.
        """
        if self.config.model != "transformer":
            return {}
        qkv_SP3D = _transformer_tables(self._merge(params))[..., self.config.d_model :]
        q, k, v = jnp.split(qkv_SP3D, 3, axis=-1)
        heads = (self.n_tokens, self.config.n_heads, -1)
        return {
            "query": q[1].reshape(heads),
            "key": k[0].reshape(heads),
            "value": v[0].reshape(heads),
        }


@functools.cache
def _graphdef(model: Model) -> Any:
    module = nnx.eval_shape(lambda: model._build(nnx.Rngs(0)))
    return nnx.split(module)[0]


def _with_string_keys(tree: Any) -> Any:
    """Items of module lists have integer keys, which a checkpoint would turn into strings."""
    if not isinstance(tree, dict):
        return tree
    return {str(key): _with_string_keys(value) for key, value in tree.items()}


def _with_integer_keys(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {
        int(key) if key.isdigit() else key: _with_integer_keys(value) for key, value in tree.items()
    }


def embedding(params: Params) -> Any:
    """The (P, D) token embedding, before positions are added (leading axes are kept)."""
    return params["embed"]["embedding"]


# The axis, counted from the end, along which a parameter runs over the vocabulary.
_VOCABULARY_AXES = {("embed", "embedding"): -2, ("unembed", "kernel"): -1, ("unembed", "bias"): -1}


def _map_vocabulary(function: Callable[[Any, int], Any], params: Params) -> Params:
    """Applies ``function(leaf, axis)`` to the parameters that have a vocabulary axis."""
    return {
        group: {
            name: function(leaf, _VOCABULARY_AXES[group, name])
            if (group, name) in _VOCABULARY_AXES
            else leaf
            for name, leaf in leaves.items()
        }
        for group, leaves in params.items()
    }


def mask_padding(params: Params, prime: jax.Array | int) -> Params:
    """Zero in every vocabulary row at or past ``prime`` (one run, traced prime allowed)."""

    def mask(leaf: jax.Array, axis: int) -> jax.Array:
        rows = jnp.arange(leaf.shape[axis]) < prime
        return jnp.where(
            jnp.expand_dims(rows, [i for i in range(leaf.ndim) if i - leaf.ndim != axis]), leaf, 0
        )

    return _map_vocabulary(mask, params)


def stacked(template: Params, n_runs: int) -> Params:
    """Shapes of the parameters of ``n_runs`` runs, given those of one."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((n_runs, *leaf.shape), leaf.dtype), template
    )


def row(params: Params, index: int, prime: int) -> Params:
    """One run's parameters out of a stack of NumPy arrays, without the padding."""

    def cut(leaf: Any, axis: int) -> Any:
        return leaf[..., :prime] if axis == -1 else leaf[..., :prime, :]

    return _map_vocabulary(cut, jax.tree.map(lambda leaf: leaf[index], params))
