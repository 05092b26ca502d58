"""Cross-entropy whose small values keep their digits."""

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_jvp
def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropies of (B, P) logits with labels (B,), by way of float64 from the logits on.

    In float32 a pair answered with 17 nats to spare has a loss and a gradient of nothing, the
    "softmax collapse" that stops grokking without weight decay (Prieto et al. 2025, arXiv
    2501.04697). Here sums leave out their largest term, a one, so that what is small keeps its
    digits; losses and derivatives are rounded to float32 at the very end.

    Returns:
        (B,) float32.
    """
    # Only in here and below, so that nothing else changes its dtype.
    with jax.enable_x64(True):
        gap, _, others = _exponentials(logits)
        loss = jnp.log1p(others) - jnp.where(_hot(label, gap), gap, 0).sum(axis=-1)
        return loss.astype(jnp.float32)


def _exponentials(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In float64: gaps to the largest logit, their exponentials, and the sum without the one."""
    # With 32-bit indices: those of 64 would outlive the context that allows them.
    largest = _hot(jax.lax.argmax(logits, 1, jnp.int32), logits)
    top = jnp.where(largest, logits, 0).sum(axis=-1, keepdims=True)
    gap = logits.astype(jnp.float64) - top.astype(jnp.float64)
    power = jnp.exp(gap)
    return gap, power, jnp.where(largest, 0, power).sum(axis=-1)


def _hot(index: jax.Array, like: jax.Array) -> jax.Array:
    return index[:, None] == jnp.arange(like.shape[1], dtype=index.dtype)[None]


@cross_entropy.defjvp
def _cross_entropy_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    logits, label = primals
    with jax.enable_x64(True):
        _, power, others = _exponentials(logits)
        share = power / (1 + others)[:, None]
        wrong = jnp.where(_hot(label, share), 0, share)
        slope = jnp.where(_hot(label, share), -wrong.sum(axis=-1, keepdims=True), wrong)
        tangent = (slope * tangents[0].astype(jnp.float64)).sum(axis=-1)
        return cross_entropy(logits, label), tangent.astype(jnp.float32)
