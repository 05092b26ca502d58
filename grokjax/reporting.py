"""The report of a work directory: a summary by setting, figures, one page."""

import html
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grokjax import figures, planes, results, statistics
from grokjax.labels import settings
from grokjax.loading import Sweep
from grokjax.snapshots import Snapshots, telling_steps, typical_run

__all__ = ["before_after", "draw", "settings", "summary", "write"]


def before_after(sweep: Sweep, column: str = "h1_max", cloud: str = "embedding") -> pd.DataFrame:
    """A persistence column before and after generalisation, a row a run.

    Windows are those of ``statistics.before_after``; for a run that never generalised the split
    is the median generalisation step of the runs of its model and prime that did.
    """
    runs = sweep.runs.set_index("run_id")
    table = sweep.persistence
    table = table[table["cloud"] == cloud]
    typical = runs.groupby(["model", "prime"])["generalisation_step"].median()
    rows = []
    for run_id, own in table.groupby("run_id", sort=False):
        run = runs.loc[run_id]
        split = typical.loc[(run["model"], run["prime"])]
        before, after = statistics.before_after(
            own["step"].to_numpy(),
            own[column].to_numpy(),
            _step(run["memorisation_step"]),
            _step(run["generalisation_step"]),
            split_step=_step(split),
        )
        rows.append({"run_id": run_id, "before": before, "after": after})
    return pd.DataFrame(rows, columns=["run_id", "before", "after"])


def _step(value: object) -> int | None:
    return None if pd.isna(value) else int(value)  # type: ignore[call-overload]


def summary(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """By setting: runs, how many generalised and when, H1 max of the embedding before and after."""
    sweep = Sweep(folder)
    runs = sweep.runs
    if "persistence" in sweep.tables():
        runs = runs.merge(before_after(sweep), on="run_id", how="left")
    else:
        runs = runs.assign(before=np.nan, after=np.nan)
    by = settings(runs)
    frame = (
        runs.groupby(by, sort=False)
        .agg(
            runs=("run_id", "size"),
            generalised=("generalisation_step", "count"),
            median_step=("generalisation_step", "median"),
            h1_max_before=("before", "mean"),
            h1_max_after=("after", "mean"),
        )
        .reset_index()
    )
    for status in ("diverged", "failed", "running"):
        count = (runs["status"] == status).groupby([runs[name] for name in by], sort=False).sum()
        if count.any():
            frame[status] = count.to_numpy()
    return frame


# --------------------------------------------------------------------------- figures


def draw(sweep: Sweep) -> Iterator[tuple[str, Figure]]:
    """The figures of a sweep with their names, as far as its tables and checkpoints go."""
    runs = sweep.runs
    yield "accuracy", figures.accuracy(runs, sweep.metrics)
    if "persistence" in sweep.tables():
        table = sweep.persistence
        for cloud in dict.fromkeys(table["cloud"]):
            suffix = "" if cloud == "embedding" else f"-{cloud}"
            for column in ("h1_max", "h1_total"):
                yield column + suffix, figures.topology(runs, table, column, cloud=cloud)
    yield from _draw_run(sweep, runs)


def _draw_run(sweep: Sweep, runs: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Figures of the typical run at a few steps."""
    run_id = typical_run(runs)
    if run_id is None:
        return
    run = next(runs[runs["run_id"] == run_id].itertuples())
    snapshots = Snapshots(sweep.workdir, sweep.config)
    steps = telling_steps(snapshots.steps(run_id), _step(run.generalisation_step))
    found = {shot.step: shot for shot in snapshots.read({run_id: steps})}
    if not found:
        return
    order = planes.reading_order(run.prime, run.operation)
    clouds = {step: shot.cloud[order] for step, shot in found.items()}
    diagrams = {step: shot.diagrams for step, shot in found.items()}
    # The order in which the last picture's circle, if it is one, passes the residues.
    frequency = planes.strongest_frequency(planes.principal_plane(clouds[max(clouds)])[0]) or 1
    yield "diagrams", figures.persistence_diagrams(diagrams)
    yield "embedding", figures.embedding(clouds, frequency=frequency)
    if "persistence" in sweep.tables():
        own = sweep.persistence.query("run_id == @run_id and cloud == 'embedding'")
        curve = own.merge(sweep.metrics, on=["run_id", "step"])
        if len(curve):
            yield "birth", figures.birth(curve, clouds, diagrams, frequency=frequency, title=run_id)


def write(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws W/figures/*.svg and W/report/index.html; returns the page's path.

    Every file is written whole or not at all. Works on a sweep that is still running, on one
    without persistence, and where no run generalised or some diverged.
    """
    sweep = Sweep(folder)
    parts = []
    for name, figure in draw(sweep):
        path = sweep.workdir / "figures" / f"{name}.svg"
        with results.replacing(path) as temporary:
            figures.save(figure, temporary, "svg")
        svg = path.read_text(encoding="utf-8")
        parts.append(f"<figure><figcaption>{name}</figcaption>{svg[svg.index('<svg') :]}</figure>")
    page = sweep.workdir / "report" / "index.html"
    table = summary(folder).to_html(index=False, na_rep="–", float_format="{:.3g}".format)
    title = html.escape(sweep.workdir.resolve().name)
    results.write_text(
        page,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1>{table}{''.join(parts)}</html>\n",
    )
    return page
