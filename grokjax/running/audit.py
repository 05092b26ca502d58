"""Auditing a work directory: is everything there, once, whole, and what it should be?"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

import jax
import numpy as np
import pandas as pd

from grokjax import diagnostics
from grokjax.diagnostics import Options, Table
from grokjax.measuring import isolation
from grokjax.measuring.analyst import own_params, read_params
from grokjax.measuring.loading import options_of
from grokjax.measuring.views import measures, tables_of
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store import checkpoints, folders, record
from grokjax.store.checkpoints import Reader, RunBatch
from grokjax.store.errors import CheckpointError, DamagedTableError, LetGoError
from grokjax.store.results import METRICS, Results, empty, keys, places, read_parquet

_MOST_NAMED = 3  # examples in one finding
Key = tuple[str, int]  # id of a run, step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit came to."""

    findings: tuple[str, ...]  # what is wrong, a sentence each
    unfinished: tuple[str, ...]  # what is still to be done, likewise; no fault of the directory
    remarks: tuple[str, ...]  # what has to be known with the numbers
    n_runs: int
    n_checkpoints: int  # run checkpoints that are committed and whole
    n_gone: int  # run checkpoints whose parameters were let go
    n_rows: Mapping[str, int]  # table → rows


def audit(folder: pathlib.Path, repair: bool = False) -> Audit:
    """Reads everything in a work directory; raises ``WorkdirError`` if sweep.json cannot be.

    With ``repair`` checkpoints that cannot be read are moved out of the way, so that the sweep's
    command makes them anew; the caller holds the directory's locks then. Nothing is changed else.
    """
    told = record.read_record(folder)
    config = record.config_of(told)
    runs = {run.run_id: run for run in config.runs}
    root = folder / "checkpoints"
    reader = Reader(root)

    def damage(error: CheckpointError) -> str:
        if not repair:
            return str(error)
        kept = folders.set_aside(root, error.batch, error.item, error.step)
        return f"{error}; it is kept as {kept}"

    batches = [[runs[name] for name in names] for names in told["batches"]]
    finite: dict[Key, bool] = {}
    findings = [
        text for batch in batches for text in _checkpoints(reader, batch, config, finite, damage)
    ]
    n_whole, results = len(finite), Results(folder, list(runs))
    gone = _gone(reader, batches, results)
    finite |= gone
    expected = {RunBatch.of(batch).name for batch in batches}
    strays = sorted({*reader.batches(), *reader.unreadable} - expected)
    findings += [f"checkpoints/{name} belongs to no batch of sweep.json" for name in strays]
    unfinished = []
    behind = [name for name in runs if (name, config.train.steps) not in finite]
    if behind:
        unfinished.append(f"{len(behind)} runs not trained to the end, first {behind[0]}")
    if coming := _coming(reader, batches, config, results, finite):
        lacking = "metrics whose parameters are not committed; the sweep's command makes them"
        unfinished.append(f"{len(coming):,} run checkpoints have {lacking}, {_named(coming)}")
    n_rows: dict[str, int] = {}
    for diagnostic, tables in {"": {"metrics": METRICS}, **_tables(config, results)}.items():
        there = finite if diagnostic else finite | dict.fromkeys(coming, False)
        frames = {name: _frame(results, name, table, findings) for name, table in tables.items()}
        n_rows |= {name: len(frame) for name, frame in frames.items()}
        for name, table in tables.items():
            measured = list(there)
            if diagnostic:
                options = _options(results, name, config.options)
                measured = _measured(diagnostic, config, options, runs, there)
            missing = _missing(table, measured, frames[name], next(iter(frames.values())))
            findings += _rows(name, table, frames[name], missing, there)
            _lacking(name, missing, gone, findings, unfinished)
    findings += _runs(results.path("runs"), list(runs))
    findings += _failures(folder)
    return Audit(
        findings=tuple(findings),
        unfinished=tuple(unfinished),
        remarks=tuple(record.remarks(told)),
        n_runs=len(runs),
        n_checkpoints=n_whole,
        n_gone=len(gone),
        n_rows=n_rows,
    )


def _lacking(
    name: str,
    missing: list[Key],
    gone: Mapping[Key, bool],
    findings: list[str],
    unfinished: list[str],
) -> None:
    """Says which rows of a table cannot come any more, and how many are still to come."""
    lost = [key for key in missing if key in gone]
    if lost:
        reason = "have no rows, and their parameters were let go (--keep)"
        findings.append(f"{name}: {len(lost):,} checkpoints {reason}, {_named(lost)}")
    if waiting := len(missing) - len(lost):
        unfinished.append(f"{name}: {waiting:,} run checkpoints not measured yet")


def _checkpoints(
    reader: Reader,
    runs: list[Run],
    config: SweepConfig,
    finite: dict[Key, bool],
    damage: Callable[[CheckpointError], str],
) -> Iterator[str]:
    """Findings in a batch's checkpoints; fills ``finite`` with those that are whole."""
    batch = RunBatch.of(runs)
    there, allowed = reader.steps(batch.name), set(config.train.checkpoint_steps)
    own = f"checkpoint params of batch {batch.name} at step"
    lacking = sorted(allowed - {*there, *reader.gone(batch.name)})
    missing = [step for step in lacking if step < max(there, default=0)]
    yield from (f"{own} {step} is missing" for step in missing)
    for step in there:
        if step not in allowed:
            yield f"{own} {step} is no checkpoint step"
            continue
        try:
            stacked = read_params(reader, batch, step, runs)
        except LetGoError:
            continue  # meanwhile
        except CheckpointError as error:
            yield damage(error)
            continue
        for i, run in enumerate(runs):
            leaves = jax.tree.leaves(own_params(stacked, i, run))
            finite[run.run_id, step] = all(np.isfinite(leaf).all() for leaf in leaves)
    # One older than those that are kept is half gone where the process was killed as it went.
    for step in reader.steps(batch.name, "opt_state")[-checkpoints.KEPT_OPTIMISER_STATES :]:
        try:
            reader.verify(batch, "opt_state", step)
        except CheckpointError as error:
            yield damage(error)


def _gone(reader: Reader, batches: Iterable[list[Run]], results: Results) -> dict[Key, bool]:
    """Of run checkpoints whose parameters were let go, whether they were finite."""
    metrics = _frame(results, "metrics", METRICS, [])
    norms = dict(zip(places(metrics), metrics["weight_norm"], strict=True))
    return {
        (run.run_id, step): bool(np.isfinite(norms.get((run.run_id, step), np.nan)))
        for batch in batches
        for step in reader.gone(RunBatch.of(batch).name)
        for run in batch
    }


def _coming(
    reader: Reader,
    batches: Iterable[list[Run]],
    config: SweepConfig,
    results: Results,
    there: Container[Key],
) -> list[Key]:
    """Run checkpoints whose metrics came first: the next ones, of a process that was killed."""
    rows = set(places(_frame(results, "metrics", METRICS, [])))
    found = []
    for batch in batches:
        name = RunBatch.of(batch).name
        last = max([*reader.steps(name), *reader.gone(name)], default=-1)
        after = [step for step in config.train.checkpoint_steps if step > last][:1]
        found += [(run.run_id, step) for step in after for run in batch]
    return [key for key in found if key in rows and key not in there]


def _tables(config: SweepConfig, results: Results) -> dict[str, dict[str, Table]]:
    """Diagnostic → its tables, of those that the sweep asked for and all that are there."""
    asked = tables_of(config.options)
    found: dict[str, dict[str, Table]] = {}
    for name in diagnostics.names():
        tables = diagnostics.get(name).TABLES
        named = asked.get(name, {}).keys() | {k for k in tables if results.path(k).exists()}
        own = {k: table for k, table in tables.items() if k in named}
        # By its diagnostic's first table is known what the others should hold.
        found |= {name: dict([*list(tables.items())[:1], *own.items()])} if own else {}
    return found


def _options(results: Results, table: str, base: Options) -> Options:
    """What a table was measured with, as it says itself."""
    with contextlib.suppress(DamagedTableError):  # which is found in reading it
        return options_of(results, table, base)
    return base


def _measured(
    name: str,
    config: SweepConfig,
    options: Options,
    runs: Mapping[str, Run],
    there: Iterable[Key],
) -> list[Key]:
    """Of the run checkpoints that are there, those that a diagnostic measures."""
    chosen = diagnostics.steps(name, config.train.checkpoint_steps, options)
    own = {run_id for run_id, run in runs.items() if measures(name, run, options)}
    return [(run_id, step) for run_id, step in there if run_id in own and step in chosen]


def _missing(
    table: Table, measured: Iterable[Key], frame: pd.DataFrame, first: pd.DataFrame
) -> list[Key]:
    """Those measured that should have rows in a table, by its diagnostic's first, and have none."""
    there = set(places(frame))
    if table.only_where is not None:
        own = set(places(first[table.only_where(first)]))
        measured = [key for key in measured if key in own]
    return [key for key in measured if key not in there]


def _frame(results: Results, name: str, table: Table, findings: list[str]) -> pd.DataFrame:
    """A table as it is read; findings in its file, before duplicates are dropped in reading."""
    path = results.path(name)
    try:
        if path.exists() and table.within is not None:
            repeated = int(read_parquet(path).duplicated([*keys(table), *table.within]).sum())
            if repeated:
                findings.append(f"{name}: {repeated:,} rows are there more than once")
        return results.read(name, table)
    except (DamagedTableError, KeyError) as error:
        findings.append(str(error))
        return empty(table)


def _rows(
    name: str,
    table: Table,
    frame: pd.DataFrame,
    missing: list[Key],
    finite: dict[Key, bool],
) -> Iterator[str]:
    """Findings in a table's rows, held against the checkpoints."""
    rows = places(frame)
    stray = sorted(set(rows) - finite.keys())
    if stray:
        yield f"{name}: rows of {len(stray):,} checkpoints that are not there, {_named(stray)}"
    latest = frame.groupby("run_id")["step"].max()
    gaps = [key for key in missing if key[1] < latest.get(key[0], -1)]
    if gaps:
        yield f"{name}: {len(gaps):,} checkpoints are missing between others, {_named(gaps)}"
    units = frame[keys(table)].drop_duplicates().groupby(["run_id", "step"]).size()
    few = list(units.index[units < units.groupby("run_id").transform("max")])
    if few:
        yield f"{name}: {len(few):,} checkpoints lack some of their clouds, {_named(few)}"
    numbers = frame.select_dtypes("number").to_numpy(np.float64)
    # Bars may be infinite. NaN stands for what an unmeasurable network, gone to infinity, has.
    sane = np.array([finite.get(key, False) for key in rows], bool)
    odd = sane & np.isnan(numbers).any(axis=1)
    if table.too_little is not None:
        odd &= ~table.too_little(frame).to_numpy(bool)
    # In the columns named ``empty`` it is what an empty set gives: no novel pair, no neuron.
    if set(frame.columns[frame[odd].isna().any()]) - set(table.empty):
        wrong = [key for key, bad in zip(rows, odd, strict=True) if bad]
        yield f"{name}: {len(wrong):,} rows are not finite though the network is, {_named(wrong)}"


def _named(keys: list[Key]) -> str:
    named = [f"{run_id} at step {step:,}" for run_id, step in keys[:_MOST_NAMED]]
    return f"such as {', '.join(named)}"


def _failures(folder: pathlib.Path) -> Iterator[str]:
    try:
        yield from isolation.sentences(isolation.read(folder))
    except DamagedTableError as error:
        yield str(error)


def _runs(path: pathlib.Path, wanted: list[str]) -> Iterator[str]:
    """Findings in runs.parquet."""
    try:
        there = list(read_parquet(path)["run_id"]) if path.exists() else wanted
    except (DamagedTableError, KeyError) as error:
        yield str(error)
        return
    if there != wanted:
        lacking = len(set(wanted) - set(there))
        yield f"runs: {len(there):,} rows for {len(wanted):,} runs, {lacking:,} of them lacking"
