"""One-run functions over the runs of a batch and the devices of a mesh."""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grokjax.settings.config import PRECISIONS
from grokjax.settings.fields import check
from grokjax.training import step
from grokjax.training.evaluation import evaluate_run, examine_run
from grokjax.training.step import Program

# Runs that a TPU takes side by side: of more, what they compute leaves its vector memory
# (experiments/benchmarks/compiled.py).
_SIDE_BY_SIDE = 15
# Of an accelerator's memory, what lenses may take beside training.
_BYTES_AT_ONCE = 2**32


def check_precision(precision: str) -> None:
    """Raises ``InvalidSettingError`` if the device would quietly train at another precision."""
    platform = jax.default_backend()
    elsewhere = ", ".join(name for name in PRECISIONS if "tf32" not in name)
    message = f"only a GPU has TF32 products, not a {platform}; everywhere are {elsewhere}"
    check("tf32" not in precision or platform == "gpu", "precision", precision, message)


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
    """A mesh with the one axis ``runs``, over as many local devices as n_runs keep busy.

    Five runs on four devices are two rounds, for which three do.
    """
    devices = jax.local_devices()
    rounds = -(-n_runs // len(devices))
    return Mesh(np.array(devices[: -(-n_runs // rounds)]), ("runs",))


def _one_by_one(mesh: Mesh) -> bool:
    return bool(mesh.devices.flat[0].platform == "cpu")


def _groups(mesh: Mesh, n_runs: int) -> int:
    """Groups in which a device takes that many runs."""
    return -(-n_runs // _SIDE_BY_SIDE) if mesh.devices.flat[0].platform == "tpu" else 1


def _rows(mesh: Mesh, n_runs: int) -> int:
    """Rows of that many runs: equally many for each device, and in each of its groups."""
    own = -(-n_runs // mesh.size)
    groups = _groups(mesh, own)
    return mesh.size * groups * -(-own // groups)


def takes_runs_in_turn() -> bool:
    """Whether a device here takes the runs of a batch one after the other."""
    return _one_by_one(runs_mesh(1))


def shapes(mesh: Mesh, tree: Any, n_runs: int) -> Any:
    """Shapes of one run's arrays → those of a batch of so many as ``place`` puts them."""
    sharding = NamedSharding(mesh, PartitionSpec("runs"))

    def placed(leaf: Any) -> jax.ShapeDtypeStruct:
        shape = (_rows(mesh, n_runs), *leaf.shape)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, tree)


def runs_at_once(mesh: Mesh, bytes_each: int) -> int:
    """How many runs a device takes at once, of what takes ``bytes_each`` of its memory a run."""
    return 1 if _one_by_one(mesh) else max(1, _BYTES_AT_ONCE // bytes_each)


def place(mesh: Mesh, tree: Any) -> Any:
    """NumPy arrays with a leading R axis → device arrays, R padded for the mesh's devices.

    Padding repeats the last run; callers drop rows at or past R.
    """
    sharding = NamedSharding(mesh, PartitionSpec("runs"))

    def put(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        missing = [(0, _rows(mesh, len(leaf)) - len(leaf)), *[(0, 0)] * (leaf.ndim - 1)]
        return jax.device_put(np.pad(leaf, missing, mode="edge"), sharding)

    return jax.tree.map(put, tree)


def over_runs(
    program: Program, mesh: Mesh, function: Callable[..., Any], n_shared: int = 0, **options: Any
) -> Any:
    """Jits a one-run function over the runs of a batch, split over the mesh's devices.

    Its last ``n_shared`` arguments are the same for all runs. Runs never talk to each other, so
    each device gets a program of its own without collectives. A GPU takes its runs at once (vmap),
    a TPU groups of them. A CPU takes them one after the other: one run's parameters and activations
    stay in its cache, where those of all runs would not, and the matrix products of a single run
    fill its cores already.
    """
    runs = PartitionSpec("runs")

    def mapped(*arguments: Any) -> Any:
        n_mapped = len(arguments) - n_shared

        def batched(*arguments: Any) -> Any:
            own, shared = arguments[:n_mapped], arguments[n_mapped:]
            if _one_by_one(mesh):
                return jax.lax.map(lambda run: function(*run, *shared), own)
            n_runs = len(jax.tree.leaves(own)[0])
            if (groups := _groups(mesh, n_runs)) > 1:
                size = n_runs // groups
                return jax.lax.map(lambda run: function(*run, *shared), own, batch_size=size)
            return jax.vmap(function, (0,) * n_mapped + (None,) * n_shared)(*arguments)

        specs = (runs,) * n_mapped + (PartitionSpec(),) * n_shared
        split = jax.shard_map(batched, mesh=mesh, in_specs=specs, out_specs=runs, check_vma=False)
        with jax.default_matmul_precision(PRECISIONS[program.precision]):
            return split(*arguments)

    # By which profiles and caches call the program.
    named: Any = getattr(function, "func", function)
    mapped.__name__ = named.__name__
    # Said outright, because JAX gives some outputs an equivalent sharding of another spelling,
    # with which the next call would compile again.
    return jax.jit(mapped, out_shardings=NamedSharding(mesh, runs), **options)


@functools.cache
def init(program: Program, mesh: Mesh) -> Any:
    """The jitted function runs → their step-0 ``State``."""
    return over_runs(program, mesh, functools.partial(step.init, program))


@functools.cache
def train_chunk(program: Program, mesh: Mesh, n_steps: int) -> Any:
    """The jitted function (state, runs, int32 first step) → (state, losses).

    That is the state after ``n_steps`` steps, and (R, n_steps) batch losses; the state given is
    consumed.
    """
    chunk = functools.partial(step.train_run, program, n_steps)
    return over_runs(program, mesh, chunk, n_shared=1, donate_argnums=0)


@functools.cache
def evaluate(program: Program, mesh: Mesh) -> Any:
    """The jitted function (params, runs) → ``Evaluation``, with a leading R axis."""
    return over_runs(program, mesh, functools.partial(evaluate_run, program))


@functools.cache
def examine(program: Program, mesh: Mesh) -> Any:
    """The jitted function (params, runs) → ``Evaluation`` and ``Answers``, likewise."""
    return over_runs(program, mesh, functools.partial(examine_run, program))
