"""All that a sweep is: its grid, its budget, and what is measured."""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from grokjax.diagnostics import Options
from grokjax.settings import grid, registry
from grokjax.settings.fields import RUN, check, field, fields_of
from grokjax.settings.grid import Axes, Run, Values
from grokjax.settings.registry import KINDS

# --precision → JAX's name for how a float32 matrix product is carried out. (Its "bfloat16" means
# whatever the device likes best, which is TF32 on a GPU and float32 on a CPU.) In three passes,
# factors are a rounded part and the rest, and the product of the two rests is left out.
PRECISIONS = {
    "float32": "highest",
    "tf32x3": "TF32_TF32_F32_X3",
    "bfloat16x3": "BF16_BF16_F32_X3",
    "tf32": "tensorfloat32",
    "bfloat16": "BF16_BF16_F32",
}
_LARGEST_TASK = 2000**2  # examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Budget and precision, the same for every run."""

    steps: int = field(60_000, help="training steps of every run", between=(1, math.inf))
    checkpoint_every: int = field(
        500, help="steps between checkpoints; must divide --steps", between=(1, math.inf)
    )
    precision: str = field(
        "float32",
        help=f"of float32 matrix products: {', '.join(PRECISIONS)}",
        choices=tuple(PRECISIONS),
    )

    def __post_init__(self) -> None:
        for own in fields_of(type(self)).values():
            own.check(getattr(self, own.name))
        message = f"must be a multiple of --checkpoint_every={self.checkpoint_every}"
        check(self.steps % self.checkpoint_every == 0, "steps", self.steps, message)

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps at which there is a checkpoint: 0, checkpoint_every, …, steps."""
        return tuple(range(0, self.steps + 1, self.checkpoint_every))


_EVERY = re.compile("every:([1-9][0-9]{0,8})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saving:
    """What is kept on disk, and how often it is written. It changes no number."""

    keep: str = field(
        "all",
        help="checkpoints whose parameters stay once every diagnostic has measured them: all; "
        "every:N, each N-th, the first and the last; measured, none but the two with an optimiser "
        "state; last, the last alone",
        allowed="all, measured, last or every:N with N of at least 1",
        accepts=lambda v: v in ("all", "measured", "last") or bool(_EVERY.fullmatch(v)),
    )
    state_minutes: float = field(
        3.0,
        help="minutes between optimiser states, from which a killed sweep goes on; 0: at every "
        "checkpoint. At the last step, and when asked to stop, there is always one",
        between=(0, math.inf),
    )

    def __post_init__(self) -> None:
        for own in fields_of(type(self)).values():
            own.check(getattr(self, own.name))

    def stays(self, checkpoint_steps: Sequence[int]) -> frozenset[int]:
        """Those of all checkpoint steps of a sweep whose parameters stay when measured."""
        if self.keep == "all":
            return frozenset(checkpoint_steps)
        every = _EVERY.fullmatch(self.keep)
        found = checkpoint_steps[:: int(every[1])] if every else ()
        return frozenset([*found, *checkpoint_steps[-1:]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """Part ``index`` (from 0) of ``count`` of a grid."""

    index: int
    count: int

    def __post_init__(self) -> None:
        fits = 1 <= self.count <= _MOST_SHARDS and 0 <= self.index < self.count
        check(fits, "shard", self, _SHARD_ALLOWED)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def folder(self) -> str:
        """Name of the shard's own work directory, below the one that --workdir names."""
        return f"shard-{self.index:03d}-of-{self.count:03d}"

    @classmethod
    def parse(cls, text: str) -> "Shard | None":
        """The shard that ``i/N`` names, None for ``none``; raises ``InvalidSettingError``."""
        if text.strip() == "none":
            return None
        index, _, count = text.partition("/")
        whole = index.strip().isdecimal() and count.strip().isdecimal()
        check(whole, "shard", text, _SHARD_ALLOWED)
        return cls(index=int(index), count=int(count))


_MOST_SHARDS = 100_000
_SHARD_ALLOWED = "must be i/N with i from 0 to N - 1, such as 0/4, or none for the whole grid"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """All that a sweep is."""

    axes: Axes  # values of every setting of every part
    train: TrainConfig
    options: Options  # what is measured
    saving: Saving = Saving()  # what stays on disk
    shard: Shard | None = None  # which part of the grid, if it is one
    members: frozenset[str] | None = None  # ids of the runs of the shard
    unnamed: tuple[str, ...] = ()  # settings that run ids leave out; see ``grid.Run``

    @functools.cached_property
    def grid(self) -> tuple[Run, ...]:
        """The runs of the whole grid, in order; raises ``InvalidSettingError``."""
        runs = grid.expand(self.axes, self.unnamed)
        for size in {run.settings.batch_size for run in runs}:
            # Positions in the stream of training examples are 32-bit integers.
            fits = self.train.steps * size < 2**31 - 2 * _LARGEST_TASK
            message = f"steps x --batch_size={size} must stay below 2^31"
            check(fits, "steps", self.train.steps, message)
        for run in runs:
            if run.static.topology is not None:
                _check_topology(run, run.static.topology, self.train.checkpoint_every)
        return runs

    @functools.cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs of the grid, or of the shard of it that this is, in order."""
        if self.members is None:
            return self.grid
        return tuple(run for run in self.grid if run.run_id in self.members)

    @property
    def name(self) -> str:
        """A short hash of what is trained, for a default folder name."""
        whole = dataclasses.replace(self, shard=None)
        return grid.digest(whole.trained(), [run.run_id for run in self.grid])[:10]

    def trained(self) -> dict[str, Any]:
        """What decides the trained parameters, by flag: two sweeps agree if these do.

        Where parts have values of their own for a flag, the part's name stands behind it.
        """
        texts: dict[str, dict[str, tuple[str, ...]]] = {}  # flag → part → as written
        for column, parts in self.axes.items():
            for name, own in parts.items():
                for setting in fields_of(registry.find(column, name)).values():
                    written = tuple(setting.text(value) for value in own[setting.name])
                    texts.setdefault(setting.flag, {})[name] = written
        found: dict[str, Any] = {kind.flag: list(self.axes[kind.column]) for kind in KINDS}
        for flag, by_part in texts.items():
            values = list(dict.fromkeys(by_part.values()))
            if len(values) == 1:
                found[flag] = list(values[0])
            else:
                found |= {f"{flag} of {name}": list(text) for name, text in by_part.items()}
        part = {} if self.shard is None else {"shard": str(self.shard)}
        return {**found, **dataclasses.asdict(self.train), **part}

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``from_json`` reads them back."""
        plain = dataclasses.asdict(self) | {
            "shard": None if self.shard is None else str(self.shard),
            "members": None if self.members is None else sorted(self.members),
        }
        return json.loads(json.dumps(plain))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SweepConfig":
        """Reads what ``to_json`` wrote, also before a setting existed.

        Raises:
            KeyError, TypeError or ValueError: if it is something else.
        """
        if "models" in data:
            data = _of_version_1(data)
        options: Any = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data["options"].items()
        }
        _check_kinds(options)
        members = data.get("members")
        return cls(
            axes={
                column: {
                    name: _read_axes(column, name, own)
                    for name, own in data["axes"][column].items()
                }
                for column in grid.COLUMNS
            },
            train=TrainConfig(**data["train"]),
            options=Options(**options),
            saving=Saving(**data.get("saving", {})),
            shard=Shard.parse(data.get("shard") or "none"),
            members=None if members is None else frozenset(map(str, members)),
            unnamed=tuple(map(str, data.get("unnamed", ()))),
        )


def _check_topology(run: Run, topology: grid.Topology, checkpoint_every: int) -> None:
    # A run resumed at a checkpoint finds there the edges of the one that went on.
    message = f"must divide --checkpoint_every={checkpoint_every}"
    check(checkpoint_every % topology.every == 0, "topology_every", topology.every, message)
    embeds = run.task.n_elements > 0 and ("embed", "embedding") in run.model.vocabulary
    message = f"{run.model.name} embeds no elements of {run.task.name}, so there are no loops"
    check(embeds, "topology_weights", run.settings.topology_weight, message)


def _check_kinds(options: Mapping[str, Any]) -> None:
    kinds = {own.name: type(own.default) for own in dataclasses.fields(Options)}
    for name, value in options.items():
        if type(value) not in (kinds[name], int if kinds[name] is float else kinds[name]):
            raise TypeError(f"{value!r:.99} is not a {kinds[name].__name__}, as {name} is")


def _read_axes(column: str, name: str, own: Mapping[str, Any]) -> Values:
    """Values of a part's settings; those that the file does not have are at their default."""
    fields = fields_of(registry.find(column, name))
    unknown = sorted(set(own) - set(fields))
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]}")
    found = {}
    for setting in fields.values():
        values = own.get(setting.name, [setting.default])
        if not isinstance(values, list) or not values:
            raise TypeError(f"{values!r:.99} is not a list of values of {setting.name}")
        if setting.kind is float:
            values = [float(v) if type(v) is int else v for v in values]
        for value in values:
            setting.check(value)
        found[setting.name] = tuple(values)
    return found


_UNNAMED_IN_VERSION_1 = {
    "d_model", "n_heads", "d_ff", "n_layers", "mlp_width", "mlp_depth", "activation",
    "batch_size", "loss_precision",
}  # fmt: skip


def _of_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """A configuration as version 0.1 wrote it, in which nine settings were axes and in ids."""
    axes, shapes, train = data["axes"], data["models"], dict(data["train"])
    batch_size = train.pop("batch_size")
    loss_precision = train.pop("loss_precision", "float32")
    task = {name: axes[name] for name in ("prime", "train_fraction", "label_permutation")}
    models = {}
    for name in axes["model"]:
        known = fields_of(registry.find("model", name))
        models[name] = {k: [v] for k, v in shapes[name].items() if k in known}
    every = {"init_scale": axes["init_scale"], "batch_size": [batch_size], "seed": axes["seed"]}
    optimizer, loss = registry.default("optimizer"), registry.default("loss")
    return {
        **{key: data[key] for key in ("options", "shard") if key in data},
        "axes": {
            "model": models,
            "operation": {name: task for name in axes["operation"]},
            "optimizer": {optimizer: {k: axes[k] for k in ("weight_decay", "learning_rate")}},
            "loss": {loss: {"loss_precision": [loss_precision]}},
            RUN: {RUN: every},
        },
        "train": train,
        "unnamed": sorted(_UNNAMED_IN_VERSION_1),
    }
