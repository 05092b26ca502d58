"""Matrix products, looked-up rows and attention over two tokens, to be differentiated either way.

Every matrix product of the networks is in here. Derivatives are those one would derive; where a
transpose is written out, it reaches the matrix library in the orientation in which it is fast. The
one XLA arrives at by itself copies and transposes. What is better computed otherwise on a TPU is,
where a program is traced for one (experiments/benchmarks/compiled.py has what that brings). Letters
of shapes as in ``network.py``.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
def _rows_of(
    n_rows: int, hot: bool, at_once: bool, precision: str | None, first: int = 0, rest: int = 0
) -> Multilinear:
    """Looked up, or with ``hot`` multiplied; gradients of all tables at once or one by one.

    Of their columns all but ``first`` and ``rest`` many.
    """
    cut = ((0, 0), (0, 0), (first, rest)) if first or rest else None

    def one_hot(index: jax.Array, dtype: Any) -> jax.Array:
        return jax.nn.one_hot(index, n_rows, dtype=dtype)

    def take(tables: jax.Array, index: jax.Array) -> jax.Array:
        width = tables.shape[-1] - first - rest
        if hot:
            taken = tables[..., first : first + width]
            return jax.vmap(_exactly)(one_hot(index, tables.dtype), taken).reshape(-1, width)
        flat = (index + n_rows * jnp.arange(len(tables))[:, None]).ravel()
        joined = tables.reshape(len(tables) * n_rows, -1)
        if cut is None:
            return jnp.take(joined, flat, axis=0, mode="clip")
        # Not rows of a slice of the tables, which would be copied.
        cut_at = functools.partial(jax.lax.dynamic_slice, joined, slice_sizes=(1, width))
        return jax.vmap(lambda row: cut_at((row, first))[0])(flat)

    def transpose(gradient: jax.Array, index: jax.Array) -> jax.Array:
        multiply = _product_at(precision)
        gradient_SBC = gradient.reshape(*index.shape, -1)
        if at_once:
            hot_SPB = one_hot(index, gradient.dtype).swapaxes(1, 2)
            gradient_SPC = jax.vmap(multiply)(hot_SPB, gradient_SBC)
        else:
            pairs = zip(index, gradient_SBC, strict=True)
            gradient_SPC = jnp.stack([multiply(one_hot(i, g.dtype).T, g) for i, g in pairs])
        return gradient_SPC if cut is None else jnp.pad(gradient_SPC, cut)

    return Multilinear(take, (transpose, None))


def take_rows(tables: Sequence[jax.Array], index: jax.Array) -> list[jax.Array]:
    """Rows (S * B, C) of tables (S, P, C) at indices (S, B); n of a table of n C columns.

    C is that of the first table. The gradient is a one-hot product instead of a scatter: XLA's
    scatter-add collapses under colliding indices on GPUs and is serial on CPUs, and the product is
    as exact. On a TPU the rows are a product too. A CPU takes joined tables at once; elsewhere
    joining and cutting cost more.
    """
    on, (n_rows, width) = platform(), tables[0].shape[1:]
    look_up = functools.partial(_rows_of, n_rows, on == "tpu")
    n_parts = sum(table.shape[-1] for table in tables) // width
    if on not in ACCELERATORS or n_parts == 1:
        joined = jnp.concatenate(tables, axis=-1) if len(tables) > 1 else tables[0]
        return jnp.split(look_up(False, _precision())(joined, index), n_parts, axis=-1)
    return [
        look_up(True, _precision(), at, table.shape[-1] - at - width)(table, index)
        for table in tables
        for at in range(0, table.shape[-1], width)
    ]


def as_looked_up(tables: list[jax.Array]) -> list[jax.Array]:
    """The same, or on a GPU one joined table, of which ``take_rows`` takes the columns."""
    return [jnp.concatenate(tables, axis=-1)] if platform() == "gpu" else tables


def apart(tables: Sequence[jax.Array]) -> list[jax.Array]:
    """Tables of n C columns each, where C is that of the first, as tables of C columns."""
    width = tables[0].shape[-1]
    parts = (jnp.split(table, table.shape[-1] // width, axis=-1) for table in tables)
    return list(itertools.chain(*parts))


@functools.cache
def _gap_of(n_rows: int, precision: str | None) -> Multilinear:
    sign_S11 = np.array([1.0, -1.0])[:, None, None]

    def hot(index: jax.Array, dtype: Any) -> jax.Array:
        # (B, 2P): of truth values, so that the compiler sees zeros and ones.
        columns, (first, second) = jnp.arange(2 * n_rows)[None], index[..., None]
        return ((columns == first) | (columns == second + n_rows)).astype(dtype)

    def take(table: jax.Array, index: jax.Array) -> jax.Array:
        signed = table * sign_S11.astype(table.dtype)
        return _exactly(hot(index, table.dtype), signed.reshape(2 * n_rows, -1))

    def transpose(gradient: jax.Array, index: jax.Array) -> jax.Array:
        found = _product_at(precision)(hot(index, gradient.dtype).T, gradient)
        return found.reshape(2, n_rows, -1) * sign_S11.astype(gradient.dtype)

    return Multilinear(take, (transpose, None))


def take_rows_and_gaps(tables: Sequence[jax.Array], index: jax.Array) -> list[jax.Array]:
    """Rows x and q (2B, D) of tables of x, q, k, v (2, P, D), and what ``attend`` takes beside q.

    On a TPU a gap is one product, as is its gradient, and not two that are joined.
    """
    if platform() != "tpu":
        x, q, k, v = take_rows(tables, index)
        return [x, q, *gaps(k, v)]
    *of_rows, of_k, of_v = tables
    key_gap, value_gap = (_gap_of(len(own[0]), _precision())(own, index) for own in (of_k, of_v))
    (value,) = take_rows([of_v[1:]], index[1:])
    return [*take_rows(of_rows, index), key_gap, value, value_gap]


@functools.cache
def _joined() -> Multilinear:
    return Multilinear(lambda x: x, (jax.lax.optimization_barrier,))


def halves(rows: jax.Array) -> list[jax.Array]:
    """First and second half of rows, whose gradients are joined once, whoever asks for them."""
    return jnp.split(_joined()(rows), 2)


def in_tiles(tables: jax.Array) -> jax.Array:
    """Tables (S, P, C); on a TPU, with zero rows up to whole tiles of 8, they join as they lie."""
    missing = -tables.shape[1] % 8 if platform() == "tpu" else 0
    return jnp.pad(tables, ((0, 0), (0, missing), (0, 0))) if missing else tables


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


def gaps(k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What ``attend`` takes of keys and values (2B, D), first tokens then second."""
    # Split, not sliced: the gradient is then a concatenation instead of two pads and their sum.
    (k_first, k_second), (v_first, v_second) = jnp.split(k, 2), jnp.split(v, 2)
    return k_first - k_second, v_second, v_first - v_second


def attend(
    n_heads: int, q: jax.Array, key_gap: jax.Array, value: jax.Array, value_gap: jax.Array
) -> jax.Array:
    """Attention of queries (nB, D) to two tokens: gaps are first less second, the value is second.

    Those are (B, D). Softmax over two scores is a sigmoid of their gap. n is 1 (second tokens ask)
    or 2 (both).
    """
    n, width = len(q) // len(value), q.shape[-1]
    key_gap, value_gap = _tile(key_gap, n), _tile(value_gap, n)
    weight_H = jax.nn.sigmoid(math.sqrt(n_heads / width) * sum_heads(q * key_gap, n_heads))
    return _tile(value, n) + spread_heads(weight_H, width) * value_gap
