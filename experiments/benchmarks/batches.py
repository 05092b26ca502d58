"""Batches of the study's runs in training, timed."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.turns import Contestants
from grokjax.measuring.analyst import own_params
from grokjax.settings import grid
from grokjax.settings.config import TrainConfig
from grokjax.settings.fields import RUN
from grokjax.settings.grid import Run
from grokjax.training import data, mapped, step
from grokjax.training.step import Program

BATCH_SIZE = 512


def runs(kind: str, prime: int, n: int, **more: str) -> tuple[Run, ...]:
    """The study's runs at one prime and fraction 0.3, seeds 46 on; ``more`` are other flags."""
    given = {"primes": str(prime), "train_fractions": "0.3", "seeds": f"46:{46 + n}", **more}
    names = {"model": kind, "operation": "add", "optimizer": "adamw", "loss": "cross_entropy"}
    axes = {c: {name: grid.axes_of(c, name, given)} for c, name in {**names, RUN: RUN}.items()}
    return grid.expand(axes)


def steps_a_turn() -> int:
    """Enough for a turn to take a second or so, few enough to end on a CPU."""
    return 25 if jax.default_backend() == "cpu" else 500


class Batch:
    """Runs trained as one program; compiled, and past its first chunk of steps, once made."""

    def __init__(
        self,
        kind: str,
        prime: int,
        n_runs: int,
        n_steps: int,
        precision: str = "float32",
        **more: str,
    ):
        self.n_runs, self.n_steps = n_runs, n_steps
        self.runs = runs(kind, prime, n_runs, **more)
        self.program = Program.of(self.runs, TrainConfig(precision=precision))
        self.mesh = mapped.runs_mesh(n_runs)
        self.data = mapped.place(self.mesh, data.stack(self.runs))
        self.state = mapped.init(self.program, self.mesh)(self.data)
        self.first_params = self.params()
        self._step = 0
        self.first_losses = np.asarray(self._chunk())[0]

    def params(self) -> dict[str, Any]:
        """The first run's parameters as they are now, NumPy arrays."""
        return own_params(jax.device_get(self.state.params), 0, self.runs[0])

    def _chunk(self) -> jax.Array:
        chunk = mapped.train_chunk(self.program, self.mesh, self.n_steps)
        self.state, losses = chunk(self.state, self.data, np.int32(self._step))
        self._step += self.n_steps
        return losses

    def seconds(self) -> float:
        """Wall time of the next ``n_steps`` steps."""
        begun = time.perf_counter()
        jax.block_until_ready(self._chunk())
        return time.perf_counter() - begun

    def first_pairs(self) -> dict[str, np.ndarray]:
        """The first run's first batches: ``a``, ``b``, ``label``, (n_steps, B) each."""
        run = jax.tree.map(lambda leaf: leaf[0], self.data)
        order = step.training_order(run, np.int32(0), self.n_steps, BATCH_SIZE)
        a, b = run.train_inputs.T
        columns = {"a": a, "b": b, "label": run.train_label}
        return {name: np.asarray(column[order]) for name, column in columns.items()}


def name_of(n_runs: int) -> str:
    """Of a batch, among contestants."""
    return f"grokjax, {n_runs} run{'s' if n_runs > 1 else ''} a batch"


def make(
    kind: str, prime: int, sizes: Sequence[int], n_steps: int | None, precision: str = "float32"
) -> tuple[Contestants, dict[str, Any]]:
    """One contestant for each batch size, and what another framework needs to train alike."""
    mapped.use_every_core()  # as a sweep does
    n_steps = n_steps or steps_a_turn()
    mapped.check_precision(precision)
    batches = [Batch(kind, prime, n, n_steps, precision) for n in sizes]
    first = batches[0]
    told = {
        "config": first.runs[0].model,
        "n_steps": n_steps,
        "params": first.first_params,
        "pairs": first.first_pairs(),
        "losses": first.first_losses,
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
    }
    return {name_of(b.n_runs): partial(Batch.seconds, b) for b in batches}, told
