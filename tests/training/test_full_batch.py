"""Full batches: the exact mean over a run's own training pairs, whatever runs stand beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.tasks.task import make_data
from grokjax.training import step
from tests import reference
from tests.helpers import make_runs
from tests.training.batches import Batch

pytestmark = pytest.mark.device

SMALL = {"d_model": [8], "n_heads": [2], "d_ff": [8], "n_layers": [1], "mlp_width": [8],
         "mlp_depth": [1], "batch_size": [0]}  # fmt: skip
# Of 5, 10, 20 and 29 training pairs.
GRID = [
    {"prime": [5], "train_fraction": [0.2, 0.4]},
    {"prime": [7], "train_fraction": [0.6]},
    {"operation": ["s3"], "train_fraction": [0.8]},
]
LOSSES = {
    "cross_entropy": lambda x, label, own: jax.nn.logsumexp(x, where=own) - x[label],
    "squared_error": lambda x, label, own: ((x - jnp.eye(x.size)[label]) ** 2).mean(where=own),
}


@pytest.mark.parametrize(
    ("model", "loss"), [("transformer", "cross_entropy"), ("mlp", "squared_error")]
)
def test_the_gradient_is_the_sum_over_a_runs_own_pairs(model, loss):
    runs = sum((make_runs(**SMALL, **axes, model=[model], loss=[loss]) for axes in GRID), ())
    batch = Batch(runs)
    assert [run.task.n_train for run in runs] == [5, 10, 29, 29]
    assert batch.data.train_inputs.shape == (4, 29, 2)
    program, config = batch.program, runs[0].model

    @jax.jit
    def ours(params, run):
        examples = run.train_inputs, run.train_label
        return jax.value_and_grad(step.loss)(params, program, run, *examples)

    @jax.jit
    @jax.value_and_grad
    def of_one(params, pair, label, own):
        logits, *_ = reference.NETWORKS[model](params, config, pair[None])
        return LOSSES[loss](logits[0], label, own)

    with jax.default_matmul_precision("highest"):
        for i, run in enumerate(runs):
            params = jax.tree.map(lambda leaf, i=i: leaf[i], batch.state.params)
            value, gradient = ours(params, batch.own(i))
            data, n = make_data(run), run.task.n_elements
            total, slopes = 0.0, [0.0] * len(jax.tree.leaves(params))
            for place in data.train:
                pair = jnp.array([place // n, place % n], jnp.int32)
                own, slope = of_one(params, pair, data.labels[place], np.arange(7) < n)
                total += float(own)
                slopes = [s + np.asarray(g, float) for s, g in
                          zip(slopes, jax.tree.leaves(slope), strict=True)]  # fmt: skip
            np.testing.assert_allclose(value, total / len(data.train), rtol=1e-5)
            for found, expected in zip(jax.tree.leaves(gradient), slopes, strict=True):
                mean = expected / len(data.train)
                error = 1e-5 * np.abs(mean).max() + 1e-8
                np.testing.assert_allclose(found, mean, rtol=0, atol=error)
    # The step that follows is told the same loss.
    losses = batch.train(1)[:, 0]
    assert len(set(losses.tolist())) == len(runs)


def test_a_full_batch_is_a_batch_of_all_pairs():
    whole, numbered = (
        Batch(make_runs(model=["mlp"], prime=[7], train_fraction=[0.4], batch_size=[size]))
        for size in (0, 20)
    )
    assert whole.runs[0].task.n_train == 20
    # An epoch is one step of either.
    np.testing.assert_allclose(whole.train(5), numbered.train(5), rtol=1e-5)
