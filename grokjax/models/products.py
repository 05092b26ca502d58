"""Matrix products, looked-up rows and attention over two tokens, to be differentiated either way.

Every matrix product of the networks is in here. Derivatives are those one would derive; where a
transpose is written out, it reaches the matrix library in the orientation in which it is fast. The
one XLA arrives at by itself copies and transposes. What is better computed otherwise on a TPU is,
where a program is traced for one (experiments/benchmarks/compiled.py has what that brings). Letters
of shapes as in ``network.py``.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from grokjax.settings.config import PRECISIONS


@dataclasses.dataclass(frozen=True)
class Multilinear:
    """A function of arrays, called as such, with transposes of its own.

    ``jax.custom_vjp`` bars forward mode, and ``jax.custom_derivatives.linear_call`` bars ``vmap``;
    this can be differentiated and mapped in any order.
    """

    function: Callable[..., jax.Array]  # linear in each array that has a transpose
    # One for each array, or None where that is no matter of derivatives (integers). Called with the
    # arrays, the cotangent of the result in the place of its own.
    transposes: tuple[Callable[..., jax.Array] | None, ...]

    def __call__(self, *arrays: jax.Array) -> jax.Array:
        """``function(*arrays)``."""
        return _multilinear.bind(*arrays, rule=self)

    def mapped(self, axes: Sequence[int | None]) -> "Multilinear":
        """The same over axes of the arrays, as ``jax.vmap`` has them; that of the result is 0."""

        def over(i: int, transpose: Callable[..., jax.Array] | None) -> Any:
            if transpose is None:
                return None
            each = jax.vmap(transpose, (*axes[:i], 0, *axes[i + 1 :]), axes[i] or 0)
            return each if axes[i] is not None else lambda *arrays: each(*arrays).sum(0)

        transposes = tuple(over(i, transpose) for i, transpose in enumerate(self.transposes))
        return Multilinear(jax.vmap(self.function, tuple(axes)), transposes)


_multilinear = Primitive("multilinear")


def _apply(*arrays: Any, rule: Multilinear) -> Any:
    return rule.function(*arrays)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, rule: Multilinear) -> Any:
    parts = [
        rule(*primals[:i], tangent, *primals[i + 1 :])
        for i, tangent in enumerate(tangents)
        if not isinstance(tangent, ad.Zero)
    ]
    return rule(*primals), functools.reduce(ad.add_tangents, parts)


def _transpose(cotangent: Any, *arrays: Any, rule: Multilinear) -> list[Any]:
    (i,) = (i for i, array in enumerate(arrays) if ad.is_undefined_primal(array))
    transpose = rule.transposes[i]
    assert transpose is not None  # what has none has no tangent
    gradients: list[Any] = [None] * len(arrays)
    if not isinstance(cotangent, ad.Zero):
        gradients[i] = transpose(*arrays[:i], cotangent, *arrays[i + 1 :])
    return gradients


_multilinear.def_impl(_apply)
_multilinear.def_abstract_eval(lambda *xs, rule: jax.make_jaxpr(rule.function)(*xs).out_avals[0])
ad.primitive_jvps[_multilinear] = _jvp
ad.primitive_transposes[_multilinear] = _transpose
batching.primitive_batchers[_multilinear] = lambda xs, axes, rule: (rule.mapped(axes)(*xs), 0)
mlir.register_lowering(_multilinear, mlir.lower_fun(_apply, multiple_results=False))


ACCELERATORS = ("tpu", "gpu")


def platform() -> str | None:
    """That of the devices of the mesh for which a program is being traced; None without one."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return None if device is None else device.platform


def _rounded(x: jax.Array) -> jax.Array:
    # Unlike a cast there and back, this is never taken out by the compiler.
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def _multiply(precision: str | None, x: jax.Array, y: jax.Array) -> jax.Array:
    multiply = functools.partial(jnp.matmul, precision=precision)
    if precision == PRECISIONS["bfloat16"]:
        return multiply(_rounded(x), _rounded(y))
    if precision == PRECISIONS["bfloat16x3"] and platform() not in ACCELERATORS:
        (x, x_rest), (y, y_rest) = ((_rounded(z), _rounded(z - _rounded(z))) for z in (x, y))
        return multiply(x, y) + (multiply(x, y_rest) + multiply(x_rest, y))
    return multiply(x, y)


@functools.cache
def _product_at(precision: str | None) -> Multilinear:
    return Multilinear(
        functools.partial(_multiply, precision),
        (
            lambda gradient, y: _product_at(precision)(gradient, y.T),
            lambda x, gradient: _product_at(precision)(x.T, gradient),
        ),
    )


def _precision() -> str | None:
    # By name, because the oldest JAX supported does not declare it to type checkers.
    name = "jax_default_matmul_precision"
    return getattr(jax.config, name)


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """``x @ y`` of matrices at the precision in force (``jax.default_matmul_precision``).

    A CPU multiplies in float32 whatever it is told, so bfloat16 factors are rounded here, those of
    the derivatives too, and split and rounded for three passes. Their float32 products are exact,
    on any device, and so differ in the order of the sum alone.
    """
    return _product_at(_precision())(x, y)


def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    """``x @ kernel + bias`` for rows x (N, n_in); the bias may be missing."""
    return product(x, kernel) if bias is None else product(x, kernel) + bias[None]


def _exactly(x: jax.Array, y: jax.Array) -> jax.Array:
    """``x @ y``, one a matrix of zeros and ones, in float32 whatever precision is in force."""
    return jnp.matmul(x, y, precision="highest")


@functools.cache
def _rows_of(n_rows: int, n_parts: int, hot: bool, precision: str | None) -> Multilinear:
    """Looked up, or with ``hot`` multiplied; whatever is multiplied is so part by part."""

    def take(tables: jax.Array, index: jax.Array) -> jax.Array:
        if not hot:
            flat = index + n_rows * jnp.arange(len(tables))[:, None]
            joined = tables.reshape(len(tables) * n_rows, -1)
            return jnp.take(joined, flat.ravel(), axis=0, mode="clip")
        hot_SBP = jax.nn.one_hot(index, n_rows, dtype=tables.dtype)
        rows = [jax.vmap(_exactly)(hot_SBP, part) for part in jnp.split(tables, n_parts, axis=-1)]
        return jnp.concatenate([part.reshape(index.size, -1) for part in rows], axis=-1)

    def transpose(gradient: jax.Array, index: jax.Array) -> jax.Array:
        multiply = _product_at(precision)
        one_hot = functools.partial(jax.nn.one_hot, num_classes=n_rows, dtype=gradient.dtype)
        # Split before it is reshaped: a split of what was joined is nothing to a compiler.
        parts = jnp.split(gradient, n_parts, axis=-1)
        parts_SBC = [part.reshape(*index.shape, -1) for part in parts]
        if n_parts == 1:
            pairs = zip(index, parts_SBC[0], strict=True)
            return jnp.stack([multiply(one_hot(i).T, g) for i, g in pairs])
        hot_SPB = one_hot(index).swapaxes(1, 2)
        return jnp.concatenate([jax.vmap(multiply)(hot_SPB, part) for part in parts_SBC], axis=-1)

    return Multilinear(take, (transpose, None))


def take_rows(tables: jax.Array, index: jax.Array, n_parts: int = 1) -> jax.Array:
    """Rows of S tables (S, P, C) at indices (S, B), as (S * B, C); C columns are n_parts parts.

    The gradient is a one-hot product instead of a scatter: XLA's scatter-add collapses under
    colliding indices on GPUs and is serial on CPUs, and the product is as exact. On a TPU the rows
    are a product too, and each part is multiplied by itself, which spares joining and cutting them.
    """
    on_tpu = platform() == "tpu"
    return _rows_of(tables.shape[1], n_parts if on_tpu else 1, on_tpu, _precision())(tables, index)


def _heads(width: int, n_heads: int, dtype: Any) -> jax.Array:
    """(D, H): ones where a column is a head's, so made that the compiler sees zeros and ones."""
    return jax.nn.one_hot(jnp.arange(width) // (width // n_heads), n_heads, dtype=dtype)


def sum_heads(rows: jax.Array, n_heads: int) -> jax.Array:
    """(N, D) → (N, H): columns summed head by head; on a TPU by a product."""
    if platform() == "tpu":
        return _exactly(rows, _heads(rows.shape[1], n_heads, rows.dtype))
    return rows.reshape(rows.shape[0], n_heads, -1).sum(-1)


def spread_heads(weights: jax.Array, width: int) -> jax.Array:
    """(N, H) → (N, D): each head's number in all of its columns; on a TPU by a product."""
    n, n_heads = weights.shape
    if platform() == "tpu":
        return _exactly(weights, _heads(width, n_heads, weights.dtype).T)
    spread = jnp.broadcast_to(weights[:, :, None], (n, n_heads, width // n_heads))
    return spread.reshape(n, width)


def _tile(rows: jax.Array, n: int) -> jax.Array:
    return jnp.concatenate([rows] * n) if n > 1 else rows


def attend(n_heads: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of queries (nB, D) to two keys and values (2B, D), first tokens then second.

    Softmax over two scores is a sigmoid of their gap. n is 1 (second tokens ask) or 2 (both).
    """
    n, width = 2 * len(q) // len(k), q.shape[-1]
    # Split, not sliced: the gradient is then a concatenation instead of two pads and their sum.
    (k_first, k_second), (v_first, v_second) = jnp.split(k, 2), jnp.split(v, 2)
    key_gap, value_gap = _tile(k_first - k_second, n), _tile(v_first - v_second, n)
    weight_H = jax.nn.sigmoid(math.sqrt(n_heads / width) * sum_heads(q * key_gap, n_heads))
    return _tile(v_second, n) + spread_heads(weight_H, width) * value_gap
