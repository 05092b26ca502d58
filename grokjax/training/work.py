"""What runs cost, operations and memory, and how they are batched for the least of it.

Operations are counted in a run's traced program. So is memory on a CPU, where each device has one
run at a time; for an accelerator the compiler is asked, unless the count, an upper bound, fits.
"""

import dataclasses
import functools
import itertools
import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from grokjax.models.products import Multilinear
from grokjax.settings import grid
from grokjax.settings.config import TrainConfig
from grokjax.settings.fields import FULL
from grokjax.settings.grid import Run
from grokjax.training import compilation, data, mapped, step
from grokjax.training.data import RunData
from grokjax.training.evaluation import evaluate_run
from grokjax.training.step import Program, State

Shape = tuple[int, int, int]  # (m, k, n) of an (m, k) @ (k, n)

_MOST_RUNS = 512  # of a batch
_STEPS_A_CALL = 100
# Operations that a CPU makes while it compiles a program more: ten seconds or so.
_A_PROGRAM = 10**12


def _inner(equation: Any) -> list[tuple[Any, int]]:
    """Programs within an equation, and how often each is run."""
    times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
    found = []
    if isinstance(rule := equation.params.get("rule"), Multilinear):
        shapes = [v.aval for v in equation.invars]
        found.append((jax.make_jaxpr(rule.function)(*shapes).jaxpr, 1))
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


_states: dict[Any, State] = {}  # in this process


def state_of(run: Run, config: TrainConfig) -> State:
    """Shapes of the state of a run alone."""
    key = run.static, run.task.n_elements, run.task.n_outputs, config
    if key not in _states:
        program, own = Program.of([run], config), _data_of(run)
        _states[key] = jax.eval_shape(functools.partial(step.init, program), own)
    return _states[key]


def _data_of(run: Run) -> RunData:
    """Shapes of the data of a run alone."""
    stacked = data.stack([run])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)


class Traced:
    """The programs of one run, traced: no number is computed."""

    def __init__(self, run: Run, config: TrainConfig, n_steps: int = 1):
        program = Program.of([run], config)
        state, own = state_of(run, config), _data_of(run)
        first = jax.ShapeDtypeStruct((), jnp.int32)
        train = functools.partial(step.train_run, program, n_steps)
        self.program, self.state, self.data, self.n_steps = program, state, own, n_steps
        self.training = jax.make_jaxpr(train)(state, own, first).jaxpr
        evaluate = functools.partial(evaluate_run, program)
        self.evaluation = jax.make_jaxpr(evaluate)(state.params, own).jaxpr

    @functools.cached_property
    def flops(self) -> tuple[int, int]:
        """Operations of a step, and of an evaluation."""
        training, evaluation = map(flops, map(products, (self.training, self.evaluation)))
        return training // self.n_steps, evaluation

    @functools.cached_property
    def peak(self) -> int:
        """The most that it takes of memory; see ``peak_bytes``."""
        return max(peak_bytes(self.training), peak_bytes(self.evaluation))


_traced: dict[Any, Traced] = {}  # in this process; it takes up to a second


def trace(run: Run, config: TrainConfig) -> Traced:
    """The programs of a run; runs of one program and one size are traced once."""
    key = _shape(run), config
    if key not in _traced:
        _traced[key] = Traced(run, config, _STEPS_A_CALL)
    return _traced[key]


def costs(runs: Sequence[Run], config: TrainConfig) -> list[int]:
    """Floating-point operations of training and evaluating each run, from step 0 to the last.

    Runs of one program and one size cost the same.
    """

    def cost(run: Run) -> int:
        training, evaluation = trace(run, config).flops
        return config.steps * training + len(config.checkpoint_steps) * evaluation

    found = {shape: cost(run) for shape, run in {_shape(run): run for run in runs}.items()}
    return [found[_shape(run)] for run in runs]


def _shape(run: Run) -> Any:
    """What decides the shapes of a run's program; of full batches also the training set."""
    n_train = run.task.n_train if not run.settings.batch_size else 0
    return run.static, run.task.n_elements, run.task.n_outputs, run.task.n_places, n_train


def largest(runs: Sequence[Run]) -> Run:
    """The run that takes most, of runs of one program."""
    return max(runs, key=lambda run: (run.task.n_places, run.task.n_train))


# --------------------------------------------------------------------------- memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that batches of a program take: of all devices together."""

    a_run: float
    a_device: float = 0  # besides

    def of(self, n_runs: int) -> int:
        """Of a batch of so many runs."""
        return round(n_runs * self.a_run + len(jax.local_devices()) * self.a_device)

    def runs_in(self, n_bytes: float) -> int:
        """How many runs fit."""
        return math.floor((n_bytes - self.of(0)) / self.a_run)


def n_bytes(tree: Any) -> int:
    """Of the arrays of a tree, or of shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def memory(runs: Sequence[Run], config: TrainConfig, n_runs: int) -> Memory:
    """What batches of ``n_runs`` of these runs, of one program, take."""
    traced = trace(largest(runs), config)
    if not mapped.takes_runs_in_turn():
        bound = Memory(a_run=traced.peak)
        return bound if bound.of(n_runs) <= available() else compiled(traced, n_runs)
    state, own = n_bytes(traced.state), n_bytes(traced.data)
    # The state is there twice while it is trained, and as copies: of the last checkpoint, and of
    # what is being written.
    return Memory(a_run=4 * state + own, a_device=traced.peak - state - own)


def compiled(traced: Traced, n_runs: int) -> Memory:
    """What the compiler says that a batch takes: exactly of so many runs, nearly of others."""
    mesh = mapped.runs_mesh(n_runs)
    state, own = (mapped.shapes(mesh, tree, n_runs) for tree in (traced.state, traced.data))

    def ask() -> list[int]:
        first = jax.ShapeDtypeStruct((), jnp.int32)
        train = mapped.train_chunk(traced.program, mesh, traced.n_steps).lower(state, own, first)
        evaluate = mapped.evaluate(traced.program, mesh).lower(state.params, own)
        found = [lowered.compile().memory_analysis() for lowered in (train, evaluate)]
        return [
            m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
            + m.temp_size_in_bytes
            for m in found
        ]  # fmt: skip

    key = "memory", str(traced.program), str((state, own)), traced.n_steps
    training, evaluation = compilation.recalled(key, ask)
    # The optimiser's state lies there during evaluation too.
    most = max(mesh.size * training, mesh.size * evaluation + n_bytes(state.opt_state))
    return Memory(a_run=most / n_runs)


def available() -> int:
    """Half of what the local devices have: the rest is for what is there for a moment."""
    devices = jax.local_devices()
    stats = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] * len(devices) // 2
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def runs_that_fit(runs: Sequence[Run], config: TrainConfig) -> int:
    """How many runs one batch may hold: what is ``available``, at most 512."""
    fits = _MOST_RUNS
    for group in grid.alike(runs, lambda run: run.static):
        wanted = min(len(group), _MOST_RUNS)
        fit = memory(group, config, wanted).runs_in(available())
        fits = min(fits, fit if fit < wanted else _MOST_RUNS)
    return max(1, fits)


# --------------------------------------------------------------------------- batches


def plan_batches(
    runs: Sequence[Run], config: TrainConfig, runs_per_batch: int
) -> tuple[tuple[Run, ...], ...]:
    """Groups runs into batches, as ``grid.plan_batches`` does.

    On a CPU, which takes runs one after the other, tasks of one size come together alone where
    the padding that this saves costs more than it: programs to compile, devices without a run.
    """
    batches: list[tuple[Run, ...]] = []
    for group in grid.alike(runs, lambda run: run.static):
        parts = _parts(group, config, runs_per_batch) if mapped.takes_runs_in_turn() else [group]
        batches += itertools.chain(*(grid.plan_batches(part, runs_per_batch) for part in parts))
    return tuple(batches)


def _parts(runs: list[Run], config: TrainConfig, runs_per_batch: int) -> list[list[Run]]:
    """Runs of one program, cut between sizes so that all of it costs least."""
    by_size = sorted(runs, key=_size)
    places, n_devices = list(map(_size, by_size)), len(jax.local_devices())
    starts = [i for i, size in enumerate(places) if size not in places[max(0, i - 1) : i]]
    if len(starts) == 1:
        return [runs]
    low, high = costs([by_size[0], by_size[-1]], config)
    slope = (high - low) / (places[-1] - places[0])

    def cost(begin: int, end: int) -> float:
        """Of one part, each batch of it padded to its largest."""
        total = float(_A_PROGRAM * n_devices)
        for i, j in itertools.pairwise(grid.cut(end - begin, runs_per_batch)):
            slots = -(-(j - i) // n_devices) * n_devices
            total += slots * (low + slope * (places[begin + j - 1] - places[0]))
        return total

    # The cheapest way to cut what lies before each size, from those of the sizes before.
    best: dict[int, tuple[float, list[list[Run]]]] = {0: (0.0, [])}
    for end in [*starts[1:], len(runs)]:
        ways = [(best[i][0] + cost(i, end), [*best[i][1], by_size[i:end]]) for i in best]
        best[end] = min(ways, key=lambda way: way[0])
    kept = {id(run): i for i, run in enumerate(runs)}  # the order of the grid
    return [sorted(part, key=lambda run: kept[id(run)]) for part in best[len(runs)][1]]


def _size(run: Run) -> int:
    """What a run's operations grow with."""
    return run.task.n_train if run.static.batch_size == FULL else run.task.n_elements
