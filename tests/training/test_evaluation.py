"""Losses, accuracies and norms against plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.tasks.task import make_data
from grokjax.training import evaluation
from grokjax.training.evaluation import Evaluation
from tests import reference
from tests.helpers import make_runs
from tests.training.batches import Batch

pytestmark = pytest.mark.device

RUNS = {
    "transformer": lambda: make_runs(prime=[13, 23], label_permutation=[0.3], n_layers=[1]),
    "mlp": lambda: (
        make_runs(model=["mlp"], operation=["divide"], prime=[12], label_permutation=[0.3])
        + make_runs(model=["mlp"], operation=["s4"], label_permutation=[0.3])
    ),
}


def plain_losses(logits, labels):
    logits = np.asarray(logits, np.float64)
    chosen = logits[np.arange(len(labels)), labels]
    return np.log(np.exp(logits - chosen[:, None]).sum(1))


@pytest.mark.parametrize("kind", RUNS)
def test_evaluation_equals_a_plain_one(kind):
    runs = RUNS[kind]()
    batch = Batch(runs)
    batch.train(30)
    metrics = batch.metrics()
    network, config = reference.NETWORKS[kind], runs[0].model
    for i, run in enumerate(runs):
        data, n = make_data(run), run.task.n_elements
        # Places without a label are no examples.
        places = np.flatnonzero(data.truth >= 0)
        pairs = jnp.asarray(np.stack(np.divmod(places, n), axis=1), jnp.int32)
        params = batch.params(i)
        with jax.default_matmul_precision("highest"):
            logits, *_ = jax.jit(lambda params, pairs: network(params, config, pairs))(
                params, pairs
            )
        loss = plain_losses(logits, data.labels[places])
        right = np.asarray(logits).argmax(1) == data.labels[places]
        trained, novel = data.train_mask[places], data.novel_mask[places]
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


def test_blocks_of_any_size_count_every_example_once(monkeypatch):
    runs = RUNS["mlp"]()
    batch = Batch(runs)
    params = jax.tree.map(lambda leaf: leaf[0], batch.state.params)
    data = make_data(runs[0])
    leaked = data.test_mask & ~data.novel_mask
    sums = []
    for block, shape in [(4096, (4080, 1)), (100, (96, 6)), (1, (24, 24))]:
        monkeypatch.setattr(evaluation, "BLOCK", block)
        assert evaluation.blocks(batch.program, 24 * 24) == shape
        evaluate = jax.jit(lambda params, run: evaluation.evaluate_run(batch.program, params, run))
        sums.append(evaluate(params, batch.own(0)))
    for found in sums:
        count = [data.train_mask.sum(), leaked.sum(), data.novel_mask.sum()]
        assert found.count.tolist() == count
        assert sum(count) == runs[0].task.n_examples
        np.testing.assert_array_equal(found.right, sums[0].right)
        np.testing.assert_allclose(found.loss, sums[0].loss, rtol=1e-5)


def test_accuracy_is_an_exact_ratio():
    sums = Evaluation(
        count=np.array([[10, 0, 0]]),
        right=np.array([[9, 0, 0]]),
        loss=np.ones((1, 3), np.float32),
        weight_norm=np.ones(1, np.float32),
    )
    columns = evaluation.metrics(sums)
    assert columns["train_accuracy"][0] == 0.9
    assert np.isnan(columns["test_accuracy"][0])
    assert np.isnan(columns["novel_accuracy"][0])


def test_a_network_that_is_not_finite_answers_nothing():
    sums = Evaluation(
        count=np.full((3, 3), 10),
        right=np.full((3, 3), 5),
        loss=np.array([[1, 1, 1], [1, np.nan, 1], [1, 1, 1]], np.float32),
        weight_norm=np.array([1, 1, np.inf], np.float32),
    )
    columns = evaluation.metrics(sums)
    for name, column in columns.items():
        if name != "weight_norm":
            np.testing.assert_array_equal(np.isnan(column), [False, True, True])
