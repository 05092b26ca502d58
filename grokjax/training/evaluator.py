"""Evaluating the runs of a batch at a checkpoint, a few at a time, each at its own sizes."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from grokjax.models import network
from grokjax.models.network import Params
from grokjax.settings.config import TrainConfig
from grokjax.settings.grid import Run
from grokjax.training import data, evaluation, mapped
from grokjax.training.data import RunData
from grokjax.training.evaluation import Answers, Evaluation
from grokjax.training.step import Program

# Arrays as large as the answers that are there at once, where lenses look at them in float64.
_COPIES = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """Runs of one size, and what is looked at of them on the devices.

    Arrays have a leading axis of ``width`` runs; those past the last one repeat it.
    """

    runs: tuple[Run, ...]
    indices: tuple[int, ...]  # of the runs in their batch
    program: Program
    mesh: Mesh
    width: int
    data: RunData  # on the devices
    own: Params  # NumPy arrays, and as the devices have them
    params: Params

    def place(self, tree: Any) -> Any:
        """NumPy arrays of its runs, as the devices take them."""
        return mapped.place(self.mesh, _padded(tree, self.width))

    def evaluate(self) -> Evaluation:
        """Sums over all places."""
        found: Evaluation = mapped.evaluate(self.program, self.mesh)(self.params, self.data)
        return found

    def examine(self) -> tuple[Evaluation, Answers]:
        """The same, and the answers, which stay on the devices."""
        found: tuple[Evaluation, Answers]
        found = mapped.examine(self.program, self.mesh)(self.params, self.data)
        return found


class Watch(Protocol):
    """Who looks on as runs are evaluated, on the devices that train them."""

    def group(self, run: Run) -> Hashable:
        """Runs that differ in this are not looked at together."""

    def wants(self, step: int, runs: Sequence[Run]) -> bool:
        """Whether it looks at the answers of these runs."""

    def look(self, step: int, chunk: Chunk, answers: Answers | None) -> None:
        """Looks; answers are there if wanted."""

    def seen(self, batch: str, step: int, given_up: Callable[[], bool]) -> None:
        """All runs of a batch have been looked at; may wait, unless training is ``given_up``."""


def _padded(tree: Any, width: int) -> Any:
    """NumPy arrays with a leading axis of so many runs, the last of them repeated."""
    last = min((len(leaf) for leaf in jax.tree.leaves(tree)), default=1) - 1
    index = np.minimum(np.arange(width), last)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def _without_batches(runs: RunData) -> RunData:
    """Without what only training reads, so that runs of other fractions have the same shapes."""
    none = {name: getattr(runs, name)[:, :0] for name in ("train_inputs", "train_label")}
    return runs._replace(**none)


class Evaluator:
    """Takes the runs of a batch chunk by chunk to the devices.

    What a CPU is given at once is a run a core, whatever the batch; an accelerator, what its memory
    holds the answers of, but no more than ``most`` in all.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        config: TrainConfig,
        group: Callable[[Run], Hashable] | None = None,
        most: int | None = None,
    ):
        groups: dict[Hashable, list[int]] = {}
        for i, run in enumerate(runs):
            sizes = run.task.n_elements, run.task.n_outputs, run.task.n_places
            groups.setdefault((sizes, group and group(run)), []).append(i)
        self._chunks: list[dict[str, Any]] = []
        for members in groups.values():
            own = [runs[i] for i in members]
            program, mesh = Program.of(own, config), mapped.runs_mesh(len(own))
            width = mesh.size * mapped.runs_at_once(mesh, _answer_bytes(program, own[0]) * _COPIES)
            width = min(width, -(-min(len(own), most or len(own)) // mesh.size) * mesh.size)
            for first in range(0, len(own), width):
                part = own[first : first + width]
                placed = mapped.place(mesh, _padded(_without_batches(data.stack(part)), width))
                self._chunks.append(
                    {"runs": tuple(part), "indices": tuple(members[first : first + width])}
                    | {"program": program, "mesh": mesh, "width": width, "data": placed}
                )

    def chunks(self, params: Params) -> Iterator[Chunk]:
        """The chunks of the batch; ``params`` are (R, …) NumPy arrays, with padding."""
        for told in self._chunks:
            run, index = told["runs"][0], np.array(told["indices"])
            own = network.row(run.model, params, index, data.sizes([run]))
            placed = mapped.place(told["mesh"], _padded(own, told["width"]))
            yield Chunk(**told, own=own, params=placed)

    def gathered(self, parts: Sequence[tuple[Chunk, Any]]) -> Any:
        """What was found of chunks, on the devices, as (R, …) NumPy arrays of the batch."""
        order = np.argsort([i for chunk, _ in parts for i in chunk.indices])
        sizes, found = zip(*((len(c.runs), jax.device_get(own)) for c, own in parts), strict=True)

        def joined(*leaves: Any) -> Any:
            cut = [leaf[:size] for leaf, size in zip(leaves, sizes, strict=True)]
            return np.concatenate(cut)[order]

        return jax.tree.map(joined, *found)


def _answer_bytes(program: Program, run: Run) -> int:
    stacked = data.stack([run])
    own = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)
    template = program.model.template()
    answers = jax.eval_shape(
        lambda params, run: evaluation.examine_run(program, params, run)[1], template, own
    )
    return sum(leaf.size * leaf.dtype.itemsize for leaf in answers)
