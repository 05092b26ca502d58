"""What the report shows of single checkpoints: embeddings of chosen runs, and their diagrams."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grokjax.clouds import normalize
from grokjax.diagnostics import persistence
from grokjax.measuring.loading import Sweep
from grokjax.models import network
from grokjax.models.network import Model
from grokjax.store.checkpoints import Reader, RunBatch
from grokjax.store.errors import CheckpointError
from grokjax.training import data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run at a checkpoint."""

    run_id: str
    step: int
    embedding: NDArray[np.float32]  # (p, d), raw
    cloud: NDArray[np.float32]  # (p, d), normalised as for the table of persistence
    diagrams: list[NDArray[np.float64]]  # of the cloud, (k, 2) each; empty if it is not finite


class Snapshots:
    """Reads the embeddings, and nothing else, of committed checkpoints."""

    def __init__(self, sweep: Sweep):
        self._runs = {run.run_id: run for run in sweep.config.runs}
        self._options = sweep.options()
        self._reader = Reader(sweep.workdir / "checkpoints")
        self.batches = {  # of the runs of which something is committed
            run_id: batch
            for batch in self._reader.batches().values()
            if set(batch.run_ids) <= self._runs.keys()
            # A network of features has no embedding.
            and self._runs[batch.run_ids[0]].task.n_elements
            for run_id in batch.run_ids
        }
        names = {batch.name for batch in self.batches.values()}
        self._steps = {name: self._reader.steps(name) for name in names}
        self.unreadable = [str(error) for error in self._reader.unreadable.values()]

    def steps(self, run_id: str) -> list[int]:
        """Steps at which a checkpoint of the run was committed when this was made, ascending."""
        batch = self.batches.get(run_id)
        return self._steps[batch.name] if batch else []

    def read(self, wanted: Mapping[str, Sequence[int]]) -> Iterator[Snapshot]:
        """The wanted checkpoints (run id → steps) that are there, each file read once.

        What cannot be read is left out, and a message is added to ``unreadable``.
        """
        options = self._options
        template = functools.cache(self._template)
        by_file: dict[tuple[RunBatch, int], list[str]] = defaultdict(list)
        for run_id, steps in wanted.items():
            for step in sorted(set(steps) & set(self.steps(run_id))):
                by_file[self.batches[run_id], step].append(run_id)
        for (batch, step), run_ids in by_file.items():
            try:
                stack = network.embedding(self._reader.params(batch, step, template(batch)))
            except CheckpointError as error:
                self.unreadable.append(str(error))
                continue
            padded = dict(zip(batch.run_ids, stack, strict=True))
            embeddings = [padded[name][: self._runs[name].task.n_elements] for name in run_ids]
            clouds = [normalize(rows, options.cloud_normalisation) for rows in embeddings]
            # Both engines give the same bars; this is the fast one.
            found = persistence.many(clouds, engine="redzed", n_threads=options.ph_threads)
            for run_id, rows, cloud, bars in zip(run_ids, embeddings, clouds, found, strict=True):
                yield Snapshot(
                    run_id=run_id,
                    step=step,
                    embedding=rows,
                    cloud=cloud,
                    diagrams=[np.zeros((0, 2))] * 2 if isinstance(bars, Exception) else bars,
                )

    def _template(self, batch: RunBatch) -> network.Params:
        """Shapes of the embeddings of a batch; finding them takes as long as reading them."""
        runs = [self._runs[run_id] for run_id in batch.run_ids]
        model = Model(config=runs[0].static.model, sizes=data.sizes(runs))
        return {"embed": network.stacked(model.template(), len(runs))["embed"]}


def telling_order(runs: pd.DataFrame) -> list[str]:
    """The runs of one setting, those that tell most first.

    The run in the middle of those that generalised, then one that never did, one that diverged or
    failed, the latest, the earliest, and the others.
    """
    step = runs["generalisation_step"]
    ended = runs["status"].isin(("diverged", "failed"))
    grown = list(runs[step.notna()].sort_values("generalisation_step", kind="stable")["run_id"])
    never = runs.loc[step.isna() & ~ended, "run_id"]
    middle, stopped = grown[(len(grown) - 1) // 2 :], runs.loc[ended, "run_id"]
    first = [*middle[:1], *never[:1], *stopped[:1], *grown[-1:], *grown[:1]]
    return list(dict.fromkeys([*first, *runs["run_id"]]))


def thin(steps: Sequence[int], n_most: int, marks: Sequence[int] = ()) -> list[int]:
    """At most ``n_most`` of the steps, evenly; the marks among them, first and last are kept."""
    if len(steps) <= n_most:
        return list(steps)
    kept = {steps[0], steps[-1]} | (set(marks) & set(steps))
    n_even = max(2, n_most - len(kept) + 2)
    even = [steps[round(i * (len(steps) - 1) / (n_even - 1))] for i in range(n_even)]
    return sorted(kept | set(even))


def typical_run(runs: pd.DataFrame) -> str | None:
    """The run that figures of a single run show; None if there is no run.

    Of the runs that generalised, those of the largest training set, and of these the one with the
    middle generalisation step (the lower of two); if none did, the first that did not diverge.
    """
    grown = runs[runs["generalisation_step"].notna()]
    largest = grown[grown["n_train"] == grown["n_train"].max()]
    return next(iter(telling_order(largest if len(largest) else runs)), None)


def telling_steps(steps: Sequence[int], generalisation_step: int | None) -> list[int]:
    """At most four steps that tell a run's story, out of those at which there is a checkpoint.

    The first; the last before generalisation; the first that is a quarter later than it, for the
    loop comes after the accuracy; the last. For a run that did not generalise, the thirds.
    """
    ordered = sorted(steps)
    if generalisation_step is None:
        return thin(ordered, 4)
    before = [step for step in ordered if step < generalisation_step]
    after = [step for step in ordered if step >= 1.25 * generalisation_step]
    return sorted({*ordered[:1], *before[-1:], *after[:1], *ordered[-1:]})
