"""Losses and right answers of one run over all its examples, and the metrics made of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from grokjax.models.network import Params, mask_padding
from grokjax.training.data import LEAKED, NOVEL, PADDING, TRAIN, RunData
from grokjax.training.step import Program, inputs_of, real_outputs, real_sizes

# Examples evaluated at once by one run; bounds the memory of evaluation.
BLOCK = 4096


class Evaluation(NamedTuple):
    """Sums over all examples at one checkpoint; the last axis is train, leaked test, novel test."""

    count: Any  # (3,) int32 examples
    right: Any  # (3,) int32 of them answered right
    loss: Any  # (3,) float32 sum of losses
    weight_norm: Any  # () float32, over the run's own parameters


class Answers(NamedTuple):
    """What a network says of all places; where a place is no example, what it would say."""

    logits: Any  # (E, Q) float32
    neurons: Any  # (E, width) float32, activations of the last layer at the read-out token


def blocks(program: Program, n_places: int) -> tuple[int, int]:
    """Places in a block, whole rows of pairs, and the number of blocks that hold all."""
    side = program.model.sizes.elements or 1
    size = max(1, BLOCK // side) * side
    return size, -(-n_places // size)


def examples_at(program: Program, place: jax.Array) -> jax.Array:
    """(B, T) the examples at (B,) places."""
    side = program.model.sizes.elements
    parts = [place // side, place % side] if side else [place]
    return jnp.stack(parts, axis=1)


def evaluate_run(program: Program, params: Params, run: RunData) -> Evaluation:
    """Sums over all places of one run, and the norm of its parameters."""
    return _examine(program, params, run, keep=False)[0]


def examine_run(program: Program, params: Params, run: RunData) -> tuple[Evaluation, Answers]:
    """The same, and the answers that they are sums of."""
    sums, kept = _examine(program, params, run, keep=True)
    return sums, Answers(
        *(part.reshape(-1, part.shape[-1])[: run.labels.shape[-1]] for part in kept)
    )


def _examine(program: Program, params: Params, run: RunData, keep: bool) -> tuple[Evaluation, Any]:
    """Sums, and answers block by block if they are kept."""
    n_places = run.labels.shape[-1]
    size, n_blocks = blocks(program, n_places)
    model, own_loss = program.model_of(run), program.static.loss.bound(run.traced)

    def block(first: jax.Array) -> tuple[Any, Any]:
        place = first + jnp.arange(size)
        inside = place < n_places
        place = jnp.minimum(place, n_places - 1)
        label = run.labels[place]
        found = model.outputs(params, inputs_of(program, examples_at(program, place)))
        # Lest sums were others, in the last bit, where answers are kept.
        answer = jax.lax.optimization_barrier(found.logits)
        real = real_outputs(program, run)
        losses = own_loss.per_example(answer, label, real)
        logits = jnp.where(real[None], answer, jnp.finfo(losses.dtype).min)
        split = jnp.where(inside, run.split[place], PADDING)
        right = jnp.argmax(logits, axis=-1) == label
        member_BK = split[:, None] == jnp.array([[TRAIN, LEAKED, NOVEL]])
        loss = jnp.where(member_BK, losses[:, None], 0).sum(0)
        sums = member_BK.sum(0), loss, (member_BK & right[:, None]).sum(0)
        return sums, (answer, found.neurons) if keep else None

    sums, kept = jax.lax.map(block, jnp.arange(n_blocks) * size)
    count, loss, right = (part.sum(0) for part in sums)
    own = mask_padding(program.model.config, params, real_sizes(program, run))
    squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(own)]
    return Evaluation(count, right, loss, jnp.sqrt(jnp.stack(squares).sum())), kept


def metrics(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """The columns of the metrics table, (R,) float64 each, from NumPy sums of R runs.

    Accuracies are ratios of whole numbers in float64, so that 9 of 10 is 0.9. NaN where a set of
    pairs is empty, and everywhere but in the norm once losses or parameters are not finite: such
    a network answers at random.
    """
    count, right = evaluation.count.astype(np.float64), evaluation.right.astype(np.float64)
    loss = evaluation.loss.astype(np.float64)
    sane = np.isfinite(evaluation.weight_norm) & np.isfinite(loss).all(axis=-1)

    def share(part: np.ndarray, members: slice) -> np.ndarray:
        total = count[:, members].sum(axis=1)
        ratio = part[:, members].sum(axis=1) / np.where(total > 0, total, np.nan)
        return np.where(sane, ratio, np.nan)

    train, test, novel = slice(0, 1), slice(1, 3), slice(2, 3)
    with np.errstate(invalid="ignore"):
        return {
            "train_loss": share(loss, train),
            "train_accuracy": share(right, train),
            "test_loss": share(loss, test),
            "test_accuracy": share(right, test),
            "novel_accuracy": share(right, novel),
            "weight_norm": evaluation.weight_norm.astype(np.float64),
        }
