"""A term of the loss that makes loops of the embedding longer, or shorter.

The term is H1 max, or H1 total, of the cloud that persistence measures: centred rows of the
embedding, each divided by its length. Each bar is the length of one edge, of death, less that of
another, of birth (``persistence.critical_edges``). Which edges they are is looked up on the host
every few steps and is data of the program in between; their lengths, and the gradient, are those
of the parameters at each step.

Shapes: K bars, of which those that are not there have edges from point 0 to itself, without length
and gradient; P padded elements, D width of the embedding.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokjax.clouds import normalize
from grokjax.diagnostics import persistence
from grokjax.models.products import take_rows
from grokjax.settings.grid import Run, Topology
from grokjax.tasks.task import edges_generator

# Term → bars at most. Of 113 random points some 330 are born; of a trained embedding's, 20.
_BARS = {"h1_max": 1, "h1_total": 128, "random_edges": 1}
_CONTROL = "random_edges"


def no_edges(topology: Topology) -> NDArray[np.int32]:
    """(1, K, 2, 2) edges of no bars: of birth and death, two elements each.

    Of the control (2, K, 2, 2): critical edges, then those that stand in their place.
    """
    n_kinds = 2 if topology.term == _CONTROL else 1
    return np.zeros((n_kinds, _BARS[topology.term], 2, 2), np.int32)


def look_up(runs: Sequence[Run], embeddings: NDArray[np.float32], step: int) -> NDArray[np.int32]:
    """The edges of the runs' longest bars at a step, (R, …) as ``no_edges`` has them.

    ``embeddings`` are (R, P, D), or more rows than runs. A cloud that is not finite has no bars.
    """

    def one(run: Run, embedding: NDArray[np.float32]) -> NDArray[np.int32]:
        assert run.static.topology is not None
        edges = no_edges(run.static.topology)
        own = embedding[: run.task.n_elements]
        if np.isfinite(own).all():
            _, found = persistence.critical_edges(normalize(own))
            n_bars = min(len(found), edges.shape[1])
            edges[0, :n_bars] = found[:n_bars]
            if len(edges) == 2:
                random = edges_generator(run, step)
                for bar in edges[1, :n_bars]:  # four points, which a loop has at least
                    bar[:] = random.choice(len(own), (2, 2), replace=False)
        return edges

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return np.stack(list(pool.map(one, runs, embeddings)))


def term(embedding: jax.Array, n_elements: jax.Array, edges: jax.Array) -> jax.Array:
    """What the loss gains, times minus the weight, of one run's (P, D) embedding.

    That is the sum of its bars; of the control that of its random ones, scaled so that the gradient
    is as long as that of the critical ones.
    """
    if len(edges) == 1:
        return _bars(embedding, n_elements, edges[0])

    def steepness(kind: jax.Array) -> jax.Array:
        gradient = jax.grad(_bars)(jax.lax.stop_gradient(embedding), n_elements, kind)
        return _length(gradient.reshape(1, -1))[0, 0]

    critical, own = map(steepness, edges)
    scale = jnp.where(own > 0, critical / jnp.where(own > 0, own, 1), 0)
    return scale * _bars(embedding, n_elements, edges[1])


def _bars(embedding: jax.Array, n_elements: jax.Array, edges: jax.Array) -> jax.Array:
    """Lengths of the edges of death less those of birth, (K, 2, 2), between unit rows."""
    real = jnp.arange(len(embedding))[:, None] < n_elements
    centre = jnp.where(real, embedding, 0).sum(axis=0, keepdims=True) / n_elements
    centred = embedding - centre
    norm = _length(centred)
    cloud = centred / jnp.where(norm > 0, norm, 1)
    (rows,) = take_rows([cloud[None]], edges.reshape(1, -1))
    ends = rows.reshape(-1, 2, cloud.shape[1])
    birth, death = _length(ends[:, 0] - ends[:, 1]).reshape(-1, 2).T
    return (death - birth).sum()


def _length(vectors: jax.Array) -> jax.Array:
    """(N, 1) lengths of (N, D) vectors; that of a zero vector has gradient 0, not NaN."""
    squares: Any = (vectors**2).sum(axis=-1, keepdims=True)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
