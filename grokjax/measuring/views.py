"""A run at a checkpoint as diagnostics see it, and whether they can measure it."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
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


def measures(name: str, run: Run, options: Options) -> bool:
    """Whether a diagnostic has rows of a run."""
    if diagnostics.needs_clouds(name) and not layers.choose(options.clouds, run):
        return False
    return run.task.structure is not None or not diagnostics.needs_structure(name)


def fitting(
    options: Options, runs: Sequence[Run], asked: Collection[str], say: Callable[[str], None]
) -> Options:
    """The options with defaults that no run of the grid, or not each, can meet left out.

    What was ``asked`` for by a flag stays as it is; ``say`` is told what was left out.
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
            text = ",".join(kept) or "none"
            say(f"--diagnostics={text}: clouds here are too small for dimension")
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
    one_of_each = {(run.model, run.task.examples): run for run in runs}
    layers.validate(options.clouds, list(one_of_each.values()))
    allowed = {
        "cloud_normalisation": NORMALISATIONS,
        "cloud_selection": layers.SELECTIONS,
        "ph_engine": ("redzed", "giotto"),
        "lid_empirical": ("from_one", "from_zero"),
    }
    for field, values in allowed.items():
        value = getattr(options, field)
        check(value in values, field, value, f"must be one of {', '.join(values)}")
    # TwoNN needs three neighbours.
    least = {"lid_neighbors": 3} | dict.fromkeys(
        ("cloud_points", "ph_threads", "lid_points", "surrogates", "surrogate_every"), 1
    )
    for field, lowest in least.items():
        value = getattr(options, field)
        whole = isinstance(value, int) and value >= lowest
        check(whole, field, value, f"must be an integer of at least {lowest}")
    _validate_nulls(options, runs)
    check(0 <= options.ph_verify <= 1, "ph_verify", options.ph_verify, "must lie in 0 … 1")
    if "dimension" in options.diagnostics:
        for run in {(run.model, run.task): run for run in runs}.values():
            for name, n_points in _cloud_sizes(options, run).items():
                message = (
                    f"the cloud '{name}' of run {run.run_id} has {n_points} points, and each needs "
                    "that many neighbours beside itself; take fewer neighbours, more points "
                    "(--cloud_points, --lid_points), or leave dimension out of --diagnostics"
                )
                fits = options.lid_neighbors < n_points
                check(fits, "lid_neighbors", options.lid_neighbors, message)


def _validate_nulls(options: Options, runs: Sequence[Run]) -> None:
    lens, nulls = diagnostics.get("surrogates"), options.surrogate_nulls
    text = ",".join(nulls)
    message = f"must be some of {', '.join(lens.NULLS)}, each once"
    check(0 < len(nulls) == len({*nulls} & {*lens.NULLS}), "surrogate_nulls", text, message)
    if "surrogates" in options.diagnostics and not {*nulls} & {*lens.UNORDERED}:
        clouds = {name for run in runs for name in layers.choose(options.clouds, run)}
        message = f"hidden states have no order; add {' or '.join(lens.UNORDERED)}"
        check(clouds <= {layers.EMBEDDING}, "surrogate_nulls", text, message)


def _cloud_sizes(options: Options, run: Run) -> dict[str, int]:
    """Cloud → points, of the clouds whose dimension is measured."""
    sizes = {}
    for name in layers.choose(options.clouds, run):
        there = layers.available_points(name, run)
        sizes[name] = there if name == layers.EMBEDDING else min(there, options.cloud_points)
    last = layers.last_cloud(run)
    sizes[last] = min(layers.available_points(last, run), options.lid_points)
    return sizes


@functools.lru_cache(maxsize=64)
def _data(run: Run) -> tuple[Data, NDArray[np.int64]]:
    data = make_data(run)
    return data, layers.test_places(run, data.test_mask)


def view(run: Run, params: Any, step: int, config: TrainConfig, options: Options) -> RunView:
    """What diagnostics see of a run, given its parameters at its own sizes."""
    program = Program.of([run], config)
    data, test_places = _data(run)
    rows = network.embedding(params)
    last = layers.last_cloud(run)
    n_points, selection = options.cloud_points, options.cloud_selection
    # Farthest-point selection chooses among eight times the points it keeps.
    n_candidates = n_points * (8 if selection == "farthest" else 1)

    @functools.cache
    def states() -> dict[str, NDArray[np.float32]]:
        """On as many test examples as the largest cloud asked for needs."""
        places = test_places[: max(n_candidates, options.lid_points)].astype(np.int32)
        return dict(jax.device_get(layers.hidden(program, params, places)))

    @functools.cache
    def everything() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        neurons, logits = jax.device_get(layers.everything(program, run.task.n_places, params))
        return neurons, logits

    def points(name: str) -> NDArray[np.float32]:
        if name == layers.EMBEDDING:
            return np.asarray(rows)
        candidates = {layer: state[:, :n_candidates] for layer, state in states().items()}
        return layers.take(name, candidates, n_points, selection)

    def normalise(cloud: NDArray[np.floating]) -> NDArray[np.float32]:
        return normalize(cloud, options.cloud_normalisation)

    return RunView(
        run_id=run.run_id,
        step=step,
        structure=run.task.structure,
        cloud_names=layers.choose(options.clouds, run),
        cloud=lambda name: normalise(points(name)),
        points=points,
        normalise=normalise,
        last_states=lambda n: normalize(layers.take(last, states(), n, "random"), "none"),
        last_states_name=last,
        embedding=np.zeros((0, 0), np.float32) if rows is None else np.asarray(rows),
        head_rows=lambda: {k: np.asarray(v) for k, v in program.model.head_rows(params).items()},
        neurons=lambda: everything()[0],
        logits=lambda: everything()[1],
        labels=data.labels,
        train_mask=data.train_mask,
    )
