"""A run at a checkpoint as diagnostics see it, and whether they can measure it.

Clouds: ``embedding``, the rows of the embedding before positions are added; ``layer1`` …
(transformer), the state of the token that is read out after each block; ``hidden1`` … (MLP), the
state after each hidden layer. With ``_both`` behind it, the states of all tokens, a share of the
points each. Hidden states are taken on test examples, the same at every checkpoint of a run.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from grokjax import diagnostics
from grokjax.clouds import NORMALISATIONS, farthest_points, normalize
from grokjax.diagnostics import Options, RunView, Table, coordinates, persistence
from grokjax.measuring import functions
from grokjax.models import network
from grokjax.models.network import Params
from grokjax.settings import flags
from grokjax.settings.caching import bounded
from grokjax.settings.config import PRECISIONS, TrainConfig
from grokjax.settings.fields import check
from grokjax.settings.grid import Run
from grokjax.tasks import task
from grokjax.tasks.task import Data, make_data
from grokjax.training import mapped
from grokjax.training.data import stack
from grokjax.training.evaluation import Answers, examples_at
from grokjax.training.step import Program, inputs_of

EMBEDDING = "embedding"
BOTH = "_both"
SELECTIONS = ("random", "farthest")


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
    if diagnostics.needs_clouds(name) and not choose(options.clouds, run):
        return False
    return run.task.structure is not None or not diagnostics.needs_structure(name)


def fitting(
    options: Options, runs: Sequence[Run], asked: Collection[str], say: Callable[[str], None]
) -> Options:
    """The options, validated, with other defaults where no run of the grid can meet them.

    What was ``asked`` for by a flag stays as it is; ``say`` is told of what adapts, and of clouds
    that are too small for their dimension to be measured.

    Raises:
        InvalidSettingError: for what was asked for and some run cannot meet.
    """
    if "clouds" not in asked and not any(choose(options.clouds, run) for run in runs):
        say(f"--clouds=hidden: no network here has {', '.join(options.clouds)}")
        options = dataclasses.replace(options, clouds=("hidden",))
    validate(options, runs)
    small = _too_small(options, runs) if "dimension" in options.diagnostics else {}
    if small:
        sizes = [f"{k} ({', '.join(map(str, sorted(v)))} points)" for k, v in small.items()]
        message = f"these clouds have no point with so many neighbours: {', '.join(sizes)}; take"
        hint = "fewer, more points (--cloud_points, --lid_points), or no dimension in --diagnostics"
        refused = bool({"diagnostics", "lid_neighbors"} & set(asked))
        check(not refused, "lid_neighbors", options.lid_neighbors, f"{message} {hint}")
        few = f"--lid_neighbors={options.lid_neighbors}: too many for the local dimension of"
        say(f"{few} {', '.join(sizes)}, which is null")
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
    validate_clouds(options.clouds, list(one_of_each.values()))
    allowed = {
        "cloud_normalisation": NORMALISATIONS,
        "cloud_selection": SELECTIONS,
        "ph_engine": persistence.ENGINES,
        "lid_empirical": ("from_one", "from_zero"),
    }
    for field, values in allowed.items():
        value = getattr(options, field)
        check(value in values, field, value, f"must be one of {', '.join(values)}")
    # TwoNN needs three neighbours.
    least = {"lid_neighbors": 3} | dict.fromkeys(
        ("ph_threads", "lid_points", "surrogates", "surrogate_every", "hole_surrogates",
         "hole_every", "landscape_levels", "hessian_every", "hessian_examples",
         "symmetricity_triples", "ablation_waves", "ablation_draws", "ablation_every"), 1
    ) | dict.fromkeys(("cloud_points", "diagram_grid", "image_pixels"), 2)  # fmt: skip
    for field, lowest in least.items():
        value = getattr(options, field)
        whole = isinstance(value, int) and value >= lowest
        check(whole, field, value, f"must be an integer of at least {lowest}")
    _validate_nulls(options, runs)
    for field in ("diagram_range", "image_bandwidth"):
        value = getattr(options, field)
        check(0 < value < math.inf, field, value, "must be a finite number above 0")
    check(0 <= options.ph_verify <= 1, "ph_verify", options.ph_verify, "must lie in 0 … 1")
    classes, most = options.coordinate_classes, coordinates.MOST_CLASSES
    check(1 <= classes <= most, "coordinate_classes", classes, f"must lie in 1 … {most}")


def _validate_nulls(options: Options, runs: Sequence[Run]) -> None:
    lens, nulls = diagnostics.get("surrogates"), options.surrogate_nulls
    text = ",".join(nulls)
    message = f"must be some of {', '.join(lens.NULLS)}, each once"
    check(0 < len(nulls) == len({*nulls} & {*lens.NULLS}), "surrogate_nulls", text, message)
    if "surrogates" in options.diagnostics and not {*nulls} & {*lens.UNORDERED}:
        clouds = {name for run in runs for name in choose(options.clouds, run)}
        message = f"hidden states have no order; add {' or '.join(lens.UNORDERED)}"
        check(clouds <= {EMBEDDING}, "surrogate_nulls", text, message)


def _too_small(options: Options, runs: Sequence[Run]) -> dict[str, set[int]]:
    """Cloud → numbers of points, of clouds without as many neighbours as their dimension takes."""
    found: dict[str, set[int]] = {}
    for run in {(run.model, run.task): run for run in runs}.values():
        for name, n_points in _cloud_sizes(options, run).items():
            if n_points <= options.lid_neighbors:
                found.setdefault(name, set()).add(n_points)
    return found


def _cloud_sizes(options: Options, run: Run) -> dict[str, int]:
    """Cloud → points, of the clouds whose dimension is measured."""
    sizes = {}
    for name in choose(options.clouds, run):
        there = available_points(name, run)
        sizes[name] = there if name == EMBEDDING else min(there, options.cloud_points)
    last = last_cloud(run)
    sizes[last] = min(available_points(last, run), options.lid_points)
    return sizes


def names_for(run: Run) -> list[str]:
    """The clouds that a run's network has, in order of depth."""
    embedding = [EMBEDDING] if run.task.n_elements else []
    return embedding + [name + both for name in run.model.state_names for both in ("", BOTH)]


def available_points(name: str, run: Run) -> int:
    """How many points a cloud can have."""
    if name == EMBEDDING:
        return int(run.task.n_elements)
    n_test = run.task.n_examples - run.task.n_train
    return int(n_test * (n_tokens(run) if name.endswith(BOTH) else 1))


def n_tokens(run: Run) -> int:
    """Tokens of an example, each of which has states."""
    return int(getattr(run.model, "n_tokens", 1))


def n_candidates(options: Options) -> int:
    """Test examples among which the points of a hidden-state cloud are chosen."""
    # Farthest-point selection chooses among eight times the points it keeps.
    return options.cloud_points * (8 if options.cloud_selection == "farthest" else 1)


def choose(requested: Sequence[str], run: Run) -> tuple[str, ...]:
    """The requested clouds that the run has; ``all`` and ``hidden`` stand for several."""
    own = names_for(run)
    layers = [name for name in own if not name.endswith(BOTH)]
    groups = {"all": layers, "hidden": [name for name in layers if name != EMBEDDING]}
    wanted = dict.fromkeys(member for name in requested for member in groups.get(name, [name]))
    return tuple(name for name in wanted if name in own)


def last_cloud(run: Run) -> str:
    """What the cloud of all tokens after the last layer is called."""
    return str(run.model.state_names[-1]) + BOTH


def validate_clouds(requested: Sequence[str], runs: Sequence[Run]) -> None:
    """Raises ``InvalidSettingError`` unless every requested cloud belongs to some run."""
    known = {"all", "hidden"}.union(*map(names_for, runs))
    text = ",".join(requested)
    for name in requested:
        message = f"there is no cloud '{name}'; there are {', '.join(sorted(known))}"
        check(name in known, "clouds", text, message)


def test_places(run: Run, test_mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places of all test examples of a run, in an order drawn from the run's own key."""
    return task.cloud_generator(run).permutation(np.flatnonzero(test_mask))


def places(run: Run, n: int) -> NDArray[np.int64]:
    """Places of the first so many test examples of a run."""
    return _data(run)[1][:n]


def states(program: Program, params: Params, place: jax.Array) -> dict[str, jax.Array]:
    """Layer → (T, n, width) states of one run's examples at these places."""
    found = program.model.states(params, inputs_of(program, examples_at(program, place)))
    return {name: found[name] for name in program.model.config.state_names}


@functools.partial(jax.jit, static_argnums=0)
def _hidden(program: Program, params: Params, place: jax.Array) -> dict[str, jax.Array]:
    with jax.default_matmul_precision(PRECISIONS[program.precision]):
        return states(program, params, place)


def cloud(
    name: str, rows: Any, states: Mapping[str, NDArray[np.float32]] | None, options: Options
) -> NDArray[np.float32]:
    """The cloud of that name, chosen and normalised, from the embedding's rows or hidden states."""
    points = np.asarray(rows)
    if name != EMBEDDING:
        assert states is not None
        points = take(name, states, options.cloud_points, options.cloud_selection)
    return normalize(points, options.cloud_normalisation)


def take(
    name: str, states: Mapping[str, NDArray[np.float32]], n_points: int, selection: str
) -> NDArray[np.float32]:
    """At most ``n_points`` of a hidden-state cloud, as they are.

    ``states`` are layer → (T, n, width), examples in the run's drawn order. Selection ``random``
    takes the first of them, for ``_both`` all tokens of a share of them; ``farthest`` is greedy.
    """
    state = states[name.removesuffix(BOTH)]
    if not name.endswith(BOTH):
        state = state[-1:]
    n_each = state.shape[1] if selection == "farthest" else -(-n_points // len(state))
    points = state[:, :n_each].reshape(-1, state.shape[-1])
    if selection == "farthest" and np.all(np.isfinite(points)):
        points = points[farthest_points(points, min(n_points, len(points)))]
    return points[:n_points]


@bounded(2**29)
def _data(run: Run) -> tuple[Data, NDArray[np.int64]]:
    data = make_data(run)
    return data, test_places(run, data.test_mask)


def _answers(program: Program, run: Run, params: Params) -> Answers:
    """What a network says of all places, NumPy arrays."""
    stacked, mesh = jax.tree.map(lambda leaf: np.asarray(leaf)[None], params), mapped.runs_mesh(1)
    placed = mapped.place(mesh, stacked), mapped.place(mesh, stack([run]))
    _, found = jax.device_get(mapped.examine(program, mesh)(*placed))
    return Answers(*(own[0] for own in found))


def view(
    run: Run, params: Any, step: int, config: TrainConfig, options: Options, seen: Any = None
) -> RunView:
    """What diagnostics see of a run, given its parameters at its own sizes.

    What was ``seen`` of it on the devices (``lenses.Seen``) is not computed again.
    """
    program = Program.of([run], config)
    data, test_places = _data(run)
    rows = network.embedding(params)
    last = last_cloud(run)

    @functools.cache
    def states() -> dict[str, NDArray[np.float32]]:
        """On as many test examples as the largest cloud asked for needs."""
        n_each = -(-options.lid_points // n_tokens(run))
        places = test_places[: max(n_candidates(options), n_each)].astype(np.int32)
        return dict(jax.device_get(_hidden(program, params, places)))

    def candidates() -> Mapping[str, NDArray[np.float32]]:
        own: Mapping[str, NDArray[np.float32]] | None = seen and seen.states
        return own or {name: s[:, : n_candidates(options)] for name, s in states().items()}

    answers = functools.cache(lambda: _answers(program, run, params))

    def with_embedding(own: NDArray[np.floating]) -> NDArray[np.float32]:
        changed = network.with_embedding(params, np.asarray(own, np.float32))
        return np.asarray(_answers(program, run, changed).logits)

    def points(name: str) -> NDArray[np.float32]:
        if name == EMBEDDING:
            return np.asarray(rows)
        return take(name, candidates(), options.cloud_points, options.cloud_selection)

    def head_rows() -> Mapping[str, NDArray[np.float32]]:
        own: Mapping[str, NDArray[np.float32]] | None = seen and seen.head_rows
        return own or {k: np.asarray(v) for k, v in program.model.head_rows(params).items()}

    return RunView(
        run_id=run.run_id,
        step=step,
        structure=run.task.structure,
        cloud_names=choose(options.clouds, run),
        cloud=lambda name: cloud(name, rows, None if name == EMBEDDING else candidates(), options),
        points=points,
        normalise=lambda own: normalize(own, options.cloud_normalisation),
        last_states=lambda n: normalize(take(last, states(), n, "random"), "none"),
        last_states_name=last,
        embedding=np.zeros((0, 0), np.float32) if rows is None else np.asarray(rows),
        head_rows=head_rows,
        neurons=lambda: answers().neurons,
        logits=lambda: answers().logits,
        with_embedding=with_embedding,
        labels=data.labels,
        train_mask=data.train_mask,
        params=params,
        loss=lambda n: functions.loss(program, run, n),
        pair_logits=lambda: functions.pair_logits(program, run),
        reduced={} if seen is None else seen.reduced,
    )
