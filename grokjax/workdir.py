"""The work directory: who may use it, what was asked for, and with what it was made."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

from grokjax import analysis, grid, results
from grokjax.diagnostics import Options
from grokjax.grid import InvalidSettingError, ModelConfig, RunSpec, TrainConfig
from grokjax.tasks import OPERATIONS

_FORMAT = 1
_LOCK, ANALYSIS_LOCK = ".lock", ".analysis.lock"  # of training, of the diagnostics' tables
_LOCKS = {_LOCK, ANALYSIS_LOCK}
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "orbax-checkpoint", "giotto-ph",
             "redzed-tda", "pandas", "pyarrow")  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """All that a sweep is: the grid, the models, the training, and what is measured."""

    axes: dict[str, tuple[Any, ...]]  # RunSpec field → values
    models: dict[str, ModelConfig]
    train: TrainConfig
    options: Options

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """The runs of the grid, in order."""
        return grid.expand(self.axes)

    @property
    def name(self) -> str:
        """A short hash of what is trained, for a default folder name."""
        return grid.digest(self.trained())[:10]

    def validate(self) -> None:
        """Raises ``InvalidSettingError`` for anything that cannot be run."""
        analysis.validate(self.options, list(self.models.values()), self.runs)

    def trained(self) -> dict[str, Any]:
        """What decides the trained parameters, by flag: two sweeps agree if these do."""
        flags = {axis.flag: list(self.axes[axis.field]) for axis in grid.axes(OPERATIONS)}
        shape = dataclasses.asdict(next(iter(self.models.values())))
        del shape["model"]
        return {**flags, **shape, **dataclasses.asdict(self.train)}

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``from_json`` reads them back."""
        return {
            "axes": {name: list(values) for name, values in self.axes.items()},
            "models": {name: dataclasses.asdict(m) for name, m in self.models.items()},
            "train": dataclasses.asdict(self.train),
            "options": dataclasses.asdict(self.options),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SweepConfig":
        """Reads what ``to_json`` wrote; raises KeyError, TypeError or ValueError otherwise."""
        options: Any = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data["options"].items()
        }
        return cls(
            axes={str(name): tuple(values) for name, values in data["axes"].items()},
            models={name: ModelConfig(**fields) for name, fields in data["models"].items()},
            train=TrainConfig(**data["train"]),
            options=Options(**options),
        )


# --------------------------------------------------------------------------- sweep.json


class WorkdirError(RuntimeError):
    """A work directory is missing, damaged or in use; the message says what to do."""


def read_record(workdir: pathlib.Path) -> dict[str, Any]:
    """The content of sweep.json.

    Raises:
        WorkdirError: if there is none, or it is not what a sweep wrote.
    """
    path = workdir / "sweep.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']}, expected {_FORMAT}")
        SweepConfig.from_json(record["config"])
    except FileNotFoundError:
        raise WorkdirError(f"{workdir} holds no sweep: there is no sweep.json") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkdirError(
            f"{path} is damaged ({error!r}); run the sweep's command again with a new --workdir, "
            "or restore the file"
        ) from error
    return record


def read_config(workdir: pathlib.Path) -> SweepConfig:
    """The configuration of the sweep in a work directory; raises ``WorkdirError``."""
    return SweepConfig.from_json(read_record(workdir)["config"])


def prepare(
    workdir: pathlib.Path, config: SweepConfig, flags: dict[str, Any], runs_per_batch: int
) -> tuple[tuple[RunSpec, ...], ...]:
    """Makes or reopens the work directory of a sweep; returns its batches.

    How runs are batched is decided once and recorded, so that a resumed sweep, perhaps with more
    or less memory, goes on bit for bit.

    Raises:
        InvalidSettingError: if the directory holds another sweep or something else.
    """
    path = workdir / "sweep.json"
    if path.exists():
        record = read_record(workdir)
        _require_same(workdir, SweepConfig.from_json(record["config"]), config)
        by_id = {run.run_id: run for run in config.runs}
        batches = tuple(tuple(by_id[i] for i in batch) for batch in record["batches"])
        record["config"] = config.to_json()
        record["flags"] = flags
    else:
        batches = grid.plan_batches(config.runs, runs_per_batch)
        record = {
            "format": _FORMAT,
            "config": config.to_json(),
            "flags": flags,
            "batches": [[run.run_id for run in batch] for batch in batches],
            "starts": [],
        }
    record["starts"].append(provenance())
    results.write_text(path, json.dumps(record, indent=1) + "\n")
    return batches


def check_usable(workdir: pathlib.Path, config: SweepConfig) -> None:
    """Raises ``InvalidSettingError``, having written nothing, if the sweep cannot go there."""
    if (workdir / "sweep.json").exists():
        _require_same(workdir, read_config(workdir), config)
    elif workdir.exists() and (
        not workdir.is_dir() or set(os.listdir(workdir)) - {_LOCK, ANALYSIS_LOCK}
    ):
        raise InvalidSettingError(
            "workdir", workdir, "exists and holds no sweep; name a new or empty directory"
        )
    nearest = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    if not writable or os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise InvalidSettingError(
            "workdir", workdir, f"cannot be written: {nearest} is not a directory open to writing"
        )


def _require_same(workdir: pathlib.Path, there: SweepConfig, asked: SweepConfig) -> None:
    old, new = there.trained(), asked.trained()
    for flag in old.keys() | new.keys():
        if old.get(flag) != new.get(flag):
            raise InvalidSettingError(
                "workdir",
                workdir,
                f"holds another sweep, with --{flag}={_text(old.get(flag))} where this one has "
                f"{_text(new.get(flag))}; name another directory, or the same settings to resume",
            )


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def provenance() -> dict[str, Any]:
    """With what, where and when this process runs."""
    devices = jax.devices()
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
def owning(workdir: pathlib.Path, lock: str = _LOCK) -> Iterator[None]:
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
