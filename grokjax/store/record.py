"""sweep.json: what was asked for, with what it was made, and what may change."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from grokjax.settings import grid, plugins, registry
from grokjax.settings.config import SweepConfig
from grokjax.settings.fields import InvalidSettingError, fields_of
from grokjax.settings.grid import Run, RunSettings
from grokjax.settings.registry import KINDS
from grokjax.store import results
from grokjax.store.errors import WorkdirError
from grokjax.store.locks import ANALYSIS_LOCK, LOCK
from grokjax.store.provenance import provenance

_FORMATS = (1, 2)  # that can be read; the last is written
_COPY = ".sweep.json.copy"  # for when it is damaged


# --------------------------------------------------------------------------- sweep.json


def read_record(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of sweep.json.

    Raises:
        WorkdirError: if there is none, or it is not what a sweep wrote.
    """
    path = workdir / "sweep.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _check_record(workdir, record)
    except FileNotFoundError as error:
        copy = workdir / _COPY
        way = f"; its last copy is there: cp {copy} {path}" if copy.exists() else ""
        raise WorkdirError(f"{workdir} holds no sweep: there is no sweep.json{way}") from error
    except _UNREADABLE as error:
        problem = f"is damaged ({error!r})"
        if isinstance(error, InvalidSettingError):
            problem = f"asks for what this version does not have, or is damaged ({error})"
        raise WorkdirError(
            f"{path} {problem}; its last copy may be whole: cp {workdir / _COPY} {path}"
        ) from error
    return record


# What anything but a record of ours may raise on its way through the JSON reader and our types.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
               RecursionError)  # fmt: skip


def _check_record(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Raises ValueError, KeyError, TypeError or WorkdirError unless a sweep wrote this."""
    if record["format"] not in _FORMATS:
        raise ValueError(f"format {record['format']}, expected {_FORMATS[-1]}")
    if not isinstance(record["starts"], list) or not isinstance(record["flags"], dict):
        raise TypeError("starts must be a list and flags an object")
    plug_ins = plugins.problem(record.get("plugins", {}))
    if plug_ins:
        raise WorkdirError(f"{workdir} {plug_ins}")
    config = config_of(record)
    batched = [run_id for batch in record["batches"] for run_id in batch]
    if sorted(batched) != sorted(run.run_id for run in config.runs):
        raise ValueError("its batches are not the runs of its grid")


def config_of(record: Mapping[str, Any]) -> SweepConfig:
    """The configuration that a record tells."""
    config = SweepConfig.from_json(record["config"])
    if config.shard is not None and config.members is None:  # of version 0.1
        members = frozenset(run_id for batch in record["batches"] for run_id in batch)
        config = dataclasses.replace(config, members=members)
    return config


def read_config(workdir: pathlib.Path) -> SweepConfig:
    """The configuration of the sweep in a work directory; raises ``WorkdirError``."""
    record = read_record(workdir)
    for part in registry.classes():
        for name in part.sources:
            if record["flags"].get(name):
                part.use(name, str(record["flags"][name]), recalled=True)  # type: ignore[attr-defined]
    return config_of(record)


def adopted(workdir: pathlib.Path, asked: SweepConfig) -> SweepConfig:
    """The configuration asked for, with run ids as the directory has them if it holds a sweep."""
    if not (workdir / "sweep.json").exists():
        return asked
    there = config_of(read_record(workdir))
    config = dataclasses.replace(asked, unnamed=there.unnamed)
    ids = [run.run_id for run in config.grid]
    if len(set(ids)) < len(ids):
        message = f"was made by a version whose run ids say nothing of {', '.join(there.unnamed)}"
        raise InvalidSettingError("workdir", workdir, message)
    if asked.shard == there.shard and set(ids) == {run.run_id for run in there.grid}:
        config = dataclasses.replace(config, members=there.members)
    return config


def prepare(
    workdir: pathlib.Path,
    config: SweepConfig,
    flags: dict[str, Any],
    runs_per_batch: int,
    allowed: Collection[str] = (),
) -> tuple[tuple[Run, ...], ...]:
    """Makes or reopens the work directory of a sweep; returns its batches.

    How runs are batched is decided once and recorded, so that a resumed sweep, perhaps with more
    or less memory, goes on bit for bit. Runs that are new get batches of their own.

    Raises:
        InvalidSettingError: if the directory holds another sweep or something else, or what has
            changed since is not ``allowed``.
    """
    path = workdir / "sweep.json"
    now = provenance()
    if path.exists():
        record = read_record(workdir)
        changes = _changes(workdir, record, config, now, allowed)
        by_id = {run.run_id: run for run in config.runs}
        batches = tuple(tuple(by_id[i] for i in batch) for batch in record["batches"])
        there = {run.run_id for batch in batches for run in batch}
        new = tuple(run for run in config.runs if run.run_id not in there)
        if new:
            batches += grid.plan_batches(new, runs_per_batch)
        if changes:
            record.setdefault("changes", []).append({"time": now["time"], **changes})
    else:
        batches = grid.plan_batches(config.runs, runs_per_batch)
        record = {"starts": []}
    record["config"] = config.to_json()
    record["format"] = _FORMATS[-1]
    record["flags"] = flags
    record["plugins"] = plugins.loaded()
    record["batches"] = [[run.run_id for run in batch] for batch in batches]
    record["starts"].append(now)
    write_record(workdir, record)
    return batches


def write_record(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes sweep.json, and the copy for when that is damaged."""
    text = json.dumps(record, indent=1) + "\n"
    results.write_text(workdir / "sweep.json", text)
    results.write_text(workdir / _COPY, text)


def check_usable(workdir: pathlib.Path, config: SweepConfig, allowed: Collection[str] = ()) -> None:
    """Raises ``InvalidSettingError``, having written nothing, if the sweep cannot go there."""
    ours = {LOCK, ANALYSIS_LOCK}
    if (workdir / "sweep.json").exists() or (workdir / _COPY).exists():
        _changes(workdir, read_record(workdir), config, provenance(), allowed)
    elif workdir.exists() and (not workdir.is_dir() or set(os.listdir(workdir)) - ours):
        raise InvalidSettingError(
            "workdir", workdir, "exists and holds no sweep; name a new or empty directory"
        )
    nearest = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    if not writable or os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise InvalidSettingError(
            "workdir", workdir, f"cannot be written: {nearest} is not a directory open to writing"
        )


# --------------------------------------------------------------------------- what may change

_COMPUTING = ("jax", "jaxlib", "flax", "optax", "numpy")


def allowed_changes() -> tuple[str, ...]:
    """What may be allowed to change: axes may gain values, and what is named behind them."""
    flags = [kind.flag for kind in KINDS]
    flags += [own.flag for part in (*registry.classes(), RunSettings)
              for own in fields_of(part).values()]  # fmt: skip
    return (*dict.fromkeys(flags), "steps", "precision", "code", "packages")


def _changes(
    workdir: pathlib.Path,
    record: dict[str, Any],
    asked: SweepConfig,
    now: dict[str, Any],
    allowed: Collection[str],
) -> dict[str, list[Any]]:
    """What differs from the sweep that is there, as name → [old, new].

    Raises:
        InvalidSettingError: if a difference is not allowed, or would leave out what is there.
    """
    there = config_of(record)
    old = there.trained() | _versions(record["starts"][-1])
    new = asked.trained() | _versions(now)
    changes = {
        name: [old.get(name), new.get(name)]
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    }
    for name, (before, after) in changes.items():
        differs = f"--{name}={_text(before)} where this one has {_text(after)}"
        if name.partition(" of ")[0] not in allowed:
            if name in ("code", "packages"):
                hint = "use what it was made with"
                differs = f"{name} {_text(before)} where this is {_text(after)}"
            else:
                hint = "name another directory, or the same settings to resume"
            flag = name.partition(" of ")[0]
            way = ""
            if flag in allowed_changes():
                way = f", or allow the change, which is recorded: --allow={flag}"
            raise InvalidSettingError(
                "workdir",
                workdir,
                f"holds another sweep, with {differs}; {hint}{way}",
            )
    lost = {run.run_id for run in there.runs} - {run.run_id for run in asked.runs}
    if lost:
        raise InvalidSettingError(
            "workdir", workdir, f"a sweep can gain runs but not lose any, such as {min(lost)}"
        )
    if asked.train.steps < there.train.steps:
        raise InvalidSettingError(
            "steps", asked.train.steps, f"{workdir} is at {there.train.steps}; it can gain steps"
        )
    if asked.train.steps > there.train.steps and any(run.optimizer.horizon for run in there.runs):
        message = f"{workdir} has a schedule that ends at {there.train.steps}; it cannot gain steps"
        raise InvalidSettingError("steps", asked.train.steps, message)
    return changes


def _versions(start: dict[str, Any]) -> dict[str, str]:
    packages = start["packages"]
    return {
        "code": f"{start['grokjax']} at {start['commit']}",
        "packages": " ".join(f"{name} {packages[name]}" for name in _COMPUTING),
    }


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
