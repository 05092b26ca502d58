"""The work directory: who may use it, what was asked for, and with what it was made."""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from typing import Any

import jax

from grokjax import analysis, datasets, grid, results, sharding
from grokjax.diagnostics import Options
from grokjax.grid import InvalidSettingError, ModelConfig, RunSpec, TrainConfig
from grokjax.sharding import Shard
from grokjax.tasks import OPERATIONS

_FORMAT = 1
LOCK, ANALYSIS_LOCK = ".lock", ".analysis.lock"  # of training, of the diagnostics' tables
_COPY = ".sweep.json.copy"  # of sweep.json, for when that is damaged
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "orbax-checkpoint", "giotto-ph",
             "redzed-tda", "pandas", "pyarrow")  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """All that a sweep is: the grid, the models, the training, and what is measured."""

    axes: dict[str, tuple[Any, ...]]  # RunSpec field → values
    models: dict[str, ModelConfig]
    train: TrainConfig
    options: Options
    shard: Shard | None = None

    @functools.cached_property
    def runs(self) -> tuple[RunSpec, ...]:
        """The runs of the grid, or of the shard of it that this is, in order."""
        runs = grid.expand(self.axes)
        if self.shard is None:
            return runs
        return sharding.split(runs, self.models, self.train, self.shard.count)[self.shard.index]

    @property
    def name(self) -> str:
        """A short hash of what is trained, for a default folder name."""
        return grid.digest(dataclasses.replace(self, shard=None).trained())[:10]

    def validate(self) -> None:
        """Raises ``InvalidSettingError`` for anything that cannot be run."""
        analysis.validate(self.options, list(self.models.values()), self.runs)

    def trained(self) -> dict[str, Any]:
        """What decides the trained parameters, by flag: two sweeps agree if these do."""
        flags = {axis.flag: list(self.axes[axis.field]) for axis in grid.axes(OPERATIONS)}
        shape = dataclasses.asdict(next(iter(self.models.values())))
        del shape["model"]
        part = {} if self.shard is None else {"shard": str(self.shard)}
        return {**flags, **shape, **dataclasses.asdict(self.train), **part}

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``from_json`` reads them back."""
        return {
            "axes": {name: list(values) for name, values in self.axes.items()},
            "models": {name: dataclasses.asdict(m) for name, m in self.models.items()},
            "train": dataclasses.asdict(self.train),
            "options": dataclasses.asdict(self.options),
            "shard": None if self.shard is None else str(self.shard),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SweepConfig":
        """Reads what ``to_json`` wrote; raises KeyError, TypeError or ValueError otherwise."""
        options: Any = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data["options"].items()
        }
        return cls(
            axes={
                axis.field: _typed(axis.kind, data["axes"][axis.field])
                for axis in grid.axes(OPERATIONS)
            },
            models={name: ModelConfig(**fields) for name, fields in data["models"].items()},
            train=TrainConfig(**data["train"]),
            options=Options(**options),
            shard=sharding.parse(data.get("shard") or "none"),
        )


# --------------------------------------------------------------------------- sweep.json


class WorkdirError(RuntimeError):
    """A work directory is missing, damaged or in use; the message says what to do."""


class StorageError(RuntimeError):
    """The disk takes no more; the message says why, what is safe, and what to do."""

    def __init__(self, workdir: pathlib.Path, problem: str):
        super().__init__(
            f"{workdir} cannot be written: {problem}. Everything committed before is safe; mend "
            "that and run the same command again, which goes on from there"
        )


_STORAGE_ERRNOS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO
)  # fmt: skip


def storage_problem(error: BaseException) -> str | None:
    """What the disk did, if that is what an error of any library comes from, else None."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _STORAGE_ERRNOS:
            return os.strerror(seen.errno)
        for number in _STORAGE_ERRNOS:  # libraries in C++ leave no more than the text
            if os.strerror(number) in str(seen):
                return os.strerror(number)
        seen = seen.__cause__ or seen.__context__
    return None


@contextlib.contextmanager
def storage_errors(workdir: pathlib.Path) -> Iterator[None]:
    """Turns what a full or read-only disk does to any library into a ``StorageError``."""
    try:
        yield
    except Exception as error:
        problem = storage_problem(error)
        if problem is None or isinstance(error, StorageError):
            raise
        raise StorageError(workdir, problem) from error


def read_record(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of sweep.json.

    Raises:
        WorkdirError: if there is none, or it is not what a sweep wrote.
    """
    path = workdir / "sweep.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _check_record(record)
    except FileNotFoundError as error:
        copy = workdir / _COPY
        way = f"; its last copy is there: cp {copy} {path}" if copy.exists() else ""
        raise WorkdirError(f"{workdir} holds no sweep: there is no sweep.json{way}") from error
    except _UNREADABLE as error:
        raise WorkdirError(
            f"{path} is damaged ({error!r}); its last copy may be whole: "
            f"cp {workdir / _COPY} {path}"
        ) from error
    return record


# What anything but a record of ours may raise on its way through the JSON reader and our types.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
               RecursionError)  # fmt: skip


def _typed(kind: type, values: Any) -> tuple[Any, ...]:
    """Values of one axis, as they come from JSON; raises TypeError if they are of another kind."""
    if not isinstance(values, list) or not all(type(value) in (kind, int) for value in values):
        raise TypeError(f"{values!r:.99} is not a list of {kind.__name__}")
    return tuple(kind(value) for value in values)


def _check_record(record: dict[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError unless a sweep wrote this."""
    if record["format"] != _FORMAT:
        raise ValueError(f"format {record['format']}, expected {_FORMAT}")
    config = SweepConfig.from_json(record["config"])
    config.validate()
    batched = [run_id for batch in record["batches"] for run_id in batch]
    if sorted(batched) != sorted(run.run_id for run in config.runs):
        raise ValueError("its batches are not the runs of its grid")
    if not isinstance(record["starts"], list) or not isinstance(record["flags"], dict):
        raise TypeError("starts must be a list and flags an object")


def read_config(workdir: pathlib.Path) -> SweepConfig:
    """The configuration of the sweep in a work directory; raises ``WorkdirError``."""
    record = read_record(workdir)
    if record["flags"].get("mnist_dir"):
        datasets.recall(record["flags"]["mnist_dir"])
    return SweepConfig.from_json(record["config"])


def prepare(
    workdir: pathlib.Path,
    config: SweepConfig,
    flags: dict[str, Any],
    runs_per_batch: int,
    allowed: Collection[str] = (),
) -> tuple[tuple[RunSpec, ...], ...]:
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
        record = {"format": _FORMAT, "starts": []}
    record["config"] = config.to_json()
    record["flags"] = flags
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

# Beside the grid's axes, which may gain values: more steps, another precision, another commit of
# this package, other versions of what computes.
ALLOWED = (*(axis.flag for axis in grid.axes(OPERATIONS)), "steps", "precision", "code", "packages")
_COMPUTING = ("jax", "jaxlib", "flax", "optax", "numpy")


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
    there = SweepConfig.from_json(record["config"])
    old = there.trained() | _versions(record["starts"][-1])
    new = asked.trained() | _versions(now)
    changes = {
        name: [old.get(name), new.get(name)]
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    }
    for name, (before, after) in changes.items():
        differs = f"--{name}={_text(before)} where this one has {_text(after)}"
        if name not in allowed:
            if name in ("code", "packages"):
                hint = "use what it was made with"
                differs = f"{name} {_text(before)} where this is {_text(after)}"
            else:
                hint = "name another directory, or the same settings to resume"
            way = f", or allow the change, which is recorded: --allow={name}"
            raise InvalidSettingError(
                "workdir",
                workdir,
                f"holds another sweep, with {differs}; {hint}{way if name in ALLOWED else ''}",
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
    return changes


def _versions(start: dict[str, Any]) -> dict[str, str]:
    packages = start["packages"]
    return {
        "code": f"{start['grokjax']} at {start['commit']}",
        "packages": " ".join(f"{name} {packages[name]}" for name in _COMPUTING),
    }


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def provenance() -> dict[str, Any]:
    """With what, where and when this process runs."""
    devices = jax.local_devices()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
        "grokjax": importlib.metadata.version("grokjax"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in devices],
        "process": f"{jax.process_index()} of {jax.process_count()}",
    }


def commit() -> str | None:
    """The git commit of this checkout, ``+changes`` behind it if files differ; None outside."""
    here = pathlib.Path(__file__).parent
    run = {"cwd": here, "capture_output": True, "text": True, "timeout": 20}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], **run)  # type: ignore[call-overload]
        changes = subprocess.run(  # type: ignore[call-overload]
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


# --------------------------------------------------------------------------- one owner


@contextlib.contextmanager
def owning(workdir: pathlib.Path, lock: str = LOCK) -> Iterator[None]:
    """Holds the work directory for writing; the system frees it when this process ends.

    Raises:
        WorkdirError: naming the holder, if another process has it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / lock, "a+", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidSettingError("workdir", workdir, f"cannot be written: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise WorkdirError(f"{workdir} is in use by {holder}") from None
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        yield
