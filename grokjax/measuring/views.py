"""A run at a checkpoint as diagnostics see it, and whether they can measure it."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokjax import diagnostics
from grokjax.clouds import NORMALISATIONS, normalize
from grokjax.diagnostics import Options, RunView, Table
from grokjax.measuring import layers
from grokjax.models import network
from grokjax.settings import flags
from grokjax.settings.config import TrainConfig
from grokjax.settings.fields import InvalidSettingError, check
from grokjax.settings.grid import Run
from grokjax.tasks.task import Data, make_data
from grokjax.training.step import Program


def tables_of(options: Options) -> dict[str, dict[str, Table]]:
    """Diagnostic → its tables, without optional ones that were not asked for."""
    return {
        name: {
            key: table
            for key, table in diagnostics.get(name).TABLES.items()
            if not table.optional or getattr(options, f"save_{key}")
        }
        for name in options.diagnostics
    }


def settings_of(name: str, options: Options) -> dict[str, Any]:
    """The options that a diagnostic's numbers depend on, as JSON gives them back."""
    values = {field: getattr(options, field) for field in diagnostics.get(name).SETTINGS}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def measures(name: str, run: Run) -> bool:
    """Whether a diagnostic has rows of a run."""
    return run.task.structure is not None or not diagnostics.needs_structure(name)


# --------------------------------------------------------------------------- what cannot be


def fitting(
    options: Options, runs: Sequence[Run], asked: Collection[str], say: Callable[[str], None]
) -> Options:
    """The options with defaults that no run of the grid, or not each, can meet left out.

    Args:
        options: what is measured.
        runs: the grid.
        asked: options that were given a value, and stay as they are.
        say: told what was left out.
    """
    if "clouds" not in asked and not any(layers.choose(options.clouds, run) for run in runs):
        say(f"--clouds=hidden: no network here has {', '.join(options.clouds)}")
        options = dataclasses.replace(options, clouds=("hidden",))
    kept = tuple(name for name in options.diagnostics if name != "dimension")
    if kept != options.diagnostics and not {"diagnostics", "lid_neighbors"} & set(asked):
        try:
            validate(options, runs)
        except InvalidSettingError as error:
            if error.flag != "lid_neighbors":
                raise
            say(
                f"--diagnostics={','.join(kept) or 'none'}: clouds here are too small for dimension"
            )
            options = dataclasses.replace(options, diagnostics=kept)
    return options


def validate(options: Options, runs: Sequence[Run]) -> None:
    """Raises ``InvalidSettingError`` for options that some run of the grid cannot meet."""
    known, text = diagnostics.names(), ",".join(options.diagnostics)
    for name in options.diagnostics:
        message = f"each must be one of {', '.join(known)}, or none"
        check(name in known, "diagnostics", text, message)
        message = f"{name} measures tasks whose elements have a structure, and no task here has one"
        check(flags.fits_some(name, runs), "diagnostics", text, message)
    layers.validate(options.clouds, _kinds(runs))
    allowed: dict[str, tuple[str, ...]] = {
        "cloud_normalisation": NORMALISATIONS,
        "cloud_selection": layers.SELECTIONS,
        "ph_engine": ("redzed", "giotto"),
        "lid_empirical": ("from_one", "from_zero"),
    }
    for field, values in allowed.items():
        value = getattr(options, field)
        check(value in values, field, value, f"must be one of {', '.join(values)}")
    # TwoNN needs three neighbours.
    least = {"cloud_points": 1, "ph_threads": 1, "lid_points": 1, "lid_neighbors": 3}
    for field, lowest in least.items():
        value = getattr(options, field)
        whole = isinstance(value, int) and value >= lowest
        check(whole, field, value, f"must be an integer of at least {lowest}")
    check(0 <= options.ph_verify <= 1, "ph_verify", options.ph_verify, "must lie in 0 … 1")
    if "dimension" in options.diagnostics:
        for run in {(run.model, run.task): run for run in runs}.values():
            _validate_neighbours(options, run)


def _kinds(runs: Sequence[Run]) -> list[Run]:
    """One run of each network and kind of task."""
    return list({(run.model, run.task.examples): run for run in runs}.values())


def _validate_neighbours(options: Options, run: Run) -> None:
    for name, n_points in cloud_sizes(options, run).items():
        check(
            options.lid_neighbors < n_points,
            "lid_neighbors",
            options.lid_neighbors,
            f"the cloud '{name}' of run {run.run_id} has {n_points} points, and each needs that "
            "many neighbours beside itself; take fewer neighbours, more points (--cloud_points, "
            "--lid_points), or leave dimension out of --diagnostics",
        )


def cloud_sizes(options: Options, run: Run) -> dict[str, int]:
    """Cloud → points, of the clouds whose dimension is measured."""
    sizes = {}
    for name in layers.choose(options.clouds, run):
        there = layers.available_points(name, run)
        sizes[name] = there if name == layers.EMBEDDING else min(there, options.cloud_points)
    last = layers.last_cloud(run)
    sizes[last] = min(layers.available_points(last, run), options.lid_points)
    return sizes


# --------------------------------------------------------------------------- views


@functools.lru_cache(maxsize=64)
def _data(run: Run) -> tuple[Data, NDArray[np.int64]]:
    data = make_data(run)
    return data, layers.test_places(run, data.test_mask)


@dataclasses.dataclass(frozen=True)
class _Lazy:
    """One run's parameters at a checkpoint, and what is computed of them when first asked for."""

    run: Run
    program: Program
    params: Any
    options: Options

    @functools.cached_property
    def states(self) -> dict[str, NDArray[np.float32]]:
        """States on as many test examples as the largest cloud asked for needs."""
        # Farthest-point selection chooses among eight times the points it keeps.
        factor = 8 if self.options.cloud_selection == "farthest" else 1
        n = max(self.options.cloud_points * factor, self.options.lid_points)
        return layers.hidden(self.program, self.params, _data(self.run)[1][:n])

    @functools.cached_property
    def everything(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Neurons and logits of all places."""
        return layers.everything(self.program, self.run.task.n_places, self.params)

    def cloud(self, name: str) -> NDArray[np.float32]:
        """A cloud by name, as the options say."""
        how = self.options.cloud_normalisation
        if name == layers.EMBEDDING:
            return normalize(network.embedding(self.params), how)
        n_points, selection = self.options.cloud_points, self.options.cloud_selection
        factor = 8 if selection == "farthest" else 1
        candidates = {layer: s[:, : n_points * factor] for layer, s in self.states.items()}
        return layers.take(name, candidates, n_points, selection, how)

    def last_states(self, n_points: int) -> NDArray[np.float32]:
        """Raw states of the last layer."""
        return layers.take(layers.last_cloud(self.run), self.states, n_points, "random", "none")


def view(run: Run, params: Any, step: int, config: TrainConfig, options: Options) -> RunView:
    """What diagnostics see of a run, given its parameters at its own sizes."""
    program = Program.of([run], config)
    lazy = _Lazy(run, program, params, options)
    data, _ = _data(run)
    rows = network.embedding(params)
    return RunView(
        run_id=run.run_id,
        step=step,
        structure=run.task.structure,
        cloud_names=layers.choose(options.clouds, run),
        cloud=lazy.cloud,
        last_states=lazy.last_states,
        last_states_name=layers.last_cloud(run),
        embedding=np.zeros((0, 0), np.float32) if rows is None else np.asarray(rows),
        head_rows=lambda: {k: np.asarray(v) for k, v in program.model.head_rows(params).items()},
        neurons=lambda: lazy.everything[0],
        logits=lambda: lazy.everything[1],
        labels=data.labels,
        train_mask=data.train_mask,
    )
