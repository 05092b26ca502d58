"""Several processes as one job: found, started, and agreed on when to stop.

Each process trains a part of the grid (``sharding``) over its own devices, into a work directory of
its own, and the first one joins these (``joining``). What is shared is the start, which a TPU slice
needs for its devices to come up at all, the decision to stop, and the end.
"""

import os
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from grokjax.settings.fields import InvalidSettingError, check
from grokjax.training.stopping import Stopped, StopRequest

MODES = ("auto", "yes", "no")
# Launchers that JAX knows, by what they tell each process of how many there are.
_PROCESS_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_ADDRESS = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}


def start(
    mode: str,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Joins this process to the others of its job, if there are any; before devices are used.

    In mode ``auto`` there are others if the three settings are given, by flags or as
    ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` (as a Kubernetes
    JobSet does), or if ``srun``, ``mpirun`` or a multi-host TPU slice started more than one. A
    job script that runs outside of ``srun`` is one process, however many tasks it may start.
    ``yes`` leaves it to JAX to find the others, ``no`` looks for none. Raises
    ``InvalidSettingError`` if only some of the three are given, or JAX finds no others.

    Returns:
        What said so; empty if this process is alone.
    """
    check(mode in MODES, "distributed", mode, f"must be one of {', '.join(MODES)}")
    if mode == "no":
        return ""
    given = coordinator, num_processes, process_id
    found = {
        flag: str(environment.get(variable, "") if value is None else value)
        for (flag, variable), value in zip(_ADDRESS.items(), given, strict=True)
    }
    missing = [flag for flag, value in found.items() if not value]
    if not missing:
        _initialize(
            coordinator_address=found["coordinator"],
            num_processes=_integer("num_processes", found["num_processes"]),
            process_id=_integer("process_id", found["process_id"]),
        )
        return f"process {found['process_id']} of {found['num_processes']}, as told"
    message = "is needed too: --coordinator, --num_processes and --process_id"
    check(given == (None, None, None), missing[0], "", message)
    source = "--distributed=yes" if mode == "yes" else _launcher(environment)
    if not source:
        return ""
    _initialize()
    return f"process {jax.process_index()} of {jax.process_count()}, from {source}"


def _integer(flag: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise InvalidSettingError(flag, value, "must be an integer") from error


def _launcher(environment: Mapping[str, str]) -> str:
    for name in _PROCESS_COUNTS:
        count = environment.get(name, "1")
        if count.isdecimal() and int(count) > 1:
            return f"{name}={count}"
    several = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    return "TPU_WORKER_HOSTNAMES" if several else ""


def _initialize(**settings: object) -> None:
    try:
        jax.distributed.initialize(**settings)  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        raise InvalidSettingError("distributed", settings or "yes", str(error)) from error


class SharedStop(StopRequest):
    """A request to stop that one process's signal makes for all, at the same call of each.

    Every process asks ``due`` after every call to its device, so all of them stop after equally
    many. One that has trained its part keeps answering in ``finish``.
    """

    def due(self, seconds_to_checkpoint: float) -> bool:
        """Whether to stop now, because any process has to."""
        return self._any_due(super().due(seconds_to_checkpoint), finished=False)[0]

    def _any_due(self, due: bool, finished: bool) -> tuple[bool, bool]:
        """Whether any process has to stop, and whether all have finished."""
        answers = multihost_utils.process_allgather(np.array([due, finished]))
        answers = np.asarray(answers).reshape(-1, 2)
        if answers[:, 0].any() and not self.reason:
            self.request("another process was asked to")
        return bool(answers[:, 0].any()), bool(answers[:, 1].all())

    def finish(self) -> None:
        """Returns when every process has finished; raises ``Stopped`` if any has to stop before."""
        finished = False
        while not finished:
            stopping, finished = self._any_due(super().due(0), finished=True)
            if stopping:
                raise Stopped(self.reason)
