"""Reading a work directory from Python: tables as frames, checkpoints as arrays."""

import copy
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from grokjax import diagnostics
from grokjax.diagnostics import Options, RunView
from grokjax.measuring import describing
from grokjax.settings import plugins
from grokjax.settings.fields import lazy
from grokjax.settings.grid import Run
from grokjax.store import record, runs
from grokjax.store.results import METRICS, Results, known_tables

if TYPE_CHECKING:
    from grokjax.store.checkpoints import Reader, RunBatch

# What reads checkpoints needs JAX; the tables do not.
analyst, views = lazy("grokjax.measuring.analyst"), lazy("grokjax.measuring.views")
checkpoints = lazy("grokjax.store.checkpoints")

_EMBEDDING = "embedding"


def options_of(results: Results, table: str, base: Options) -> Options:
    """What a table says that it was measured with; the rest as in ``base``."""
    values: dict[str, Any] = results.settings(table) or {}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return dataclasses.replace(base, **values)


class Sweep:
    """The results of a sweep, also while it runs; every call reads what is there now.

    Attributes ``runs``, ``metrics`` and the diagnostics' tables (``persistence``, ``diagrams``,
    ``dimension``, ``fourier``, ``spectra`` …) are pandas frames, one row a key, in the order of
    the grid. A table that was not asked for raises AttributeError. Printed, or shown in a notebook,
    it says what is there and what is missing.
    """

    def __init__(self, folder: str | os.PathLike[str], plug_ins: Sequence[str] = ()):
        plugins.load(plug_ins)
        self.workdir = pathlib.Path(folder)
        self.config = record.read_config(self.workdir)
        self.results = Results(self.workdir, [run.run_id for run in self.config.runs])

    def where(self, **wanted: Any) -> "Sweep":
        """The part of the sweep whose runs have what is wanted of columns of ``.runs``.

        That is one value (None: null), a collection of values, or a function of the whole column,
        a Series, that tells of every run whether it belongs:
        ``sweep.where(prime=[97, 113], seed=range(46, 49), train_fraction=lambda f: f < 0.3)``.

        Raises:
            KeyError: naming the columns, if there is none of that name.
        """
        frame = self.runs
        for name, value in wanted.items():
            if name not in frame:
                raise KeyError(
                    f"runs have no column '{name}'; they have {', '.join(map(str, frame))}"
                )
            column = frame[name]
            if callable(value):
                kept = pd.Series(value(column), column.index)
            elif isinstance(value, Collection) and not isinstance(value, str):
                kept = column.isin(list(value))
            else:
                kept = column.isna() if value is None else column == value
            frame = frame[kept.astype("boolean").fillna(False)]
        part = copy.copy(self)
        part.config = dataclasses.replace(self.config, members=frozenset(frame["run_id"]))
        return part

    @functools.cached_property
    def _runs(self) -> dict[str, Run]:
        """Those of the whole grid: a batch may hold others than the sweep's own."""
        return {run.run_id: run for run in self.config.grid}

    def _own(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of the sweep's own runs."""
        kept = frame["run_id"].isin([run.run_id for run in self.config.runs])
        return frame if kept.all() else frame[kept].reset_index(drop=True)

    @functools.cached_property
    def _reader(self) -> "Reader":
        return checkpoints.Reader(self.workdir / "checkpoints")

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run: its settings, status, steps of memorisation and generalisation."""
        return self._own(runs.read(self.results.path("runs"), self.config.grid))

    @property
    def metrics(self) -> pd.DataFrame:
        """Losses, accuracies and weight norm at every checkpoint."""
        return self._own(self.results.read("metrics", METRICS))

    def tables(self) -> tuple[str, ...]:
        """Names of the diagnostics' tables that are there."""
        return tuple(name for name in known_tables() if self.results.path(name).exists())

    def __getattr__(self, name: str) -> pd.DataFrame:
        """A diagnostic's table."""
        known = known_tables()
        if name in known and self.results.path(name).exists():
            return self._own(self.results.read(name, known[name]))
        others = "" if name in known else f"; tables are runs, metrics, {', '.join(known)}"
        raise AttributeError(f"{self.__dict__.get('workdir')} has no table '{name}'{others}")

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self.tables()]

    def __repr__(self) -> str:
        return describing.as_text(self)

    def _repr_html_(self) -> str:
        return describing.as_html(self)

    def with_runs(self, table: str) -> pd.DataFrame:
        """A table with the columns of ``.runs`` beside every row: settings, steps, status.

        A column that both have is the table's; the run's has ``_of_run`` behind its name.
        """
        suffixes = ("", "_of_run")
        return getattr(self, table).merge(self.runs, "left", on="run_id", suffixes=suffixes)

    def options(self, table: str = "persistence") -> Options:
        """What a table was measured with, which need not be what the sweep was started with.

        Options that its numbers do not depend on, and all of a table that is not there, are the
        sweep's.
        """
        return options_of(self.results, table, self.config.options)

    def steps(self, run_id: str) -> list[int]:
        """Steps at which parameters of the run are there."""
        return self._reader.steps(self._batch(run_id).name)

    def checkpoint(self, run_id: str, step: int) -> dict[str, Any]:
        """The run's parameters at a step: nested dictionaries of NumPy arrays, without padding.

        Raises KeyError if there is no such checkpoint, or its parameters were let go (``--keep``),
        ``CheckpointError`` if it cannot be read.
        """
        batch = self._batch(run_id)
        if step not in (there := self._reader.steps(batch.name)):
            problem = f"run {run_id} has no checkpoint at step {step}"
            if step in self._reader.gone(batch.name):
                problem = f"the parameters of run {run_id} at step {step} were let go once measured"
                problem += f" (--keep={self.config.saving.keep}); those of {there} are there"
            raise KeyError(problem)
        members = [self._runs[member] for member in batch.run_ids]
        stacked = analyst.read_params(self._reader, batch, step, members)
        index = batch.run_ids.index(run_id)
        return analyst.own_params(stacked, index, members[index])

    def cloud(
        self, run_id: str, step: int, name: str = _EMBEDDING, table: str = "persistence"
    ) -> NDArray[np.float32]:
        """The (n, d) cloud of that name as it was measured for a table."""
        return self.view(run_id, step, table).cloud(name)

    def diagram(self, run_id: str, step: int, cloud: str = _EMBEDDING) -> list[NDArray[np.float64]]:
        """Persistence diagrams of a cloud, degrees 0 and 1, (k, 2) each.

        Computed afresh, as the table ``persistence`` was.
        """
        points, engine = self.cloud(run_id, step, cloud), self.options().ph_engine
        return diagnostics.get("persistence").diagrams(points, engine=engine)

    def diagram_distances(
        self, run_id: str, cloud: str = _EMBEDDING, degree: int = 1, metric: str = "bottleneck"
    ) -> pd.DataFrame:
        """How far a run's diagrams move from checkpoint to checkpoint.

        A row a checkpoint but the first: ``step`` and ``distance`` from the checkpoint before, as
        ``diagnostics.persistence.distance`` gives it.
        """
        steps = self.steps(run_id)
        diagrams = [self.diagram(run_id, step, cloud)[degree] for step in steps]
        distance = diagnostics.get("persistence").distance
        moved = [distance(a, b, metric) for a, b in itertools.pairwise(diagrams)]
        return pd.DataFrame({"step": steps[1:], "distance": np.array(moved, np.float64)})

    def betti_curves(
        self, run_id: str, thresholds: ArrayLike, cloud: str = _EMBEDDING, degree: int = 1
    ) -> pd.DataFrame:
        """Betti numbers of a run's clouds: a row a checkpoint (index), a column a threshold."""
        curve = diagnostics.get("persistence").betti_curve
        steps = self.steps(run_id)
        values = [curve(self.diagram(run_id, step, cloud)[degree], thresholds) for step in steps]
        index = pd.Index(steps, name="step")
        return pd.DataFrame(values, index=index, columns=list(np.asarray(thresholds)))

    def view(self, run_id: str, step: int, table: str = "persistence") -> RunView:
        """The run at a checkpoint as a table was measured: clouds, logits, neurons, labels."""
        params, options = self.checkpoint(run_id, step), self.options(table)
        return views.view(self._runs[run_id], params, step, self.config.train, options)

    def _batch(self, run_id: str) -> "RunBatch":
        for batch in self._reader.batches().values():
            if run_id in batch.run_ids:
                return batch
        reasons = [str(error) for error in self._reader.unreadable.values()]
        if run_id not in self._runs:
            reasons = ["runs are named in .runs.run_id"]
        raise KeyError("; ".join([f"no checkpoint of run '{run_id}'", *reasons]))
