"""Reading a work directory from Python: tables as frames, checkpoints as arrays."""

import functools
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from grokjax import diagnostics
from grokjax.diagnostics import RunView
from grokjax.settings import plugins
from grokjax.settings.fields import lazy
from grokjax.store import record, runs
from grokjax.store.results import METRICS, Results, known_tables

if TYPE_CHECKING:
    from grokjax.store.checkpoints import Reader, RunBatch

# What reads checkpoints needs JAX; the tables do not.
analyst, views = lazy("grokjax.measuring.analyst"), lazy("grokjax.measuring.views")
checkpoints = lazy("grokjax.store.checkpoints")

_EMBEDDING = "embedding"


class Sweep:
    """The results of a sweep, also while it runs; every call reads what is there now.

    Attributes ``runs``, ``metrics`` and the diagnostics' tables (``persistence``, ``diagrams``,
    ``dimension``, ``fourier``, ``spectra`` …) are pandas frames, one row a key, in the order of
    the grid. A table that was not asked for raises AttributeError.
    """

    def __init__(self, folder: str | os.PathLike[str], plug_ins: Sequence[str] = ()):
        plugins.load(plug_ins)
        self.workdir = pathlib.Path(folder)
        self.config = record.read_config(self.workdir)
        self._runs = {run.run_id: run for run in self.config.runs}
        self._results = Results(self.workdir, list(self._runs))

    @functools.cached_property
    def _reader(self) -> "Reader":
        return checkpoints.Reader(self.workdir / "checkpoints")

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run: its settings, status, steps of memorisation and generalisation."""
        return runs.read(self._results.path("runs"), self.config.runs)

    @property
    def metrics(self) -> pd.DataFrame:
        """Losses, accuracies and weight norm at every checkpoint."""
        return self._results.read("metrics", METRICS)

    def tables(self) -> tuple[str, ...]:
        """Names of the diagnostics' tables that are there."""
        return tuple(name for name in known_tables() if self._results.path(name).exists())

    def __getattr__(self, name: str) -> pd.DataFrame:
        """A diagnostic's table."""
        known = known_tables()
        if name in known and self._results.path(name).exists():
            return self._results.read(name, known[name])
        others = "" if name in known else f"; tables are runs, metrics, {', '.join(known)}"
        raise AttributeError(f"{self.__dict__.get('workdir')} has no table '{name}'{others}")

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

    def cloud(self, run_id: str, step: int, name: str = _EMBEDDING) -> NDArray[np.float32]:
        """The (n, d) cloud of that name as the diagnostics saw it."""
        return self.view(run_id, step).cloud(name)

    def diagram(self, run_id: str, step: int, cloud: str = _EMBEDDING) -> list[NDArray[np.float64]]:
        """Persistence diagrams of a cloud, degrees 0 and 1, (k, 2) each; computed afresh."""
        points, engine = self.cloud(run_id, step, cloud), self.config.options.ph_engine
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

    def view(self, run_id: str, step: int) -> RunView:
        """The run at a checkpoint as diagnostics see it: clouds, logits, neurons, labels."""
        params = self.checkpoint(run_id, step)
        return views.view(self._runs[run_id], params, step, self.config.train, self.config.options)

    def _batch(self, run_id: str) -> "RunBatch":
        for batch in self._reader.batches().values():
            if run_id in batch.run_ids:
                return batch
        reasons = [str(error) for error in self._reader.unreadable.values()]
        if run_id not in self._runs:
            reasons = ["runs are named in .runs.run_id"]
        raise KeyError("; ".join([f"no checkpoint of run '{run_id}'", *reasons]))
