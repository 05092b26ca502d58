"""Auditing a work directory: is everything there, once, whole, and what it should be?"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import pandas as pd

from grokjax import diagnostics
from grokjax.diagnostics import Table
from grokjax.measuring import isolation
from grokjax.measuring.analyst import own_params, read_params
from grokjax.measuring.views import measures, tables_of
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store import checkpoints, record
from grokjax.store.checkpoints import Reader, RunBatch
from grokjax.store.errors import CheckpointError, DamagedTableError
from grokjax.store.results import METRICS, Results, empty, keys, read_parquet

_MOST_NAMED = 3  # examples in one finding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit came to."""

    findings: tuple[str, ...]  # what is wrong, a sentence each
    unfinished: tuple[str, ...]  # what is still to be done, likewise; no fault of the directory
    n_runs: int
    n_checkpoints: int  # run checkpoints that are committed and whole
    n_rows: Mapping[str, int]  # table → rows


def audit(folder: pathlib.Path, repair: bool = False) -> Audit:
    """Reads everything in a work directory; raises ``WorkdirError`` if sweep.json cannot be.

    With ``repair`` checkpoints that cannot be read are moved out of the way, so that the sweep's
    command makes them anew; the caller holds the directory's locks then. Nothing is changed else.
    """
    told = record.read_record(folder)
    config = record.config_of(told)
    by_id = {run.run_id: run for run in config.runs}
    findings: list[str] = []
    steps: dict[str, list[int]] = {}  # of each run, committed and whole
    finite: dict[tuple[str, int], bool] = {}
    root = folder / "checkpoints"
    reader = Reader(root)

    def damage(error: CheckpointError) -> str:
        if not repair:
            return str(error)
        kept = checkpoints.set_aside(root, error.batch, error.item, error.step)
        return f"{error}; it is kept as {kept}"

    expected = set()
    for names in told["batches"]:
        runs = [by_id[name] for name in names]
        expected.add(RunBatch.of(runs).name)
        findings += _checkpoints(reader, runs, config, steps, finite, damage)
    strays = sorted({*reader.batches(), *reader.unreadable} - expected)
    findings += [f"checkpoints/{name} belongs to no batch of sweep.json" for name in strays]
    last = config.train.steps
    behind = [name for name in by_id if max(steps.get(name, []), default=-1) < last]
    unfinished = []
    if behind:
        unfinished.append(f"{len(behind)} runs not trained to the end, first {behind[0]}")
    results = Results(folder, list(by_id))
    tables = {"metrics": (METRICS, steps)}
    for diagnostic, own in tables_of(config.options).items():
        wanted = _wanted(diagnostic, config, steps)
        tables |= {key: (table, wanted) for key, table in own.items()}
    n_rows = {}
    for name, (table, wanted) in tables.items():
        frame = _frame(results, name, table, findings)
        n_rows[name] = len(frame)
        findings += _rows(name, table, frame, wanted, finite)
        missing = _missing(frame, wanted)
        if missing:
            unfinished.append(f"{name}: {len(missing):,} run checkpoints not measured yet")
    findings += _runs(results.path("runs"), list(by_id))
    try:
        failed = isolation.Failures(folder / "results" / "failures.json").read()
        findings += [f"{f.diagnostic} failed on {f.cloud} of {f.run_id}, {f.step}" for f in failed]
    except DamagedTableError as error:
        findings.append(str(error))
    return Audit(
        findings=tuple(findings),
        unfinished=tuple(unfinished),
        n_runs=len(by_id),
        n_checkpoints=sum(map(len, steps.values())),
        n_rows=n_rows,
    )


def _checkpoints(
    reader: Reader,
    runs: list[Run],
    config: SweepConfig,
    steps: dict[str, list[int]],
    finite: dict[tuple[str, int], bool],
    damage: Callable[[CheckpointError], str],
) -> Iterator[str]:
    """Findings in a batch's checkpoints; fills ``steps`` and ``finite``."""
    batch = RunBatch.of(runs)
    there, allowed = reader.steps(batch.name), set(config.train.checkpoint_steps)
    own = f"checkpoint params of batch {batch.name} at step"
    missing = [step for step in sorted(allowed - {*there}) if step < max(there, default=0)]
    yield from (f"{own} {step} is missing" for step in missing)
    for step in there:
        if step not in allowed:
            yield f"{own} {step} is no checkpoint step"
            continue
        try:
            stacked = read_params(reader, batch, step, runs)
        except CheckpointError as error:
            yield damage(error)
            continue
        for i, run in enumerate(runs):
            steps.setdefault(run.run_id, []).append(step)
            leaves = jax.tree.leaves(own_params(stacked, i, run))
            finite[run.run_id, step] = all(np.isfinite(leaf).all() for leaf in leaves)
    for step in reader.steps(batch.name, "opt_state"):
        try:
            reader.verify(batch, "opt_state", step)
        except CheckpointError as error:
            yield damage(error)


def _wanted(name: str, config: SweepConfig, steps: dict[str, list[int]]) -> dict[str, list[int]]:
    """Of the checkpoints that are there, run by run, those that a diagnostic measures."""
    chosen = diagnostics.steps(name, config.train.checkpoint_steps, config.options)
    return {
        run.run_id: [step for step in steps[run.run_id] if step in chosen]
        for run in config.runs
        if run.run_id in steps and measures(name, run, config.options)
    }


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


def _missing(frame: pd.DataFrame, steps: dict[str, list[int]]) -> list[tuple[str, int]]:
    """Run checkpoints that are there but not in the table."""
    there = set(frame[["run_id", "step"]].itertuples(index=False, name=None))
    return [(run, step) for run, own in steps.items() for step in own if (run, step) not in there]


def _rows(
    name: str,
    table: Table,
    frame: pd.DataFrame,
    steps: dict[str, list[int]],
    finite: dict[tuple[str, int], bool],
) -> Iterator[str]:
    """Findings in a table's rows, held against the checkpoints."""
    places = list(frame[["run_id", "step"]].itertuples(index=False, name=None))
    stray = sorted({key for key in places if key not in finite})
    if stray:
        yield f"{name}: rows of {len(stray):,} checkpoints that are not there, {_named(stray)}"
    latest = frame.groupby("run_id")["step"].max()
    gaps = [key for key in _missing(frame, steps) if key[1] < latest.get(key[0], -1)]
    if gaps:
        yield f"{name}: {len(gaps):,} checkpoints are missing between others, {_named(gaps)}"
    units = frame[keys(table)].drop_duplicates().groupby(["run_id", "step"]).size()
    usual = units.groupby("run_id").transform("max")
    few = list(units.index[units < usual])
    if few:
        yield f"{name}: {len(few):,} checkpoints lack some of their clouds, {_named(few)}"
    numbers = frame.select_dtypes("number").to_numpy(np.float64)
    # Bars may be infinite. NaN stands for what an unmeasurable network, gone to infinity, has.
    odd = np.isnan(numbers).any(axis=1)
    sane = np.array([finite.get(key, False) for key in places], bool)
    wrong = [key for key, bad in zip(places, odd & sane, strict=True) if bad]
    # In the columns named ``empty`` it is what an empty set gives: no novel pair, no neuron.
    if set(frame.columns[frame[odd & sane].isna().any()]) - set(table.empty):
        yield f"{name}: {len(wrong):,} rows are not finite though the network is, {_named(wrong)}"


def _named(keys: list[tuple[str, int]]) -> str:
    named = [f"{run_id} at step {step:,}" for run_id, step in keys[:_MOST_NAMED]]
    return f"such as {', '.join(named)}"


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
