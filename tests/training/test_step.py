"""Training against textbook training: network, loss and optimiser all written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.tasks.task import make_data
from grokjax.training.step import training_order
from tests import reference
from tests.helpers import make_runs
from tests.training import by_hand
from tests.training.batches import Batch

pytestmark = pytest.mark.device

N_STEPS = 40
SMALL = {"d_model": [16], "d_ff": [16], "mlp_width": [16], "batch_size": [32], "prime": [13]}
GROMOV = {
    "model": ["mlp"], "mlp_inputs": ["one_hot"], "mlp_depth": [1], "biases": [False],
    "activation": ["quadratic"], "optimizer": ["sgd"], "loss": ["squared_error"],
    "learning_rate": [2.0], "weight_decay": [0.001], "warmup_steps": [0], "batch_size": [0],
}  # fmt: skip
PRIETO = {
    "optimizer": ["adam"], "loss": ["stablemax"], "orthogonal_gradient": [True],
    "weight_decay": [0.0], "schedule": ["cosine"], "layer_norm": ["none"], "operation": ["s3"],
    "equals_token": [True], "causal": [True], "batch_size": [8],
    # What a bias of keys does to attention is nothing, and rounding all of its gradient.
    "biases": [False],
}  # fmt: skip
CASES = {"transformer": {}, "mlp": {"model": ["mlp"]}, "Gromov": GROMOV, "Prieto": PRIETO}


def flat(tree):
    return {jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}  # fmt: skip


def plain_loss(name, logits, label):
    rows = jnp.arange(len(label))
    if name == "squared_error":
        return ((logits - jnp.eye(logits.shape[1])[label]) ** 2).mean()
    size = jnp.where(logits < 0, 1 / (1 - jnp.minimum(logits, 0)), logits + 1)
    share = size / size.sum(1, keepdims=True)
    if name == "cross_entropy":
        share = jax.nn.softmax(logits)
    return -jnp.log(share[rows, label]).mean()


def loss_and_gradient(run):
    """The jitted function (parameters, which training examples) → loss, gradient."""
    data, n = make_data(run), run.task.n_elements
    examples = jnp.stack(jnp.divmod(jnp.asarray(data.train, jnp.int32), n), axis=1)
    labels = jnp.asarray(data.labels[data.train])

    def loss(params, index):
        logits, *_ = reference.NETWORKS[run.model.name](params, run.model, examples[index])
        return plain_loss(run.loss.name, logits, labels[index])

    return jax.jit(jax.value_and_grad(loss))


def textbook(function, optimizer, orders, params):
    """Losses of the steps, and the parameters behind the last."""
    losses, now, tree = [], flat(params), jax.tree.structure(params)
    with jax.default_matmul_precision("highest"):
        for order in orders:
            own = jax.tree.unflatten(tree, [leaf.astype(np.float32) for leaf in now.values()])
            value, gradient = function(own, order)
            losses.append(value)
            now = optimizer.update(now, flat(gradient))
    return np.array(losses), now


@pytest.mark.parametrize("case", CASES)
def test_steps_equal_textbook_steps(case):
    (run,) = make_runs(**SMALL | CASES[case])
    batch = Batch([run], steps=N_STEPS)
    params = batch.params(0)
    size = run.settings.batch_size
    orders = [jnp.arange(run.task.n_train)] * N_STEPS
    if size:
        order = jax.jit(training_order, static_argnums=(2, 3))
        orders = order(batch.own(0), jnp.int32(0), N_STEPS, size)
    # In chunks, as sweeps go, so that schedules and moments pass from one to the next.
    losses = np.concatenate([batch.train(20)[0] for _ in range(N_STEPS // 20)])
    found, function = flat(batch.params(0)), loss_and_gradient(run)

    def gaps(**changes):
        values = run.optimizer.values | changes
        optimizer = by_hand.Optimizer(run.optimizer.name, N_STEPS, **values)
        expected, theirs = textbook(function, optimizer, orders, params)
        way = {name: np.linalg.norm(theirs[name] - leaf) for name, leaf in flat(params).items()}
        lost = {n: np.linalg.norm(found[n] - theirs[n]) / (way[n] + 1e-6) for n in found}
        return np.abs(losses - expected).max() / expected.max(), max(lost.values())

    lost, parameters = gaps()
    assert lost < 1e-5
    assert parameters < 1e-3
    if run.optimizer.name == "adamw":
        lost, parameters = gaps(beta2=0.99)
        assert lost > 1e-4
        assert parameters > 1e-2
    assert losses[-1] < losses[0]
