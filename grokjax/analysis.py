"""Committed checkpoints → rows of the diagnostics' tables.

The one code path for a sweep in progress, a later ``grokjax.analyze`` and another machine: what
is to do is read off the checkpoints that are there and the rows that are not.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokjax import clouds, diagnostics, isolation, models, tasks
from grokjax.checkpoints import Batch, CheckpointError, Reader
from grokjax.diagnostics import Options, RunView, Table
from grokjax.grid import IMAGE_MODELS, ModelConfig, RunSpec, check
from grokjax.models import Model
from grokjax.results import Results


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


def validate(options: Options, configs: Sequence[ModelConfig], runs: Sequence[RunSpec]) -> None:
    """Raises ``InvalidSettingError`` for options that some run of the grid cannot meet."""
    known, text = diagnostics.names(), ",".join(options.diagnostics)
    for name in options.diagnostics:
        check(
            name in known, "diagnostics", text, f"each must be one of {', '.join(known)}, or none"
        )
    images = any(config.model in IMAGE_MODELS for config in configs)
    check(
        not (images and "fourier" in options.diagnostics),
        "diagnostics",
        text,
        "fourier measures networks that compute on residues; images have none",
    )
    clouds.validate(options.clouds, configs)
    allowed: dict[str, tuple[str, ...]] = {
        "cloud_normalisation": clouds.NORMALISATIONS,
        "cloud_selection": clouds.SELECTIONS,
        "ph_engine": ("redzed", "giotto"),
        "lid_empirical": ("from_one", "from_zero"),
    }
    for field, values in allowed.items():
        value = getattr(options, field)
        check(value in values, field, value, f"must be one of {', '.join(values)}")
    for field in ("cloud_points", "ph_threads", "lid_points", "lid_neighbors"):
        value = getattr(options, field)
        whole = isinstance(value, int) and value >= 1
        check(whole, field, value, "must be an integer of at least 1")
    check(0 <= options.ph_verify <= 1, "ph_verify", options.ph_verify, "must lie in 0 … 1")
    if "dimension" in options.diagnostics:
        for run in runs:
            config = next(config for config in configs if config.model == run.model)
            _validate_neighbours(options, config, run)


def _validate_neighbours(options: Options, config: ModelConfig, run: RunSpec) -> None:
    sizes = {
        name: min(
            clouds.available_points(name, run),
            run.prime if name == clouds.EMBEDDING else options.cloud_points,
        )
        for name in clouds.choose(options.clouds, config)
    }
    last = clouds.names_for(config)[-1] + clouds.BOTH
    sizes[last] = min(clouds.available_points(last, run), options.lid_points)
    for name, n_points in sizes.items():
        check(
            options.lid_neighbors < n_points,
            "lid_neighbors",
            options.lid_neighbors,
            f"the cloud '{name}' of run {run.run_id} has {n_points} points, and each needs that "
            "many neighbours beside itself; take fewer neighbours, more points (--cloud_points, "
            "--lid_points), or leave dimension out of --diagnostics",
        )


# --------------------------------------------------------------------------- views


@functools.lru_cache(maxsize=4096)
def _pairs(run: RunSpec) -> NDArray[np.int64]:
    return clouds.test_pairs(run, tasks.make_task(run))


@dataclasses.dataclass(frozen=True)
class _Lazy:
    """One run's parameters at a checkpoint, and what is computed of them when first asked for."""

    run: RunSpec
    model: Model
    params: Any
    precision: str
    options: Options

    @functools.cached_property
    def states(self) -> dict[str, NDArray[np.float32]]:
        """States on as many test pairs as the largest cloud asked for needs."""
        # Farthest-point selection chooses among eight times the points it keeps.
        factor = 8 if self.options.cloud_selection == "farthest" else 1
        n_pairs = max(self.options.cloud_points * factor, self.options.lid_points)
        return clouds.hidden(self.model, self.precision, self.params, _pairs(self.run)[:n_pairs])

    @functools.cached_property
    def everything(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Neurons and logits of all pairs."""
        return clouds.everything(self.model, self.precision, self.params)

    def cloud(self, name: str) -> NDArray[np.float32]:
        """A cloud by name, as the options say."""
        how = self.options.cloud_normalisation
        if name == clouds.EMBEDDING:
            return clouds.normalize(models.embedding(self.params), how)
        n_points, selection = self.options.cloud_points, self.options.cloud_selection
        factor = 8 if selection == "farthest" else 1
        candidates = {layer: s[:, : n_points * factor] for layer, s in self.states.items()}
        return clouds.take(name, candidates, n_points, selection, how)

    def last_states(self, n_points: int) -> NDArray[np.float32]:
        """Raw states of the last layer."""
        name = self.model.state_names[-1] + clouds.BOTH
        return clouds.take(name, self.states, n_points, "random", "none")


def view(
    run: RunSpec, config: ModelConfig, params: Any, step: int, precision: str, options: Options
) -> RunView:
    """What diagnostics see of a run, given its parameters at its own prime."""
    model = Model(config=config, n_tokens=run.prime)
    lazy = _Lazy(run, model, params, precision, options)
    task = tasks.make_task(run)
    return RunView(
        run_id=run.run_id,
        step=step,
        prime=run.prime,
        operation=run.operation,
        cloud_names=clouds.choose(options.clouds, config),
        cloud=lazy.cloud,
        last_states=lazy.last_states,
        last_states_name=model.state_names[-1] + clouds.BOTH,
        embedding=np.asarray(
            np.zeros((0, 0), np.float32) if model.of_images else models.embedding(params)
        ),
        head_rows=lambda: {k: np.asarray(v) for k, v in model.head_rows(params).items()},
        neurons=lambda: lazy.everything[0],
        logits=lambda: lazy.everything[1],
        labels=task.labels.ravel(),
        train_mask=task.train_mask.ravel(),
    )


# --------------------------------------------------------------------------- work to do


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What diagnostics found at a checkpoint: plain values, fit to travel."""

    step: int
    run_ids: dict[str, tuple[str, ...]]  # diagnostic → runs measured
    rows: dict[str, isolation.Rows] = dataclasses.field(default_factory=dict)
    failures: list[isolation.Failure] = dataclasses.field(default_factory=list)


class Analyst:
    """Measures the checkpoints of a work directory, as they come or all at once.

    Args:
        workdir: the work directory.
        runs: the grid.
        configs: model name → architecture.
        precision: of matrix products, as in training.
        options: what to measure and how.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        runs: Sequence[RunSpec],
        configs: dict[str, ModelConfig],
        precision: str,
        options: Options,
    ):
        self._runs = {run.run_id: run for run in runs}
        self._configs = configs
        self._precision = precision
        self._options = options
        self._reader = Reader(workdir / "checkpoints")
        self._tables = tables_of(options)
        self.results = Results(workdir, list(self._runs))
        self.failures = isolation.Failures(workdir / "results" / "failures.json")
        self._done: dict[str, set[tuple[str, int]]] = {}

    def prepare(self) -> list[str]:
        """Makes the tables ready; returns what is worth telling.

        A table measured under other settings is set aside, not overwritten; so is a damaged one,
        and what it held is measured again, as is what a diagnostic failed on before.
        """
        messages = []
        failed_before = {(f.diagnostic, f.run_id, f.step) for f in self.failures.read()}
        for name, tables in self._tables.items():
            settings = settings_of(name, self._options)
            done: set[tuple[str, int]] | None = None
            for key, table in tables.items():
                damage = self.results.recover(key, table)
                messages += damage
                new = bool(damage) or not self.results.path(key).exists()
                if not new and self.results.settings(key) != settings:
                    kept = self.results.set_aside(key, table)
                    messages.append(f"{key}.parquet had other settings; it is kept as {kept}")
                self.results.merge(key, table, settings)
                units = self.results.read(key, table)[["run_id", "step"]]
                # What a diagnostic commits last is its first table: a unit there is in all of
                # them, but for those that have lost rows or never had any.
                if done is None:
                    done = set(units.itertuples(index=False, name=None))
                elif new:
                    done &= set(units.itertuples(index=False, name=None))
            again = {(run_id, step) for d, run_id, step in failed_before if d == name}
            self._done[name] = (done or set()) - again
        self.failures.clear(self._tables)
        return messages

    def committed(self) -> Iterator[tuple[Batch, int]]:
        """Every committed checkpoint of the grid's runs."""
        for name, batch in self._reader.batches().items():
            if set(batch.run_ids) <= self._runs.keys():
                for step in self._reader.steps(name):
                    yield batch, step

    @property
    def unreadable(self) -> dict[str, CheckpointError]:
        """Batches whose checkpoints ``committed`` last found not to say whose they are."""
        return self._reader.unreadable

    def pending(self, batch: Batch, step: int) -> dict[str, list[str]]:
        """Diagnostic → ids of the batch's runs that it has not measured at this step."""
        waiting = {
            name: [run_id for run_id in batch.run_ids if (run_id, step) not in done]
            for name, done in self._done.items()
        }
        return {name: run_ids for name, run_ids in waiting.items() if run_ids}

    def measure(self, batch: Batch, step: int) -> int:
        """Measures what is pending at a checkpoint and commits it; returns how many run views."""
        waiting = self.pending(batch, step)
        views = self.views(batch, step, waiting)
        self.commit(self.compute(step, waiting, views))
        return len(views)

    def batch(self, name: str) -> Batch:
        """The batch whose checkpoints lie in that folder; raises KeyError."""
        return self._reader.batches()[name]

    def views(
        self, batch: Batch, step: int, waiting: Mapping[str, Sequence[str]]
    ) -> dict[str, RunView]:
        """Run id → what diagnostics see of it, of all runs that any diagnostic waits for."""
        wanted = {run_id for run_ids in waiting.values() for run_id in run_ids}
        if not wanted:
            return {}
        runs = [self._runs[run_id] for run_id in batch.run_ids]
        config = self._configs[runs[0].model]
        padded = Model(config=config, n_tokens=max(run.prime for run in runs))
        stacked = self._reader.params(batch, step, models.stacked(padded.template(), len(runs)))
        return {
            run.run_id: view(
                run,
                config,
                models.row(stacked, i, run.prime),
                step,
                self._precision,
                self._options,
            )
            for i, run in enumerate(runs)
            if run.run_id in wanted
        }

    def compute(
        self, step: int, waiting: Mapping[str, Sequence[str]], views: Mapping[str, RunView]
    ) -> Measured:
        """Runs each diagnostic on the runs that wait for it; writes nothing."""
        measured = Measured(step=step, run_ids={k: tuple(v) for k, v in waiting.items()})
        for name, run_ids in waiting.items():
            rows, failures = isolation.measure(name, [views[i] for i in run_ids], self._options)
            measured.rows[name] = rows
            measured.failures.extend(failures)
        return measured

    def commit(self, measured: Measured) -> None:
        """Adds rows to the tables."""
        self.failures.add(measured.failures)
        for name, run_ids in measured.run_ids.items():
            for key, table in reversed(self._tables[name].items()):
                self.results.append(key, table, measured.rows[name][key])
            self._done[name] |= {(run_id, measured.step) for run_id in run_ids}

    def merge(self) -> None:
        """Writes the merged tables."""
        for name, tables in self._tables.items():
            for key, table in tables.items():
                self.results.merge(key, table, settings_of(name, self._options))

    def measure_all(self, progress: Callable[[int, int], None]) -> None:
        """Measures everything committed; ``progress(done, total)`` after each checkpoint."""
        work = [item for item in self.committed() if self.pending(*item)]
        for i, (batch, step) in enumerate(work):
            self.measure(batch, step)
            progress(i + 1, len(work))
