"""Functions of a run's parameters, for diagnostics that take derivatives.

Each is a ``jax.tree_util.Partial`` of one function a program and the run's own data, so what jits a
function of it compiles once for all runs and checkpoints of a program.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from grokjax.models.network import Params, map_vocabulary
from grokjax.settings.caching import bounded
from grokjax.settings.config import PRECISIONS
from grokjax.settings.grid import Run
from grokjax.tasks import task
from grokjax.training import data
from grokjax.training.data import RunData
from grokjax.training.step import Program, example_losses, inputs_of

Partial = jax.tree_util.Partial


def loss(program: Program, run: Run, n_examples: int) -> Any:
    """Parameters ↦ mean loss over at most so many of the run's training examples, always these."""
    own = _own(run)
    if n_examples < run.task.n_train:
        order = task.cloud_generator(run).permutation(run.task.n_train)[:n_examples]
        train = (own.train_inputs[order], own.train_label[order])
        own = own._replace(train_inputs=train[0], train_label=train[1])
    return Partial(_mean_loss(program), own)


def pair_logits(program: Program, run: Run) -> Any:
    """Parameters, elements a and b (2,), shifts (2, d) of their embedding rows ↦ (Q,) logits.

    A pair of equal elements has two rows all the same, so that each shift moves one of the two.
    """
    return Partial(_pair_logits(program), _own(run)._replace(train_inputs=None, train_label=None))


@bounded(2**28)
def _own(run: Run) -> RunData:
    """The run's data at its own sizes, without what evaluation alone needs."""
    own: RunData = jax.tree.map(lambda leaf: leaf[0], data.stack([run]))
    return own._replace(init_key=None, batch_key=None, labels=None, split=None)


@functools.cache
def _mean_loss(program: Program) -> Callable[..., jax.Array]:
    def mean(run: RunData, params: Params) -> jax.Array:
        with jax.default_matmul_precision(PRECISIONS[program.precision]):
            losses = example_losses(program, run, params, run.train_inputs, run.train_label)[0]
            return losses.mean()

    return mean


@functools.cache
def _pair_logits(program: Program) -> Callable[..., jax.Array]:
    def logits(run: RunData, params: Params, pair: jax.Array, shifts: jax.Array) -> jax.Array:
        # A network of two elements, row 0 for a and row 1 for b.
        def rows(leaf: Any, axis: int, which: str) -> Any:
            return leaf if which != "elements" else jnp.take(leaf, pair, axis=axis) + shifts

        model = program.model_of(run)
        model = type(model)(config=model.config, sizes=model.sizes._replace(elements=2))
        two = map_vocabulary(model.config, rows, params)
        with jax.default_matmul_precision(PRECISIONS[program.precision]):
            return model.logits(two, inputs_of(program, jnp.array([[0, 1]], jnp.int32)))[0]

    return logits
