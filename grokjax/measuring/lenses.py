"""Lenses on the devices: what diagnostics made of arrays are at a checkpoint, all runs at once.

Whoever evaluates the runs of a batch (``Evaluator``), a sweep between two chunks of training or an
analysis, shows each chunk of them. What is kept is small, NumPy arrays, and goes into the views
that the diagnostics' ``measure`` gets.
"""

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from grokjax import diagnostics
from grokjax.diagnostics import Options, RunArrays
from grokjax.measuring import views
from grokjax.models import network
from grokjax.models.network import Params
from grokjax.settings.caching import bounded
from grokjax.settings.config import TrainConfig
from grokjax.settings.grid import Run
from grokjax.training import mapped
from grokjax.training.data import TRAIN, RunData
from grokjax.training.evaluation import Answers
from grokjax.training.evaluator import Chunk, Evaluator
from grokjax.training.step import Program


class Seen(NamedTuple):
    """What was seen of one run at one checkpoint."""

    states: Mapping[str, NDArray[np.float32]] | None  # those of clouds; see ``views.take``
    head_rows: Mapping[str, NDArray[np.float32]] | None
    reduced: Mapping[str, Any]  # as in ``RunView``


class Lenses:
    """Looks at runs as ``options`` say."""

    def __init__(self, options: Options, config: TrainConfig):
        self._options, self._config = options, config
        self._modules = {name: diagnostics.get(name) for name in options.diagnostics}
        self._steps = {
            name: diagnostics.steps(name, config.checkpoint_steps, options)
            for name in options.diagnostics
        }
        self._measured: dict[tuple[str, str], bool] = {}  # by diagnostic and run
        self._places: dict[str, NDArray[np.int32]] = {}  # by run: the same at every checkpoint

    def measures(self, name: str, step: int, run: Run) -> bool:
        """Whether a diagnostic has rows of a run at a step."""
        key = name, run.run_id
        if key not in self._measured:
            self._measured[key] = views.measures(name, run, self._options)
        return step in self._steps[name] and self._measured[key]

    def _on_device(self, step: int, run: Run) -> dict[str, tuple[str, ...]]:
        """The diagnostics that measure a run on the device, and what they read there."""
        return {
            name: getattr(own, "ON_DEVICE", ())
            for name, own in self._modules.items()
            if hasattr(own, "on_device") and self.measures(name, step, run)
        }

    def _any_reads(self, what: str, step: int, run: Run) -> bool:
        return any(what in reads for reads in self._on_device(step, run).values())

    def wants(self, step: int, runs: Sequence[Run]) -> bool:
        """Whether answers are looked at; runs are of one group."""
        return self._any_reads("answers", step, runs[0])

    def group(self, run: Run) -> Hashable:
        """Runs of one structure whose clouds have as many points."""
        n_test = run.task.n_examples - run.task.n_train
        structure = run.task.structure
        return structure, min(n_test, self._most_examples(run))

    def _most_examples(self, run: Run) -> int:
        own = self._options
        n_each = -(-own.lid_points // views.n_tokens(run))
        return max(n_each, views.n_candidates(own))

    def _test_places(self, run: Run) -> NDArray[np.int32]:
        if run.run_id not in self._places:
            found = views.places(run, self._most_examples(run)).astype(np.int32)
            self._places[run.run_id] = found
        return self._places[run.run_id]

    def evaluator(self, runs: Sequence[Run]) -> Evaluator:
        """What takes the runs of a batch to this process's devices."""
        return Evaluator(runs, self._config, self.group)

    def needs_device(self, step: int, run: Run) -> bool:
        """Whether anything at this step is seen on a device."""
        return bool(self._on_device(step, run)) or self._hidden(step, run)

    def _hidden(self, step: int, run: Run) -> bool:
        """Whether anything at this step may ask for clouds of hidden states."""
        chosen = views.choose(self._options.clouds, run)
        hidden = any(name != views.EMBEDDING for name in chosen)
        return hidden and any(self.measures(name, step, run) for name in self._modules)

    def of_batch(self, evaluator: Evaluator, step: int, params: Params) -> dict[str, Seen]:
        """Run id → what is seen of it, from (R, …) NumPy parameters."""
        seen: dict[str, Seen] = {}
        for chunk in evaluator.chunks(params):
            answers = chunk.examine()[1] if self.wants(step, chunk.runs) else None
            seen |= self.look(step, chunk, answers)
        return seen

    def look(self, step: int, chunk: Chunk, answers: Answers | None) -> dict[str, Seen]:
        """Run id → what is seen of it."""
        run = chunk.runs[0]
        if not self.needs_device(step, run):
            return {}
        last, cloud_points = (self._any_reads(w, step, run) for w in ("last_states", "clouds"))
        heads, hidden = answers is not None, self._hidden(step, run)
        states: Any = None
        shown: dict[str, Any] = {"heads": None, "states": None, "last": None}
        if last or hidden or heads:
            places = [self._test_places(own) for own in chunk.runs]
            n_points = self._options.lid_points if last else 0
            kept = views.n_candidates(self._options) if hidden else 0
            found = _states(chunk.program, chunk.mesh, n_points, kept, heads)
            shown = found(chunk.params, chunk.place(np.stack(places)))
            states = jax.device_get(shown["states"])
        clouds = self._clouds(chunk, states) if cloud_points else [{}] * len(chunk.runs)
        fields = {
            "neurons": answers and answers.neurons,
            "logits": answers and answers.logits,
            "clouds": chunk.place(jax.tree.map(lambda *own: np.stack(own), *clouds)),
            "last_states": shown["last"],
        }
        reduced = {
            name: self._reduce(name, chunk, {k: v for k, v in fields.items() if k in _known(reads)})
            for name, reads in self._on_device(step, run).items()
        }
        head_rows = jax.device_get(shown["heads"])
        return {
            own.run_id: Seen(_row(states, i), _row(head_rows, i), _row(reduced, i))
            for i, own in enumerate(chunk.runs)
        }

    def _clouds(self, chunk: Chunk, states: Any) -> list[dict[str, NDArray[np.float32]]]:
        """The clouds of each run, but for that of the last states, which is seen as it is."""
        last, found = views.last_cloud(chunk.runs[0]), []
        for i, run in enumerate(chunk.runs):
            rows, own = network.embedding(_row(chunk.own, i)), _row(states, i)
            names = [name for name in views.choose(self._options.clouds, run) if name != last]
            found.append({name: views.cloud(name, rows, own, self._options) for name in names})
        return found

    def _reduce(self, name: str, chunk: Chunk, fields: dict[str, Any]) -> Any:
        """What a diagnostic made of the runs, NumPy arrays; or the exception that it raised."""
        lens, structure = self._modules[name], chunk.runs[0].task.structure
        try:
            with jax.enable_x64(True):
                constants = _constants(lens, structure, chunk.mesh, self._options)
                program = _program(lens.on_device, chunk.program, chunk.mesh, self._options)
                return jax.device_get(program(chunk.data, fields, constants))
        except jax.errors.JaxRuntimeError:  # of the device, such as its memory
            raise
        except Exception as error:
            return error


def _known(reads: Sequence[str]) -> set[str]:
    return {*reads} | ({"neurons", "logits"} if "answers" in reads else set())


def _row(tree: Any, i: int) -> Any:
    """One run's part of NumPy arrays, and exceptions as they are."""
    return jax.tree.map(lambda own: own if isinstance(own, Exception) else own[i], tree)


@bounded(2**28)
def _constants(lens: Any, structure: Any, mesh: Mesh, options: Options) -> Any:
    if not hasattr(lens, "constants"):
        return None
    found = lens.constants(structure, options)
    return jax.device_put(found, NamedSharding(mesh, PartitionSpec()))


@functools.cache
def _program(on_device: Any, program: Program, mesh: Mesh, options: Options) -> Any:
    """The jitted function (runs, fields of ``RunArrays``, constants) → what ``on_device`` gives."""

    def reduce(run: RunData, fields: dict[str, Any], constants: Any) -> Any:
        told = dict.fromkeys(RunArrays._fields) | fields
        told |= {"labels": run.labels, "train_mask": run.split == TRAIN}
        return on_device(RunArrays(**told), constants, options)

    reduce.__name__ = f"lens_{on_device.__module__.rpartition('.')[2]}"
    return mapped.over_runs(program, mesh, reduce, n_shared=1)


@functools.cache
def _states(program: Program, mesh: Mesh, n_points: int, n_candidates: int, heads: bool) -> Any:
    """The jitted function (params, places) → states of the last layer, of all, rows of heads."""

    def see(params: Params, place: jax.Array) -> dict[str, Any]:
        found: dict[str, Any] = {"last": None, "states": None, "heads": None}
        if n_points or n_candidates:
            states = views.states(program, params, place)
            last = states[program.model.config.state_names[-1]]
            if n_points:
                n_each = -(-n_points // len(last))
                found["last"] = last[:, :n_each].reshape(-1, last.shape[-1])[:n_points]
            if n_candidates:
                found["states"] = {name: own[:, :n_candidates] for name, own in states.items()}
        if heads:
            found["heads"] = program.model.head_rows(params)
        return found

    return mapped.over_runs(program, mesh, see)
