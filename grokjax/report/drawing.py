"""The report of a work directory: a summary by setting, figures, one page."""

import os
import pathlib
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from grokjax.measuring.loading import Sweep
from grokjax.report import figures, page, planes, summaries
from grokjax.report.page import payload
from grokjax.report.snapshots import Snapshots, telling_steps, typical_run
from grokjax.settings import labels
from grokjax.store import files


def summary(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """What became of the runs, by setting: a row each, in the grid's order.

    Columns are those that tell settings apart, ``runs``, ``generalised``, ``median_step`` (by which
    half of all runs had; NaN where fewer did, see ``summaries.median_step``), the means
    ``h1_max_before`` and ``h1_max_after``, and where there are any, numbers of ``diverged``,
    ``failed`` and ``running``.
    """
    runs = summaries.outcomes(Sweep(folder))
    by = labels.settings(runs)
    frame = runs.groupby(by, sort=False, dropna=False, as_index=False).agg(
        runs=("run_id", "size"),
        generalised=("generalisation_step", "count"),
        median_step=(
            "generalisation_step",
            lambda own: summaries.median_step(own, runs.loc[own.index, "horizon"]),
        ),
        h1_max_before=("before", "mean"),
        h1_max_after=("after", "mean"),
    )
    keys = [runs[name] for name in by]
    for status in ("diverged", "failed", "running"):
        count = (runs["status"] == status).groupby(keys, sort=False, dropna=False).sum()
        if count.any():
            frame[status] = count.to_numpy()
    return frame


def draw(sweep: Sweep) -> Iterator[tuple[str, Figure]]:
    """The figures of a sweep with their names, as far as its tables and checkpoints go."""
    runs = summaries.table_of_runs(sweep)
    yield "accuracy", figures.accuracy(runs, sweep.metrics)
    if "persistence" in sweep.tables():
        table = sweep.persistence
        for cloud in dict.fromkeys(table["cloud"]):
            # Other networks have other clouds, or none.
            own = runs[runs["run_id"].isin(table.loc[table["cloud"] == cloud, "run_id"])]
            suffix = "" if cloud == "embedding" else f"-{cloud}"
            for column in ("h1_max", "h1_total"):
                yield column + suffix, figures.topology(own, table, column, cloud=cloud)
    if "ablation" in sweep.tables() and len(table := sweep.ablation):
        yield "ablation", figures.ablation(runs, table)
    yield from _draw_run(sweep, runs)


def _draw_run(sweep: Sweep, runs: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Figures of the typical run at a few steps."""
    snapshots = Snapshots(sweep)
    # Those without an embedding have none to draw.
    run_id = typical_run(runs[[bool(snapshots.steps(name)) for name in runs["run_id"]]])
    if run_id is None:
        return
    grokked = runs.set_index("run_id")["generalisation_step"][run_id]
    spec = next(run for run in sweep.config.runs if run.run_id == run_id)
    steps = telling_steps(snapshots.steps(run_id), summaries.optional_step(grokked))
    found = {shot.step: shot for shot in snapshots.read({run_id: steps})}
    if not found:
        return
    order = planes.reading_order(spec.task.n_elements, spec.task.structure)
    clouds = {step: shot.cloud[order] for step, shot in found.items()}
    diagrams = {step: shot.diagrams for step, shot in found.items()}
    last = planes.principal_plane(clouds[max(clouds)])[0]
    frequency = planes.circle_frequency(last, spec.task.structure)
    yield "diagrams", figures.persistence_diagrams(diagrams)
    yield "embedding", figures.embedding(clouds, frequency=frequency)
    if "crocker" in sweep.tables() and run_id in set(sweep.crocker["run_id"]):
        mark = summaries.optional_step(grokked)
        for cloud in dict.fromkeys(sweep.crocker.query("run_id == @run_id")["cloud"]):
            suffix = "" if cloud == "embedding" else f"-{cloud}"
            yield "crocker" + suffix, figures.crocker(sweep.crocker, run_id, cloud=cloud, mark=mark)
    if "persistence" in sweep.tables():
        own = sweep.persistence.query("run_id == @run_id and cloud == 'embedding'")
        curve = own.merge(sweep.metrics, on=["run_id", "step"])
        if len(curve):
            yield "birth", figures.birth(curve, clouds, diagrams, frequency=frequency, title=run_id)


def write(folder: str | os.PathLike[str], run_ids: Sequence[str] = ()) -> pathlib.Path:
    """Draws W/figures/*.svg and W/report/index.html; returns the page's path.

    Every file is written whole or not at all. Works on a sweep that is still running, on one
    without persistence, and where no run generalised or some diverged. The page shows the runs
    ``run_ids`` in detail before any others.

    Raises:
        ValueError: if one of these runs is not in the grid.
    """
    sweep = Sweep(folder)
    for name, figure in draw(sweep):
        with files.replacing(sweep.workdir / "figures" / f"{name}.svg") as temporary:
            figures.save(figure, temporary, "svg")
    path = sweep.workdir / "report" / "index.html"
    files.write_text(path, page.render(payload.build(sweep, run_ids)))
    return path
