"""One-run functions over the runs of a batch and the devices of a mesh."""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grokjax.models.network import Params
from grokjax.settings.config import PRECISIONS
from grokjax.settings.fields import check
from grokjax.training import step
from grokjax.training.data import RunData
from grokjax.training.evaluation import Evaluation, evaluate_run
from grokjax.training.step import Program, State


def check_precision(precision: str) -> None:
    """Raises ``InvalidSettingError`` if the device would quietly train at another precision."""
    platform = jax.default_backend()
    check(
        precision != "tf32" or platform == "gpu",
        "precision",
        precision,
        f"only a GPU has TF32 products, not a {platform}; float32 and bfloat16 are everywhere",
    )


def use_every_core() -> None:
    """Makes each core of a CPU a device of its own, to be called before JAX is first used.

    A run's products are too small to keep several cores busy: of two runs side by side, a core
    each, 1.2 (MLP) to 1.3 (transformer) times as many steps are made as on both in turn
    (experiments/benchmarks/devices.py). JAX_NUM_CPU_DEVICES, or XLA's flag of that purpose, says
    otherwise; where JAX is in use already, nothing changes.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if told or jax.config.values["jax_num_cpu_devices"] > 0:
        return
    with contextlib.suppress(RuntimeError):  # in use
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def runs_mesh(n_runs: int) -> Mesh:
    """A mesh with the one axis ``runs``, over the local devices or as many as n_runs keep busy.

    Of devices that would have nothing but padding to do none is taken: five runs on four devices
    are two rounds, for which three do.
    """
    devices = jax.local_devices()
    rounds = -(-n_runs // len(devices))
    return Mesh(np.array(devices[: -(-n_runs // rounds)]), ("runs",))


def _one_by_one(mesh: Mesh) -> bool:
    return bool(mesh.devices.flat[0].platform == "cpu")


def _over_runs(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a one-run function over the runs of a batch, split over the mesh's devices.

    Runs never talk to each other, so each device gets a program of its own without collectives.
    An accelerator takes its runs at once (vmap). A CPU takes them one after the other: one run's
    parameters and activations stay in its cache, where those of all runs would not, and the
    matrix products of a single run fill its cores already.
    """
    runs, same = PartitionSpec("runs"), PartitionSpec()
    one_by_one = _one_by_one(mesh)

    def batched(mapped: Any, shared: Any) -> Any:
        if one_by_one:
            return jax.lax.map(lambda run: function(run, shared), mapped)
        return jax.vmap(function, in_axes=(0, None))(mapped, shared)

    return jax.shard_map(batched, mesh=mesh, in_specs=(runs, same), out_specs=runs, check_vma=False)


def place(mesh: Mesh, tree: Any) -> Any:
    """NumPy arrays with a leading R axis → device arrays, R padded to the mesh's devices.

    Padding repeats the last run; callers drop rows at or past R.
    """
    sharding = NamedSharding(mesh, PartitionSpec("runs"))

    def put(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        missing = -leaf.shape[0] % mesh.size
        if missing:
            leaf = np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)])
        return jax.device_put(leaf, sharding)

    return jax.tree.map(put, tree)


def _jit(mesh: Mesh, function: Callable[..., Any], **options: Any) -> Any:
    # Said outright, because JAX gives some outputs an equivalent sharding of another spelling,
    # with which the next call would compile again.
    return jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec("runs")), **options)


@functools.cache
def _compiled_init(program: Program, mesh: Mesh) -> Any:
    return _jit(
        mesh, lambda runs: _over_runs(mesh, lambda run, _: step.init(program, run))(runs, None)
    )


@functools.cache
def compiled_chunk(program: Program, mesh: Mesh, n_steps: int) -> Any:
    """The jitted function behind ``train_chunk``: (state, runs, first_step) → (state, losses)."""

    def chunk(state: State, runs: RunData, first_step: jax.Array) -> tuple[State, jax.Array]:
        def one(mapped: tuple[State, RunData], first: jax.Array) -> tuple[State, jax.Array]:
            return step.train_run(program, n_steps, *mapped, first)

        with jax.default_matmul_precision(PRECISIONS[program.precision]):
            return _over_runs(mesh, one)((state, runs), first_step)

    return _jit(mesh, chunk, donate_argnums=0)


@functools.cache
def compiled_evaluation(program: Program, mesh: Mesh) -> Any:
    """The jitted function behind ``evaluate``: (params, runs) → Evaluation."""

    def evaluation(params: Params, runs: RunData) -> Evaluation:
        def one(mapped: tuple[Params, RunData], _: None) -> Evaluation:
            return evaluate_run(program, *mapped)

        with jax.default_matmul_precision(PRECISIONS[program.precision]):
            return _over_runs(mesh, one)((params, runs), None)

    return _jit(mesh, evaluation)


def init(program: Program, mesh: Mesh, runs: RunData) -> State:
    """Step-0 states of the runs."""
    return _compiled_init(program, mesh)(runs)


def train_chunk(
    program: Program, mesh: Mesh, n_steps: int, state: State, runs: RunData, first_step: int
) -> tuple[State, jax.Array]:
    """Trains all runs for ``n_steps`` steps from ``first_step``; ``state`` is consumed.

    Returns:
        The new state, and (R, n_steps) losses of the batches as they were met.
    """
    return compiled_chunk(program, mesh, n_steps)(state, runs, jnp.int32(first_step))


def evaluate(program: Program, mesh: Mesh, params: Params, runs: RunData) -> Evaluation:
    """Sums of all runs over all their pairs, each with a leading R axis."""
    return compiled_evaluation(program, mesh)(params, runs)
