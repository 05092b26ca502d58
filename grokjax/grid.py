"""What is to be run: frozen settings, the grid of runs they span, run ids, and batches.

A grid is the product of its axes; a run is one point of it. Settings are checked when they are
made, so nothing downstream meets a bad value; every message names the flag, the value and what is
allowed.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MODELS = ("transformer", "mlp")
# Models of images, and the set each is of: a set has its own model, loss and optimiser settings.
IMAGE_MODELS = {"mnist_mlp": "mnist", "digits_mlp": "digits"}
IMAGE_SETS = {"mnist": 11_000, "digits": 1_797}  # examples, of which the first N_TRAIN train
N_TRAIN, N_CLASSES = 1_000, 10
ACTIVATION_NAMES = ("gelu", "gelu_tanh", "relu", "silu")
LARGEST_PRIME = 1999  # p^2 x p logits are evaluated; beyond this they do not fit anywhere


class InvalidSettingError(ValueError):
    """A flag has a value that cannot be used; the message says which, what, and what can."""

    def __init__(self, flag: str, value: object, allowed: str):
        super().__init__(f"--{flag}={value}: {allowed}")
        self.flag = flag


def check(condition: bool, flag: str, value: object, allowed: str) -> None:
    """Raises ``InvalidSettingError`` unless the condition holds."""
    if not condition:
        raise InvalidSettingError(flag, value, allowed)


def is_prime(n: int) -> bool:
    """Whether n is a prime number, by trial division."""
    return n >= 2 and all(n % d for d in range(2, math.isqrt(n) + 1))


# --------------------------------------------------------------------------- one run


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: a point of the grid. Its id is a function of these nine values alone."""

    model: str
    operation: str
    prime: int
    train_fraction: float
    label_permutation: float
    weight_decay: float
    learning_rate: float
    init_scale: float
    seed: int

    @property
    def run_id(self) -> str:
        """Readable, unique in any grid, the same wherever and whenever the run is made."""
        return (
            f"{self.model}-{self.operation}-p{self.prime}-f{self.train_fraction!r}"
            f"-c{self.label_permutation!r}-wd{self.weight_decay!r}-lr{self.learning_rate!r}"
            f"-i{self.init_scale!r}-s{self.seed}"
        )

    @property
    def n_examples(self) -> int:
        """Number of all pairs, p^2, or of all images."""
        return IMAGE_SETS.get(self.operation, self.prime**2)

    @property
    def n_train(self) -> int:
        """Number of training examples: the train fraction of all, rounded to nearest."""
        return round(self.train_fraction * self.n_examples)

    @property
    def side(self) -> int:
        """Side of the square in which examples are laid out: p, or what holds all images."""
        return math.isqrt(self.n_examples - 1) + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of the grid: its flag, the field of RunSpec it fills, and what values it takes."""

    flag: str
    field: str
    kind: type
    allowed: str
    accepts: Callable[[Any], bool]


def axes(operations: Iterable[str]) -> tuple[Axis, ...]:
    """The grid's axes, in the order in which runs are listed.

    Args:
        operations: names of the operations that exist (``tasks.OPERATIONS``).
    """
    operations = tuple(operations)
    return (
        Axis(
            flag="models",
            field="model",
            kind=str,
            allowed=f"each must be one of {', '.join(MODELS)}",
            accepts=lambda v: v in MODELS,
        ),
        Axis(
            flag="operations",
            field="operation",
            kind=str,
            allowed=f"each must be one of {', '.join(operations)}",
            accepts=lambda v: v in operations,
        ),
        Axis(
            flag="primes",
            field="prime",
            kind=int,
            allowed=f"each must be an odd prime from 3 to {LARGEST_PRIME}",
            accepts=lambda v: 3 <= v <= LARGEST_PRIME and is_prime(v),
        ),
        Axis(
            flag="train_fractions",
            field="train_fraction",
            kind=float,
            allowed="each must lie strictly between 0 and 1",
            accepts=lambda v: 0 < v < 1,
        ),
        Axis(
            flag="label_permutations",
            field="label_permutation",
            kind=float,
            allowed="each must lie between 0 and 1 (a fraction of the training pairs)",
            accepts=lambda v: 0 <= v <= 1,
        ),
        Axis(
            flag="weight_decays",
            field="weight_decay",
            kind=float,
            allowed="each must be a finite number of at least 0",
            accepts=lambda v: 0 <= v < math.inf,
        ),
        Axis(
            flag="learning_rates",
            field="learning_rate",
            kind=float,
            allowed="each must be a finite number above 0",
            accepts=lambda v: 0 < v < math.inf,
        ),
        Axis(
            flag="init_scales",
            field="init_scale",
            kind=float,
            allowed="each must be a finite number above 0",
            accepts=lambda v: 0 < v < math.inf,
        ),
        Axis(
            flag="seeds",
            field="seed",
            kind=int,
            allowed="each must be an integer from 0 to 2^63 - 1",
            accepts=lambda v: 0 <= v < 2**63,
        ),
    )


_MOST_RUNS = 1_000_000  # of one grid
_MOST_VALUES = 100_000  # of one axis; beyond that a range is a typing error


def parse_axis(axis: Axis, text: str) -> tuple[Any, ...]:
    """The values of a comma list; integers also as ranges ``a:b`` or ``a:b:step``, b excluded.

    Raises:
        InvalidSettingError: on anything empty, malformed, repeated or out of range.
    """
    values: list[Any] = []
    for item in (part.strip() for part in text.split(",")):
        if axis.kind is int and ":" in item:
            values.extend(_parse_range(axis, text, item))
            continue
        try:
            values.append(axis.kind(item) if item else None)
        except ValueError:
            values.append(None)
        kind = {int: "an integer", float: "a number", str: "a name"}[axis.kind]
        ranges = " or a range a:b[:step]" if axis.kind is int else ""
        check(
            values[-1] is not None,
            axis.flag,
            text,
            f"'{item}' is not {kind}{ranges}; {axis.allowed}",
        )
    for value in values:
        check(axis.accepts(value), axis.flag, text, f"{value} cannot be used; {axis.allowed}")
    repeated = next((v for v in values if values.count(v) > 1), None) if len(values) < 999 else None
    if len(values) != len(set(values)):
        check(False, axis.flag, text, f"{repeated} is given more than once; values must differ")
    return tuple(values)


def _parse_range(axis: Axis, text: str, item: str) -> range:
    try:
        bounds = [int(part) for part in item.split(":")]
        if len(bounds) not in (2, 3):
            raise ValueError
        values = range(*bounds)
    except ValueError:
        message = f"'{item}' is not a range a:b or a:b:step of integers (step not 0)"
        raise InvalidSettingError(axis.flag, text, message) from None
    check(len(values) > 0, axis.flag, text, f"the range '{item}' is empty (its end is excluded)")
    check(len(values) <= _MOST_VALUES, axis.flag, text, f"at most {_MOST_VALUES} values")
    return values


# --------------------------------------------------------------------------- the rest


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of one of the two models; fields of the other model are carried along."""

    model: str
    d_model: int = 128
    n_heads: int = 4
    d_ff: int = 256
    n_layers: int = 2
    mlp_width: int = 512
    mlp_depth: int = 3
    activation: str = "gelu"

    def __post_init__(self) -> None:
        """Checks ranges, and that the heads divide the width."""
        known = (*MODELS, *IMAGE_MODELS)
        check(self.model in known, "models", self.model, f"must be one of {', '.join(known)}")
        for name in ("d_model", "n_heads", "d_ff", "n_layers", "mlp_width", "mlp_depth"):
            value = getattr(self, name)
            allowed = "must be an integer from 1 to 65536"
            check(isinstance(value, int) and 1 <= value <= 65536, name, value, allowed)
        check(
            self.d_model % self.n_heads == 0,
            "n_heads",
            self.n_heads,
            f"must divide --d_model={self.d_model}",
        )
        check(
            self.activation in ACTIVATION_NAMES,
            "activation",
            self.activation,
            f"must be one of {', '.join(ACTIVATION_NAMES)}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Budget and optimiser settings shared by every run."""

    steps: int = 60_000
    checkpoint_every: int = 500
    batch_size: int = 512
    precision: str = "float32"
    loss_precision: str = "float32"

    def __post_init__(self) -> None:
        """Checks ranges, and that the steps divide into checkpoints."""
        for name in ("steps", "checkpoint_every", "batch_size"):
            value = getattr(self, name)
            whole = isinstance(value, int) and value >= 1
            check(whole, name, value, "must be an integer of at least 1")
        check(
            self.steps % self.checkpoint_every == 0,
            "steps",
            self.steps,
            f"must be a multiple of --checkpoint_every={self.checkpoint_every}",
        )
        # Positions in the stream of training pairs are 32-bit integers.
        check(
            self.steps * self.batch_size < 2**31 - 2 * LARGEST_PRIME**2,
            "steps",
            self.steps,
            f"steps x --batch_size={self.batch_size} must stay below 2^31",
        )
        check(
            self.precision in PRECISIONS,
            "precision",
            self.precision,
            f"must be one of {', '.join(PRECISIONS)}",
        )
        check(
            self.loss_precision in LOSS_PRECISIONS,
            "loss_precision",
            self.loss_precision,
            f"must be one of {', '.join(LOSS_PRECISIONS)}",
        )

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps at which there is a checkpoint: 0, checkpoint_every, …, steps."""
        return tuple(range(0, self.steps + 1, self.checkpoint_every))


# --precision → JAX's name for how a float32 matrix product is carried out. (Its "bfloat16" means
# whatever the device likes best, which is TF32 on a GPU and float32 on a CPU.)
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}
LOSS_PRECISIONS = ("float32", "float64")


def expand(axis_values: Mapping[str, Sequence[Any]]) -> tuple[RunSpec, ...]:
    """The product of the axes, given by RunSpec's field names, as runs.

    Raises:
        InvalidSettingError: if a train fraction leaves no training or no test pair.
    """
    n_runs = math.prod(len(values) for values in axis_values.values())
    longest = max(axis_values, key=lambda name: len(axis_values[name]))
    check(
        n_runs <= _MOST_RUNS,
        f"{longest}s",
        f"({len(axis_values[longest]):,} values)",
        f"the grid has {n_runs:,} runs; at most {_MOST_RUNS:,} go into one sweep",
    )
    names = [field.name for field in dataclasses.fields(RunSpec)]
    runs = tuple(
        RunSpec(**dict(zip(names, point, strict=True)))
        for point in itertools.product(*(axis_values[name] for name in names))
    )
    for run in runs:
        check(
            IMAGE_MODELS.get(run.model) == (run.operation if run.operation in IMAGE_SETS else None),
            "models",
            run.model,
            f"cannot learn --operations={run.operation}: images have models of their own, "
            f"{', '.join(IMAGE_MODELS)}, each for its own set",
        )
        check(
            1 <= run.n_train < run.n_examples,
            "train_fractions",
            run.train_fraction,
            f"leaves {run.n_train} of the {run.n_examples} pairs of prime {run.prime} to train on; "
            "at least one pair must train and one must test",
        )
    return runs


def plan_batches(runs: Sequence[RunSpec], runs_per_batch: int) -> tuple[tuple[RunSpec, ...], ...]:
    """Groups runs into batches that one program trains: one model each, primes side by side.

    Runs of like primes come together, so that little is padded; the order is otherwise the
    grid's.
    """
    batches = []
    for model in dict.fromkeys(run.model for run in runs):
        group = sorted((run for run in runs if run.model == model), key=lambda run: run.prime)
        # Equal sizes rather than full batches and a rest: each batch costs the same to pad.
        n_batches = -(-len(group) // runs_per_batch)
        bounds = [len(group) * i // n_batches for i in range(n_batches + 1)]
        batches += [tuple(group[i:j]) for i, j in itertools.pairwise(bounds)]
    return tuple(batches)


def digest(*values: object) -> str:
    """Hex SHA-256 of JSON-able values; dataclasses count as their fields."""

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        return str(value)

    text = json.dumps(values, sort_keys=True, default=plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
