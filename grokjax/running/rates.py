"""How long programs take: a small batch of each of a few, trained, evaluated, written, measured.

That happens in a temporary folder. What it took is kept beside the compiled programs.
"""

import dataclasses
import itertools
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from grokjax import diagnostics
from grokjax.measuring.analyst import Analyst
from grokjax.measuring.views import measures, tables_of
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store.checkpoints import RunBatch, Writer
from grokjax.store.record import Batches
from grokjax.store.results import METRICS, Results
from grokjax.training import compilation, data, evaluation, mapped, work
from grokjax.training.step import Program
from grokjax.training.trainer import calls

_MOST_MEASURED = 4  # programs, of each kind the largest
_RUNS_A_DEVICE = 2
_A_BYTE = 5e-9  # seconds to compress and sum up a byte of parameters
_OPERATIONS = 3 * 10**11  # of the steps timed, where they take long; a CPU's three seconds or so


def _timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that a call took: on the clock, and of all cores' work on all cores."""
    begun, worked = time.perf_counter(), time.process_time()
    function()
    worked = (time.process_time() - worked) / len(os.sched_getaffinity(0))
    return time.perf_counter() - begun, worked


def _repeated(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds to compile, and of a call after that."""
    first, *others = (_timed(function)[0] for _ in range(3))
    return max(0.0, first - min(others)), sum(others) / len(others)


def _turns(n_runs: int) -> int:
    """How often each device has one run, if it takes them in turn; else what it has at once."""
    return -(-n_runs // len(jax.local_devices())) if mapped.takes_runs_in_turn() else n_runs


def measure(sample: Sequence[Run], config: SweepConfig, n_steps: int) -> dict[str, Any]:
    """What a small batch takes: seconds of a step and of an evaluation of a turn, and so on."""
    program, mesh = Program.of(sample, config.train), mapped.runs_mesh(len(sample))
    placed = mapped.place(mesh, data.stack(sample))
    state, at = [mapped.init(program, mesh)(placed)], itertools.count(step=n_steps)

    def train() -> None:
        chunk = mapped.train_chunk(program, mesh, n_steps)
        state[0], losses = chunk(state[0], placed, np.int32(next(at)))
        jax.block_until_ready(losses)

    def evaluate() -> None:
        sums = mapped.evaluate(program, mesh)(state[0].params, placed)
        evaluation.metrics(jax.device_get(sums))

    compiling, training = _repeated(train)
    once, evaluating = _repeated(evaluate)
    found = {
        "compiling": compiling + once,
        "training": training / n_steps / _turns(len(sample)),
        "evaluation": evaluating / _turns(len(sample)),
    }
    return found | _lenses(sample, config, jax.device_get(tuple(state[0])))


def _lenses(sample: Sequence[Run], config: SweepConfig, state: Any) -> dict[str, Any]:
    """What writing and measuring a checkpoint takes, by diagnostic."""
    steps, batch = config.train.checkpoint_steps, RunBatch.of(sample)
    ends = steps[0], steps[-1]  # which every diagnostic measures
    params, opt_state = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(sample)], state)
    members = frozenset(batch.run_ids)
    own = dataclasses.replace(config, shard=None, members=members)
    compiling, lenses, rows = 0.0, {}, {}
    with tempfile.TemporaryDirectory(prefix="grokjax-plan-") as name:
        folder = pathlib.Path(name)
        with Writer(folder / "checkpoints", batch) as writer:
            for step in ends:
                begun = time.process_time()
                writer.save(step, params, opt_state)
                writer.wait()
                writing = (time.process_time() - begun) / len(os.sched_getaffinity(0))
        for lens in config.options.diagnostics:
            options = dataclasses.replace(config.options, diagnostics=(lens,))
            analyst = Analyst(folder, own, options)
            analyst.prepare()
            first, whole = (_timed(partial(analyst.measure, batch, step)) for step in ends)
            compiling += max(0.0, first[0] - whole[0])
            lenses[lens] = _shared(analyst, sample, ends[-1], lens, whole)
            for key, table in tables_of(options)[lens].items():
                each = len(analyst.results.read(key, table)) / len(ends) / len(sample)
                rows[key] = each if table.within == () else each / sample[-1].task.n_elements
        metrics = Results(folder, batch.run_ids)
        row = dict.fromkeys(METRICS.columns, 0.1) | {"step": 0}
        lines = [row | {"run_id": run_id} for run_id in members]
        appending, _ = _timed(partial(metrics.append, "metrics", METRICS, lines))
    return {
        "compiling lenses": compiling,
        "lenses": lenses,
        "rows": rows,
        "a checkpoint": writing + appending,
    }


def _shared(
    analyst: Analyst, sample: Sequence[Run], step: int, lens: str, whole: tuple[float, float]
) -> list[list[float]]:
    """Seconds of a checkpoint and of each run in it, on the clock and of work, from half of it."""
    batch = RunBatch.of(sample)
    run_ids = [run.run_id for run in sample if analyst.lenses.measures(lens, step, run)]
    half = run_ids[: len(run_ids) // 2]
    if not half:
        return [[0.0, seconds / max(1, len(run_ids))] for seconds in whole]

    def again() -> None:
        waiting = {lens: half}
        views = analyst.views(batch, step, waiting)
        analyst.commit(step, waiting, analyst.compute(waiting, views))

    again()  # what is made for these runs alone
    found = []
    for seconds, of_half in zip(whole, _timed(again), strict=True):
        each = max(0.0, seconds - of_half) / (len(run_ids) - len(half))
        found.append([max(0.0, seconds - len(run_ids) * each), each])
    return found


def _base(sample: Sequence[Run], config: SweepConfig) -> float:
    """Bytes of this process at its largest without the batch that it had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(0, peak - work.memory(sample, config.train, len(sample)).of(len(sample)))


class Rates:
    """What programs take, measured of a few of them and scaled by operations for the others."""

    def __init__(self, config: SweepConfig, batches: Batches):
        self._config = config
        self._n_devices = len(jax.local_devices())
        largest: dict[Any, Sequence[Run]] = {}
        for batch in batches:
            there = largest.setdefault(batch[0].static, batch)
            if self.operations(batch)[0] > self.operations(there)[0]:
                largest[batch[0].static] = batch
        ordered = sorted(largest.values(), key=lambda batch: self.operations(batch))
        places = np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_MEASURED)).round()
        self.known = [self._known(ordered[int(place)]) for place in dict.fromkeys(places)]
        self.base = max(found["base"] for _, found in self.known)
        self.rows = {k: v for _, found in self.known for k, v in found["rows"].items()}

    def operations(self, batch: Sequence[Run]) -> tuple[int, int]:
        """Of a step and of an evaluation of a run of a batch, padding included."""
        return work.trace(work.largest(batch), self._config.train).flops

    def _known(self, batch: Sequence[Run]) -> tuple[Sequence[Run], dict[str, Any]]:
        config, n_most = self._config, _RUNS_A_DEVICE * self._n_devices
        if not mapped.takes_runs_in_turn():
            n_most = len(batch)  # which share the device
        by_size = sorted(batch, key=lambda run: (run.task.n_places, run.task.n_train))
        sample = by_size[-n_most:]
        n_steps = max(calls(config.train.checkpoint_every))
        if mapped.takes_runs_in_turn():
            most = _OPERATIONS // (self.operations(batch)[0] * len(sample) or 1)
            n_steps = min(n_steps, max(5, most))

        def make() -> dict[str, Any]:
            found = measure(sample, config, n_steps)
            return found | {"base": _base(sample, config)}

        told = [str(Program.of(sample, config.train)), len(sample), n_steps]
        told += [str(config.options), str(sample[-1].task), len(os.sched_getaffinity(0))]
        return batch, compilation.recalled(("rates by run", told), make)

    def seconds(self, batch: Sequence[Run]) -> dict[str, float]:
        """Of a whole batch, from step 0 to its last checkpoint measured, by what it goes into."""
        training, evaluating = self.operations(batch)

        def distance(known: tuple[Sequence[Run], Any]) -> tuple[bool, float]:
            ratio = self.operations(known[0])[0] / training
            return known[0][0].static != batch[0].static, max(ratio, 1 / ratio)

        nearest, found = min(self.known, key=distance)
        step, evaluation = self.operations(nearest)
        train, in_turn = self._config.train, mapped.takes_runs_in_turn()
        turns, n_checkpoints = _turns(len(batch)), len(train.checkpoint_steps)
        lenses = 0.0
        scale = evaluating / evaluation
        for name, (clock, worked) in found["lenses"].items():
            own = sum(measures(name, run, self._config.options) for run in batch)
            steps = diagnostics.steps(name, train.checkpoint_steps, self._config.options)
            shared, each = worked if in_turn else clock
            lenses += (shared + each * scale * own) * len(steps) if own else 0
        parameters = sum(work.n_bytes(work.state_of(run, train).params) for run in batch)
        return {
            "training": found["training"] * training / step * train.steps * turns,
            "evaluation": found["evaluation"] * scale * n_checkpoints * turns,
            "checkpoints": (found["a checkpoint"] + _A_BYTE * parameters) * n_checkpoints,
            "diagnostics": lenses,
            "compiling": found["compiling"] + found["compiling lenses"],
        }
