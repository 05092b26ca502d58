"""Derivatives of functions of parameters; see ``weights``, ``sharpness`` and ``clock_pizza``.

Functions come as pytrees (``jax.tree_util.Partial``): their data are arguments of the programs.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


@jax.jit
def gradient(loss: Any, params: Any) -> Any:
    """The loss's gradient, a tree like the parameters."""
    return jax.grad(loss)(params)


@jax.jit
def hessian_product(loss: Any, params: Any, vector: jax.Array) -> jax.Array:
    """(N,) the Hessian times a vector (N,), forward over reverse (Pearlmutter 1994)."""
    flat, unravel = ravel_pytree(params)

    def slope(point: jax.Array) -> jax.Array:
        return jax.grad(lambda at: loss(unravel(at)))(point)

    return jax.jvp(slope, (flat,), (vector,))[1]


@jax.jit
def pair_gradients(
    logits: Any, params: Any, pairs: jax.Array, outputs: jax.Array, like: jax.Array
) -> jax.Array:
    """(T, 2, d) gradients of a logit with respect to the embedding rows of a and of b.

    ``pairs`` are (T, 2) elements, ``outputs`` (T,), ``like`` (2, d) zeros.
    """

    def one(pair: jax.Array, output: jax.Array) -> jax.Array:
        return jax.grad(lambda shifts: logits(params, pair, shifts)[output])(like)

    return jax.vmap(one)(pairs, outputs)


def size(params: Any) -> int:
    """Numbers in a tree of parameters."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
