"""One run's training step, scanned over steps and mapped over the runs of a batch.

The step is written for one run; runs meet only in ``_over_runs``, at the outside. Nothing here
touches a file. Shapes as in ``models.py`` and ``tasks.py``: R runs, B pairs a step, N training
pairs, P padded prime.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from grokjax import tasks
from grokjax.grid import PRECISIONS, TrainConfig, check
from grokjax.models import Model, Params, mask_padding
from grokjax.tasks import RunData

# The study's optimiser: AdamW with these, linear warm-up to a constant rate.
BETA1, BETA2, EPSILON, WARMUP_STEPS = 0.9, 0.98, 1e-6, 10

# Omnigrok's for images: AdamW's defaults, no warm-up.
_IMAGE_BETA2, _IMAGE_EPSILON = 0.999, 1e-8

# Pairs evaluated at once by one run; bounds the memory of evaluation.
_EVALUATION_BLOCK = 4096


class State(NamedTuple):
    """What the next step needs: parameters and optimiser state (a leading R axis in a batch)."""

    params: Params
    opt_state: Any


class Evaluation(NamedTuple):
    """Sums over all pairs at one checkpoint; the last axis is train, leaked test, novel test."""

    count: Any  # (3,) int32 pairs
    right: Any  # (3,) int32 of them answered right
    loss: Any  # (3,) float32 sum of cross-entropies, of images: of squared errors
    weight_norm: Any  # () float32, over the run's own parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """The static part of a batch: one compiled program per value of this."""

    model: Model
    batch_size: int
    precision: str
    loss_precision: str = "float32"

    @classmethod
    def of(cls, model: Model, config: TrainConfig) -> "Program":
        """The program that trains batches of ``model`` under ``config``."""
        return cls(
            model=model,
            batch_size=config.batch_size,
            precision=config.precision,
            loss_precision=config.loss_precision,
        )


def check_precision(precision: str) -> None:
    """Raises ``InvalidSettingError`` if the device would quietly train at another precision."""
    platform = jax.default_backend()
    check(
        precision != "tf32" or platform == "gpu",
        "precision",
        precision,
        f"only a GPU has TF32 products, not a {platform}; float32 and bfloat16 are everywhere",
    )


# --------------------------------------------------------------------------- one run


def _optimiser(program: Program, run: RunData) -> optax.GradientTransformation:
    if program.model.of_images:
        return optax.adamw(
            run.learning_rate,
            b1=BETA1,
            b2=_IMAGE_BETA2,
            eps=_IMAGE_EPSILON,
            weight_decay=run.weight_decay,
        )

    def rate(count: jax.Array) -> jax.Array:
        return run.learning_rate * jnp.minimum(1.0, (count + 1) / WARMUP_STEPS)

    return optax.adamw(rate, b1=BETA1, b2=BETA2, eps=EPSILON, weight_decay=run.weight_decay)


def _init(program: Program, run: RunData) -> State:
    params = program.model.init(
        jax.random.wrap_key_data(run.init_key, impl="threefry2x32"), run.prime, run.init_scale
    )
    return State(params, _optimiser(program, run).init(params))


def training_order(run: RunData, first_step: jax.Array, n_steps: int, batch_size: int) -> jax.Array:
    """Indices into the training pairs for steps first_step … first_step + n_steps - 1.

    The run sees one endless stream: a fresh permutation of its n_train pairs after another, cut
    into batches, so every pair comes once an epoch and a batch may span two epochs. The stream is
    a function of the run's key and the position alone; where a chunk starts does not matter.

    All epochs that a chunk touches come from one sort by (epoch, random word): its length does
    not depend on n_train, so runs of very different sizes share a batch cheaply.

    Returns:
        (n_steps, B) int32, each below the run's n_train.
    """
    n_max = run.train_a.shape[-1]
    n_train = run.n_train
    wanted = n_steps * batch_size
    first = first_step * batch_size
    start = first // n_train * n_train
    position = start + jnp.arange(wanted + 2 * n_max, dtype=jnp.int32)
    epoch, offset = position // n_train, position % n_train
    key = jax.random.wrap_key_data(run.batch_key, impl="threefry2x32")

    def word(epoch: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, epoch), offset))

    _, _, order = jax.lax.sort((epoch, jax.vmap(word)(epoch, offset), offset), num_keys=2)
    chunk = jax.lax.dynamic_slice_in_dim(order, first - start, wanted)
    return chunk.reshape(n_steps, batch_size)


def _masked_logits(
    program: Program, params: Params, prime: jax.Array, a: jax.Array, b: jax.Array
) -> jax.Array:
    """(B, P) logits with those of padding residues at the lowest float."""
    logits = program.model.logits(params, a, b)
    real = jnp.arange(program.model.n_tokens) < prime
    return jnp.where(real[None], logits, jnp.finfo(logits.dtype).min)


@jax.custom_vjp
def cross_entropy_in_float64(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropies of (B, P) logits with labels (B,), by way of float64 from the logits on.

    In float32 a pair answered with 17 nats to spare has a loss and a gradient of nothing, the
    "softmax collapse" that stops grokking without weight decay (Prieto et al. 2025, arXiv
    2501.04697). Here sums leave out their largest term, a one, so that what is small keeps its
    digits; losses and gradient are rounded to float32 at the very end.

    Returns:
        (B,) float32.
    """
    return _cross_entropy_forward(logits, label)[0]


def _exponentials(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In float64: gaps to the largest logit, their exponentials, and the sum without the one."""
    gap = logits.astype(jnp.float64)
    gap -= gap.max(axis=-1, keepdims=True)
    power = jnp.exp(gap)
    # With 32-bit indices: those of 64 would outlive the context that allows them.
    largest = _hot(jax.lax.argmax(logits, 1, jnp.int32), gap)
    return gap, power, jnp.where(largest, 0, power).sum(axis=-1)


def _hot(index: jax.Array, like: jax.Array) -> jax.Array:
    return index[:, None] == jnp.arange(like.shape[1], dtype=index.dtype)[None]


def _cross_entropy_forward(logits: jax.Array, label: jax.Array) -> tuple[Any, Any]:
    # Only in here, so that nothing else changes its dtype.
    with jax.enable_x64(True):
        gap, _, others = _exponentials(logits)
        loss = jnp.log1p(others) - jnp.where(_hot(label, gap), gap, 0).sum(axis=-1)
        return loss.astype(jnp.float32), (logits, label)


def _cross_entropy_backward(saved: tuple[Any, ...], gradient: jax.Array) -> tuple[Any, None]:
    logits, label = saved
    with jax.enable_x64(True):
        _, power, others = _exponentials(logits)
        share = power / (1 + others)[:, None]
        wrong = jnp.where(_hot(label, share), 0, share)
        to_logits = jnp.where(_hot(label, share), -wrong.sum(axis=-1, keepdims=True), wrong)
        return (to_logits * gradient.astype(jnp.float64)[:, None]).astype(jnp.float32), None


cross_entropy_in_float64.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """(B,) cross-entropies of (B, P) logits with labels.

    The label's logit is picked by a mask: a look-up's gradient would be a scatter, which
    accelerators do badly. Sum and look-up agree to the bit.
    """
    chosen = jnp.arange(logits.shape[-1])[None] == label[:, None]
    picked = jnp.where(chosen, logits, 0).sum(-1)
    return jax.nn.logsumexp(logits, axis=-1) - picked


def example_losses(program: Program, logits: jax.Array, label: jax.Array) -> jax.Array:
    """(B,) cross-entropies; of images the squared error, mean over outputs, of raw outputs."""
    if program.model.of_images:
        target = jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
        return jnp.mean((logits - target) ** 2, axis=-1)
    if program.loss_precision == "float64":
        return cross_entropy_in_float64(logits, label)
    return cross_entropy(logits, label)


def _loss(
    params: Params, program: Program, prime: jax.Array, batch: tuple[jax.Array, ...]
) -> jax.Array:
    a, b, label = batch
    logits = _masked_logits(program, params, prime, a, b)
    return example_losses(program, logits, label).mean()


def _train_run(
    program: Program, n_steps: int, state: State, run: RunData, first_step: jax.Array
) -> tuple[State, jax.Array]:
    """n_steps steps of one run; returns the state and the (n_steps,) batch losses."""
    optimiser = _optimiser(program, run)
    order = training_order(run, first_step, n_steps, program.batch_size)
    batches = (run.train_a[order], run.train_b[order], run.train_label[order])

    def step(state: State, batch: tuple[jax.Array, ...]) -> tuple[State, jax.Array]:
        loss, gradient = jax.value_and_grad(_loss)(state.params, program, run.prime, batch)
        updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state), loss

    return jax.lax.scan(step, state, batches)


def _evaluate_run(program: Program, params: Params, run: RunData) -> Evaluation:
    """Losses and right answers over all p^2 pairs of one run, and the norm of its parameters."""
    side = program.model.side
    rows = max(1, _EVALUATION_BLOCK // side)
    n_blocks = -(-side // rows)
    b = jnp.tile(jnp.arange(side), rows)

    def block(first: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        a = jnp.repeat(first + jnp.arange(rows), side)
        inside = a < side
        a = jnp.minimum(a, side - 1)
        logits = _masked_logits(program, params, run.prime, a, b)
        label = run.labels[a, b]
        split = jnp.where(inside, run.split[a, b], tasks.PADDING)
        loss = example_losses(program, logits, label)
        right = jnp.argmax(logits, axis=-1) == label
        member_BK = split[:, None] == jnp.array([[tasks.TRAIN, tasks.LEAKED, tasks.NOVEL]])
        return (
            member_BK.sum(0),
            jnp.where(member_BK, loss[:, None], 0).sum(0),
            (member_BK & right[:, None]).sum(0),
        )

    blocks = jax.lax.map(block, jnp.arange(n_blocks) * rows)
    count, loss, right = (part.sum(0) for part in blocks)
    squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(mask_padding(params, run.prime))]
    norm = jnp.sqrt(jnp.stack(squares).sum())
    return Evaluation(count=count, right=right, loss=loss, weight_norm=norm)


# --------------------------------------------------------------------------- many runs


def use_every_core() -> None:
    """Makes each core of a CPU a device of its own, to be called before JAX is first used.

    A run's products are too small to keep several cores busy: of two runs side by side, a core
    each, 1.2 (MLP) to 1.3 (transformer) times as many steps are made as on both in turn
    (experiments/benchmarks/devices.py). JAX_NUM_CPU_DEVICES, or XLA's flag of that purpose, says
    otherwise; where JAX is in use already, nothing changes.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if told or jax.config.values["jax_num_cpu_devices"] > 0:
        return
    with contextlib.suppress(RuntimeError):  # in use
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def runs_mesh(n_runs: int) -> Mesh:
    """A mesh with the one axis ``runs``, over the local devices or as many as n_runs keep busy.

    Of devices that would have nothing but padding to do none is taken: five runs on four devices
    are two rounds, for which three do.
    """
    devices = jax.local_devices()
    rounds = -(-n_runs // len(devices))
    return Mesh(np.array(devices[: -(-n_runs // rounds)]), ("runs",))


def _one_by_one(mesh: Mesh) -> bool:
    return bool(mesh.devices.flat[0].platform == "cpu")


def _over_runs(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a one-run function over the runs of a batch, split over the mesh's devices.

    Runs never talk to each other, so each device gets a program of its own without collectives.
    An accelerator takes its runs at once (vmap). A CPU takes them one after the other: one run's
    parameters and activations stay in its cache, where those of all runs would not, and the
    matrix products of a single run fill its cores already.
    """
    runs, same = PartitionSpec("runs"), PartitionSpec()
    one_by_one = _one_by_one(mesh)

    def batched(mapped: Any, shared: Any) -> Any:
        if one_by_one:
            return jax.lax.map(lambda run: function(run, shared), mapped)
        return jax.vmap(function, in_axes=(0, None))(mapped, shared)

    return jax.shard_map(batched, mesh=mesh, in_specs=(runs, same), out_specs=runs, check_vma=False)


def place(mesh: Mesh, tree: Any) -> Any:
    """NumPy arrays with a leading R axis → device arrays, R padded to the mesh's devices.

    Padding repeats the last run; callers drop rows at or past R.
    """
    sharding = NamedSharding(mesh, PartitionSpec("runs"))

    def put(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        missing = -leaf.shape[0] % mesh.size
        if missing:
            leaf = np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)])
        return jax.device_put(leaf, sharding)

    return jax.tree.map(put, tree)


def _jit(mesh: Mesh, function: Callable[..., Any], **options: Any) -> Any:
    # Said outright, because JAX gives some outputs an equivalent sharding of another spelling,
    # with which the next call would compile again.
    return jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec("runs")), **options)


@functools.cache
def _compiled_init(program: Program, mesh: Mesh) -> Any:
    return _jit(mesh, lambda runs: _over_runs(mesh, lambda run, _: _init(program, run))(runs, None))


@functools.cache
def compiled_chunk(program: Program, mesh: Mesh, n_steps: int) -> Any:
    """The jitted function behind ``train_chunk``: (state, runs, first_step) → (state, losses)."""

    def chunk(state: State, runs: RunData, first_step: jax.Array) -> tuple[State, jax.Array]:
        def one(mapped: tuple[State, RunData], first: jax.Array) -> tuple[State, jax.Array]:
            return _train_run(program, n_steps, *mapped, first)

        with jax.default_matmul_precision(PRECISIONS[program.precision]):
            return _over_runs(mesh, one)((state, runs), first_step)

    return _jit(mesh, chunk, donate_argnums=0)


@functools.cache
def compiled_evaluation(program: Program, mesh: Mesh) -> Any:
    """The jitted function behind ``evaluate``: (params, runs) → Evaluation."""

    def evaluation(params: Params, runs: RunData) -> Evaluation:
        def one(mapped: tuple[Params, RunData], _: None) -> Evaluation:
            return _evaluate_run(program, *mapped)

        with jax.default_matmul_precision(PRECISIONS[program.precision]):
            return _over_runs(mesh, one)((params, runs), None)

    return _jit(mesh, evaluation)


def init(program: Program, mesh: Mesh, runs: RunData) -> State:
    """Step-0 states of the runs."""
    return _compiled_init(program, mesh)(runs)


def train_chunk(
    program: Program, mesh: Mesh, n_steps: int, state: State, runs: RunData, first_step: int
) -> tuple[State, jax.Array]:
    """Trains all runs for ``n_steps`` steps from ``first_step``; ``state`` is consumed.

    Returns:
        The new state, and (R, n_steps) losses of the batches as they were met.
    """
    return compiled_chunk(program, mesh, n_steps)(state, runs, jnp.int32(first_step))


def evaluate(program: Program, mesh: Mesh, params: Params, runs: RunData) -> Evaluation:
    """Sums of all runs over all their pairs, each with a leading R axis."""
    return compiled_evaluation(program, mesh)(params, runs)


def metrics(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """The columns of the metrics table, (R,) float64 each, from NumPy sums of R runs.

    Accuracies are ratios of whole numbers in float64, so that 9 of 10 is 0.9. NaN where a set of
    pairs is empty, and everywhere but in the norm once losses or parameters are not finite: such
    a network answers at random.
    """
    count, right = evaluation.count.astype(np.float64), evaluation.right.astype(np.float64)
    loss = evaluation.loss.astype(np.float64)
    sane = np.isfinite(evaluation.weight_norm) & np.isfinite(loss).all(axis=-1)

    def share(part: np.ndarray, members: slice) -> np.ndarray:
        total = count[:, members].sum(axis=1)
        ratio = part[:, members].sum(axis=1) / np.where(total > 0, total, np.nan)
        return np.where(sane, ratio, np.nan)

    train_pairs, test, novel = slice(0, 1), slice(1, 3), slice(2, 3)
    with np.errstate(invalid="ignore"):
        return {
            "train_loss": share(loss, train_pairs),
            "train_accuracy": share(right, train_pairs),
            "test_loss": share(loss, test),
            "test_accuracy": share(right, test),
            "novel_accuracy": share(right, novel),
            "weight_norm": evaluation.weight_norm.astype(np.float64),
        }


def bytes_per_run(program: Program, n_train: int, n_steps: int) -> int:
    """Device memory one run takes in a chunk, estimated from array sizes, in bytes.

    Counts parameters, gradient and two moments twice (donation cannot always reuse them), the
    activations of a step and of an evaluation block, the sort that orders a chunk's pairs, and
    the run's data.
    """
    config, p = program.model.config, program.model.n_tokens
    n_params = sum(leaf.size for leaf in jax.tree.leaves(program.model.template()))
    if config.model == "transformer":
        width = config.n_layers * (2 * (8 * config.d_model + 4 * config.d_ff)) + 8 * config.d_model
    else:
        width = 4 * config.mlp_depth * config.mlp_width
    activations = (program.batch_size + _EVALUATION_BLOCK) * (width + 4 * p)
    order = 8 * (n_steps * program.batch_size + 2 * n_train)
    return 4 * (8 * n_params + activations + order) + 9 * program.model.side**2 + 12 * n_train


def runs_that_fit(program: Program, n_train: int, n_steps: int) -> int:
    """How many runs one batch may hold: half of what the local devices have, at most 512."""
    devices = jax.local_devices()
    stats = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        memory = stats["bytes_limit"] * len(devices)
    else:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(512, memory // 2 // bytes_per_run(program, n_train, n_steps)))
