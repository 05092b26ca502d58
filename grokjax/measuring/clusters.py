"""Diagnostics on a dask.distributed cluster: the tasks of a local analysis, elsewhere.

A task is a checkpoint and a slice of its batch's runs, seconds long. A worker reads the checkpoint
itself from the work directory, which it has to see under the same path, and returns rows for the
process that handed the tasks out. The scheduler gives tasks of a worker that died to another.
"""

import dataclasses
import functools
import itertools
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from grokjax.diagnostics import Options
from grokjax.measuring.analyst import Analyst, Found, Waiting
from grokjax.settings import plugins
from grokjax.settings.fields import InvalidSettingError
from grokjax.store import record
from grokjax.store.checkpoints import RunBatch

# A slice of a batch: enough to be worth a message, too little to wait long for.
_RUNS_A_TASK = 16
# Tasks handed out at once, for each thread of the cluster: one running, one waiting.
_TASKS_A_THREAD = 2


def measure_all(analyst: Analyst, scheduler: str, progress: Callable[[int, int], None]) -> None:
    """Measures everything committed on the cluster; ``progress(done, total)`` after each task.

    ``scheduler`` is its address, or ``local`` for a cluster of this machine's cores;
    ``InvalidSettingError`` if it does not answer or dask.distributed is not installed.
    """
    tasks = list(_tasks(analyst))
    if not tasks:
        return
    # A worker runs as many tasks at once as it has threads: each of them takes one.
    options = dataclasses.replace(analyst.options, ph_threads=1)
    distributed, client = _connect(scheduler)
    with client:
        n_threads = sum(client.nthreads().values()) or 1
        left = iter(tasks)

        def submit(task: tuple[RunBatch, int, Waiting]) -> Any:
            # By name and never twice the same: a result belongs to this call alone.
            where = str(analyst.workdir.absolute()), tuple(plugins.loaded())
            return client.submit(_measure, *where, options, *task, pure=False)

        first = [submit(task) for task in itertools.islice(left, _TASKS_A_THREAD * n_threads)]
        running = distributed.as_completed(first)
        for done, future in enumerate(running, start=1):
            analyst.commit(*future.result())
            future.release()
            progress(done, len(tasks))
            for task in itertools.islice(left, 1):
                running.add(submit(task))


def _tasks(analyst: Analyst) -> Iterator[tuple[RunBatch, int, Waiting]]:
    for batch, step in analyst.committed():
        waiting = analyst.pending(batch, step)
        for first in range(0, len(batch.run_ids), _RUNS_A_TASK):
            members = set(batch.run_ids[first : first + _RUNS_A_TASK])
            part = {name: [i for i in ids if i in members] for name, ids in waiting.items()}
            part = {name: ids for name, ids in part.items() if ids}
            if part:
                yield batch, step, part


def _connect(scheduler: str) -> tuple[Any, Any]:
    own: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    try:
        import distributed

        given = own if scheduler == "local" else {"address": scheduler, "timeout": 30}
        return distributed, distributed.Client(**given)
    except ImportError:
        message = "needs dask.distributed: pip install 'grokjax[dask]'"
    except (OSError, ValueError) as error:
        message = f"does not answer: {error}"
    raise InvalidSettingError("scheduler", scheduler, message)


_reading = threading.Lock()


@functools.lru_cache(maxsize=4)
def _analyst(folder: str, named: tuple[str, ...], options: Options) -> Analyst:
    plugins.load(named)
    return Analyst(pathlib.Path(folder), record.read_config(pathlib.Path(folder)), options)


def _measure(
    folder: str,
    named: tuple[str, ...],
    options: Options,
    batch: RunBatch,
    step: int,
    waiting: Waiting,
) -> tuple[int, Waiting, Found]:
    """What one task found, and what of."""
    analyst = _analyst(folder, named, options)
    with _reading:  # Orbax's managers are not for several threads
        views = analyst.views(batch, step, waiting)
    return step, waiting, analyst.compute(waiting, views)
