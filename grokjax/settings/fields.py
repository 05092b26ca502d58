"""Fields of parts: one declaration from which flags, axes, ids, columns and labels derive.

A *part* is a task, an architecture, an optimiser or a loss: a frozen dataclass whose settings are
made by ``field``. What is *traced* may vary between runs of one compiled program; what is not is
static, and each of its values is a program of its own.
"""

import contextlib
import dataclasses
import functools
import importlib
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Self

_MOST_VALUES = 100_000  # of one field; beyond that a range is a typing error
_KINDS = {int: "an integer", float: "a number", str: "a name", bool: "true or false"}


class _Lazy(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def lazy(name: str) -> Any:
    """A stand-in for the module of that name, which is imported at the first look into it.

    A part's module holds its settings and its program side by side, and settings are read without
    JAX, which takes a second to import: JAX, and our modules that need it, are named through here.
    """
    return _Lazy(name)


class InvalidSettingError(ValueError):
    """A flag has a value that cannot be used; the message says which, what, and what can."""

    def __init__(self, flag: str, value: object, allowed: str):
        super().__init__(flag, str(value), allowed)  # which a cluster's worker sends, pickled
        self.flag = flag

    def __str__(self) -> str:
        return "--{}={}: {}".format(*self.args)


def check(condition: bool, flag: str, value: object, allowed: str) -> None:
    """Raises ``InvalidSettingError`` unless the condition holds."""
    if not condition:
        raise InvalidSettingError(flag, value, allowed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One setting of a part.

    Its values are its ``choices``, or those ``between`` the least and the largest, or those it
    ``accepts``; of these ``allowed`` says which they are, to go behind "must be".
    """

    name: str  # of the dataclass field and of the column in ``runs.parquet``
    kind: type  # int, float, str or bool
    default: Any  # its value in a directory that was written before the field existed
    help: str
    grid: tuple[Any, ...] = ()  # its values in a sweep that names none; default: the default alone
    choices: tuple[str, ...] = ()
    between: tuple[float, float] | None = None
    accepts: Callable[[Any], bool] = lambda _: True
    allowed: str = ""
    words: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # such as full, for 0
    traced: bool = False  # whether runs of one program may differ in it
    flag: str = ""  # of the command line; default: the name
    # Stands before its value in every run id; without one, only other values than the default do.
    symbol: str = ""
    needed: bool = False  # whether to ask for another value is an error where no part has it
    always: bool = False  # whether tables by setting have it also where it is the same in all runs
    # How figures and the page write it: with ``{}`` for the value, or a function of it.
    label: str | Callable[[Any], str] = ""

    def __post_init__(self) -> None:
        def fill(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        fill("flag", self.flag or self.name)
        fill("grid", self.grid or (self.default,))
        if self.choices:
            fill("allowed", f"one of {', '.join(self.choices)}")
            fill("accepts", lambda value: value in self.choices)
        elif self.between is not None:
            low, high = self.between
            most = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            fill("allowed", f"{_KINDS[self.kind]} {most}")
            fill("accepts", lambda value: low <= value <= high and value < math.inf)
        elif self.kind is bool:
            fill("allowed", _KINDS[bool])

    def check(self, value: Any) -> None:
        """Raises ``InvalidSettingError`` unless this is a value of the field."""
        usable = type(value) is self.kind and (value in self.words.values() or self.accepts(value))
        check(usable, self.flag, self.text(value), f"must be {self.allowed}")

    def text(self, value: Any) -> str:
        """A value as the command line writes it."""
        for word, meaning in self.words.items():
            if value == meaning:
                return word
        if isinstance(value, bool):
            return str(value).lower()
        return repr(value) if isinstance(value, float) else str(value)

    def in_words(self, value: Any) -> str:
        """A value as a person would say it, such as ``α = 0.3``."""
        if callable(self.label):
            return self.label(value)
        text = f"{value:g}" if isinstance(value, float) else self.text(value)
        return (self.label or self.name.replace("_", " ") + " {}").format(text)

    def parse(self, text: str) -> tuple[Any, ...]:
        """The values of a comma list; integers also as ranges ``a:b`` or ``a:b:step``, b excluded.

        Raises:
            InvalidSettingError: on anything empty, malformed, repeated or out of range.
        """
        values: list[Any] = []
        for item in (part.strip() for part in text.split(",")):
            is_range = self.kind is int and ":" in item
            for value in self._range(text, item) if is_range else [self._value(text, item)]:
                # What a word stands for is not to be had by its number.
                allowed = item in self.words or self.accepts(value)
                shown = value if is_range else item
                message = f"{shown} cannot be used; each must be {self.allowed}"
                check(allowed, self.flag, text, message)
                values.append(value)
        if len(values) != len(set(values)):
            some = next(v for v in values if values.count(v) > 1) if len(values) < 999 else "one"
            message = f"{some} is given more than once; values must differ"
            raise InvalidSettingError(self.flag, text, message)
        return tuple(values)

    def _value(self, text: str, item: str) -> Any:
        with contextlib.suppress(KeyError, ValueError):
            if item in self.words:
                return self.words[item]
            if self.kind is bool:
                return {"true": True, "false": False}[item.lower()]
            if item:
                return self.kind(item)
        ranges = " or a range a:b[:step]" if self.kind is int else ""
        message = f"'{item}' is not {_KINDS[self.kind]}{ranges}; each must be {self.allowed}"
        raise InvalidSettingError(self.flag, text, message)

    def _range(self, text: str, item: str) -> range:
        try:
            values = range(*map(int, item.split(":")))
        except (TypeError, ValueError):
            message = f"'{item}' is not a range a:b or a:b:step of integers (step not 0)"
            raise InvalidSettingError(self.flag, text, message) from None
        message = f"the range '{item}' is empty (its end is excluded)"
        check(len(values) > 0, self.flag, text, message)
        check(len(values) <= _MOST_VALUES, self.flag, text, f"at most {_MOST_VALUES} values")
        return values


def field(default: Any, **about: Any) -> Any:
    """Declares a setting of a part; ``about`` are attributes of ``Field``."""
    return dataclasses.field(default=default, metadata=about)


# Values that several settings can have, to be given to ``field``.
ABOVE_0: Any = {"allowed": "a finite number above 0", "accepts": lambda v: 0 < v < math.inf}
BELOW_1: Any = {"allowed": "a number from 0, below 1", "accepts": lambda v: 0 <= v < 1}


def fields_of(part: type) -> dict[str, Field]:
    """Name → setting of a part, in the order of their declaration."""
    return _fields_of(part)


@functools.cache
def _fields_of(part: type) -> dict[str, Field]:
    kinds = typing.get_type_hints(part)
    return {
        own.name: Field(name=own.name, kind=kinds[own.name], default=own.default, **own.metadata)
        for own in dataclasses.fields(part)
        if "help" in own.metadata
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A task, architecture, optimiser or loss with its settings, each made by ``field``."""

    name: str  # by which flags, ids and tables call it
    column: ClassVar[str]  # of runs.parquet, in which its name stands
    # Flags that say where on this machine its data lie, and their help; no settings.
    sources: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for own in fields_of(type(self)).values():
            own.check(getattr(self, own.name))
        self.validate()

    def validate(self) -> None:
        """Raises ``InvalidSettingError`` for settings that cannot be together."""

    @classmethod
    def adapted(
        cls, values: Mapping[str, tuple[Any, ...]], given: Collection[str]
    ) -> dict[str, tuple[Any, ...]]:
        """Setting → values, of those that no flag gave but must follow others, which are given."""
        return {}

    @classmethod
    def title(cls, name: str) -> str:
        """What figures and the page call the part of that name."""
        return name

    @classmethod
    def resolve(cls, name: str) -> tuple[str, str]:
        """The name of the part that is meant by a name, and what is worth telling of that."""
        return name, ""

    @property
    def values(self) -> dict[str, Any]:
        """Name → value of each setting."""
        return {name: getattr(self, name) for name in fields_of(type(self))}

    def static(self) -> Self:
        """The same with every traced setting at its default: what one program has in common."""
        changes = {name: fields_of(type(self))[name].default for name in self.traced()}
        return dataclasses.replace(self, **changes) if changes else self

    def bound(self, traced: Mapping[str, Any]) -> Self:
        """The same with values of a program (JAX arrays) in its traced settings, unchecked."""
        copy = object.__new__(type(self))
        for own in dataclasses.fields(self):
            object.__setattr__(copy, own.name, traced.get(own.name, getattr(self, own.name)))
        return copy

    def traced(self) -> dict[str, Any]:
        """Name → value of each traced setting."""
        fields = fields_of(type(self))
        return {name: value for name, value in self.values.items() if fields[name].traced}


RUN = "run"  # what stands beside the four kinds: settings that every run has
FULL = 0  # a batch of the whole training set


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings(Part):
    """What every run has whatever its parts are."""

    column: ClassVar[str] = RUN

    init_scale: float = field(
        1.0,
        help="factor on every initial parameter",
        traced=True,
        flag="init_scales",
        symbol="i",
        label="init × {}",
        **ABOVE_0,
    )
    batch_size: int = field(
        512,
        help="training examples a step; full (0 in tables): all of a run's, the exact gradient",
        allowed="an integer of at least 1, or full",
        accepts=lambda v: v >= 1,
        words={"full": FULL},
        label="batch {}",
    )
    topology_weight: float = field(
        0.0,
        help="multiple of minus --topology_term of the embedding's unit rows that the loss gains: "
        "above 0 loops are made longer, below 0 shorter",
        allowed="a finite number",
        accepts=math.isfinite,
        traced=True,
        flag="topology_weights",
        label="topology × {}",
    )
    topology_term: str = field(
        "h1_max",
        help="h1_max, h1_total (of the 128 longest bars), or random_edges: a control, random edges "
        "made longer and shorter with a gradient as large as that of h1_max; without a "
        "--topology_weights nothing",
        choices=("h1_max", "h1_total", "random_edges"),
        label="by {}",
    )
    topology_every: int = field(
        10,
        help="steps after which a loop's two edges are looked up anew, on the host; divides "
        "--checkpoint_every. At p = 113 on two cores a step took 4 to 10 % longer with 10, at "
        "most 2 % with 50",
        between=(1, 2**31 - 1),
        label="edges every {}",
    )
    seed: int = field(
        46,
        help="seeds",
        allowed="an integer from 0 to 2^63 - 1",
        accepts=lambda v: 0 <= v < 2**63,
        grid=(46, 47, 48, 49, 50),
        traced=True,
        flag="seeds",
        symbol="s",
    )
