"""Training one batch, from where its checkpoints are to the last step.

What is lost in between, a checkpoint that is missing or cannot be read, is trained again from the
nearest state before it, once the last step is reached; what does not fit into the device's memory
is trained part by part.
"""

import contextlib
import functools
import itertools
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from grokjax.models.network import embedding
from grokjax.settings.config import Saving, TrainConfig
from grokjax.settings.grid import Run
from grokjax.store import folders, record
from grokjax.store.checkpoints import Reader, RunBatch, Writer
from grokjax.store.errors import CheckpointError
from grokjax.store.results import METRICS, Results
from grokjax.training import data, evaluation, mapped
from grokjax.training.data import RunData
from grokjax.training.evaluator import Evaluator, Watch
from grokjax.training.step import Program, State
from grokjax.training.step import init as init_run
from grokjax.training.stopping import Stopped, StopRequest
from grokjax.training.topology import look_up

# The device is handed this many steps at a time at most: fine enough for a live display and a
# quick stop, coarse enough that handing over costs nothing.
_MOST_STEPS_A_CALL = 100


_Save = Callable[[int, Any, Any], None]  # step, parameters, optimiser state or None


class TrainingListener(Protocol):
    """Who is told how far the training has come."""

    def trained(self, batch: int, step: int, run_steps: int, seconds: float) -> None:
        """A batch has come to ``step``; so many run-steps took so many seconds."""

    def spent(self, what: str, seconds: float) -> None:
        """So many seconds went into one of these, and training waited for it.

        ``compiling training`` (told whenever the device has been handed steps, before they are
        done; next to nothing after the first time), ``compiling evaluation``, ``evaluation``,
        ``lenses`` (diagnostics on the device), ``checkpoints`` (copying the state, and waiting for
        the one before to be written), ``topology`` (looking edges up).
        """

    def evaluated(self, batch: int, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Metrics of a checkpoint."""

    def note(self, text: str) -> None:
        """Something worth a line."""


def calls(n_steps: int) -> list[int]:
    """Lengths of the calls that make so many steps, of one length where that is not too short.

    Each length is a compiled program of its own: there are never more than two.
    """
    whole = max(n for n in range(1, _MOST_STEPS_A_CALL + 1) if n_steps % n == 0)
    if 2 * whole >= min(n_steps, _MOST_STEPS_A_CALL):
        return [whole] * (n_steps // whole)
    count = -(-n_steps // _MOST_STEPS_A_CALL)
    return [n_steps * (i + 1) // count - n_steps * i // count for i in range(count)]


class BatchTrainer:
    """Takes one batch from where its checkpoints are to the last step."""

    def __init__(
        self,
        index: int,
        runs: Sequence[Run],
        settings: TrainConfig,
        saving: Saving,
        workdir: pathlib.Path,
        results: Results,
        display: TrainingListener,
        stop: StopRequest,
        made_by: str = "",
    ):
        self._index, self._runs = index, runs
        self.number = index + 1  # of the batch, as the display counts
        self._last, self._every = settings.steps, settings.checkpoint_every
        self._results, self._display, self._stop = results, display, stop
        self._settings = settings
        self._watch: Watch | None = None
        self._program = Program.of(runs, settings)
        self._workdir, self._root = workdir, workdir / "checkpoints"
        self._made_by = made_by
        self._n_parts = 1
        self._seconds_to_state = 60 * saving.state_minutes
        self._held: tuple[int, Any, Any] | None = None  # the last checkpoint, with optimiser state
        self.batch = RunBatch.of(runs)

    def run(self, measured: set[tuple[str, int]], watch: Watch | None = None) -> None:
        """Trains to the end; ``measured`` are the (run_id, step) that metrics already hold.

        ``watch`` looks on at new checkpoints.

        Raises:
            Stopped: if asked to stop; every checkpoint passed is committed with its metrics, the
                last with an optimiser state.
            CheckpointError: if lost checkpoints cannot be made again as they were.
        """
        self._measured = measured
        self._watch = watch
        while True:
            try:
                return self._run()
            except jax.errors.JaxRuntimeError as error:
                text = str(error)
                out_of_memory = "RESOURCE_EXHAUSTED" in text and "No space left" not in text
                if not out_of_memory or self._n_parts == len(self._runs):
                    raise
            # Outside of the handler, which kept the arrays of the failed call alive.
            self._n_parts = min(2 * self._n_parts, len(self._runs))
            at_once = -(-len(self._runs) // self._n_parts)
            self._note(f"out of device memory; continuing with {at_once} runs at a time")

    def run_steps_left(self) -> int:
        """Run-steps to the end, and those that make lost checkpoints again, if all can be read."""
        reader, name = Reader(self._root), self.batch.name
        states = {0, *reader.resumable_steps(name), *reader.steps(name, "remaking")}
        start = max(states)
        lost = [gap for gap in self._gaps(reader) if gap < start]
        again = lost[-1] - max(step for step in states if step <= lost[0]) if lost else 0
        return (self._last - start + again) * len(self._runs)

    def _note(self, text: str) -> None:
        self._display.note(f"batch {self.number}: {text}")

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self._display.spent(what, time.perf_counter() - begun)

    def _run(self) -> None:
        reader = Reader(self._root)
        there = reader.steps(self.batch.name)
        self._drop_states(reader)
        unmeasured = [step for step in there if not self._known(step)]
        resumable = reader.resumable_steps(self.batch.name)
        if resumable[-1:] == [self._last] and not unmeasured and not self._gaps(reader):
            return
        self._mesh = mapped.runs_mesh(len(self._runs))
        bounds = [len(self._runs) * i // self._n_parts for i in range(self._n_parts + 1)]
        self._parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
        self._data = self._cut(data.stack(self._runs))
        at_once = self._parts[0].stop if self._n_parts > 1 else None
        group = self._watch.group if self._watch else None
        self._evaluator = Evaluator(self._runs, self._settings, group, at_once)
        for step in unmeasured:
            params = self._read(reader, step, "params")
            if params is not None:
                self._evaluate(step, params)
        with Writer(self._root, self.batch, self._made_by) as writer:
            start, states, is_new = self._latest(reader)
            if start < self._last and (there or not is_new):
                again = f", up to {there[-1]:,} once more" if there[-1:] > [start] else ""
                lost = self._named(self._gaps(reader))
                again += f"; checkpoints {lost} are missing and will be made again" if lost else ""
                self._note(f"resumed at step {start:,}{again}")
            with self._leaving_a_state(writer.save):
                if is_new:
                    self._checkpoint(writer.save, 0, states)
                self._train(writer.save, start, states, self._last)
            writer.wait()
            self._make_good(writer, reader)

    def _train(self, save: _Save, start: int, states: list[State], end: int) -> None:
        """Trains from one checkpoint to another."""
        for step in range(start + self._every, end + 1, self._every):
            states = self._train_to(step, states)
            self._checkpoint(save, step, states)
            if self._stop.due(0):
                raise Stopped(self._stop.reason)

    @contextlib.contextmanager
    def _leaving_a_state(self, save: _Save) -> Iterator[None]:
        """Saves the optimiser state of the last checkpoint if training is to go on from there."""
        self._state_due = time.monotonic() + self._seconds_to_state
        try:
            yield
        except (Stopped, jax.errors.JaxRuntimeError):
            if self._held is not None:
                save(*self._held)
            raise
        finally:
            self._held = None

    def _known(self, step: int) -> bool:
        return all((run.run_id, step) in self._measured for run in self._runs)

    def _gaps(self, reader: Reader) -> list[int]:
        """Steps before the latest committed one that are lost, not let go."""
        steps = {*reader.steps(self.batch.name), *reader.gone(self.batch.name)}
        expected = range(0, max(steps, default=0), self._every)
        return [step for step in expected if step not in steps]

    def _make_good(self, writer: Writer, reader: Reader) -> None:
        """Trains lost checkpoints again, from the nearest state before them, with states between.

        Also where nothing is missing: what is there must come out the same, if this is what made
        it. What did not make it is recorded for those that are made again.
        """
        name, gaps = self.batch.name, self._gaps(reader)
        if gaps:
            start, states, _ = self._latest(reader, before=gaps[0])
            self._note(
                f"checkpoints {self._named(gaps)} are missing; "
                f"training from step {start:,} to make them again"
            )
            if reader.made_by(name, gaps[-1] + self._every) != self._made_by:
                record.note_remade(self._workdir, self.batch.run_ids, gaps, self._made_by)
            with self._leaving_a_state(writer.remake):
                self._checkpoint(writer.remake, start, states)
                self._train(writer.remake, start, states, gaps[-1])
            writer.wait()
            self._drop_states(reader)

    def _drop_states(self, reader: Reader) -> None:
        """Removes the states on the way to lost checkpoints, but for those before one."""
        first = min(self._gaps(reader), default=0)
        for step in reader.steps(self.batch.name, "remaking"):
            if step >= first:
                folders.drop_state(self._root, self.batch.name, step, "remaking")

    def _named(self, steps: Sequence[int]) -> str:
        return ", ".join(f"{step:,}" for step in steps)

    def _cut(self, tree: Any) -> list[Any]:
        """A tree of all runs' NumPy arrays as one for each part."""
        return [jax.tree.map(lambda leaf, part=part: leaf[part], tree) for part in self._parts]

    def _on_device(self, tree: Any) -> Any:
        """Places what lies in main memory."""
        is_there = isinstance(jax.tree.leaves(tree)[0], jax.Array)
        return tree if is_there else mapped.place(self._mesh, tree)

    def _put_away(self, tree: Any) -> Any:
        """Keeps a part's state on the device if it is the only one, else in main memory."""
        return tree if self._n_parts == 1 else jax.device_get(tree)

    def _gather(self, parts: Sequence[Any]) -> Any:
        """NumPy copies of all runs' arrays, without padding."""
        # Copies, because the next step overwrites the state while it is still being written.
        sizes = [part.stop - part.start for part in self._parts]
        return jax.tree.map(
            lambda *leaves: np.concatenate(
                [np.asarray(leaf)[:size] for leaf, size in zip(leaves, sizes, strict=True)]
            ),
            *parts,
        )

    def _train_to(self, step: int, states: list[State]) -> list[State]:
        """The states at a checkpoint, from those at the one before."""
        topology = self._program.static.topology
        every = self._every if topology is None else topology.every
        lengths = calls(every) * (self._every // every)
        calls_left = len(states) * len(lengths)
        trained = []
        for state, own, part in zip(states, self._data, self._parts, strict=True):
            state, placed = self._on_device(state), self._on_device(own)
            n_runs = len(own.n_train)
            at = step - self._every
            for n_steps in lengths:
                if topology is not None and at % every == 0:
                    with self._timed("topology"):
                        placed = self._with_edges(placed, self._runs[part], state, at)
                # The call returns when its steps have begun, not when they are done.
                with self._timed("compiling training"):
                    chunk = mapped.train_chunk(self._program, self._mesh, n_steps)
                    state, losses = chunk(state, placed, np.int32(at))
                begun = time.perf_counter()
                jax.block_until_ready(losses)
                seconds = time.perf_counter() - begun
                calls_left -= 1
                at += n_steps
                self._display.trained(self._index, at, n_steps * n_runs, seconds)
                if calls_left and self._stop.due(seconds * calls_left):
                    raise Stopped(self._stop.reason)
            trained.append(self._put_away(state))
        return trained

    def _with_edges(self, placed: RunData, runs: Sequence[Run], state: State, step: int) -> RunData:
        """The data with the edges that belong to the state at a step."""
        embeddings = np.asarray(embedding(state.params))
        return placed._replace(edges=self._on_device(look_up(runs, embeddings, step)))

    def _checkpoint(self, save: _Save, step: int, states: Sequence[State]) -> None:
        with self._timed("checkpoints"):
            self._held = None  # before the next copy is made
            params, opt_state = self._gather([tuple(state) for state in states])
            self._held = step, params, opt_state
            due = step == self._last or time.monotonic() >= self._state_due
            save(step, params, opt_state if due else None)
            if due:
                self._state_due = time.monotonic() + self._seconds_to_state
        if self._known(step):
            return
        self._evaluate(step, params, self._watch)
        if self._watch:
            with self._timed("lenses"):
                self._watch.seen(self.batch.name, step, lambda: self._stop.due(0))

    def _evaluate(self, step: int, params: Any, watch: Watch | None = None) -> None:
        sums = []
        for chunk in self._evaluator.chunks(params):
            answers = None
            with self._timed("compiling evaluation"):
                if watch and watch.wants(step, chunk.runs):
                    found, answers = chunk.examine()
                else:
                    found = chunk.evaluate()
            with self._timed("evaluation"):
                sums.append((chunk, jax.device_get(found)))
            if watch:
                with self._timed("lenses"):
                    watch.look(step, chunk, answers)
        with self._timed("evaluation"):
            columns = evaluation.metrics(self._evaluator.gathered(sums))
            rows = [
                {"run_id": run.run_id, "step": step}
                | {name: float(column[i]) for name, column in columns.items()}
                for i, run in enumerate(self._runs)
            ]
            self._results.append("metrics", METRICS, rows)
            self._measured |= {(run.run_id, step) for run in self._runs}
        self._display.evaluated(self._index, step, rows)

    def _latest(self, reader: Reader, before: float = math.inf) -> tuple[int, list[State], bool]:
        """The step and state of the latest that can be read, else of the first, which is new."""
        name = self.batch.name
        found = [(step, [*State._fields]) for step in reader.resumable_steps(name)]
        found += [(step, ["remaking"]) for step in reader.steps(name, "remaking")]
        for step, items in sorted(found, reverse=True):
            if step < before:
                parts: Any = [self._read(reader, step, item) for item in items]
                if all(part is not None for part in parts):
                    state = State(*(parts if items[1:] else parts[0]))
                    return step, self._cut(state), False
        init = mapped.init(self._program, self._mesh)
        return 0, [self._put_away(init(self._on_device(own))) for own in self._data], True

    def _read(self, reader: Reader, step: int, item: str) -> Any | None:
        """One kind of state at a step; None, and it is set aside, if it cannot be read."""
        init = jax.vmap(functools.partial(init_run, self._program))
        state = jax.eval_shape(init, data.stack(self._runs))
        template = tuple(state) if item == "remaking" else getattr(state, item)
        try:
            return getattr(reader, item)(self.batch, step, template)
        except CheckpointError as error:
            kept = folders.set_aside(self._root, error.batch, error.item, error.step)
            self._note(f"{error}; it is kept as {kept} and made anew")
            return None
