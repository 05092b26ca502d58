"""Training: the stream of batches, masking, equality alone and in a batch, divergence."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grokjax import models, tasks, train
from grokjax.settings.grid import PRECISIONS, InvalidSettingError, ModelConfig
from grokjax.models import Model
from grokjax.train import Program, State
from tests import reference
from tests.helpers import SMALL, make_runs


def program_for(runs, batch_size=64, **shape):
    config = ModelConfig(model=runs[0].model, **SMALL | shape)
    model = Model(config=config, n_tokens=max(run.prime for run in runs))
    return Program(model=model, batch_size=batch_size, precision="float32")


class Batch:
    """A batch in training: state, data, and a step counter."""

    def __init__(self, runs, batch_size=64):
        self.runs, self.program = runs, program_for(runs, batch_size)
        self.mesh = train.runs_mesh(len(runs))
        self.data = train.place(self.mesh, tasks.stack(runs))
        self.state = train.init(self.program, self.mesh, self.data)
        self.step = 0

    def train(self, n_steps):
        """Losses (R, n_steps) of the next steps."""
        self.state, losses = train.train_chunk(
            self.program, self.mesh, n_steps, self.state, self.data, self.step
        )
        self.step += n_steps
        return np.asarray(losses)

    def params(self, index):
        """One run's parameters without padding."""
        return models.row(jax.device_get(self.state.params), index, self.runs[index].prime)

    def metrics(self):
        """Columns of metrics."""
        sums = train.evaluate(self.program, self.mesh, self.state.params, self.data)
        return train.metrics(jax.device_get(sums))


# --------------------------------------------------------------------------- the stream


def one_run(n_train, n_max, seed=0):
    zeros = np.zeros(n_max, np.int32)
    fields = dict.fromkeys(tasks.RunData._fields)
    return tasks.RunData(
        **fields
        | {
            "n_train": jnp.int32(n_train),
            "train_a": zeros,
            "batch_key": jnp.array([seed, 7], jnp.uint32),
        }
    )


@pytest.mark.parametrize(("n_train", "batch_size"), [(100, 32), (37, 64), (1, 4), (50, 50)])
def test_every_pair_comes_once_an_epoch_in_a_fresh_order(n_train, batch_size):
    n_steps = -(-4 * n_train // batch_size)
    order = train.training_order(one_run(n_train, 120), jnp.int32(0), n_steps, batch_size)
    stream = np.asarray(order).ravel()
    epochs = [stream[i * n_train : (i + 1) * n_train] for i in range(4)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(n_train))
    if n_train > 10:
        assert not np.array_equal(epochs[0], epochs[1])


def test_the_stream_does_not_depend_on_chunks_or_padding():
    whole = np.asarray(train.training_order(one_run(57, 57), jnp.int32(0), 12, 20))
    order = jax.jit(train.training_order, static_argnums=(2, 3))
    for first in range(10):
        part = np.asarray(order(one_run(57, 90), jnp.int32(first), 2, 20))
        assert np.array_equal(part, whole[first : first + 2])


def test_the_order_is_uniform():
    # First positions over many epochs: each of 8 pairs is first about equally often.
    order = train.training_order(one_run(8, 8), jnp.int32(0), 4000, 8)
    counts = np.bincount(np.asarray(order)[:, 0], minlength=8)
    assert counts.min() > 400
    assert counts.max() < 600


# --------------------------------------------------------------------------- one step


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_steps_equal_textbook_steps(kind):
    (run,) = make_runs(model=[kind])
    batch = Batch([run])
    params = jax.device_get(batch.params(0))
    config, data = batch.program.model.config, jax.tree.map(lambda x: x[0], batch.data)
    order = train.training_order(data, jnp.int32(0), 3, 64)
    losses = batch.train(3)[0]
    first = second = jax.tree.map(np.zeros_like, params)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(params, index):
        a, b = data.train_a[index], data.train_b[index]
        logits, _ = reference.NETWORKS[kind](params, config, a, b)
        log_p = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(log_p, ((a + b) % 23)[:, None], axis=1).mean()

    with jax.default_matmul_precision("highest"):
        for t in range(1, 4):
            value, gradient = jax.device_get(loss_and_gradient(params, order[t - 1]))
            np.testing.assert_allclose(losses[t - 1], value, rtol=1e-5)
            rate = 3e-3 * min(1, t / 10)
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
            second = jax.tree.map(lambda v, g: 0.98 * v + 0.02 * g**2, second, gradient)

            def update(p, m, v, t=t, rate=rate):
                step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.98**t)) + 1e-6)
                return p - rate * (step + 1.0 * p)

            params = jax.tree.map(update, params, first, second)
    for ours, theirs in zip(jax.tree.leaves(batch.params(0)), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


# --------------------------------------------------------------------------- precision


def test_cross_entropy_in_float64_is_numpys():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 13)).astype(np.float32)
    label = rng.integers(0, 13, 50).astype(np.int32)
    logits[np.arange(50), label] += np.linspace(0, 40, 50, dtype=np.float32)  # surer and surer
    rows = np.arange(50)
    wrong = np.exp(logits - logits[rows, label].astype(np.float64)[:, None])
    wrong[rows, label] = 0
    loss = np.log1p(wrong.sum(1))
    to_logits = wrong / (1 + wrong.sum(1, keepdims=True))
    to_logits[rows, label] = -to_logits.sum(1)
    value, pull = jax.vjp(lambda x: train.cross_entropy_in_float64(x, label), jnp.asarray(logits))
    (gradient,) = pull(jnp.full(50, 0.5, jnp.float32))
    assert value.dtype == gradient.dtype == jnp.float32
    assert loss[-1] < 1e-14  # small numbers keep their digits
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.5 * to_logits, rtol=1e-6)
    in_float32 = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), label)
    np.testing.assert_allclose(value, in_float32, atol=1e-6)
    assert in_float32[-1] == 0  # what this is for


def test_the_loss_in_float64_trains_and_evaluates():
    runs = make_runs(model=["mlp"], prime=[13, 23])
    plain, wide = Batch(runs), Batch(runs)
    wide.program = dataclasses.replace(wide.program, loss_precision="float64")
    np.testing.assert_allclose(plain.train(10), wide.train(10), rtol=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(wide.state.params)} == {np.dtype(np.float32)}
    # Scaled up, the network is sure of its answers, right or wrong.
    sums = {}
    for batch in (plain, wide):
        params = jax.tree.map(lambda leaf: 4 * leaf, plain.state.params)
        sums[batch] = jax.device_get(train.evaluate(batch.program, batch.mesh, params, batch.data))
    a, b = (jnp.asarray(x, jnp.int32) for x in np.divmod(np.arange(23 * 23), 23))
    with jax.default_matmul_precision("highest"):
        second = jax.tree.map(lambda leaf: leaf[1], params)
        logits = jax.jit(plain.program.model.logits)(second, a, b)
    logits = np.asarray(logits, np.float64)
    gap = logits - logits.max(1, keepdims=True)
    loss = np.log(np.exp(gap).sum(1)) - gap[np.arange(529), (np.asarray(a) + np.asarray(b)) % 23]
    trained = tasks.make_task(runs[1]).train_mask.ravel()
    np.testing.assert_allclose(sums[wide].loss[1, 0], loss[trained].sum(), rtol=1e-5)
    np.testing.assert_array_equal(sums[wide].right, sums[plain].right)


def test_bfloat16_rounds_the_factors_and_adds_up_in_float32():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 30), (30, 10)))
    rounded = [z.astype(jnp.bfloat16).astype(np.float64) for z in (x, y)]
    with jax.default_matmul_precision(PRECISIONS["bfloat16"]):
        product = np.asarray(jax.jit(models.product)(x, y))
    np.testing.assert_allclose(product, rounded[0] @ rounded[1], atol=1e-5)
    assert np.abs(product - x @ y).max() > 1e-3


def test_the_step_keeps_to_the_precision_asked_for():
    (run,) = make_runs(model=["mlp"])
    losses = {}
    for precision in ("float32", "bfloat16"):
        batch = Batch([run])
        batch.program = dataclasses.replace(batch.program, precision=precision)
        losses[precision] = batch.train(3)
    gap = np.abs(losses["float32"] - losses["bfloat16"])
    assert gap.min() > 1e-6
    assert gap.max() < 0.05


def test_tf32_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    with pytest.raises(InvalidSettingError, match="--precision=tf32: only a GPU has TF32"):
        train.check_precision("tf32")
    train.check_precision("bfloat16")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    train.check_precision("tf32")


# --------------------------------------------------------------------------- batches


@functools.cache
def mixed(kind):
    runs = make_runs(model=[kind], prime=[23, 31, 47])
    together = Batch(runs)
    alone = [Batch([run]) for run in runs]
    losses, single = [together.train(20)], [[b.train(20)] for b in alone]
    after_20 = [together.params(i) for i in range(len(runs))], [b.params(0) for b in alone]
    for _ in range(4):
        losses.append(together.train(20))
        for parts, batch in zip(single, alone, strict=True):
            parts.append(batch.train(20))
    all_alone = [np.concatenate(parts, axis=1)[0] for parts in single]
    return after_20, np.concatenate(losses, axis=1), all_alone, together, alone


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_a_run_in_a_mixed_batch_equals_the_run_alone(kind):
    (together, alone), losses, all_alone, _, _ = mixed(kind)
    for ours, theirs in zip(together, alone, strict=True):
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b)
    for ours, theirs in zip(losses, all_alone, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_metrics_in_a_mixed_batch_equal_those_alone(kind):
    _, _, _, together, alone = mixed(kind)
    columns = together.metrics()
    for i, batch in enumerate(alone):
        for name, column in batch.metrics().items():
            np.testing.assert_allclose(columns[name][i], column[0], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_padding_never_influences_anything(kind):
    runs = make_runs(model=[kind], prime=[23, 31])
    clean, poisoned = Batch(runs), Batch(runs)

    def poison(leaf, axis):
        leaf = np.array(leaf)
        padded = np.moveaxis(leaf, axis, 0)[23:, 0]
        padded[...] = 1e6
        return jnp.asarray(leaf)

    params = models._map_vocabulary(poison, jax.device_get(poisoned.state.params))
    poisoned.state = State(train.place(poisoned.mesh, params), poisoned.state.opt_state)
    for batch in (clean, poisoned):
        batch.losses = batch.train(10)
    assert np.array_equal(clean.losses, poisoned.losses)
    for a, b in zip(
        jax.tree.leaves(clean.params(0)), jax.tree.leaves(poisoned.params(0)), strict=True
    ):
        assert np.array_equal(a, b)
    for name, column in clean.metrics().items():
        assert np.array_equal(column, poisoned.metrics()[name]), name


def test_a_diverging_run_does_not_touch_its_batch_mates():
    runs = make_runs(learning_rate=[3e-3, 100.0])
    pair, alone = Batch(runs), Batch(runs[:1])
    pair.train(60)
    alone.train(60)
    metrics = pair.metrics()
    assert np.isnan(metrics["train_loss"][1])
    assert np.isnan(metrics["test_accuracy"][1])
    for a, b in zip(jax.tree.leaves(pair.params(0)), jax.tree.leaves(alone.params(0)), strict=True):
        assert np.all(np.isfinite(a))
        assert np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(b)


def test_a_second_chunk_does_not_compile_again():
    batch = Batch(make_runs())
    batch.train(5)
    batch.train(5)
    assert train.compiled_chunk(batch.program, batch.mesh, 5)._cache_size() == 1


def test_the_step_has_no_collective():
    batch = Batch(make_runs(seed=[1, 2]))
    chunk = train.compiled_chunk(batch.program, batch.mesh, 2)
    lowered = chunk.lower(batch.state, batch.data, jnp.int32(0))
    text = lowered.compile().as_text()
    # Also run on eight devices, by test_devices.py.
    for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert word not in text
    assert f"num_partitions={batch.mesh.size}" in text or batch.mesh.size == 1


# --------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_evaluation_equals_a_plain_one(kind):
    runs = make_runs(model=[kind], prime=[13, 23], label_permutation=[0.3])
    batch = Batch(runs)
    batch.train(30)
    metrics = batch.metrics()
    network = functools.partial(reference.NETWORKS[kind], config=batch.program.model.config)
    for i, run in enumerate(runs):
        task, p = tasks.make_task(run), run.prime
        a, b = (jnp.asarray(x, jnp.int32) for x in np.divmod(np.arange(p * p), p))
        params = batch.params(i)
        with jax.default_matmul_precision("highest"):
            logits, _ = jax.jit(network)(params, a=a, b=b)
        labels = task.labels.ravel()
        loss = np.asarray(
            optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels))
        )
        right = np.asarray(logits).argmax(1) == labels
        trained, novel = task.train_mask.ravel(), task.novel_mask.ravel()
        expected = {
            "train_loss": loss[trained].mean(),
            "train_accuracy": right[trained].mean(),
            "test_loss": loss[~trained].mean(),
            "test_accuracy": right[~trained].mean(),
            "novel_accuracy": right[novel].mean(),
            "weight_norm": np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(params))),
        }
        assert metrics.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name][i], value, rtol=1e-5, err_msg=name)


def test_accuracy_is_an_exact_ratio():
    sums = train.Evaluation(
        count=np.array([[10, 0, 0]]),
        right=np.array([[9, 0, 0]]),
        loss=np.ones((1, 3), np.float32),
        weight_norm=np.ones(1, np.float32),
    )
    columns = train.metrics(sums)
    assert columns["train_accuracy"][0] == 0.9
    assert np.isnan(columns["test_accuracy"][0])
    assert np.isnan(columns["novel_accuracy"][0])
