"""Runs side by side: each as if alone, padding without influence, divergence without company."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.models import network, products
from grokjax.training import mapped
from grokjax.training.step import State
from tests.helpers import make_runs
from tests.training.batches import Batch, assert_same_parameters

pytestmark = pytest.mark.device

N_STEPS = 20
SMALL = {"d_model": [16], "d_ff": [16], "mlp_width": [16], "n_layers": [1]}
# (operation, modulus) of each run, or a group, the smallest first, and the settings that they
# share. No biases with ⊥Grad: that of keys has no gradient but rounding, which it would scale up.
CASES = {
    "transformer": ([("add", 23), ("add", 47)], {}),
    "mlp": ([("add", 23), ("add", 47)], {"model": ["mlp"]}),
    "tasks": (
        [("multiply", 7), ("add", 13), ("max", 11), ("divide", 12)],
        SMALL | {"model": ["mlp"], "mlp_inputs": ["sum"], "separate_embeddings": [True],
                 "initialisation": ["normal"], "loss": ["stablemax"], "schedule": ["linear"],
                 "batch_size": [16]},
    ),
    "groups, muon": (
        ["s3", "d5", "z2^3"],
        SMALL | {"optimizer": ["muon"], "biases": [False], "orthogonal_gradient": [True],
                 "equals_token": [True], "layer_norm": ["post"], "batch_size": [8]},
    ),
    "full batch, sgd": (
        [("add", 9), ("square_sum", 13), "s4"],
        SMALL | {"model": ["mlp"], "mlp_inputs": ["one_hot"], "mlp_depth": [1],
                 "activation": ["quadratic"],
                 "biases": [False], "optimizer": ["sgd"], "loss": ["squared_error"],
                 "learning_rate": [1.0], "weight_decay": [0.001], "init_scale": [3.0],
                 "batch_size": [0]},
    ),
    "full batch, adam": (
        [("max", 9), ("average", 11), "s3_conjugate"],
        SMALL | {"optimizer": ["adam"], "loss": ["squared_error"], "batch_size": [0],
                 "weight_decay": [0.01], "d_ff": [0], "separate_embeddings": [True],
                 "layer_norm": ["none"], "attention_rate": [0.5], "causal": [True],
                 "biases": [False], "orthogonal_gradient": [True]},
    ),
}  # fmt: skip


@functools.cache
def runs_of(case):
    """The runs of a case, all of one static part."""
    tasks, axes = CASES[case]
    runs = [
        make_runs(operation=[task], **axes) if isinstance(task, str)
        else make_runs(operation=[task[0]], prime=[task[1]], **axes)
        for task in tasks
    ]  # fmt: skip
    (one,) = {run.static for own in runs for run in own}
    assert one.batch_size == axes.get("batch_size", [64])[0]
    return sum(runs, ())


@functools.cache
def mixed(case):
    """A batch in training, its smallest run alone, and of both initial parameters and losses."""
    runs = runs_of(case)
    batches = Batch(runs, N_STEPS), Batch(runs[:1], N_STEPS)
    first = [batch.params(0) for batch in batches]
    return *batches, first, [batch.train(N_STEPS) for batch in batches]


@pytest.mark.parametrize("case", CASES)
def test_a_run_in_a_mixed_batch_equals_the_run_alone(case):
    together, alone, first, losses = mixed(case)
    assert_same_parameters(*first, 0)
    assert np.isfinite(losses[0]).all()
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-4)
    assert all(len(set(own)) > 0.9 * N_STEPS for own in losses[0].tolist())
    assert_same_parameters(together.params(0), alone.params(0), 3e-4)
    columns = together.metrics()
    for name, column in alone.metrics().items():
        np.testing.assert_allclose(columns[name][0], column[0], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", ["transformer", "mlp"])
def test_a_hundred_steps_in_a_mixed_batch_equal_those_alone(case):
    together, alone, *_ = mixed(case)
    while together.step < 100:
        ours, theirs = together.train(N_STEPS), alone.train(N_STEPS)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-3)
    columns = together.metrics()
    for name, column in alone.metrics().items():
        np.testing.assert_allclose(columns[name][0], column[0], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    "case",
    # ⊥Grad measures whole arrays, so it needs padding to be the zero that it always is.
    [name for name, (_, axes) in CASES.items() if "orthogonal_gradient" not in axes],
)
def test_padding_never_influences_anything(case):
    runs = runs_of(case)
    clean, poisoned = Batch(runs, N_STEPS), Batch(runs, N_STEPS)

    def poison(leaf, axis, which):
        leaf, sizes = np.array(leaf), [getattr(run.task, f"n_{which}") for run in runs]
        for own, size in zip(leaf, sizes, strict=True):
            np.moveaxis(own, axis, 0)[size:] = 1e6
        return leaf

    config = clean.program.model.config
    params = network.map_vocabulary(config, poison, jax.device_get(poisoned.state.params))
    poisoned.state = State(mapped.place(poisoned.mesh, params), poisoned.state.opt_state)
    assert np.array_equal(clean.train(N_STEPS), poisoned.train(N_STEPS))
    for i in range(len(runs)):
        assert_same_parameters(clean.params(i), poisoned.params(i), 0)
    for name, column in clean.metrics().items():
        np.testing.assert_array_equal(column, poisoned.metrics()[name], err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_padding_stays_zero(case):
    together, *_ = mixed(case)
    params = jax.device_get(together.state.params)

    def check(leaf, axis, which):
        for own, run in zip(leaf, together.runs, strict=True):
            assert not np.moveaxis(own, axis, 0)[getattr(run.task, f"n_{which}") :].any()

    network.map_vocabulary(together.program.model.config, check, params)


@pytest.mark.parametrize("case", ["groups, muon", "full batch, adam"])
def test_all_runs_at_once_as_accelerators_take_them_are_those_one_by_one(case, monkeypatch):
    monkeypatch.setattr(mapped, "_one_by_one", lambda mesh: False)
    batch, (_, _, _, (losses, _)) = Batch(runs_of(case), N_STEPS), mixed(case)
    chunk = mapped.train_chunk.__wrapped__(batch.program, batch.mesh, N_STEPS)
    state, found = chunk(batch.state, batch.data, jnp.int32(0))
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    evaluation = mapped.evaluate.__wrapped__(batch.program, batch.mesh)
    sums = jax.device_get(evaluation(state.params, batch.data))
    together = mixed(case)[0]
    expected = mapped.evaluate(batch.program, batch.mesh)(together.state.params, batch.data)
    np.testing.assert_array_equal(sums.count, expected.count)
    np.testing.assert_allclose(sums.loss, expected.loss, rtol=1e-4)
    np.testing.assert_allclose(sums.weight_norm, expected.weight_norm, rtol=1e-5)


def test_groups_of_runs_as_tpus_take_them_are_those_one_by_one(monkeypatch):
    runs = make_runs(model=["mlp"], prime=[11], seed=[46, 47, 48], batch_size=[16])
    alone = Batch(runs).train(5)
    monkeypatch.setattr(mapped, "_one_by_one", lambda mesh: False)
    monkeypatch.setattr(mapped, "_groups", lambda mesh, n_runs: -(-n_runs // 2))
    monkeypatch.setattr(products, "platform", lambda: "tpu")
    batch = Batch(runs)
    chunk = mapped.train_chunk.__wrapped__(batch.program, batch.mesh, 5)
    assert "stablehlo.while" in chunk.lower(batch.state, batch.data, jnp.int32(0)).as_text()
    _, found = chunk(batch.state, batch.data, jnp.int32(0))
    assert found.shape == (4, 5)  # two groups of two; the last run is there twice
    np.testing.assert_array_equal(found[3], found[2])
    np.testing.assert_allclose(found[:3], alone, rtol=1e-4)


def test_a_diverging_run_does_not_touch_its_batch_mates():
    good, bad = runs_of("transformer")[:1], make_runs(prime=[47], learning_rate=[100.0])
    pair, alone = Batch(good + bad, N_STEPS), Batch(good, N_STEPS)
    for batch in (pair, alone):
        for _ in range(3):
            batch.train(N_STEPS)
    metrics = pair.metrics()
    assert np.isnan(metrics["train_loss"][1])
    assert np.isnan(metrics["test_accuracy"][1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pair.params(0)))
    assert_same_parameters(pair.params(0), alone.params(0), 1e-3)


def test_a_second_chunk_does_not_compile_again():
    mapped.train_chunk.cache_clear()
    batch = Batch(runs_of("mlp"), N_STEPS)
    batch.train(N_STEPS)
    batch.train(N_STEPS)
    assert mapped.train_chunk(batch.program, batch.mesh, N_STEPS)._cache_size() == 1


def test_the_step_has_no_collective():
    batch = Batch(runs_of("mlp"), N_STEPS)
    chunk = mapped.train_chunk(batch.program, batch.mesh, N_STEPS)
    text = chunk.lower(batch.state, batch.data, jnp.int32(0)).compile().as_text()
    # Also run on eight devices, by test_devices.py.
    for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert word not in text
    assert f"num_partitions={batch.mesh.size}" in text or batch.mesh.size == 1
