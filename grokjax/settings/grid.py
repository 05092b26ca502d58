"""The grid of runs: values of every part's settings, their product, run ids, and programs.

A grid is a product over the kinds of parts; within a kind each part brings the product of its own
settings, so a setting that a part does not have does not multiply its runs.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from grokjax.settings import registry
from grokjax.settings.fields import RUN, Part, RunSettings, check, fields_of
from grokjax.settings.registry import KINDS

_MOST_RUNS = 1_000_000  # of one grid

Values = Mapping[str, tuple[Any, ...]]  # name of a setting → its values
Axes = Mapping[str, Mapping[str, Values]]  # column of a kind (or "run") → name of a part → those

COLUMNS = (*(kind.column for kind in KINDS), RUN)


class Topology(NamedTuple):
    """A term of the loss made of the embedding's loops."""

    term: str
    every: int  # steps between look-ups of edges


class Static(NamedTuple):
    """What runs of one program have in common."""

    model: Part  # each part with its traced settings at their defaults
    optimizer: Any
    loss: Any
    batch_size: int  # examples a step, or ``FULL``
    features: str  # the task whose features examples have; empty of pairs of elements
    # None at weight 0: such runs have the program that knows of no term, and its very bits.
    topology: Topology | None


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: a point of the grid. Its id is a function of its parts' settings alone."""

    model: Any
    task: Any
    optimizer: Any
    loss: Any
    settings: RunSettings  # what every run has
    # Settings that its id always leaves out: no axes in the version that made the directory.
    unnamed: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its parts in the order of ``KINDS``, then what every run has."""
        return (self.model, self.task, self.optimizer, self.loss, self.settings)

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """Column → value: the names of its parts, and each setting that they have."""
        found: dict[str, Any] = {}
        for part in self.parts:
            found |= part.values if part.column == RUN else {part.column: part.name} | part.values
        return found

    @functools.cached_property
    def run_id(self) -> str:
        """Readable, unique in any grid, the same wherever and whenever the run is made."""
        first, last = [self.model.name, self.task.name], []
        for part in self.parts:
            if part.column in ("optimizer", "loss") and part.name != registry.default(part.column):
                last.append(f"{part.column}={part.name}")
            for own in fields_of(type(part)).values():
                value = getattr(part, own.name)
                if own.symbol:
                    first.append(f"{own.symbol}{value!r}")
                elif value != own.default and own.name not in self.unnamed:
                    last.append(f"{own.name}={own.text(value)}")
        return "-".join([*first, *last])

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.settings.seed

    @functools.cached_property
    def static(self) -> Static:
        """What it shares with every run that one program can train beside it."""
        parts = self.model, self.optimizer, self.loss
        model, optimizer, loss = (part.static() for part in parts)
        features = "" if self.task.examples == "pairs" else self.task.name
        own = self.settings
        term = Topology(own.topology_term, own.topology_every) if own.topology_weight else None
        return Static(model, optimizer, loss, own.batch_size, features, term)

    @property
    def traced(self) -> dict[str, float]:
        """Name → value of the traced settings that the program is given as numbers."""
        parts = (self.model, self.optimizer, self.loss, self.settings)
        found = {name: value for part in parts for name, value in part.traced().items()}
        del found["seed"]  # by way of keys
        if self.static.topology is None:
            del found["topology_weight"]
        return found


def axes_of(column: str, name: str, given: Mapping[str, str]) -> Values:
    """Values of every setting of a part: those given, as text by flag, else the grid's default."""
    return {
        own.name: own.parse(given[own.flag]) if own.flag in given else own.grid
        for own in fields_of(registry.find(column, name)).values()
    }


def expand(axes: Axes, unnamed: tuple[str, ...] = ()) -> tuple[Run, ...]:
    """The runs of a grid, in order: kinds as in ``KINDS``, the seed fastest.

    Raises:
        InvalidSettingError: for settings that cannot be together, or too many runs.
    """
    _check_number(axes)
    choices: list[list[Any]] = []
    for column in COLUMNS:
        choices.append([])
        for name, own in axes[column].items():
            part, points = registry.find(column, name), itertools.product(*own.values())
            choices[-1] += [part(name=name, **dict(zip(own, p, strict=True))) for p in points]
    runs = tuple(Run(m, t, o, loss, s, unnamed) for m, t, o, loss, s in itertools.product(*choices))
    for model, task in dict.fromkeys((run.model, run.task) for run in runs):
        message = f"cannot learn --operations={task.name}, whose examples are {task.examples}"
        check(task.examples in model.learns, "models", model.name, message)
    return runs


def _check_number(axes: Axes) -> None:
    parts = [list(axes[column].values()) for column in COLUMNS]
    n_runs = math.prod(sum(math.prod(map(len, own.values())) for own in kind) for kind in parts)
    lengths = {name: len(values) for kind in parts for own in kind for name, values in own.items()}
    longest = max(lengths, key=lambda name: lengths[name])
    flag = registry.fields()[longest].flag
    message = f"the grid has {n_runs:,} runs; at most {_MOST_RUNS:,} go into one sweep"
    check(n_runs <= _MOST_RUNS, flag, f"({lengths[longest]:,} values)", message)


def columns() -> dict[str, type]:
    """Column → kind of value of everything that a run can have: what stands in every id first."""
    every = [own for part in registry.classes() for own in fields_of(part).values()]
    first = {kind.column: str for kind in KINDS[:2]} | {o.name: o.kind for o in every if o.symbol}
    rest = {kind.column: str for kind in KINDS[2:]} | {o.name: o.kind for o in every}
    return first | {name: kind for name, kind in rest.items() if name not in first}


def alike(runs: Sequence[Run], key: Callable[[Run], Any]) -> list[list[Run]]:
    """Runs of one key together, in the order of the first of each."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def plan_batches(runs: Sequence[Run], runs_per_batch: int) -> tuple[tuple[Run, ...], ...]:
    """Groups runs into batches that one program trains: one static part each, sizes side by side.

    Tasks of like size come together, so that little is padded; the order is otherwise the grid's.
    """
    batches = []
    for group in alike(runs, lambda run: run.static):
        group.sort(key=lambda run: run.task.n_elements)
        bounds = cut(len(group), runs_per_batch)
        batches += [tuple(group[i:j]) for i, j in itertools.pairwise(bounds)]
    return tuple(batches)


def cut(n_runs: int, runs_per_batch: int) -> list[int]:
    """Where runs of one program are cut into batches: 0, …, n_runs.

    Equal sizes rather than full batches and a rest: each batch costs the same to pad.
    """
    n_batches = -(-n_runs // runs_per_batch)
    return [n_runs * i // n_batches for i in range(n_batches + 1)]


def digest(*values: object) -> str:
    """Hex SHA-256 of JSON-able values; dataclasses count as their fields."""

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        return str(value)

    text = json.dumps(values, sort_keys=True, default=plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
