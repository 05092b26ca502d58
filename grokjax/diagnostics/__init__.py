"""Diagnostics: arrays in, numbers out; each module is one lens on a checkpoint.

A diagnostic that a sweep can run is a module in this package, found by its name, that has

* ``TABLES``: its tables, name → ``Table``;
* ``measure(views, options)``: from runs at one checkpoint (``RunView``) and settings (``Options``)
  to the rows of those tables, name → list of dictionaries, ``run_id`` and ``step`` included;
* ``SETTINGS``: the options that its numbers depend on;
* ``NEEDS_STRUCTURE``, optional: whether it measures only tasks whose elements have a structure;
* ``NEEDS_CLOUDS``, optional: whether it measures only the clouds that the options name;
* ``steps(checkpoint_steps, options)``, optional: the checkpoints that it measures, if not all;
* ``on_device(run, constants, options)``, optional: from the arrays of one run (``RunArrays``) to a
  few small ones, in JAX and traceable. At a checkpoint it is mapped over all runs, in float64 where
  it says so, on the devices that train them; what it gave ``measure`` finds in ``view.reduced``
  under the diagnostic's name, as NumPy arrays. A view that nobody looked at in this way has nothing
  there, and ``measure`` has to do without. ``measure`` itself runs beside training: what it asks of
  a device (``neurons``, ``logits``) waits for the steps in hand, so what needs much belongs here;
* ``ON_DEVICE``, with ``on_device``: which of ``answers``, ``clouds`` and ``last_states`` it reads;
* ``constants(structure, options)``, optional: NumPy arrays that ``on_device`` is given too, the
  same for all runs of a task; without it, None.

The numerical functions beside ``measure`` take plain arrays and serve anyone's data.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of results; every one has the columns ``run_id`` and ``step`` too."""

    columns: Mapping[str, str]  # → pandas dtype
    # Columns that name what was measured; rows of one unit come and go together.
    unit: tuple[str, ...] = ("run_id", "step")
    within: tuple[str, ...] | None = ()  # tell a unit's rows apart; None if nothing need do so
    optional: bool = False  # written only when asked for
    # Rows of the diagnostic's first table → which of them have rows here; None: all.
    only_where: Callable[[Any], Any] | None = None
    empty: tuple[str, ...] = ()  # may be NaN although a network is finite, with nothing to measure
    # Rows → which have too little to measure, so that their numbers are null; None: none.
    too_little: Callable[[Any], Any] | None = None
    # Columns that tables of earlier versions lack → their value there, or a function of the frame.
    later: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the diagnostics, as the flags of the same names give them."""

    diagnostics: tuple[str, ...] = _option(
        ("persistence", "fourier", "dimension"),
        "comma list of what to measure at every checkpoint, or none; of the time of 500 steps of "
        "the study's transformer each takes less than 2 %, but fourier, dimension, coordinates, "
        "weights, clock_pizza and homology_dimension 2 to 6 %; ablation and sharpness say their "
        "cost at --ablation_every and --hessian_every",
    )
    clouds: tuple[str, ...] = _option(
        ("embedding",), "comma list: embedding, layer1 …, hidden1 …, hidden (all layers), all"
    )
    cloud_points: int = _option(256, "points of a hidden-state cloud")
    cloud_selection: str = _option(
        "random", "how they are chosen: random (the same pairs always) or farthest"
    )
    cloud_normalisation: str = _option(
        "unit", "unit (rows), none, connectivity or rms; always centred"
    )
    ph_engine: str = _option("redzed", "redzed, giotto (below Python 3.13) or ripser")
    ph_threads: int = _option(
        1, "threads (redzed) or processes (others) for persistence; default: all cores"
    )
    ph_verify: float = _option(0.01, "share of the clouds that another engine recomputes")
    save_diagrams: bool = _option(False, "write every bar to diagrams.parquet")
    save_key_frequencies: bool = _option(
        False, "write each key frequency's own measures to key_frequencies.parquet"
    )
    surrogates: int = _option(99, "surrogates of each null that a cloud is compared with")
    surrogate_nulls: tuple[str, ...] = _option(
        ("frequency_power", "phase", "covariance", "circulant", "isotropic"),
        "comma list of what surrogates share with the cloud; hidden states have only covariance "
        "and isotropic",
    )
    surrogate_every: int = _option(
        10,
        "surrogates at every k-th checkpoint and the last; with all nulls, 99 each, a cloud takes "
        "2 s of a core at 113 points, 4 to 8 s at 197",
    )
    ablation_waves: int = _option(
        3, "strongest waves that ablation takes out of the embedding, each alone and all together"
    )
    ablation_draws: int = _option(
        20, "random subspaces of the same power that each of these is compared with"
    )
    ablation_every: int = _option(
        10,
        "ablation at every k-th checkpoint and the last; with its defaults it takes, mean over "
        "checkpoints, a third to two thirds of the time of 500 steps",
    )
    lid_points: int = _option(2000, "states of the last layer whose local dimension is estimated")
    lid_neighbors: int = _option(64, "neighbours a point's local dimension is estimated from")
    lid_empirical: str = _option(
        "from_one", "from_one (scikit-dimension 0.5 on) or from_zero (before)"
    )
    coordinate_classes: int = _option(
        2, "H1 classes whose circular coordinates are taken, the longest first"
    )
    hole_surrogates: int = _option(
        19,
        "surrogates that Betti numbers are compared with; with 19 a cloud takes 0.6 s of a core at "
        "113 points, 8 s at 197",
    )
    hole_every: int = _option(10, "Betti numbers at every k-th checkpoint and the last")
    diagram_range: float = _option(
        2.0, "where the grids of landscapes, images and CROCKER matrices end; unit rows: 2"
    )
    diagram_grid: int = _option(50, "scales from 0 to there, of landscapes and CROCKER matrices")
    landscape_levels: int = _option(3, "persistence landscapes of a diagram, the largest first")
    image_pixels: int = _option(20, "pixels along a side of a persistence image")
    image_bandwidth: float = _option(0.1, "standard deviation of a bar in a persistence image")
    hessian_every: int = _option(
        10,
        "sharpness at every k-th checkpoint and the last; at p = 113 one takes the time of 300 to "
        "600 training steps",
    )
    hessian_examples: int = _option(
        4096, "training examples whose loss sharpness and gradient norms are of, at most"
    )
    symmetricity_triples: int = _option(
        1000, "triples (a, b, output) over which gradient symmetricity is averaged"
    )


class RunArrays(NamedTuple):
    """One run at one checkpoint as ``on_device`` sees it: arrays of JAX, not padded.

    What the diagnostic does not name in ``ON_DEVICE`` is None.
    """

    labels: Any  # (places,) int32 as in ``RunView``, but 0 where there is no example
    train_mask: Any  # (places,) bool
    neurons: Any  # (places, width) float32; these two are the ``answers``
    logits: Any  # (places, outputs) float32
    clouds: Any  # name → (n, d) float32, those that the options name, normalised
    last_states: Any  # (n, d) float32, at most ``lid_points`` states of the last layer, as they are


class Structure(Protocol):
    """What a task's elements are to each other; see ``grokjax.tasks.task.Structure``."""

    kind: str
    elements: NDArray[np.int64]
    second: NDArray[np.int64]
    cycles: tuple[int, ...]
    table: NDArray[np.int32]
    asked: NDArray[np.int32] | None
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunView:
    """One run at one checkpoint, as a diagnostic sees it; its task has n elements.

    What costs a forward pass is a function, called by the diagnostics that need it.
    """

    run_id: str
    step: int
    structure: Structure | None
    cloud_names: tuple[str, ...]  # the clouds that ``--clouds`` asks of this run's model
    # Name → (n, d) float32 cloud, selected and normalised as the options say.
    cloud: Callable[[str], np.ndarray]
    # Name → the same points as they are, and how such points become a cloud.
    points: Callable[[str], np.ndarray]
    normalise: Callable[[np.ndarray], np.ndarray]
    # Number of points → (n, d) float32 states of the last layer as they are, both token positions
    # where the model has two.
    last_states: Callable[[int], np.ndarray]
    last_states_name: str  # what that cloud is called
    embedding: np.ndarray  # (n, d_model) float32, raw; (0, 0) of a network without one
    # query, key, value → (n, H, d_head) float32; may be empty.
    head_rows: Callable[[], Mapping[str, np.ndarray]]
    neurons: Callable[[], np.ndarray]  # (places, width) float32, post-activation, pair a * n + b
    logits: Callable[[], np.ndarray]  # (places, outputs) float32, likewise
    # (n, d_model) rows in the embedding's place → logits.
    with_embedding: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray  # (places,) int32, told to the run (true on test pairs); −1: no example
    train_mask: np.ndarray  # (places,) bool
    params: Mapping[str, Any]  # nested dictionaries of arrays, as a checkpoint holds them
    # Functions of parameters that JAX can trace and take derivatives of. They are pytrees, to be
    # handed to a jitted function as arguments: it is then compiled once for all runs of a kind.
    # Number of training examples → (params) ↦ their mean loss.
    loss: Callable[[int], Any]
    # → (params, (2,) elements a and b, (2, d) shifts of their embedding rows) ↦ (outputs,) logits.
    pair_logits: Callable[[], Any]
    # Diagnostic → what its ``on_device`` gave of this run, or the exception that it raised.
    reduced: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Rows = Mapping[str, list[dict[str, Any]]]
_added: dict[str, ModuleType] = {}  # by plug-ins


def add(module: ModuleType) -> str:
    """Adds a diagnostic from elsewhere; returns its name, the last part of the module's.

    Raises ValueError if there is another of that name.
    """
    name = module.__name__.rpartition(".")[2]
    if name in names() and _added.get(name) is not module:
        raise ValueError(f"the diagnostic '{name}' is there already")
    _added[name] = module
    return name


def names() -> tuple[str, ...]:
    """Names of the diagnostics that exist, in alphabetical order."""
    return tuple(sorted({*_found_in(tuple(__path__)), *_added}))


@functools.cache
def _found_in(folders: Sequence[str]) -> tuple[str, ...]:
    found = []
    for name in (module.name for module in pkgutil.iter_modules(folders)):
        if not name.startswith("_"):
            loaded = importlib.import_module(f"{__name__}.{name}")
            if hasattr(loaded, "measure") and hasattr(loaded, "TABLES"):
                found.append(name)
    return tuple(found)


def get(name: str) -> ModuleType:
    """The diagnostic of that name; raises ValueError, naming those that exist, if there is none."""
    if name not in names():
        raise ValueError(f"there is no diagnostic '{name}'; there are {', '.join(names())}")
    return _added.get(name) or importlib.import_module(f"{__name__}.{name}")


def needs_structure(name: str) -> bool:
    """Whether a diagnostic measures only tasks whose elements have a structure."""
    return bool(getattr(get(name), "NEEDS_STRUCTURE", False))


def needs_clouds(name: str) -> bool:
    """Whether a diagnostic measures only the clouds that the options name."""
    return bool(getattr(get(name), "NEEDS_CLOUDS", False))


def steps(name: str, checkpoint_steps: Sequence[int], options: Options) -> set[int]:
    """The checkpoints that a diagnostic measures."""
    chosen = getattr(get(name), "steps", None)
    return set(chosen(checkpoint_steps, options) if chosen else checkpoint_steps)


def __getattr__(name: str) -> ModuleType:
    if name in names():
        return get(name)
    raise AttributeError(f"module 'grokjax.diagnostics' has no attribute '{name}'")
