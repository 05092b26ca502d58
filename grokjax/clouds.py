"""Checkpoint → point clouds: which layer, which points, which normalisation.

Clouds have names. ``embedding``: the p rows of the token embedding, before positions are added.
``layer1`` … (transformer): the second token's state after each block; ``hidden1`` … (MLP): the
state after each hidden layer. With ``_both`` behind it, the states of both tokens, half of the
points each (of an MLP layer: the same as without). Hidden states are taken on test pairs, the
same pairs at every checkpoint of a run. A network of images has hidden layers alone.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from grokjax import tasks
from grokjax.grid import PRECISIONS, ModelConfig, RunSpec, check
from grokjax.models import Model, Params

EMBEDDING = "embedding"
BOTH = "_both"
NORMALISATIONS = ("unit", "none", "connectivity", "rms")
SELECTIONS = ("random", "farthest")


def normalize(points: ArrayLike, how: str = "unit") -> NDArray[np.float32]:
    """Centres a cloud and scales it.

    Args:
        points: (n, d) points.
        how: ``unit``: every centred row divided by its own L2 norm (the study's, as far as its
            numbers tell; rows at the centre stay there); ``none``: centred only;
            ``connectivity``: divided by the length at which the cloud becomes connected, its
            largest finite H0 death; ``rms``: divided by the root mean square distance from the
            centre. A cloud without extent stays at zero.

    Returns:
        (n, d) float32, computed in float64. NaN and infinity spread as arithmetic has it.

    Raises:
        ValueError: if ``points`` is not two-dimensional or ``how`` is unknown.
    """
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2:
        raise ValueError(f"points must be (n, d), got shape {cloud.shape}")
    if how not in NORMALISATIONS:
        raise ValueError(f"how must be one of {', '.join(NORMALISATIONS)}, got '{how}'")
    with np.errstate(invalid="ignore", over="ignore"):
        cloud = cloud - cloud.mean(axis=0, keepdims=True)
        norms = np.linalg.norm(cloud, axis=1, keepdims=True)
        scale: Any
        if how == "unit":
            scale = norms
        elif how == "rms":
            scale = np.sqrt(np.mean(norms**2))
        elif how == "connectivity":
            scale = _connectivity(cloud)
        else:
            scale = np.float64(1)
        return (cloud / np.where(scale == 0, 1, scale)).astype(np.float32)


def _connectivity(cloud: NDArray[np.float64]) -> np.float64:
    """Longest edge of the Euclidean minimum spanning tree: the largest finite H0 death."""
    if len(cloud) < 2 or not np.all(np.isfinite(cloud)):
        return np.float64(0 if len(cloud) < 2 else np.nan)
    return np.float64(minimum_spanning_tree(squareform(pdist(cloud))).max())


def farthest_points(points: NDArray[np.floating], n: int) -> NDArray[np.intp]:
    """Indices of n points, each the farthest from those before it, starting at the first.

    Greedy k-centre (Gonzalez 1985); ties go to the lowest index.
    """
    chosen = np.zeros(n, np.intp)
    nearest = np.full(len(points), np.inf)
    for i in range(1, n):
        gap = points - points[chosen[i - 1]]
        nearest = np.minimum(nearest, np.einsum("nd,nd->n", gap, gap))
        chosen[i] = int(np.argmax(nearest))
    return chosen


def names_for(config: ModelConfig) -> tuple[str, ...]:
    """The clouds a model has, in order of depth."""
    model = Model(config=config, n_tokens=3)
    return model.state_names if model.of_images else (EMBEDDING, *model.state_names)


def choose(requested: Sequence[str], config: ModelConfig) -> tuple[str, ...]:
    """The requested clouds that this model has; ``all`` and ``hidden`` stand for several."""
    own = names_for(config)
    wanted: list[str] = []
    for name in requested:
        group = {"all": own, "hidden": tuple(n for n in own if n != EMBEDDING)}.get(name, (name,))
        wanted += [member for member in group if member.removesuffix(BOTH) in own]
    return tuple(dict.fromkeys(name for name in wanted if name != EMBEDDING + BOTH))


def validate(requested: Sequence[str], configs: Sequence[ModelConfig]) -> None:
    """Raises ``InvalidSettingError`` unless every requested cloud belongs to some model."""
    known = {"all", "hidden"}
    for config in configs:
        known |= {*names_for(config), *(n + BOTH for n in names_for(config) if n != EMBEDDING)}
    text = ",".join(requested)
    for name in requested:
        check(
            name in known,
            "clouds",
            text,
            f"there is no cloud '{name}'; there are {', '.join(sorted(known))}",
        )


def available_points(name: str, run: RunSpec) -> int:
    """How many points the cloud of that name can have."""
    if name == EMBEDDING:
        return run.prime
    n_test = run.n_examples - run.n_train
    transformer_both = name.endswith(BOTH) and run.model == "transformer"
    return 2 * n_test if transformer_both else n_test


def test_pairs(run: RunSpec, task: tasks.Task) -> NDArray[np.int64]:
    """All test pairs of a run as a * p + b, in an order drawn from the run's own key."""
    pairs = np.flatnonzero(task.test_mask.ravel())
    return tasks.cloud_generator(run).permutation(pairs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _states(model: Model, precision: str, params: Params, a: jax.Array, b: jax.Array) -> Any:
    with jax.default_matmul_precision(PRECISIONS[precision]):
        states = model.states(params, a, b)
    return {name: states[name] for name in model.state_names}


def hidden(
    model: Model, precision: str, params: Params, pairs: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Layer → (S, n, width) states of the pairs a * p + b, at the run's own prime."""
    a, b = np.divmod(pairs, model.side)
    states = _states(model, precision, params, a.astype(np.int32), b.astype(np.int32))
    return {name: np.asarray(state) for name, state in states.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _everything(model: Model, precision: str, params: Params) -> tuple[jax.Array, jax.Array]:
    p = model.side
    # A few thousand pairs at a time bound the memory of the hidden states.
    rows = max(1, 4096 // p)
    b = jax.numpy.tile(jax.numpy.arange(p), rows)

    def block(first: jax.Array) -> tuple[jax.Array, jax.Array]:
        a = jax.numpy.repeat(jax.numpy.minimum(first + jax.numpy.arange(rows), p - 1), p)
        with jax.default_matmul_precision(PRECISIONS[precision]):
            states = model.states(params, a, b)
        return states["neurons"], states["logits"]

    neurons, logits = jax.lax.map(block, jax.numpy.arange(0, p, rows))
    width = neurons.shape[-1]
    return neurons.reshape(-1, width)[: p * p], logits.reshape(-1, logits.shape[-1])[: p * p]


def everything(
    model: Model, precision: str, params: Params
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Neurons (p^2, width) and logits (p^2, p) of all pairs, rows a * p + b."""
    neurons, logits = _everything(model, precision, params)
    return np.asarray(neurons), np.asarray(logits)


def take(
    name: str,
    states: dict[str, NDArray[np.float32]],
    n_points: int,
    selection: str,
    how: str,
) -> NDArray[np.float32]:
    """A hidden-state cloud of at most ``n_points``, normalised.

    Args:
        name: layer, with or without ``_both``.
        states: layer → (S, n, width), pairs in the run's drawn order.
        n_points: how many; random selection takes the first pairs of the drawn order, both tokens
            of half as many pairs for ``_both``.
        selection: ``random``, or ``farthest`` (greedy, among the states given).
        how: as for ``normalize``.
    """
    state = states[name.removesuffix(BOTH)]
    if not name.endswith(BOTH):
        state = state[-1:]
    n_each = -(-n_points // len(state))
    if selection == "farthest":
        points = state.reshape(-1, state.shape[-1])
        if np.all(np.isfinite(points)):
            points = points[farthest_points(points, min(n_points, len(points)))]
        return normalize(points[:n_points], how)
    return normalize(state[:, :n_each].reshape(-1, state.shape[-1])[:n_points], how)
