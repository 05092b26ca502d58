"""All that a borrowed accelerator is to be asked, in so many minutes; answers in one folder.

Question: how do training, the lenses and the study fare on a device that is there for an hour?
Command:  bash launch/accelerator.sh MINUTES [--folder=FOLDER] [--sizes=full|small]
Device:   an accelerator, 30 minutes or more; on a machine without one everything is rehearsed on
          the CPU at small sizes, in about four minutes.
Expected: every part done, and the study's sweeps as far as the minutes go. Exit code 1 if a part
          failed, 2 for bad arguments, 75 if stopped by a signal.

Each part is a command of its own, with a share of the minutes at most, beyond which it is ended and
counts as failed. It leaves FOLDER/<part>.json, its output in FOLDER/<part>.log, and in
FOLDER/parts.json its command, commit, device, time and, if it failed, its error. The study is
trained in the minutes that the others leave, its tables copied to FOLDER/study. No file in FOLDER
is above 2 MiB; checkpoints and compiled programs lie in FOLDER-work, from which
``python -m experiments.paper --workdir=FOLDER-work/paper`` goes on. Started again, parts that this
device has done with this code are left alone, and sweeps go on where they stopped.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import json
import math
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from experiments.sweeps import TRAININGS
from grokjax import cli
from grokjax.store import files, record

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = "work/accelerator"
MOST_BYTES = 2**21  # of a file
_MOST_LOG, _ERROR = 200_000, 2_000  # characters
_GRACE = 60.0  # seconds in which a sweep reaches a checkpoint; of few minutes a fifth
_LIBC, _PR_SET_PDEATHSIG = ctypes.CDLL(None), 1  # prctl(2)


@dataclasses.dataclass(frozen=True)
class Part:
    """A command for the device.

    Attributes:
        name: of its files.
        arguments: what the Python interpreter is called with.
        share: how much of the minutes it may take.
        sweep: its work directory, if it is one that stops at a signal and goes on later.
    """

    name: str
    arguments: tuple[str, ...]
    share: float
    sweep: pathlib.Path | None = None


def _benchmark(name: str, folder: pathlib.Path, share: float, module: str, flags: str) -> Part:
    output = f"--output={folder / name}.json"
    return Part(name, ("-m", f"experiments.{module}", *flags.split(), output), share)


def device_part(folder: pathlib.Path) -> Part:
    """The first, which says what the others run on."""
    return _benchmark("device", folder, 0.2, "benchmarks.device", "")


def parts(folder: pathlib.Path, work: pathlib.Path, platform: str, small: bool) -> list[Part]:
    """The others, in order."""
    tests, train = "", "--primes 113 --runs 1 8 45 128 512 --repeats 3 --steps 200"
    lenses = "--parts sweeps shares --steps 2000 --primes 113 197 --runs 45 --repeats 3"
    profile = "--prime 197 --runs 45"
    if small:
        tests, train = "--select stream", "--primes 47 --runs 1 --repeats 1 --steps 2"
        lenses = "--parts shares --models mlp --primes 47 --repeats 1"
        profile = "--models mlp --prime 47 --runs 2 --steps 2"
    training = {f"train_{kind}": f"--models {kind} {train}" for kind in ("transformer", "mlp")}
    if platform == "gpu":
        training["train_tf32x3"] = f"{train} --precision tf32x3"
    given = {
        "tests": (0.25, "device_tests", tests),
        **{name: (0.15, "benchmarks.train", flags) for name, flags in training.items()},
        "lenses": (0.2, "benchmarks.lenses", lenses),
        "profile": (0.1, "benchmarks.profile", profile),
    }
    found = [
        _benchmark(name, folder, 0.4 if small else share, module, flags)
        for name, (share, module, flags) in given.items()
    ]
    return found + [_sweep(name, work / "paper", small) for name in TRAININGS]


def _sweep(name: str, root: pathlib.Path, small: bool) -> Part:
    """One of the study's sweeps where `experiments.paper` has it, for all minutes that are left."""
    training, scale = TRAININGS[name], "small" if small else "paper"
    flags = training.flags(root, scale, training.rest.split())
    if small:
        flags += ["--steps=240", "--checkpoint_every=120", "--seeds=46:47"]
        flags += ["--primes=29", "--train_fractions=0.5"] if training.primes else []
    workdir = training.workdir(root, scale)
    arguments = [flag.replace(f"{ROOT}/", "") for flag in flags]
    return Part(name, ("-m", "grokjax.sweep", *arguments), 1.0, sweep=workdir)


# --------------------------------------------------------------------------- running one


def _dies_with_us() -> None:
    """In a new process: it is killed when its parent is, whatever kills that."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Asks a process and its own to end, then makes them."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def execute(part: Part, folder: pathlib.Path, work: pathlib.Path, limit: float) -> dict[str, Any]:
    """Runs a part for at most that many seconds: how it ended, what it took, its error."""
    log, begun = folder / f"{part.name}.log", time.monotonic()
    grace = min(_GRACE, limit / 5) if part.sweep else 5.0
    for own in folder.glob(f"{part.name}[.-]*"):
        own.unlink()
    environment = os.environ | {
        "PYTHONUNBUFFERED": "1",
        "JAX_COMPILATION_CACHE_DIR": str(work.resolve() / "compiled"),
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *part.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_dies_with_us,
        )
        late = False
        try:
            process.wait(limit - grace if part.sweep else limit)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(process, grace)
            if part.sweep:
                collect(part.sweep, folder / "study" / part.name)
    text = log.read_text(encoding="utf-8", errors="replace")[-_MOST_LOG:]
    files.write_text(log, text)
    code, status, error = process.returncode, "done", ""
    if part.sweep and (late or code == cli.EXIT_STOPPED):
        status = "stopped"
    elif late:
        status, error = "failed", f"took longer than its {limit:.0f} s; {text[-_ERROR:]}"
    elif code:
        status, error = "failed", f"exit code {code}; {text[-_ERROR:]}"
    return {"status": status, "seconds": round(time.monotonic() - begun, 1), "error": error}


def collect(workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies a sweep's tables, in pieces where they are not small, and what it was run with."""
    for path in sorted(workdir.glob("results/*.parquet")):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{path.stem}.*"):
            old.unlink()
        _copy(pd.read_parquet(path), folder / path.name)
    record_of = workdir / "sweep.json"
    if record_of.exists():
        starts = json.loads(record_of.read_text(encoding="utf-8"))["starts"]
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / "starts.json", json.dumps(starts, indent=1) + "\n")


def _copy(frame: pd.DataFrame, path: pathlib.Path) -> None:
    """A table at this path, or its halves, and theirs, at paths with .0 and .1 in them."""
    frame.to_parquet(path, compression="zstd")
    if path.stat().st_size > MOST_BYTES and len(frame) > 1:
        path.unlink()
        middle = len(frame) // 2
        for i, half in enumerate((frame.iloc[:middle], frame.iloc[middle:])):
            _copy(half, path.with_suffix(f".{i}{path.suffix}"))


# --------------------------------------------------------------------------- running all


class Folder:
    """The folder of results and the record of parts in it."""

    def __init__(self, path: pathlib.Path, deadline: float, seconds: float):
        self.path, self.work = path, path.with_name(f"{path.name}-work")
        self.deadline, self.seconds = deadline, seconds
        for own in (path, self.work):
            own.mkdir(parents=True, exist_ok=True)
        self._file = path / "parts.json"
        self.records = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        self._code = {"commit": record.commit(), "sources": record.sources()}

    def keep(self, name: str, **values: Any) -> dict[str, Any]:
        """Writes values into a part's record; returns it."""
        self.records[name] = self.records.get(name, {}) | values
        files.write_text(self._file, json.dumps(self.records, indent=1) + "\n")
        return self.records[name]

    def run(self, part: Part, device: str | None) -> dict[str, Any]:
        """Runs a part unless this device, if it is known, has done it with this code.

        Returns its record.
        """
        command = shlex.join(["python", *part.arguments])
        asked = {"command": command, **self._code, "device": device}
        before = self.records.get(part.name, {})
        if (
            device is not None
            and before.get("status") == "done"
            and asked.items() <= before.items()
        ):
            print(f"== {part.name}: there already", flush=True)
            return before
        limit = min(part.share * self.seconds, self.deadline - time.monotonic())
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        print(f"== {part.name}, at most {limit:.0f} s: {command}", flush=True)
        if limit < 1:
            found = {"status": "not begun", "seconds": 0.0, "error": "no minutes were left"}
        else:
            found = execute(part, self.path, self.work, limit)
            print(_tail(self.path / f"{part.name}.log"))
        print(f"{part.name}: {found['status']}, {found['seconds']} s", flush=True)
        return self.keep(part.name, **asked, began=began, **found)

    def large(self) -> Iterator[str]:
        """Files that are not small."""
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and path.stat().st_size > MOST_BYTES:
                yield f"{path} has {path.stat().st_size:,} bytes"


def _tail(path: pathlib.Path, n: int = 15) -> str:
    return "\n".join(f"  {line}" for line in path.read_text(encoding="utf-8").splitlines()[-n:])


def run(folder: Folder, sizes: str | None) -> int:
    """Runs what is not there yet; returns the exit code."""
    if folder.run(device_part(folder.path), None)["status"] != "done":
        return cli.EXIT_FAILED
    found = json.loads((folder.path / "device.json").read_text(encoding="utf-8"))
    device = f"{found['devices']} × {found['kind']}, {found['cores']} cores"
    folder.keep("device", device=device)
    if found["platform"] == "cpu":
        print("no accelerator here: a rehearsal on the CPU, ", end="")
        print("at the sizes asked for" if sizes else "at small sizes", flush=True)
    small = sizes == "small" or (sizes is None and found["platform"] == "cpu")
    return run_parts(folder, parts(folder.path, folder.work, found["platform"], small), device)


def run_parts(folder: Folder, every: Sequence[Part], device: str) -> int:
    """Runs parts one after the other, and says what came of them; returns the exit code."""
    failed = []
    for part in every:
        status = folder.run(part, device)["status"]
        if status == "failed" or (status == "not begun" and part.sweep is None):
            failed.append(part.name)
    print(f"== {folder.path}, {device}")
    for name, own in folder.records.items():
        print(f"{name:24} {own['status']:9} {own['seconds']:8.1f} s")
    for line in folder.large():
        failed.append("small files")
        print(line)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return cli.EXIT_FAILED if failed else cli.EXIT_OK


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _stop(*_: object) -> None:
    raise SystemExit(cli.EXIT_STOPPED)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the command line and runs what is not there yet; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minutes", type=_minutes, help="for everything, more than 0")
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="default: %(default)s")
    text = "full or small; default: full on an accelerator, small on a CPU"
    parser.add_argument("--sizes", choices=("full", "small"), help=text)
    options = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    seconds = 60 * options.minutes
    path = pathlib.Path(options.folder).absolute()
    os.chdir(ROOT)  # so that commands are as one would type them
    path = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    folder = Folder(path, time.monotonic() + seconds, seconds)
    return run(folder, options.sizes)


if __name__ == "__main__":
    sys.exit(main())
