"""Batches of the study's runs in training, timed."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.turns import Contestants
from grokjax import models, tasks, train
from grokjax.settings.grid import ModelConfig, RunSpec

BATCH_SIZE = 512


def runs(kind: str, prime: int, n: int) -> list[RunSpec]:
    """The study's runs at one prime and fraction 0.3, seeds 46 on."""
    return [
        RunSpec(
            model=kind,
            operation="add",
            prime=prime,
            train_fraction=0.3,
            label_permutation=0.0,
            weight_decay=0.1,
            learning_rate=3e-3,
            init_scale=1.0,
            seed=46 + i,
        )
        for i in range(n)
    ]


def steps_a_turn() -> int:
    """Enough for a turn to take a second or so, few enough to end on a CPU."""
    return 25 if jax.default_backend() == "cpu" else 500


class Batch:
    """Runs trained as one program; compiled, and past its first chunk of steps, once made."""

    def __init__(self, kind: str, prime: int, n_runs: int, n_steps: int):
        self.n_runs, self.n_steps = n_runs, n_steps
        self.model = models.Model(config=ModelConfig(model=kind), n_tokens=prime)
        self.program = train.Program(model=self.model, batch_size=BATCH_SIZE, precision="float32")
        self.mesh = train.runs_mesh(n_runs)
        self.data = train.place(self.mesh, tasks.stack(runs(kind, prime, n_runs)))
        self.state = train.init(self.program, self.mesh, self.data)
        self.first_params = models.row(jax.device_get(self.state.params), 0, prime)
        self._step = 0
        self.first_losses = np.asarray(self._chunk())[0]

    def _chunk(self) -> jax.Array:
        self.state, losses = train.train_chunk(
            self.program, self.mesh, self.n_steps, self.state, self.data, self._step
        )
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
        order = train.training_order(run, np.int32(0), self.n_steps, BATCH_SIZE)
        columns = {"a": run.train_a, "b": run.train_b, "label": run.train_label}
        return {name: np.asarray(column[order]) for name, column in columns.items()}


def name_of(n_runs: int) -> str:
    """Of a batch, among contestants."""
    return f"grokjax, {n_runs} run{'s' if n_runs > 1 else ''} a batch"


def make(
    kind: str, prime: int, sizes: Sequence[int], n_steps: int | None
) -> tuple[Contestants, dict[str, Any]]:
    """One contestant for each batch size, and what another framework needs to train alike."""
    train.use_every_core()  # as a sweep does
    n_steps = n_steps or steps_a_turn()
    batches = [Batch(kind, prime, n, n_steps) for n in sizes]
    first = batches[0]
    told = {
        "config": first.model.config,
        "n_steps": n_steps,
        "params": first.first_params,
        "pairs": first.first_pairs(),
        "losses": first.first_losses,
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
    }
    return {name_of(b.n_runs): partial(Batch.seconds, b) for b in batches}, told
