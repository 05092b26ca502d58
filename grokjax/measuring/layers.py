"""Checkpoint → point clouds: which layer, which points.

``embedding``: the rows of the embedding, before positions are added. ``layer1`` … (transformer):
the state of the token that is read out after each block; ``hidden1`` … (MLP): the state after each
hidden layer. With ``_both`` behind it, the states of all tokens, a share of the points each. Hidden
states are taken on test examples, the same at every checkpoint of a run.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from grokjax.clouds import farthest_points
from grokjax.models.network import Params
from grokjax.settings.config import PRECISIONS
from grokjax.settings.fields import check
from grokjax.settings.grid import Run
from grokjax.tasks import task
from grokjax.training.evaluation import blocks, examples_at
from grokjax.training.step import Program, inputs_of

EMBEDDING = "embedding"
BOTH = "_both"
SELECTIONS = ("random", "farthest")


def names_for(run: Run) -> tuple[str, ...]:
    """The clouds that a run's network has, in order of depth."""
    embedding = (EMBEDDING,) if run.task.n_elements else ()
    return (*embedding, *run.model.state_names)


def choose(requested: Sequence[str], run: Run) -> tuple[str, ...]:
    """The requested clouds that the run has; ``all`` and ``hidden`` stand for several."""
    own = names_for(run)
    wanted: list[str] = []
    for name in requested:
        group = {"all": own, "hidden": tuple(n for n in own if n != EMBEDDING)}.get(name, (name,))
        wanted += [member for member in group if member.removesuffix(BOTH) in own]
    return tuple(dict.fromkeys(name for name in wanted if name != EMBEDDING + BOTH))


def last_cloud(run: Run) -> str:
    """What the cloud of all tokens after the last layer is called."""
    return str(run.model.state_names[-1]) + BOTH


def validate(requested: Sequence[str], runs: Sequence[Run]) -> None:
    """Raises ``InvalidSettingError`` unless every requested cloud belongs to some run."""
    known = {"all", "hidden"}
    for run in runs:
        own = names_for(run)
        known |= {*own, *(name + BOTH for name in own if name != EMBEDDING)}
    text = ",".join(requested)
    for name in requested:
        message = f"there is no cloud '{name}'; there are {', '.join(sorted(known))}"
        check(name in known, "clouds", text, message)


def available_points(name: str, run: Run) -> int:
    """How many points a cloud can have."""
    if name == EMBEDDING:
        return int(run.task.n_elements)
    n_test = run.task.n_examples - run.task.n_train
    return int(n_test * (getattr(run.model, "n_tokens", 1) if name.endswith(BOTH) else 1))


def test_places(run: Run, test_mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places of all test examples of a run, in an order drawn from the run's own key."""
    return task.cloud_generator(run).permutation(np.flatnonzero(test_mask))


def _states(program: Program, params: Params, place: jax.Array) -> Any:
    with jax.default_matmul_precision(PRECISIONS[program.precision]):
        return program.model.states(params, inputs_of(program, examples_at(program, place)))


@functools.partial(jax.jit, static_argnums=0)
def hidden(program: Program, params: Params, place: jax.Array) -> dict[str, jax.Array]:
    """Layer → (T, n, width) states of the examples at these places, at the run's own sizes."""
    states = _states(program, params, place)
    return {name: states[name] for name in program.model.config.state_names}


@functools.partial(jax.jit, static_argnums=(0, 1))
def everything(program: Program, n_places: int, params: Params) -> tuple[jax.Array, jax.Array]:
    """Neurons (places, width) and logits (places, outputs) of all places, examples or not."""
    # A few thousand examples at a time bound the memory of the hidden states.
    size, n_blocks = blocks(program, n_places)

    def block(first: jax.Array) -> tuple[jax.Array, jax.Array]:
        place = jax.numpy.minimum(first + jax.numpy.arange(size), n_places - 1)
        states = _states(program, params, place)
        return states["neurons"], states["logits"]

    found = jax.lax.map(block, jax.numpy.arange(n_blocks) * size)
    neurons, logits = (part.reshape(-1, part.shape[-1])[:n_places] for part in found)
    return neurons, logits


def take(
    name: str, states: dict[str, NDArray[np.float32]], n_points: int, selection: str
) -> NDArray[np.float32]:
    """At most ``n_points`` of a hidden-state cloud, as they are.

    ``states`` are layer → (T, n, width), examples in the run's drawn order. Selection ``random``
    takes the first of them, for ``_both`` all tokens of a share of them; ``farthest`` is greedy.
    """
    state = states[name.removesuffix(BOTH)]
    if not name.endswith(BOTH):
        state = state[-1:]
    n_each = state.shape[1] if selection == "farthest" else -(-n_points // len(state))
    points = state[:, :n_each].reshape(-1, state.shape[-1])
    if selection == "farthest" and np.all(np.isfinite(points)):
        points = points[farthest_points(points, min(n_points, len(points)))]
    return points[:n_points]
