"""sweep.json: what was asked for, with what it was made, and what may change."""

import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from grokjax.settings import grid, plugins, registry
from grokjax.settings.config import SweepConfig
from grokjax.settings.fields import InvalidSettingError, check, fields_of
from grokjax.settings.grid import Run
from grokjax.settings.registry import KINDS
from grokjax.store import files
from grokjax.store.errors import UNREADABLE, WorkdirError
from grokjax.store.locks import is_held, is_lock

Batches = tuple[tuple[Run, ...], ...]
_FORMATS = (1, 2)  # that can be read; the last is written
_COPY = ".sweep.json.copy"  # for when it is damaged
_FINISHED = ".finished"  # says what a part of a job was asked for, once it is trained and measured
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "orbax-checkpoint", "giotto-ph",
             "redzed-tda", "ripser", "pandas", "pyarrow")  # fmt: skip
_COMPUTING = ("jax", "jaxlib", "flax", "optax", "numpy")


def read_record(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of sweep.json; raises ``WorkdirError`` if it is not what a sweep wrote."""
    path, copy = workdir / "sweep.json", workdir / _COPY
    try:
        record = json.loads(files.read_text(path))
        if record["format"] not in _FORMATS:
            raise ValueError(f"format {record['format']}, expected {_FORMATS[-1]}")
        if not isinstance(record["starts"], list) or not isinstance(record["flags"], dict):
            raise TypeError("starts must be a list and flags an object")
        if plug_ins := plugins.problem(record.get("plugins", {})):
            raise WorkdirError(f"{workdir} {plug_ins}")
        batched = [run_id for batch in record["batches"] for run_id in batch]
        if sorted(batched) != sorted(run.run_id for run in config_of(record).runs):
            raise ValueError("its batches are not the runs of its grid")
    except FileNotFoundError as error:
        way = f"; its last copy is there: cp {copy} {path}" if copy.exists() else ""
        raise WorkdirError(f"{workdir} holds no sweep: there is no sweep.json{way}") from error
    except UNREADABLE as error:
        problem = f"is damaged ({error!r})"
        if isinstance(error, InvalidSettingError):
            problem = f"asks for what this version does not have, or is damaged ({error})"
        way = f"its last copy may be whole: cp {copy} {path}"
        raise WorkdirError(f"{path} {problem}; {way}") from error
    return record


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


def adopted(
    workdir: pathlib.Path, asked: SweepConfig, allowed: Collection[str] = ()
) -> SweepConfig:
    """The configuration asked for, with run ids as the directory has them if it holds a sweep.

    Raises ``InvalidSettingError``, having written nothing, if the sweep cannot go there.
    """
    config = asked
    if (workdir / "sweep.json").exists() or (workdir / _COPY).exists():
        record = read_record(workdir)
        there = config_of(record)
        config = dataclasses.replace(asked, unnamed=there.unnamed)
        ids = {run.run_id for run in config.grid}
        unnamed = ", ".join(there.unnamed)
        message = f"was made by a version whose run ids say nothing of {unnamed}"
        check(len(ids) == len(config.grid), "workdir", workdir, message)
        if asked.shard == there.shard and ids == {run.run_id for run in there.grid}:
            config = dataclasses.replace(config, members=there.members)
        _changes(workdir, record, config, provenance(), allowed)
    elif workdir.exists():
        empty = workdir.is_dir() and all(map(is_lock, os.listdir(workdir)))
        message = "exists and holds no sweep; name a new or empty directory"
        check(empty, "workdir", workdir, message)
    nearest = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    writable = writable and not os.statvfs(nearest).f_flag & os.ST_RDONLY
    message = f"cannot be written: {nearest} is not a directory open to writing"
    check(writable, "workdir", workdir, message)
    return config


def batches_of(
    workdir: pathlib.Path, config: SweepConfig, batched: Callable[[Sequence[Run]], Batches]
) -> Batches:
    """The batches of a sweep, those that the directory has first; writes nothing."""
    if not (workdir / "sweep.json").exists():
        return batched(config.runs)
    by_id = {run.run_id: run for run in config.runs}
    there = read_record(workdir)["batches"]
    known = {run_id for batch in there for run_id in batch}
    new = tuple(run for run in config.runs if run.run_id not in known)
    batches = tuple(tuple(by_id[run_id] for run_id in batch) for batch in there)
    return batches + (batched(new) if new else ())


def prepare(
    workdir: pathlib.Path,
    config: SweepConfig,
    flags: dict[str, Any],
    batched: Callable[[Sequence[Run]], Batches],
    allowed: Collection[str] = (),
    process: str = "0 of 1",
) -> Batches:
    """Makes or reopens the work directory of a sweep; returns its batches.

    How runs are ``batched`` is decided once, so that a resumed sweep goes on bit for bit; new runs
    get batches of their own. Raises ``InvalidSettingError`` unless changes are ``allowed``.
    """
    (workdir / _FINISHED).unlink(missing_ok=True)
    now = provenance()
    batches = batches_of(workdir, config, batched)
    if (workdir / "sweep.json").exists():
        record = read_record(workdir)
        changes = _changes(workdir, record, config, now, allowed)
        before = config_of(record).saving.keep
        if before != config.saving.keep:
            changes["keep"] = [before, config.saving.keep]
        if changes:
            record.setdefault("changes", []).append({"time": now["time"], **changes})
    else:
        record = {"starts": []}
    record |= {
        "config": config.to_json(),
        "format": _FORMATS[-1],
        "flags": flags,
        "plugins": plugins.loaded(),
        "batches": [[run.run_id for run in batch] for batch in batches],
    }
    record["starts"].append(now | {"process": process})
    write_record(workdir, record)
    return batches


def write_record(workdir: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes sweep.json, and the copy for when that is damaged."""
    text = json.dumps(record, indent=1) + "\n"
    files.write_text(workdir / "sweep.json", text)
    files.write_text(workdir / _COPY, text)


def made_by(workdir: pathlib.Path, config: SweepConfig) -> str:
    """What the numbers of the last start depend on, beside settings and device."""
    last = read_record(workdir)["starts"][-1]
    told = {"precision": config.train.precision, **_versions(last, "sources")}
    return ", ".join(f"{name} {text}" for name, text in told.items())


def note_remade(workdir: pathlib.Path, batch: Sequence[str], steps: list[int], by: str) -> None:
    """Records that a batch's lost checkpoints come from other versions than those around them."""
    record = read_record(workdir)
    entry = {"runs": list(batch), "steps": steps, "made_by": by}
    remade = record.setdefault("remade", [])
    if entry not in remade:
        remade.append(entry)
        write_record(workdir, record)


def remarks(record: Mapping[str, Any]) -> list[str]:
    """Of what is no fault but has to be known with the numbers, a sentence each."""
    return [
        f"checkpoints {', '.join(f'{step:,}' for step in own['steps'])} of {len(own['runs'])} "
        f"run(s), first {own['runs'][0]}, were lost and made again by other versions than those "
        f"around them: {own['made_by']}"
        for own in record.get("remade", [])
    ]


def finish(workdir: pathlib.Path, config: SweepConfig) -> None:
    """Leaves the word that all of a sweep is trained and measured, but for what failed."""
    files.write_text(workdir / _FINISHED, _asked(config))


def is_finished(workdir: pathlib.Path, config: SweepConfig) -> bool:
    """Whether the sweep that is asked for was finished there, and nobody works on it."""
    return files.read_if_there(workdir / _FINISHED) == _asked(config) and not is_held(workdir)


def _asked(config: SweepConfig) -> str:
    # The default of the threads depends on the machine.
    return grid.digest(config.trained(), dataclasses.replace(config.options, ph_threads=1))


def allowed_changes() -> tuple[str, ...]:
    """What may be allowed to change: axes may gain values, and what is named behind them."""
    flags = [own.flag for part in registry.classes() for own in fields_of(part).values()]
    names = [*(kind.flag for kind in KINDS), *flags, "steps", "precision", "code", "packages"]
    return tuple(dict.fromkeys(names))


def _changes(
    workdir: pathlib.Path,
    record: dict[str, Any],
    asked: SweepConfig,
    now: dict[str, Any],
    allowed: Collection[str],
) -> dict[str, list[Any]]:
    """What differs from the sweep that is there, as name → [old, new]; raises if it may not."""
    there = config_of(record)
    last = record["starts"][-1]
    compared = "sources" if "sources" in last else "commit"  # version 0.1 told the commit alone
    old = there.trained() | _versions(last, compared)
    new = asked.trained() | _versions(now, compared)
    both = {name: [old.get(name), new.get(name)] for name in {**old, **new}}
    changes = {name: values for name, values in both.items() if values[0] != values[1]}
    for name, (before, after) in changes.items():
        flag = name.partition(" of ")[0]
        differs = f"--{name}={text_of(before)} where this one has {text_of(after)}"
        hint = "name another directory, or the same settings to resume"
        if name in ("code", "packages"):
            differs = f"{name} {text_of(before)} where this is {text_of(after)}"
            hint = "use what it was made with"
        if flag in allowed_changes():
            hint += f", or allow the change, which is recorded: --allow={flag}"
        message = f"holds another sweep, with {differs}; {hint}"
        check(flag in allowed, "workdir", workdir, message)
    lost = {run.run_id for run in there.runs} - {run.run_id for run in asked.runs}
    message = f"a sweep can gain runs but not lose any, such as {min(lost, default='none')}"
    check(not lost, "workdir", workdir, message)
    end, steps = there.train.steps, asked.train.steps
    check(steps >= end, "steps", steps, f"{workdir} is at {end}; it can gain steps")
    fixed = steps > end and any(run.optimizer.horizon for run in there.runs)
    message = f"{workdir} has a schedule that ends at {end}; it cannot gain steps"
    check(not fixed, "steps", steps, message)
    return changes


def _versions(start: dict[str, Any], compared: str) -> dict[str, str]:
    packages = " ".join(f"{name} {start['packages'][name]}" for name in _COMPUTING)
    code = f"{start['grokjax']} at {compared} {str(start[compared])[:12]}"
    return {"code": code, "packages": packages}


def text_of(value: Any) -> str:
    """A value of sweep.json as a message says it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@functools.cache
def _installed() -> dict[str, str]:
    installed = {found.name: found.version for found in importlib.metadata.distributions()}
    return {name: installed[name] for name in _PACKAGES if name in installed}


def provenance() -> dict[str, Any]:
    """With what, where and when this process runs."""
    import jax  # here, because reading a record needs none

    devices = jax.local_devices()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
        "grokjax": importlib.metadata.version("grokjax"),
        "commit": commit(),
        "sources": sources(),
        "python": platform.python_version(),
        "packages": dict(_installed()),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in devices],
    }


def sources() -> str:
    """A hash of every Python file of this package, whether or not it is a checkout."""
    package = pathlib.Path(__file__).parent.parent
    files = sorted(package.rglob("*.py"))
    return grid.digest(*((str(f.relative_to(package)), f.read_text("utf-8")) for f in files))


def commit(here: pathlib.Path = pathlib.Path(__file__).parent) -> str | None:
    """The git commit of a checkout, ``+changes`` behind it if files differ; None outside."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
    try:
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if found.returncode else found.stdout.strip()
