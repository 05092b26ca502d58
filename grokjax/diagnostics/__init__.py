"""Diagnostics: arrays in, numbers out; each module is one lens on a checkpoint.

A diagnostic that a sweep can run is a module in this package, found by its name, that has

``TABLES``
    its tables, name → ``Table``;
``measure(views, options)``
    a function from runs at one checkpoint (a list of ``RunView``) and the settings (``Options``)
    to the rows of those tables, name → list of dictionaries, ``run_id`` and ``step`` included.

The numerical functions beside ``measure`` take plain arrays and serve anyone's data.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results.

    Attributes:
        columns: column → pandas dtype, beside ``run_id`` and ``step`` which every table has.
        unit: the columns that name what was measured; rows of one unit come and go together.
        within: the columns that tell a unit's rows apart; None if nothing need do so.
        optional: whether the table is written only when asked for.
    """

    columns: Mapping[str, str]
    unit: tuple[str, ...] = ("run_id", "step")
    within: tuple[str, ...] | None = ()
    optional: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the diagnostics, as the flags of the same names give them."""

    diagnostics: tuple[str, ...] = ("persistence", "fourier", "dimension")
    clouds: tuple[str, ...] = ("embedding",)
    cloud_points: int = 256
    cloud_selection: str = "random"
    cloud_normalisation: str = "unit"
    ph_engine: str = "redzed"
    ph_threads: int = 1
    ph_verify: float = 0.01
    save_diagrams: bool = False
    save_key_frequencies: bool = False
    lid_points: int = 2000
    lid_neighbors: int = 64
    lid_empirical: str = "from_one"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunView:
    """One run at one checkpoint, as a diagnostic sees it; p is the run's prime.

    What costs a forward pass is a function, called by the diagnostics that need it.

    Attributes:
        run_id: the run.
        step: the checkpoint.
        prime: p; of images the number of classes.
        operation: what the run learns.
        cloud_names: the clouds that ``--clouds`` asks of this run's model.
        cloud: function of a name giving the (n, d) float32 cloud, selected and normalised as the
            options say.
        last_states: function of a number of points giving (n, d) float32 states of the last
            layer as they are, both token positions where the model has two.
        last_states_name: what that cloud is called.
        embedding: (p, d_model) float32, raw; (0, 0) of a network of images.
        head_rows: function giving query, key, value → (p, H, d_head) float32; empty for the MLP.
        neurons: function giving (p^2, width) float32, post-activation, rows a * p + b.
        logits: function giving (p^2, p) float32, rows a * p + b.
        labels: (p^2,) int32, what the run is told (true on test pairs).
        train_mask: (p^2,) bool.
    """

    run_id: str
    step: int
    prime: int
    operation: str
    cloud_names: tuple[str, ...]
    cloud: Callable[[str], np.ndarray]
    last_states: Callable[[int], np.ndarray]
    last_states_name: str
    embedding: np.ndarray
    head_rows: Callable[[], Mapping[str, np.ndarray]]
    neurons: Callable[[], np.ndarray]
    logits: Callable[[], np.ndarray]
    labels: np.ndarray
    train_mask: np.ndarray


Rows = Mapping[str, list[dict[str, Any]]]


def names() -> tuple[str, ...]:
    """Names of the diagnostics that exist, in alphabetical order."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(loaded, "measure") and hasattr(loaded, "TABLES"):
            found.append(module.name)
    return tuple(sorted(found))


def get(name: str) -> ModuleType:
    """The diagnostic of that name.

    Raises:
        ValueError: naming those that exist, if there is none of that name.
    """
    if name not in names():
        raise ValueError(f"there is no diagnostic '{name}'; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def __getattr__(name: str) -> ModuleType:
    if name in names():
        return get(name)
    raise AttributeError(f"module 'grokjax.diagnostics' has no attribute '{name}'")
