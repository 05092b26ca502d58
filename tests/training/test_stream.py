"""The stream of training examples: every one once an epoch, whatever the chunks and the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.training.data import RunData
from grokjax.training.step import training_order

pytestmark = pytest.mark.device


def one_run(n_train, n_max, seed=0):
    fields = dict.fromkeys(RunData._fields)
    return RunData(
        **fields
        | {
            "n_train": jnp.int32(n_train),
            "train_label": np.zeros(n_max, np.int32),
            "batch_key": jnp.array([seed, 7], jnp.uint32),
        }
    )


@pytest.mark.parametrize(("n_train", "batch_size"), [(100, 32), (37, 64), (1, 4), (50, 50)])
def test_every_pair_comes_once_an_epoch_in_a_fresh_order(n_train, batch_size):
    n_steps = -(-4 * n_train // batch_size)
    order = training_order(one_run(n_train, 120), jnp.int32(0), n_steps, batch_size)
    stream = np.asarray(order).ravel()
    epochs = [stream[i * n_train : (i + 1) * n_train] for i in range(4)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(n_train))
    if n_train > 10:
        assert not np.array_equal(epochs[0], epochs[1])


def test_the_stream_does_not_depend_on_chunks_or_padding():
    whole = np.asarray(training_order(one_run(57, 57), jnp.int32(0), 12, 20))
    order = jax.jit(training_order, static_argnums=(2, 3))
    for first in range(10):
        part = np.asarray(order(one_run(57, 90), jnp.int32(first), 2, 20))
        assert np.array_equal(part, whole[first : first + 2])


def test_the_order_is_uniform():
    # First positions over many epochs: each of 8 pairs is first about equally often.
    order = training_order(one_run(8, 8), jnp.int32(0), 4000, 8)
    counts = np.bincount(np.asarray(order)[:, 0], minlength=8)
    assert counts.min() > 400
    assert counts.max() < 600
