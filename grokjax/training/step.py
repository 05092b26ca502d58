"""One run's training step, scanned over steps.

The step is written for one run; runs meet only in ``mapped``, at the outside. Nothing here touches
a file. Shapes as in ``data.py`` and ``models/network.py``; B examples a step.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from grokjax.models.network import Model, Params, Sizes, embedding
from grokjax.settings.config import TrainConfig
from grokjax.settings.fields import FULL
from grokjax.settings.grid import Run, Static
from grokjax.training import data, topology
from grokjax.training.data import RunData


class State(NamedTuple):
    """What the next step needs: parameters and optimiser state (a leading R axis in a batch)."""

    params: Params
    opt_state: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """The static part of a batch: one compiled program per value of this."""

    model: Model  # for the batch's largest sizes
    static: Static  # what its runs have in common
    precision: str  # of matrix products
    horizon: int = 0  # steps of the whole training where the optimiser depends on them

    @classmethod
    def of(cls, runs: Sequence[Run], config: TrainConfig) -> "Program":
        """The program that trains a batch of runs."""
        static = runs[0].static
        model = Model(config=static.model, sizes=data.sizes(runs))
        horizon = config.steps if static.optimizer.horizon else 0
        return cls(model=model, static=static, precision=config.precision, horizon=horizon)

    def model_of(self, run: RunData) -> Model:
        """The network with the run's own traced settings."""
        return dataclasses.replace(self.model, config=self.model.config.bound(run.traced))


def real_sizes(program: Program, run: RunData) -> Sizes:
    """The run's own sizes, traced."""
    return Sizes(run.n_elements, run.n_outputs, program.model.sizes.features)


def inputs_of(program: Program, examples: jax.Array) -> jax.Array:
    """What a network is given of (B, T) examples: pairs as they are, or (B, features) numbers."""
    table = data.features(program.static.features)
    if table is None:
        return examples
    # A constant of the program: bytes, so that it stays small. Places behind the last example,
    # which evaluation passes over, read the last one.
    values, scale = table
    rows = jnp.take(jnp.asarray(values), examples[:, 0], axis=0, mode="clip")
    return rows.astype(jnp.float32) / scale


def _optimizer(program: Program, run: RunData) -> optax.GradientTransformation:
    hidden = program.model.hidden(program.model.template())
    return program.static.optimizer.bound(run.traced).transformation(program.horizon, hidden)


def init(program: Program, run: RunData) -> State:
    """One run's step-0 state."""
    params = program.model_of(run).init(
        jax.random.wrap_key_data(run.init_key, impl="threefry2x32"),
        real_sizes(program, run),
        run.traced["init_scale"],
    )
    return State(params, _optimizer(program, run).init(params))


def training_order(run: RunData, first_step: jax.Array, n_steps: int, batch_size: int) -> jax.Array:
    """Indices into the training examples for steps first_step … first_step + n_steps - 1.

    The run sees one endless stream: a fresh permutation of its n_train examples after another, cut
    into batches, so every example comes once an epoch and a batch may span two epochs. The stream
    is a function of the run's key and the position alone; where a chunk starts does not matter.

    All epochs that a chunk touches come from one sort by (epoch, random word): its length does
    not depend on n_train, so runs of very different sizes share a batch cheaply.

    Returns:
        (n_steps, B) int32, each below the run's n_train.
    """
    n_train, n_max = run.n_train, run.train_label.shape[-1]
    wanted = n_steps * batch_size
    first = first_step * batch_size
    start = first // n_train * n_train
    position = start + jnp.arange(wanted + 2 * n_max, dtype=jnp.int32)
    epoch, offset = position // n_train, position % n_train
    key = jax.random.wrap_key_data(run.batch_key, impl="threefry2x32")

    def word(epoch: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, epoch), offset))

    _, _, order = jax.lax.sort((epoch, jax.vmap(word)(epoch, offset), offset), num_keys=2)
    chunk = jax.lax.dynamic_slice_in_dim(order, first - start, wanted)
    return chunk.reshape(n_steps, batch_size)


def real_outputs(program: Program, run: RunData) -> jax.Array:
    """(Q,) which outputs are the run's own."""
    return jnp.arange(program.model.sizes.outputs) < run.n_outputs


def example_losses(
    program: Program, run: RunData, params: Params, examples: jax.Array, label: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(B,) losses and (B, Q) logits, those of padding outputs meaningless."""
    logits = program.model_of(run).logits(params, inputs_of(program, examples))
    own = program.static.loss.bound(run.traced)
    return own.per_example(logits, label, real_outputs(program, run)), logits


def loss(
    params: Params, program: Program, run: RunData, examples: jax.Array, label: jax.Array
) -> jax.Array:
    """Mean loss of a batch, of a full one over the run's own training set, with what it gains."""
    losses = example_losses(program, run, params, examples, label)[0]
    if program.static.batch_size != FULL:
        mean = losses.mean()
    else:
        real = jnp.arange(losses.shape[0]) < run.n_train
        mean = jnp.where(real, losses, 0).sum() / run.n_train
    if run.edges is None:
        return mean
    gained = topology.term(embedding(params), run.n_elements, run.edges)
    return mean - run.traced["topology_weight"] * gained


def train_run(
    program: Program, n_steps: int, state: State, run: RunData, first_step: jax.Array
) -> tuple[State, jax.Array]:
    """n_steps steps of one run; returns the state and the (n_steps,) batch losses."""
    batches = None
    if program.static.batch_size != FULL:
        order = training_order(run, first_step, n_steps, program.static.batch_size)
        # One look-up of rows, and not one of each column: a TPU takes scalars one after another.
        batches = jnp.column_stack([run.train_inputs, run.train_label])[order]
    return train_on(program, n_steps, state, run, batches)


def train_on(
    program: Program, n_steps: int, state: State, run: RunData, batches: jax.Array | None
) -> tuple[State, jax.Array]:
    """The same on (n_steps, B, T + 1) examples and labels; None: on all of the training set."""
    optimizer = _optimizer(program, run)

    def step(state: State, batch: Any) -> tuple[State, jax.Array]:
        whole = batch is None
        examples = run.train_inputs if whole else batch[:, :-1]
        label = run.train_label if whole else batch[:, -1]
        value, gradient = jax.value_and_grad(loss)(state.params, program, run, examples, label)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state), value

    return jax.lax.scan(step, state, batches, length=n_steps)
