"""What the page knows: a work directory as one JSON-able value of bounded size."""

import contextlib
import dataclasses
import itertools
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from grokjax import diagnostics
from grokjax.diagnostics import Options
from grokjax.measuring.loading import Sweep
from grokjax.report import spacing, summaries
from grokjax.report.page import curves, details
from grokjax.report.page.samples import Candidate, choose
from grokjax.report.snapshots import Snapshots
from grokjax.settings import flags as ours
from grokjax.settings import labels, registry
from grokjax.settings.grid import Run
from grokjax.store import record as records
from grokjax.store import results

# The page is to stay below 25 MB; plotly.js takes 4.8 of them.
_CURVES_BYTES = 10_000_000
_DETAILS_BYTES = 6_500_000
_CSV_BYTES = 1_000_000
_RUN_COLUMNS = ["n_train", "status", "memorisation_step", "generalisation_step", "horizon",
                "before", "after"]  # fmt: skip


def build(sweep: Sweep, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that the page shows of a sweep; wanted runs are in detail before any others.

    Raises:
        ValueError: if a wanted run is not in the grid.
    """
    runs = summaries.outcomes(sweep)
    unknown = sorted(set(wanted) - set(runs["run_id"]))
    if unknown:
        raise ValueError(f"there is no run '{unknown[0]}' in {sweep.workdir}")
    settings = labels.group(runs)
    steps = sweep.config.train.checkpoint_steps
    found = list(curves.quantities(sweep, list(runs["run_id"]), steps))
    drawn = curves.payload(found, steps, runs, settings, _CURVES_BYTES)
    shown, notes = _details(sweep, runs, settings, wanted)
    return {
        "title": sweep.workdir.resolve().name,
        "written": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "sweep": provenance(sweep),
        "settings": _settings(settings, sweep.config.runs),
        "columns": labels.columns(),
        "axes": list(_axes(runs)),
        "words": {own.name: dict(own.words) for own in registry.fields().values() if own.words},
        "runs": _runs(runs, settings, found),
        "curves": drawn,
        "details": shown,
        "checkpoints": any((sweep.workdir / "checkpoints").glob("*/params/*")),
        "tables": _tables(sweep),
        "figures": sorted(path.name for path in (sweep.workdir / "figures").glob("*.svg")),
        "notes": [*_curve_notes(drawn, len(steps), len(runs)), *_measuring_notes(sweep), *notes],
    }


def details_of(sweep: Sweep, run_id: str) -> dict[str, Any] | None:
    """Details of one run, as the page has them of some; None if nothing of it can be shown."""
    runs = summaries.table_of_runs(sweep)
    runs = runs[runs["run_id"] == run_id]
    shown, _ = _details(sweep, runs, labels.group(runs), [run_id])
    return shown.get(run_id)


def provenance(sweep: Sweep) -> dict[str, Any]:
    """What was run, with what, on what and when, and the command that runs it again."""
    record = records.read_record(sweep.workdir)
    config = sweep.config
    usual = {flag: [own[0].text(v) for v in own[0].grid] for flag, own in ours.axis_flags().items()}
    # Where parts have values of their own for a flag, none of them was asked for.
    trained = {flag: values for flag, values in config.trained().items() if " of " not in flag}
    options, others = measured(sweep)
    flags = {
        **{k: value for k, value in record.get("flags", {}).items() if value not in (None, "")},
        **{flag: values for flag, values in trained.items() if values != usual.get(flag)},
        **dataclasses.asdict(options),
    }
    flags.pop("workdir", None)
    flags["diagnostics"] = options.diagnostics or "none"
    commands = [_command("sweep", flags)]
    for name, own in others.items():
        commands.append(_command("analyze", {"workdir": "W", "diagnostics": name, **own}))
    return {
        # What is in every run id, or not at its default.
        "grid": {
            flag: own if isinstance(own, list) else [own]
            for flag, own in trained.items()
            if flag not in ("steps", "checkpoint_every")
            and (own != usual.get(flag) or ours.axis_flags()[flag][0].symbol)
        },
        "steps": config.train.steps,
        "checkpoint_every": config.train.checkpoint_every,
        "options": dataclasses.asdict(options),
        "command": "\n".join(commands),
        "starts": record.get("starts", []),
        "remarks": records.remarks(record),
        "tables_written": _tables_written(sweep),
        "folder": str(sweep.workdir),
    }


def measured(sweep: Sweep) -> tuple[Options, dict[str, dict[str, Any]]]:
    """What the tables were measured with, as they say themselves.

    Returns:
        Options as far as all tables have the same, else the sweep's own; and diagnostic → options
        of its own that are other ones.
    """
    first = {name: next(iter(diagnostics.get(name).TABLES)) for name in diagnostics.names()}
    there = {name: sweep.options(key) for name, key in first.items() if key in sweep.tables()}
    own = {
        name: {key: getattr(options, key) for key in diagnostics.get(name).SETTINGS}
        for name, options in there.items()
    }
    values: dict[str, set[Any]] = {}
    for settings in own.values():
        for key, value in settings.items():
            values.setdefault(key, set()).add(value)
    same = {key: value.pop() for key, value in values.items() if len(value) == 1}
    every = tuple(dict.fromkeys([*sweep.config.options.diagnostics, *there]))
    options = dataclasses.replace(sweep.config.options, **same, diagnostics=every)
    others = {
        name: {key: value for key, value in settings.items() if value != getattr(options, key)}
        for name, settings in own.items()
    }
    return options, {name: settings for name, settings in others.items() if settings}


def _command(name: str, flags: Mapping[str, Any]) -> str:
    return " ".join([f"python -m grokjax.{name}", *itertools.starmap(_flag, flags.items())])


def _tables_written(sweep: Sweep) -> str | None:
    """When a row was last added, as the sweep's starts are written; None if there is no table."""
    folder = sweep.workdir / "results"
    times = []
    for path in (*folder.glob("*.parquet"), *folder.glob(".parts/*/*")):
        with contextlib.suppress(FileNotFoundError):  # merged meanwhile
            times.append(path.stat().st_mtime)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(times))) if times else None


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return shlex.quote(f"--{name}={text}")


def _runs(
    runs: pd.DataFrame, settings: Sequence[labels.Setting], found: Sequence[curves.Quantity]
) -> dict[str, list[Any]]:
    """The table of runs, a list a column; ``setting`` is the place of its setting."""
    of_setting = {run_id: i for i, own in enumerate(settings) for run_id in own.run_ids}
    columns = {
        "run_id": runs["run_id"],
        "setting": runs["run_id"].map(of_setting),
        **{name: runs[name] for name in (*labels.columns(), "seed", *_RUN_COLUMNS)},
    }
    values = {quantity.key: quantity.values for quantity in found}
    for name in ("train_accuracy", "test_accuracy"):  # the last that is there
        columns[f"last_{name}"] = pd.DataFrame(values[f"metrics/{name}"]).ffill(axis=1).iloc[:, -1]
    return {name: [_plain(value) for value in column] for name, column in columns.items()}


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}")
    return value.item() if isinstance(value, np.generic) else value


def _settings(settings: Sequence[labels.Setting], specs: Sequence[Run]) -> list[dict[str, Any]]:
    elements = {run.run_id: run.task.n_elements for run in specs}
    return [
        {
            "name": own.name,
            "panel": own.panel,
            "line": own.line,
            "elements": elements[own.run_ids[0]],
        }
        for own in settings
    ]


def _axes(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The columns that tell settings or seeds apart, with their values, in order and in words."""
    for column in (*labels.settings(runs), "seed"):
        values = spacing.values(runs[column])
        if len(values) > 1:
            yield {
                "column": column,
                "title": column.replace("_", " "),
                "values": [_plain(value) for value in values],
                "names": [spacing.in_words(column, value) for value in values],
                **dataclasses.asdict(spacing.spaced(values)),
            }


def _details(
    sweep: Sweep, runs: pd.DataFrame, settings: Sequence[labels.Setting], wanted: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Details of the runs chosen, and what is to be told of the choice."""
    snapshots = Snapshots(sweep)
    specs = {run.run_id: run for run in sweep.config.runs}
    grown = runs.set_index("run_id")["generalisation_step"]
    saved = "diagrams" in sweep.tables()

    def candidate(run_id: str) -> Candidate | None:
        steps: Sequence[int] = snapshots.steps(run_id)
        if not steps and saved and specs[run_id].task.n_elements:
            steps = sweep.config.train.checkpoint_steps
        if not steps:
            return None
        at = summaries.optional_step(grown[run_id])
        marks = [] if at is None else [*[step for step in steps if step < at][-1:], at]
        batch = snapshots.batches[run_id].name if run_id in snapshots.batches else ""
        points = specs[run_id].task.n_elements
        return Candidate(run_id=run_id, points=points, steps=steps, marks=marks, batch=batch)

    chosen = choose(settings, runs, candidate, _DETAILS_BYTES, wanted)
    when = {run_id: summaries.optional_step(grown[run_id]) for run_id in chosen}
    shown = details.payloads(snapshots, specs, chosen, when)
    if saved and len(shown) < len(chosen):
        without = {run_id: own for run_id, own in chosen.items() if run_id not in shown}
        shown |= dict(details.saved_diagrams(sweep.workdir, without))
    every = len(sweep.config.train.checkpoint_steps)
    n_most = max((len(own) for own in chosen.values()), default=0)
    notes = [f"Left out: {message}" for message in snapshots.unreadable[:5]]
    if (keep := sweep.config.saving.keep) != "all":
        notes.append(f"Parameters of measured checkpoints were let go (--keep={keep}).")
    embedded = sum(specs[run_id].task.n_elements > 0 for run_id in runs["run_id"])
    if not embedded:
        notes.append("These networks have no embedding: there are curves alone.")
    elif not chosen and not snapshots.unreadable:
        notes.append("There is no checkpoint, so there are no embeddings to show.")
    elif chosen and (len(chosen) < embedded or n_most < every):
        notes.append(
            f"Embeddings, diagrams and spectra are here of {len(chosen):,} of {embedded:,} runs, "
            f"at up to {n_most} of {every} checkpoints; of every setting first the run in the "
            "middle of those that generalised. Others can be asked for by name: "
            f"python -m grokjax.report --workdir={shlex.quote(str(sweep.workdir))} --runs=RUN_ID"
        )
    return shown, notes


def _curve_notes(drawn: dict[str, Any], n_steps: int, n_runs: int) -> Iterator[str]:
    if len(drawn["runs"]) < n_runs:
        yield (
            f"Curves of single runs are here of {len(drawn['runs']):,} of {n_runs:,} runs; means "
            "and spreads are of all."
        )
    if len(drawn["steps"]) < n_steps:
        yield f"Curves are drawn at {len(drawn['steps'])} of {n_steps} checkpoints."


def _measuring_notes(sweep: Sweep) -> Iterator[str]:
    """Why clouds have no local dimension."""
    if "dimension" in sweep.tables():
        table = sweep.dimension
        small = table[table["n_points"] <= table["n_neighbors"]]
        for (cloud, wanted), own in small.groupby(["cloud", "n_neighbors"], sort=False):
            points = ", ".join(map(str, sorted(set(own["n_points"]))))
            yield (
                f"Local dimension is null for the cloud {cloud} where it has {points} points: it "
                f"is estimated from {wanted} neighbours of each (--lid_neighbors)."
            )


def _tables(sweep: Sweep) -> list[dict[str, Any]]:
    """The tables: rows and size of each, and as text those that are small, smallest first."""
    names = ("runs", "metrics", *sweep.tables())
    paths = {name: sweep.workdir / "results" / f"{name}.parquet" for name in names}
    found = [
        {"name": name, "rows": pq.read_metadata(path).num_rows, "bytes": path.stat().st_size}
        for name, path in paths.items()
        if path.exists()
    ]
    stored = results.Results(sweep.workdir, [])
    for own in found:
        own["settings"] = stored.settings(own["name"])
    left = _CSV_BYTES
    for own in sorted(found, key=lambda own: own["bytes"]):
        own["csv"] = None
        if 4 * own["bytes"] <= left:  # a row of text takes about four times what it does compressed
            text = getattr(sweep, own["name"]).to_csv(index=False)
            if len(text) <= left:
                own["csv"] = text
                left -= len(text)
    return found
