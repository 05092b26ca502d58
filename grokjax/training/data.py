"""The data of a batch of runs, padded to common shapes.

Shapes: R runs, N training examples (padded to the batch's largest), E places of examples, T
numbers in an example: two elements, or the number of one with features.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from grokjax.models.network import Sizes
from grokjax.settings import registry
from grokjax.settings.grid import Run
from grokjax.tasks.task import batch_key, init_key, make_data
from grokjax.training.topology import no_edges

Array: TypeAlias = Any  # NumPy on the host, JAX in a program

PADDING, TRAIN, LEAKED, NOVEL = 0, 1, 2, 3


class RunData(NamedTuple):
    """Everything a step or an evaluation needs of R runs."""

    n_elements: Array  # (R,) int32
    n_outputs: Array  # (R,) int32
    n_train: Array  # (R,) int32
    traced: dict[str, Array]  # traced setting → (R,) float32
    init_key: Array  # (R, 2) uint32
    batch_key: Array  # (R, 2) uint32
    train_inputs: Array  # (R, N, T) int32
    train_label: Array  # (R, N) int32
    labels: Array  # (R, E) int32
    split: Array  # (R, E) int8: PADDING, TRAIN, LEAKED (test, not novel) or NOVEL
    # (R, …) int32 as ``topology.no_edges`` has them; None of a program without the term.
    edges: Array | None = None


def features(name: str) -> Any | None:
    """The features of the task of that name and the number that scales them; without, None."""
    return registry.find("operation", name).features(name) if name else None


def sizes(runs: Sequence[Run]) -> Sizes:
    """Sizes of a network for all of the runs."""
    table = features(runs[0].static.features)
    return Sizes(
        elements=max(run.task.n_elements for run in runs),
        outputs=max(run.task.n_outputs for run in runs),
        features=0 if table is None else table[0].shape[1],
    )


def stack(runs: Sequence[Run]) -> RunData:
    """The data of a batch, padded to its largest task and largest training set."""
    n_runs, side = len(runs), max(run.task.n_elements for run in runs)
    n_max = max(run.task.n_train for run in runs)
    topology = runs[0].static.topology
    n_places = side**2 if side else max(run.task.n_places for run in runs)
    inputs = np.zeros((n_runs, n_max, 2 if side else 1), np.int32)
    train_label = np.zeros((n_runs, n_max), np.int32)
    labels = np.zeros((n_runs, n_places), np.int32)
    split = np.full((n_runs, n_places), PADDING, np.int8)
    for i, run in enumerate(runs):
        data, own = make_data(run), run.task.n_elements
        n = len(data.train)
        inputs[i, :n] = np.stack(np.divmod(data.train, own), 1) if own else data.train[:, None]
        train_label[i, :n] = data.labels[data.train]
        place = np.arange(run.task.n_places)
        if own:
            place = place // own * side + place % own
        kinds = [data.train_mask, data.novel_mask, data.test_mask]
        labels[i, place] = np.maximum(data.labels, 0)
        split[i, place] = np.select(kinds, [TRAIN, NOVEL, LEAKED], PADDING)
    return RunData(
        n_elements=np.array([run.task.n_elements for run in runs], np.int32),
        n_outputs=np.array([run.task.n_outputs for run in runs], np.int32),
        n_train=np.array([run.task.n_train for run in runs], np.int32),
        traced={k: np.array([run.traced[k] for run in runs], np.float32) for k in runs[0].traced},
        init_key=np.stack([init_key(run) for run in runs]),
        batch_key=np.stack([batch_key(run) for run in runs]),
        train_inputs=inputs,
        train_label=train_label,
        labels=labels,
        split=split,
        edges=None if topology is None else np.stack([no_edges(topology)] * n_runs),
    )
