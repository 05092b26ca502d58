"""Layers of which architectures are made, initialised as PyTorch does, and activations.

The study's code was PyTorch: U(−1/√fan_in, 1/√fan_in) for the weight and the bias of a linear
layer, N(0, 1) for embeddings, Xavier-uniform for the joint query-key-value projection, zero for the
biases of attention, one and zero for layer norms.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from grokjax.models import products

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    # jax.nn.gelu's exact form goes through erfc, at three times the cost of erf on a CPU.
    "gelu": lambda x: 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5))),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "quadratic": jnp.square,
}


class Layers(nnx.Module):
    """Layers by name, or lists of layers; those that are None are left out."""

    def __init__(self, **layers: Any):
        for name, layer in layers.items():
            if layer is not None:
                setattr(self, name, nnx.List(layer) if isinstance(layer, list) else layer)


def _drawn(key: jax.Array, shape: tuple[int, ...], bound: Any, normal: bool = False) -> jax.Array:
    """Draws between −bound and bound, or normal ones of that standard deviation."""
    if normal:
        return bound * jax.random.normal(key, shape, jnp.float32)
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def linear(
    n_in: int,
    n_out: int,
    rngs: nnx.Rngs,
    init: str = "pytorch",
    *,
    bound: float | None = None,
    bias: bool = True,
    zero_bias: bool = False,
) -> nnx.Linear:
    """A linear layer, initialised as PyTorch does or (``normal``) with variance 1 / n_in.

    The kernel is drawn as (n_out, n_in), one output after the other, and transposed: the draws of
    an output unit then do not depend on how many units follow it, so padding the vocabulary leaves
    the real rows as they are.
    """
    normal = init == "normal"
    bound = 1 / math.sqrt(n_in) if bound is None or normal else bound
    bias_bound = 0.0 if zero_bias or normal else 1 / math.sqrt(n_in)
    return nnx.Linear(
        n_in,
        n_out,
        use_bias=bias,
        kernel_init=lambda key, shape, dtype: _drawn(key, shape[::-1], bound, normal).T,
        bias_init=lambda key, shape, dtype: _drawn(key, shape, bias_bound),
        rngs=rngs,
    )


def embedding(
    n_rows: int, n_columns: int, rngs: nnx.Rngs, init: str = "pytorch", bound: Any = None
) -> nnx.Embed:
    """A table of rows drawn from N(0, 1), or (``normal``) from N(0, 1 / n_columns).

    With a bound, the rows are those of a linear layer over one-hot vectors, drawn as its are.
    """
    normal = init == "normal" or bound is None
    if bound is None:
        bound = 1 / math.sqrt(n_columns) if init == "normal" else 1.0

    def drawn(key: jax.Array, shape: Any, dtype: Any, sharding: Any = None) -> jax.Array:
        return _drawn(key, shape, bound, normal)

    return nnx.Embed(n_rows, n_columns, embedding_init=drawn, rngs=rngs)


def norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm."""
    return nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)


def weights(layer: nnx.Linear) -> tuple[jax.Array, jax.Array | None]:
    """Kernel and bias of a linear layer; None for a bias that it does not have."""
    return layer.kernel[...], None if layer.bias is None else layer.bias[...]


def columns(
    x: jax.Array, layer: nnx.Linear, first: int, last: int | None, n_parts: int = 1
) -> list[jax.Array]:
    """Some of a linear layer's outputs for rows x (N, n_in), in equal parts.

    On a TPU each part gets its bias by itself, so that no gradient is summed over joined parts.
    """
    kernel, bias = weights(layer)
    kernel, bias = kernel[:, first:last], None if bias is None else bias[first:last]
    split = functools.partial(jnp.split, indices_or_sections=n_parts, axis=-1)
    if bias is None or products.platform() != "tpu":
        return split(products.affine(x, kernel, bias))
    parts = zip(split(products.product(x, kernel)), split(bias), strict=True)
    return [part + own[None] for part, own in parts]


def queries_keys_values(y: jax.Array, layer: nnx.Linear, first: int) -> list[jax.Array]:
    """Of rows y (N, D), queries from row ``first`` on, keys and values, by a joint projection."""
    width = y.shape[-1]
    k, v = columns(y, layer, width, None, n_parts=2)
    return [*columns(y[first:], layer, 0, width), k, v]


def queries_gaps(y: jax.Array, layer: nnx.Linear, first: int) -> list[jax.Array]:
    """Of rows y (2B, D) queries, and what ``products.attend`` takes beside them.

    On an accelerator the rows are subtracted before they are multiplied: half the products of
    keys, whose bias cancels, and no gradients of two tokens to be joined.
    """
    if products.platform() not in products.ACCELERATORS:
        q, k, v = queries_keys_values(y, layer, first)
        return [q, *products.gaps(k, v)]
    width, (kernel, bias), (one, other) = y.shape[-1], weights(layer), products.halves(y)
    of_k, of_v = jnp.split(kernel[:, width:], 2, axis=-1)
    key_gap, value_gap = (products.product(one - other, own) for own in (of_k, of_v))
    value = products.affine(other, of_v, None if bias is None else bias[2 * width :])
    (q,) = columns(other if first else y, layer, 0, width)
    return [q, key_gap, value, value_gap]


def apply(layer: nnx.Linear, x: jax.Array) -> jax.Array:
    """A linear layer's outputs for rows x (N, n_in)."""
    return products.affine(x, *weights(layer))
