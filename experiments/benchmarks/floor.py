"""The least a training step can take on this machine: products and bytes counted, rates measured.

Products are counted off the traced step, a multiplication and an addition each, once as grokjax
arranges it and once as in a textbook. Bytes are what must pass through memory if nothing stays in
a cache: factors and products once, parameters, gradients and both moments as the optimiser reads
and writes them. Elementwise work is not counted, so the floor cannot be reached.
"""

import collections
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import batches
from experiments.benchmarks.batches import BATCH_SIZE
from grokjax.settings.config import TrainConfig
from grokjax.training import data, step, work
from grokjax.training.step import Program
from grokjax.training.work import Shape
from tests import reference

# Copies of one number of the optimiser's: gradient, parameter and two moments read, three written.
_OPTIMISER_PASSES = 7
_COPIED_BYTES = 1 << 28


def step_products(kind: str, prime: int) -> dict[str, collections.Counter[Shape]]:
    """Products of one step of one run, forward and backward: ``grokjax`` and ``textbook``."""
    (run,) = batches.runs(kind, prime, 1)
    program = Program.of([run], TrainConfig())
    real = jnp.ones(prime, bool)
    data_of_run = jax.tree.map(lambda leaf: leaf[0], data.stack([run]))
    examples = jax.ShapeDtypeStruct((BATCH_SIZE, 2), jnp.int32)
    label = jax.ShapeDtypeStruct((BATCH_SIZE,), jnp.int32)

    def ours(params: Any, examples: Any, label: Any) -> Any:
        return step.loss(params, program, data_of_run, examples, label)

    def textbook(params: Any, examples: Any, label: Any) -> Any:
        logits = reference.NETWORKS[kind](params, run.model, examples)[0]
        return run.loss.per_example(logits, label, real).mean()

    template = program.model.template()
    return {
        name: work.products(
            jax.make_jaxpr(jax.value_and_grad(loss))(template, examples, label).jaxpr
        )
        for name, loss in (("grokjax", ours), ("textbook", textbook))
    }


def step_bytes(counted: collections.Counter[Shape], kind: str, prime: int) -> int:
    """Bytes that the products and the optimiser pass through memory."""
    template = Program.of(batches.runs(kind, prime, 1), TrainConfig()).model.template()
    n_params = sum(leaf.size for leaf in jax.tree.leaves(template))
    numbers = sum((m * k + k * n + m * n) * times for (m, k, n), times in counted.items())
    return 4 * (numbers + _OPTIMISER_PASSES * n_params)


# --------------------------------------------------------------------------- this machine


def _best_seconds(compute: Callable[[], Any], at_least: float = 0.2) -> float:
    """Fastest of several calls, each waited for."""
    jax.block_until_ready(compute())
    best, begun = math.inf, time.perf_counter()
    while time.perf_counter() - begun < at_least:
        start = time.perf_counter()
        jax.block_until_ready(compute())
        best = min(best, time.perf_counter() - start)
    return best


@functools.cache
def product_seconds(shape: Shape, n_runs: int) -> float:
    """Seconds of one product of a shape, on its own, where n_runs runs do it at once.

    A CPU takes its runs one after the other, and repeats the product often enough for the call to
    cost nothing.
    """
    m, k, n = shape
    many = jax.default_backend() == "cpu"
    batch, repeated = (1, 16) if many else (n_runs, 1)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, repeated, m, k)), jnp.float32)
    y = jnp.asarray(rng.normal(size=(batch, k, n)), jnp.float32)

    @jax.jit
    def multiply(x: jax.Array, y: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return jax.lax.map(lambda rows: rows @ y, jnp.moveaxis(x, 1, 0))

    return _best_seconds(lambda: multiply(x, y)) / (batch * repeated)


def copy_rate() -> float:
    """Bytes a second that an addition to a large array reads and writes."""
    x = jnp.zeros(_COPIED_BYTES // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    return 2 * _COPIED_BYTES / _best_seconds(lambda: add(x))


def matrix_rate() -> float:
    """FLOP/s of large square products, the most there is to be had."""
    size = 1024 if jax.default_backend() == "cpu" else 4096
    return 2 * size**3 / product_seconds((size, size, size), n_runs=1)


def measure(kind: str, prime: int, n_runs: int) -> dict[str, Any]:
    """Counts and floors of one run's step, in FLOPs, bytes and seconds."""
    counted = step_products(kind, prime)
    ours = counted["grokjax"]
    rate, copying = matrix_rate(), copy_rate()
    moved = step_bytes(ours, kind, prime)
    return {
        "model": kind,
        "prime": prime,
        "flops": work.flops(ours),
        "textbook_flops": work.flops(counted["textbook"]),
        "bytes": moved,
        "matrix_flops_per_second": rate,
        "copied_bytes_per_second": copying,
        # What nothing can beat, and what these products take one by one, with nothing between.
        "roofline_seconds": max(work.flops(ours) / rate, moved / copying),
        "products_seconds": sum(
            times * product_seconds(shape, n_runs) for shape, times in ours.items()
        ),
        "shapes": {f"{m}x{k}x{n}": times for (m, k, n), times in sorted(ours.items())},
    }


def describe(floor: dict[str, Any], step_seconds: float) -> str:
    """Lines that say where the floor is and how far a step is from it."""
    rate = floor["flops"] / floor["products_seconds"]
    return "\n".join(
        [
            f"  one step of one run: {floor['flops'] / 1e9:.2f} GFLOP of products (as in a "
            f"textbook: {floor['textbook_flops'] / 1e9:.2f}), {floor['bytes'] / 1e6:.0f} MB",
            f"  this machine: {floor['matrix_flops_per_second'] / 1e9:,.0f} GFLOP/s in large "
            f"products, {rate / 1e9:,.0f} in these shapes; "
            f"{floor['copied_bytes_per_second'] / 1e9:,.1f} GB/s copied",
            f"  floor: {1e3 * floor['roofline_seconds']:.2f} ms by the roofline, "
            f"{1e3 * floor['products_seconds']:.2f} ms for the products alone; a step takes "
            f"{1e3 * step_seconds:.2f} ms, {step_seconds / floor['roofline_seconds']:.2f} and "
            f"{step_seconds / floor['products_seconds']:.2f} times that",
        ]
    )


def make(kind: str, prime: int, n_runs: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """For a worker: no contestant, the measurement as what it tells."""
    return {}, measure(kind, prime, n_runs)
