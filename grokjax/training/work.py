"""What a run costs, counted from its traced program: operations and memory."""

import functools
import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from grokjax.settings.config import TrainConfig
from grokjax.settings.grid import Run
from grokjax.training import data, step
from grokjax.training.evaluation import evaluate_run
from grokjax.training.step import Program

Shape = tuple[int, int, int]  # (m, k, n) of an (m, k) @ (k, n)

_MOST_RUNS = 512  # of a batch
_STEPS_A_CALL = 100


def _inner(equation: Any) -> list[tuple[Any, int]]:
    """Programs within an equation, and how often each is run."""
    times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
    found = []
    if "rule" in equation.params:  # of products with transposes of their own
        shapes = [v.aval for v in equation.invars]
        found.append((jax.make_jaxpr(equation.params["rule"].function)(*shapes).jaxpr, 1))
    for item in jax.tree.leaves(list(equation.params.values())):
        program = getattr(item, "jaxpr", item)  # that of a closed one
        if isinstance(program, core.Jaxpr):
            found.append((program, times))
    return found


def products(jaxpr: Any) -> Counter[Shape]:
    """How often each shape of matrix product occurs in a traced program, loops counted out."""
    found: Counter[Shape] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), (batched, _) = equation.params["dimension_numbers"]
            left, right = (v.aval.shape for v in equation.invars)
            k = math.prod(left[i] for i in contracted)
            batch = math.prod(left[i] for i in batched)
            m, n = (math.prod(shape) // (k * batch) for shape in (left, right))
            found[m, k, n] += batch
        for inner, times in _inner(equation):
            found.update({shape: times * n for shape, n in products(inner).items()})
    return found


def flops(counted: Counter[Shape]) -> int:
    """Multiplications and additions of products."""
    return sum(2 * m * k * n * times for (m, k, n), times in counted.items())


def peak_bytes(jaxpr: Any) -> int:
    """The most that a program's values take at once, were each freed after its last use."""
    last: dict[Any, int] = {}
    for place, equation in enumerate(jaxpr.eqns):
        last |= {v: place for v in equation.invars if isinstance(v, core.Var)}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if isinstance(v, core.Var)}
    alive = {v: _bytes(v) for v in (*jaxpr.invars, *jaxpr.constvars)}
    now = most = sum(alive.values())
    for place, equation in enumerate(jaxpr.eqns):
        own = {v: _bytes(v) for v in equation.outvars}
        inside = max((peak_bytes(inner) for inner, _ in _inner(equation)), default=0)
        most = max(most, now + max(sum(own.values()), inside))
        alive |= own
        now += sum(own.values())
        for v in {*own, *(v for v in equation.invars if isinstance(v, core.Var))}:
            if last.get(v, place) <= place and v in alive:
                now -= alive.pop(v)
    return most


def _bytes(variable: Any) -> int:
    dtype = getattr(variable.aval, "dtype", None)
    return getattr(variable.aval, "size", 0) * getattr(dtype, "itemsize", 8)


class Traced:
    """The programs of one run, traced: no number is computed."""

    def __init__(self, run: Run, config: TrainConfig, n_steps: int = 1):
        program = Program.of([run], config)
        stacked = data.stack([run])
        own = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)
        state = jax.eval_shape(functools.partial(step.init, program), own)
        first = jax.ShapeDtypeStruct((), jnp.int32)
        train = functools.partial(step.train_run, program, n_steps)
        self.training = jax.make_jaxpr(train)(state, own, first).jaxpr
        evaluate = functools.partial(evaluate_run, program)
        self.evaluation = jax.make_jaxpr(evaluate)(state.params, own).jaxpr


def costs(runs: Sequence[Run], config: TrainConfig) -> list[int]:
    """Floating-point operations of training and evaluating each run, from step 0 to the last.

    Runs of one program and one size cost the same, and are traced once.
    """
    found: dict[Any, int] = {}
    for run in runs:
        if _shape(run) not in found:
            traced = Traced(run, config)
            training, evaluation = map(flops, map(products, (traced.training, traced.evaluation)))
            n_evaluations = len(config.checkpoint_steps)
            found[_shape(run)] = config.steps * training + n_evaluations * evaluation
    return [found[_shape(run)] for run in runs]


def _shape(run: Run) -> Any:
    """What decides the shapes of a run's program; of full batches also the training set."""
    n_train = run.task.n_train if not run.settings.batch_size else 0
    return run.static, run.task.n_elements, run.task.n_outputs, run.task.n_places, n_train


def runs_that_fit(runs: Sequence[Run], config: TrainConfig) -> int:
    """How many runs one batch may hold: half of what the local devices have, at most 512."""
    devices = jax.local_devices()
    stats = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        memory = stats["bytes_limit"] * len(devices)
    else:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    by_size = sorted(runs, key=lambda run: (run.task.n_places, run.task.n_train))
    largest = {run.static: run for run in by_size}
    traced = [Traced(run, config, _STEPS_A_CALL) for run in largest.values()]
    most = max(max(peak_bytes(one.training), peak_bytes(one.evaluation)) for one in traced)
    return max(1, min(_MOST_RUNS, memory // 2 // most))
