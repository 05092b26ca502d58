"""Shards joined into one work directory: checked first, then checkpoints and tables.

A source is a work directory of the same grid: a shard of it, or the whole. Nothing in a source is
changed. Whatever two of them hold both must be equal, to the bit; what is merged already is a
source like any other, so shards can be joined as they come, in any order.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pandas as pd

from grokjax import diagnostics
from grokjax.diagnostics import Table
from grokjax.measuring.views import measures
from grokjax.settings import grid
from grokjax.settings.config import SweepConfig
from grokjax.store import files, folders, locks, record, results
from grokjax.store import runs as runs_table
from grokjax.store.checkpoints import Reader
from grokjax.store.errors import WorkdirError
from grokjax.store.results import METRICS, Results

_Moves = list[tuple[pathlib.Path, ...]]  # from, to
_Batch = tuple[str, ...]  # ids of its runs


class Source:
    """A work directory to be merged, and what its sweep.json says; raises ``WorkdirError``."""

    def __init__(self, folder: pathlib.Path):
        files.check_inside(folder)
        self.folder = folder
        self.record = record.read_record(folder)
        self.config = record.config_of(self.record)
        self.results = Results(folder, [run.run_id for run in self.config.runs])
        self.reader = Reader(folder / "checkpoints")

    def trained(self) -> list[_Batch]:
        """Batches that have checkpoints, or rows where no checkpoints were kept.

        Batches that are only planned are left out: a merged directory plans those of runs that
        no source held, and gives them up for what another source trained.
        """
        planned = [tuple(batch) for batch in self.record["batches"]]
        if (self.folder / "checkpoints").is_dir():
            there = {batch.run_ids for batch in self.reader.batches().values()}
            return [batch for batch in planned if batch in there]
        measured = set(self.results.read("metrics", METRICS)["run_id"])
        return [batch for batch in planned if measured.issuperset(batch)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merged:
    """What a merge came to."""

    runs: int
    missing: tuple[str, ...]  # run ids that no source holds
    unfinished: tuple[str, ...]  # run ids short of their last step
    missing_shards: tuple[str, ...]  # i/N of the split that the sources are of
    partial: tuple[str, ...]  # tables of diagnostics that lack some of the runs held


def find_sources(folder: pathlib.Path) -> list[pathlib.Path]:
    """The shards' work directories below one that they share."""
    return sorted(path.parent for path in folder.glob("shard-*-of-*/sweep.json"))


@contextlib.contextmanager
def holding(folders: Sequence[pathlib.Path]) -> Iterator[None]:
    """Holds all locks of work directories, so that none changes meanwhile."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            # Nobody else writes to a source where we may not, as far as we can tell.
            if not folder.exists() or os.access(folder, os.W_OK):
                stack.enter_context(locks.owning(folder, *locks.LOCKS))
        yield


def merge(target: pathlib.Path, folders: Sequence[pathlib.Path], mixed_code: bool) -> Merged:
    """Joins work directories into ``target``, new or not, whose lock the caller holds.

    Everything is checked before anything is written, and ``WorkdirError`` says what does not fit
    together; sources of different commits do only with ``mixed_code``.
    """
    sources = [Source(folder) for folder in folders]
    own = [Source(target)] if (target / "sweep.json").exists() else []
    shard = own[0].config.shard if own else None
    if shard is not None:
        raise WorkdirError(f"{target} is shard {shard} itself: name another --workdir")
    every = [*own, *sources]
    _check_configs(every)
    if not mixed_code:
        _check_code(every)
    config = dataclasses.replace(sources[0].config, shard=None, members=None)
    joined = Results(target, [run.run_id for run in config.runs])
    tables = _join_tables(joined, every)
    batches, planned = _join_batches(every, config)
    moves = _place_checkpoints(target, every)
    record.write_record(target, _record(config, own, sources, [*batches, *planned]))
    _link(moves)
    for name, (frame, settings) in tables.items():
        results.write_parquet(joined.path(name), frame, settings)
    paths = (source.results.path("runs") for source in every)
    there = [results.read_parquet(path) for path in paths if path.exists()]
    failed = {run_id for runs in there for run_id in runs["run_id"][runs["status"] == "failed"]}
    frame = runs_table.table(config.runs, tables["metrics"][0], config.train.steps, failed)
    results.write_parquet(joined.path("runs"), frame)
    held = {run_id for batch in batches for run_id in batch}
    short = frame["status"].isin(["running", "failed"]) & frame["run_id"].isin(held)
    return Merged(
        runs=len(held),
        missing=tuple(run.run_id for run in config.runs if run.run_id not in held),
        unfinished=tuple(frame["run_id"][short]),
        missing_shards=_missing_shards(every),
        partial=_partial({name: frame for name, (frame, _) in tables.items()}, config, held),
    )


def _partial(
    frames: dict[str, pd.DataFrame], config: SweepConfig, held: Collection[str]
) -> tuple[str, ...]:
    """Tables that lack some of the runs held that have rows in them."""
    wanted = {"metrics": set(held)}
    for diagnostic in diagnostics.names():
        measured = {
            run.run_id
            for run in config.runs
            if run.run_id in held and measures(diagnostic, run, config.options)
        }
        tables = diagnostics.get(diagnostic).TABLES
        first = frames.get(next(iter(tables)))
        for name, table in tables.items():
            wanted[name] = measured
            if table.only_where is not None and first is not None:
                wanted[name] = measured & set(first["run_id"][table.only_where(first)])
    return tuple(k for k, rows in frames.items() if not wanted[k] <= set(rows["run_id"]))


def _check_configs(sources: Sequence[Source]) -> None:
    first, *others = sources
    wanted = dataclasses.replace(first.config, shard=None).trained()
    for other in others:
        both = f"{first.folder} and {other.folder}"
        if other.config.unnamed != first.config.unnamed:
            raise WorkdirError(f"{both} were made by versions that name runs otherwise")
        found = dataclasses.replace(other.config, shard=None).trained()
        for flag in wanted.keys() | found.keys():
            ours, theirs = wanted.get(flag), found.get(flag)
            # How values are listed does not matter; which there are does.
            one, another = (sorted(v) if isinstance(v, list) else v for v in (ours, theirs))
            if one != another:
                here, there = (f"--{flag}={record.text_of(value)}" for value in (ours, theirs))
                both = f"{first.folder} has {here} and {other.folder} {there}"
                raise WorkdirError(f"{both}: they are not parts of one grid")
    counts = {s.config.shard.count: s for s in sources if s.config.shard is not None}
    if len(counts) > 1:
        listed = ", ".join(f"{s.folder} is {s.config.shard}" for s in counts.values())
        raise WorkdirError(f"the sources are shards of different splits: {listed}")


def _check_code(sources: Sequence[Source]) -> None:
    commits: dict[str, pathlib.Path] = {}
    for source in sources:
        for start in source.record["starts"]:
            # Version 0.1 told the commit alone, and without git that of the package.
            told = start.get("sources") or start["commit"] or start["grokjax"]
            commits.setdefault(told[:12], source.folder)
    if len(commits) > 1:
        listed = ", ".join(f"{folder} by {commit}" for commit, folder in commits.items())
        message = f"the sources were trained by different code ({listed})"
        raise WorkdirError(f"{message}; --mixed_code joins them all the same")


def _missing_shards(sources: Sequence[Source]) -> tuple[str, ...]:
    if any(s.config.shard is None and "merged" not in s.record for s in sources):
        return ()
    there = {str(s.config.shard) for s in sources if s.config.shard is not None}
    there = there.union(*(s.record.get("merged", ()) for s in sources))
    counts = {int(name.partition("/")[2]) for name in there}
    wanted = (f"{i}/{count}" for count in counts for i in range(count))
    return tuple(name for name in wanted if name not in there)


def _join_tables(joined: Results, sources: Sequence[Source]) -> dict[str, tuple[pd.DataFrame, Any]]:
    """Name → frame in the grid's order and its settings, of each table that any source has."""
    found = {}
    for name, table in {"metrics": METRICS, **results.known_tables()}.items():
        own = [s for s in sources if name == "metrics" or s.results.path(name).exists()]
        if not own:
            continue
        settings = {json.dumps(source.results.settings(name)): source.folder for source in own}
        if len(settings) > 1:
            listed = "; ".join(f"{folder}: {text}" for text, folder in settings.items())
            raise WorkdirError(
                f"table {name} was measured with different settings ({listed}); measure again "
                "with python -m grokjax.analyze and the same flags in each"
            )
        frame = _join(name, table, [(s.folder, s.results.read(name, table)) for s in own])
        found[name] = joined.arranged(frame, table), json.loads(next(iter(settings)))
    return found


def _join(
    name: str, table: Table, frames: Sequence[tuple[pathlib.Path, pd.DataFrame]]
) -> pd.DataFrame:
    """The rows of all frames, those of one unit once; raises if two frames differ on a unit."""
    units = list(table.unit)
    first_folder, whole = frames[0]
    for folder, frame in frames[1:]:
        here, there = (pd.MultiIndex.from_frame(f[units]) for f in (whole, frame))
        both_here, both_there = here.isin(there), there.isin(here)
        ours, theirs = (
            part.sort_values(units, kind="stable", ignore_index=True)
            for part in (whole[both_here], frame[both_there])
        )
        if not ours.equals(theirs):
            odd = pd.concat([ours, theirs]).drop_duplicates(keep=False)
            row = (odd if len(odd) else ours).iloc[0]
            raise WorkdirError(
                f"{folder} and {first_folder} or one after it both hold table {name} of "
                f"run {row['run_id']} at step {row['step']}, and differ; keep one of them"
            )
        whole = pd.concat([whole, frame[~both_there]], ignore_index=True)
    return whole


def _join_batches(
    sources: Sequence[Source], config: SweepConfig
) -> tuple[list[_Batch], list[_Batch]]:
    """Batches that the sources hold, and batches of the runs that none holds."""
    batches = list(dict.fromkeys(batch for source in sources for batch in source.trained()))
    seen: dict[str, _Batch] = {}
    for batch in batches:
        for run_id in batch:
            if seen.setdefault(run_id, batch) != batch:
                problem = f"run {run_id} was trained in two different batches"
                raise WorkdirError(f"{problem}; keep one of the sources")
    missing = [run for run in config.runs if run.run_id not in seen]
    most = max((len(batch) for batch in batches), default=1)
    rest = [tuple(run.run_id for run in b) for b in grid.plan_batches(missing, most)]
    place = {run.run_id: i for i, run in enumerate(config.runs)}
    return sorted(batches, key=lambda batch: place[batch[0]]), rest


def _record(
    config: SweepConfig,
    own: Sequence[Source],
    sources: Sequence[Source],
    batches: Sequence[_Batch],
) -> dict[str, Any]:
    told = (own or sources)[0].record
    merged = {str(s.config.shard) for s in sources if s.config.shard is not None}
    merged |= set(told.get("merged", []) if own else [])
    starts = list(told["starts"]) if own else []
    for source in sources:
        for start in source.record["starts"]:
            one = start | {"shard": str(source.config.shard), "from": str(source.folder)}
            if one not in starts:
                starts.append(one)
    flags = {k: v for k, v in told["flags"].items() if k not in ("shard", "shard_from")}
    # Sources of other versions of a plug-in have been refused in reading their records.
    plug_ins = {k: v for s in (*own, *sources) for k, v in s.record.get("plugins", {}).items()}
    return told | {
        "config": config.to_json(),
        "flags": flags | {"shard": None},
        "plugins": plug_ins,
        "batches": [list(batch) for batch in batches],
        "starts": starts,
        "merged": sorted(merged),
        "remade": [own for s in (*own, *sources) for own in s.record.get("remade", [])],
    }


def _place_checkpoints(target: pathlib.Path, sources: Sequence[Source]) -> _Moves:
    """Steps to be linked; raises if two sources hold one with other numbers."""
    holders: dict[tuple[str, str, int], Source] = {}  # of a step, the first that has it
    said: dict[tuple[str, int], tuple[Source, str]] = {}  # of parameters, there or let go
    for source in sources:
        items = ("params", "let_go", "opt_state")
        for name, item in itertools.product(source.reader.batches(), items):
            reader = source.reader
            for step in reader.gone(name) if item == "let_go" else reader.steps(name, item):
                holders.setdefault((name, item, step), source)
                if item == "opt_state":
                    continue
                first, its_item = said.setdefault((name, step), (source, item))
                if first is not source:
                    ours = first.reader.meta(name, its_item, step)
                    theirs = reader.meta(name, item, step)
                    if ours["checksums"] != theirs["checksums"]:
                        raise WorkdirError(
                            f"{source.folder} holds another checkpoint of run "
                            f"{ours['run_ids'][0]} (and its batch) at step {step} than "
                            f"{first.folder}; keep one of them"
                        )
    return [
        tuple(
            folders.folder(workdir / "checkpoints", name, item) / str(step)
            for workdir in (source.folder, target)
        )
        for (name, item, step), source in holders.items()
        if source.folder != target
        # What one let go and another has is there.
        and not (item == "let_go" and (name, "params", step) in holders)
    ]


def _link(moves: _Moves) -> None:
    """Links each step, or copies it where the file system has no links: whole or not at all."""
    for origin, place in moves:
        files.make(place.parent)
        temporary = place.with_name(f".{place.name}.merging")
        shutil.rmtree(temporary, ignore_errors=True)
        for below, _, names in os.walk(origin, onerror=_refuse):
            copy = temporary / os.path.relpath(below, origin)
            copy.mkdir()
            for name in names:
                _link_or_copy(os.path.join(below, name), copy / name)
        files.sync_tree(temporary)
        files.rename(temporary, place)


def _refuse(error: OSError) -> None:
    raise WorkdirError(f"{error.filename} cannot be read; run the same command again") from error


def _link_or_copy(origin: str, place: pathlib.Path) -> None:
    try:
        os.link(origin, place)
    except OSError:
        shutil.copyfile(origin, place)  # times and owners are nobody's matter
