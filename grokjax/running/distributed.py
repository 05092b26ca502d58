"""Several processes as one job: which of them this is, and waiting for what the others leave.

Process k of N trains part k of the grid (``sharding``) on its own devices, into a work directory of
its own, and process 0 joins these (``joining``). They never talk: process 0 looks at the others'
directories. JAX's runtime joins them on a TPU slice alone, whose devices do not come up otherwise.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Mapping

import jax
from jax._src import hardware_utils

from grokjax.settings.config import SweepConfig
from grokjax.settings.fields import InvalidSettingError, check
from grokjax.store import checkpoints, locks, record
from grokjax.training.stopping import Stopped, StopRequest

MODES = ("auto", "yes", "no")
# What a launcher tells each process: how many there are → which of them it is.
_LAUNCHERS = {
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
}
_PATIENCE = 120.0  # seconds in which a process has to begin, also from one part to the next
_LONGEST_JOB = 30 * 24 * 3600  # seconds that JAX lets a process wait at its end for the others


@dataclasses.dataclass(frozen=True)
class Process:
    """Process ``index`` (from 0) of the ``count`` of a job."""

    index: int = 0
    count: int = 1
    source: str = ""  # what said so; empty if it is alone

    def __str__(self) -> str:
        return f"{self.index} of {self.count}"


def find(
    mode: str,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    environment: Mapping[str, str] = os.environ,
) -> Process:
    """Which process this is, of how many; on a TPU slice it joins the others, for the devices.

    In mode ``auto`` there are others if number and index are given, by flags or as
    ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` (as a Kubernetes JobSet does), or if ``srun``,
    ``mpirun`` or a multi-host TPU slice started more than one. ``yes`` leaves it to JAX to find the
    others if none of these names them, ``no`` looks for none. A coordinator, by flag or as
    ``JAX_COORDINATOR_ADDRESS``, is for a slice that JAX cannot discover. Raises
    ``InvalidSettingError`` if flags give only some of it, or JAX finds no others.
    """
    check(mode in MODES, "distributed", mode, f"must be one of {', '.join(MODES)}")
    if mode == "no":
        return Process()
    address = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    numbers = {"num_processes": num_processes, "process_id": process_id}
    told = {
        flag: environment.get(f"JAX_{flag.upper()}", "") if number is None else str(number)
        for flag, number in numbers.items()
    }
    if all(told.values()):
        process = _process(told["process_id"], told["num_processes"], "as told")
        if address and _has_tpu():
            own = {"process_id": process.index, "num_processes": process.count}
            _joined(process.source, coordinator_address=address, **own)
        return process
    given = {number for number in (coordinator, *numbers.values())} != {None}
    lacking = next(flag for flag, text in told.items() if not text)
    check(not given, lacking, "", "is needed too: --num_processes and --process_id")
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return _joined("from TPU_WORKER_HOSTNAMES")
    for name, rank in _LAUNCHERS.items():
        n_started = environment.get(name, "1")
        if n_started.isdecimal() and int(n_started) > 1:
            return _process(environment.get(rank, ""), n_started, f"from {name}={n_started}")
    return _joined("from --distributed=yes") if mode == "yes" else Process()


def _process(index: str, count: str, source: str) -> Process:
    for flag, text in (("num_processes", count), ("process_id", index)):
        check(text.isdecimal(), flag, text, "must be an integer of at least 0")
    fits = int(index) < int(count)
    check(fits, "process_id", index, f"must be below the number of processes, {count}")
    return Process(int(index), int(count), source)


def _has_tpu() -> bool:
    """Whether TPU chips are there to be used; they are not looked into."""
    platforms = jax.config.values["jax_platforms"]
    chips, _ = hardware_utils.num_available_tpu_chips_and_device_id()
    return chips > 0 and (not platforms or "tpu" in platforms)


def _joined(source: str, **settings: object) -> Process:
    """This process among those that JAX finds and joins."""
    try:
        # A process that has done its part must not end those that have not.
        jax.distributed.initialize(**settings, shutdown_timeout_seconds=_LONGEST_JOB)  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        raise InvalidSettingError("distributed", settings or "yes", str(error)) from error
    checkpoints.belong_to_one_process()
    return Process(jax.process_index(), jax.process_count(), source)


def wait(parts: Mapping[pathlib.Path, SweepConfig], process: Process, stop: StopRequest) -> None:
    """Returns when the other processes' parts, by work directory, are finished.

    Raises ``Stopped`` if asked to stop, or if a process is not at work and has not finished.
    """
    others = [
        (k, folder) for k in range(1, process.count) for folder in list(parts)[k :: process.count]
    ]
    at_work = dict.fromkeys(range(process.count), time.monotonic())
    told = ""
    while left := [(k, own) for k, own in others if not record.is_finished(own, parts[own])]:
        names = ", ".join(folder.name for _, folder in left)
        if names != told:
            told = names
            print(f"waiting for the other processes' parts: {names}", flush=True)
        at_work |= {k: time.monotonic() for k, folder in others if locks.is_held(folder)}
        for k, folder in left:
            if time.monotonic() - at_work[k] > _PATIENCE:
                raise Stopped(f"process {k} is not at work, and {folder} is not finished")
        if stop.due(0):
            raise Stopped(stop.reason)
        time.sleep(1)
