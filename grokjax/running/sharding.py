"""Shards: a grid cut into disjoint parts of like cost, one for each of many independent jobs.

Which runs a shard holds is a function of the set of runs and of the number of shards alone: not of
the order of axes or values, the machine, the library versions, or what the other shards do.
"""

import hashlib
import heapq
from collections.abc import Mapping, Sequence

from grokjax.settings.config import Shard
from grokjax.settings.fields import InvalidSettingError, check
from grokjax.settings.grid import Run

N_SHARDS_VARIABLE = "GROKJAX_SHARDS"


def detect(environment: Mapping[str, str]) -> tuple[Shard, str] | None:
    """The shard that a scheduler's variables name, and where it was read; None outside of one.

    ``GROKJAX_SHARDS=N`` says the number whatever the scheduler says, and then the index is the
    variable as it stands, so that one task submitted again by itself (``sbatch --array=2``) is
    still 2 of N. Without it Kubernetes and a Slurm array of one task are errors rather than guesses
    (``InvalidSettingError``), as are two schedulers. Numbers of processes within one job
    (``SLURM_PROCID``, ``SKYPILOT_NODE_RANK``) name no shard.
    """
    found = [name for name in _READERS if environment.get(name)]
    if not found:
        return None
    told = environment.get(N_SHARDS_VARIABLE)
    source = " and ".join(f"{name}={environment[name]}" for name in found)
    source += f" with {N_SHARDS_VARIABLE}={told}" if told else ""
    try:
        if len(found) > 1:
            raise ValueError("two schedulers name one")
        read = _READERS[found[0]]
        index, count = (int(environment[found[0]]), int(told)) if told else read(environment)
        return Shard(index=index, count=count), source
    except KeyError as error:
        problem = f"{error.args[0]} is not set"
    except ValueError as error:
        problem = str(error)
    message = (
        f"the flag is absent, and {source} names no shard ({problem}); say --shard=i/N, or set "
        f"{N_SHARDS_VARIABLE}=N, or say --shard=none for the whole grid"
    )
    raise InvalidSettingError("shard", "", message)


def _slurm(environment: Mapping[str, str]) -> tuple[int, int]:
    index, first, last, step, count = (
        int(environment[f"SLURM_ARRAY_TASK_{name}"])
        for name in ("ID", "MIN", "MAX", "STEP", "COUNT")
    )
    if count == 1:
        raise ValueError("it is the only task of its array")
    if (index - first) % step or (last - first) // step + 1 != count:
        raise ValueError(f"its array of {count} from {first} to {last} has gaps")
    return (index - first) // step, count


def _kubernetes(environment: Mapping[str, str]) -> tuple[int, int]:
    raise ValueError("Kubernetes does not tell how many completions there are")


def _skypilot(environment: Mapping[str, str]) -> tuple[int, int]:
    return int(environment["SKYPILOT_JOB_RANK"]), int(environment["SKYPILOT_NUM_JOBS"])


_READERS = {
    "SLURM_ARRAY_TASK_ID": _slurm,  # of a job array
    "JOB_COMPLETION_INDEX": _kubernetes,  # of an Indexed Job
    "SKYPILOT_JOB_RANK": _skypilot,  # of ``sky jobs launch --num-jobs``
}


def chosen(flag: str | None, environment: Mapping[str, str]) -> tuple[Shard | None, str]:
    """The shard in force and what says so; raises ``InvalidSettingError``."""
    if flag is not None:
        return Shard.parse(flag), "--shard"
    return detect(environment) or (None, "")


def split(runs: Sequence[Run], costs: Sequence[int], count: int) -> tuple[tuple[Run, ...], ...]:
    """Cuts a grid into ``count`` shards; each keeps the grid's order.

    Each run, dearest first, goes to the shard that has least so far (Graham's longest processing
    time first), so the costs of any two shards differ by at most that of one run. Among runs of
    equal cost the order is one that no axis decides. ``costs`` are as ``training.work.costs``
    counts them; ``InvalidSettingError`` is raised if there are fewer runs than shards.
    """
    message = f"the grid has {len(runs)} runs; take at most as many shards"
    check(count <= len(runs), "shard", f"…/{count}", message)
    dearest_first = sorted(
        (-cost, hashlib.sha256(run.run_id.encode()).hexdigest(), run.run_id)
        for run, cost in zip(runs, costs, strict=True)
    )
    heap = [(0, 0, index) for index in range(count)]
    home = {}
    for less, _, run_id in dearest_first:
        load, held, index = heap[0]
        home[run_id] = index
        heapq.heapreplace(heap, (load - less, held + 1, index))
    return tuple(tuple(run for run in runs if home[run.run_id] == i) for i in range(count))
