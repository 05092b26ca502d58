"""Shards: a grid cut into disjoint parts of like cost, one for each of many independent jobs.

Which runs a shard holds is a function of the set of runs and of the number of shards alone: not of
the order of axes or values, the machine, the library versions, or what the other shards do.
"""

import dataclasses
import hashlib
import heapq
from collections.abc import Mapping, Sequence

from grokjax import datasets
from grokjax.grid import IMAGE_MODELS, InvalidSettingError, ModelConfig, RunSpec, TrainConfig

N_SHARDS_VARIABLE = "GROKJAX_SHARDS"
_MOST_SHARDS = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """Part ``index`` (from 0) of ``count``."""

    index: int
    count: int

    def __post_init__(self) -> None:
        """Checks 0 <= index < count."""
        if not (1 <= self.count <= _MOST_SHARDS and 0 <= self.index < self.count):
            raise InvalidSettingError("shard", self, _ALLOWED)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def folder(self) -> str:
        """Name of the shard's own work directory, below the one that --workdir names."""
        return f"shard-{self.index:03d}-of-{self.count:03d}"


_ALLOWED = "must be i/N with i from 0 to N - 1, such as 0/4, or none for the whole grid"


def parse(text: str) -> Shard | None:
    """The shard that ``i/N`` names, None for ``none``; raises ``InvalidSettingError``."""
    if text.strip() == "none":
        return None
    index, _, count = text.partition("/")
    try:
        return Shard(index=int(index), count=int(count))
    except ValueError as error:  # of int() or of Shard
        raise InvalidSettingError("shard", text, _ALLOWED) from error


# --------------------------------------------------------------------------- schedulers


def detect(environment: Mapping[str, str]) -> tuple[Shard, str] | None:
    """The shard that a scheduler's variables name, and where it was read; None outside of one.

    ======================== ======================================= =========================
    variable                 set by                                  index; number of shards
    ======================== ======================================= =========================
    ``SLURM_ARRAY_TASK_ID``  a Slurm job array                       (ID - MIN) / STEP; COUNT
    ``JOB_COMPLETION_INDEX`` a Kubernetes Indexed Job                the index; not told
    ``SKYPILOT_JOB_RANK``    ``sky jobs launch --num-jobs``          the rank; NUM_JOBS
    ======================== ======================================= =========================

    ``GROKJAX_SHARDS=N`` says the number whatever the scheduler says, and then the index is the
    variable as it stands, so that one task submitted again by itself (``sbatch --array=2``) is
    still 2 of N. Kubernetes does not tell a pod how many there are, and gives the same variable
    to the pods of one coupled job; a Slurm array of one task may be one of many. Both are errors
    rather than guesses. What numbers processes within one job (``SLURM_PROCID``,
    ``SKYPILOT_NODE_RANK``) never names a shard.

    Raises:
        InvalidSettingError: naming the variable, if it names no shard, or if two schedulers do.
    """
    found = [f"{name}={environment[name]}" for name in _READERS if environment.get(name)]
    if not found:
        return None
    told = environment.get(N_SHARDS_VARIABLE)
    source = " and ".join(found) + (f" with {N_SHARDS_VARIABLE}={told}" if told else "")
    name = found[0].partition("=")[0]
    try:
        if len(found) > 1:
            raise ValueError("two schedulers name one")
        index, count = (int(environment[name]), int(told)) if told else _READERS[name](environment)
        return Shard(index=index, count=count), source
    except KeyError as error:
        problem = f"{error.args[0]} is not set"
    except ValueError as error:
        problem = str(error)
    raise InvalidSettingError(
        "shard",
        "",
        f"the flag is absent, and {source} names no shard ({problem}); say --shard=i/N, or set "
        f"{N_SHARDS_VARIABLE}=N, or say --shard=none for the whole grid",
    )


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
    "SLURM_ARRAY_TASK_ID": _slurm,
    "JOB_COMPLETION_INDEX": _kubernetes,
    "SKYPILOT_JOB_RANK": _skypilot,
}


# --------------------------------------------------------------------------- cost


def flops(run: RunSpec, config: ModelConfig, train: TrainConfig) -> int:
    """Floating-point operations of the matrix products that training and evaluating a run takes.

    Counted from the shapes in ``models.py``: per step a forward pass and twice that for the
    gradient, tables of all residues included; per checkpoint a forward pass over all pairs.
    Written out rather than asked of the compiler, so that every version of it splits alike.
    """
    n_pairs, p = train.batch_size, run.prime
    step = 3 * _forward(config, p, n_pairs) + _lookup_gradient(config, p, n_pairs)
    evaluation = _forward(config, p, run.side**2)
    return train.steps * step + len(train.checkpoint_steps) * evaluation


def _forward(config: ModelConfig, p: int, n_pairs: int) -> int:
    if config.model in IMAGE_MODELS:
        n_pixels, _ = datasets.PIXELS[IMAGE_MODELS[config.model]]
        width = config.mlp_width
        hidden = (config.mlp_depth - 1) * width * width
        return 2 * n_pairs * (n_pixels * width + hidden + width * p)
    if config.model == "mlp":
        width = config.mlp_width
        hidden = (config.mlp_depth - 1) * width * width
        return 2 * (2 * p * config.d_model * width + n_pairs * (hidden + width * p))
    width, products = config.d_model, 2 * p * 3 * config.d_model**2
    for depth in range(config.n_layers):
        queries = n_pairs * (1 if depth == config.n_layers - 1 else 2)
        if depth > 0:
            products += queries * width**2 + 2 * n_pairs * 2 * width**2
        products += queries * (width**2 + 2 * width * config.d_ff)
    return 2 * (products + n_pairs * width * p)


def _lookup_gradient(config: ModelConfig, p: int, n_pairs: int) -> int:
    """The gradient of a look-up is a product with one-hot rows; the look-up itself is none."""
    if config.model in IMAGE_MODELS:
        return 0
    columns = config.mlp_width if config.model == "mlp" else 4 * config.d_model
    return 2 * 2 * p * n_pairs * columns


def _by_cost(
    runs: Sequence[RunSpec], configs: Mapping[str, ModelConfig], train: TrainConfig
) -> list[tuple[int, RunSpec]]:
    """Runs with their cost, dearest first; among equals in an order that no axis decides."""
    costs: dict[tuple[str, int], int] = {}
    for run in runs:
        key = run.model, run.prime
        if key not in costs:
            costs[key] = flops(run, configs[run.model], train)

    def place(item: tuple[int, RunSpec]) -> tuple[int, str]:
        return -item[0], hashlib.sha256(item[1].run_id.encode()).hexdigest()

    return sorted(((costs[run.model, run.prime], run) for run in runs), key=place)


def split(
    runs: Sequence[RunSpec], configs: Mapping[str, ModelConfig], train: TrainConfig, count: int
) -> tuple[tuple[RunSpec, ...], ...]:
    """Cuts a grid into ``count`` shards; each keeps the grid's order.

    Each run, dearest first, goes to the shard that has least so far (Graham's longest processing
    time first), so the costs of any two shards differ by at most that of one run.

    Raises:
        InvalidSettingError: if there are fewer runs than shards.
    """
    if count > len(runs):
        raise InvalidSettingError(
            "shard", f"…/{count}", f"the grid has {len(runs)} runs; take at most as many shards"
        )
    heap = [(0, 0, index) for index in range(count)]
    home = {}
    for cost, run in _by_cost(runs, configs, train):
        load, held, index = heapq.heappop(heap)
        home[run] = index
        heapq.heappush(heap, (load + cost, held + 1, index))
    return tuple(tuple(run for run in runs if home[run] == index) for index in range(count))
