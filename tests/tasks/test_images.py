"""Images, the control: training against a plain reference, and through whole programs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grokjax
from grokjax import analyze, sweep
from grokjax.models.network import Model, Sizes
from grokjax.settings import grid
from grokjax.settings.fields import InvalidSettingError
from grokjax.tasks import datasets, task
from grokjax.training import evaluation, mapped, step
from tests import reference
from tests.helpers import make_runs
from tests.programs import call
from tests.training import by_hand
from tests.training.batches import Batch

OMNIGROK = {
    "model": ["mlp"], "operation": ["digits"], "loss": ["squared_error"], "mlp_width": [12],
    "mlp_depth": [2], "activation": ["relu"], "batch_size": [200], "learning_rate": [1e-3],
    "weight_decay": [0.01], "warmup_steps": [0], "beta2": [0.999], "epsilon": [1e-8],
}  # fmt: skip


@pytest.fixture
def folder(monkeypatch):
    """No folder was named in this process, and none is when the test is over."""
    monkeypatch.setattr(datasets, "_folder", None)


def plain_outputs(run, params):
    """(parameters) → outputs of all images, as in a textbook."""
    pixels = jnp.asarray(datasets.load("digits").pixels, jnp.float32) / 16
    return reference.mlp(params, run.model, pixels)[0]


# --------------------------------------------------------------------------- the engine


def test_loss_gradient_and_steps_equal_a_plain_reference():
    (run,) = make_runs(**OMNIGROK)
    batch = Batch([run])
    params = batch.params(0)
    order = np.asarray(step.training_order(batch.own(0), jnp.int32(0), 5, 200))
    assert sorted(order.ravel().tolist()) == list(range(1000))  # five batches are an epoch
    losses = batch.train(5)[0]
    labels = jnp.asarray(datasets.load("digits").labels)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(params, chosen):
        outputs = plain_outputs(run, params)[chosen]
        return ((outputs - jnp.eye(10)[labels[chosen]]) ** 2).mean()

    leaves, tree = jax.tree.flatten(params)
    optimizer, now = by_hand.Optimizer("adamw", **run.optimizer.values), dict(enumerate(leaves))
    with jax.default_matmul_precision("highest"):
        for t in range(5):
            own = [leaf.astype(np.float32) for leaf in now.values()]
            value, gradient = loss_and_gradient(jax.tree.unflatten(tree, own), order[t])
            np.testing.assert_allclose(losses[t], value, rtol=1e-5)
            slopes = [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
            now = optimizer.update(now, dict(enumerate(slopes)))
    for ours, theirs in zip(jax.tree.leaves(batch.params(0)), now.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_evaluation_counts_train_and_test_images_and_no_novel_pair():
    runs = make_runs(**OMNIGROK, seed=[46, 47])
    batch = Batch(runs)
    params = jax.device_get(batch.state.params)
    found = jax.device_get(mapped.evaluate(batch.program, batch.mesh)(params, batch.data))
    assert found.count.tolist() == [[1000, 797, 0]] * 2
    labels = datasets.load("digits").labels
    for i, run in enumerate(runs):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], params)
        outputs = np.asarray(plain_outputs(run, own))
        right = outputs.argmax(1) == labels
        errors = ((outputs - np.eye(10)[labels]) ** 2).mean(1)
        assert found.right[i].tolist() == [right[:1000].sum(), right[1000:].sum(), 0]
        np.testing.assert_allclose(
            found.loss[i], [errors[:1000].sum(), errors[1000:].sum(), 0], rtol=1e-4
        )
    assert np.isnan(evaluation.metrics(found)["novel_accuracy"]).all()


def test_a_full_batch_of_images_is_all_that_train():
    whole, numbered = (
        Batch(make_runs(**OMNIGROK | {"batch_size": [size], "label_permutation": [0.3]}))
        for size in (0, 1000)
    )
    np.testing.assert_allclose(whole.train(3), numbered.train(3), rtol=1e-5)


def test_the_init_scale_multiplies_biases_too():
    (run,) = make_runs(**OMNIGROK)
    sizes = Sizes(0, 10, 64)
    model = Model(config=run.model, sizes=sizes)
    one, eight = (model.init(jax.random.key(0), sizes, scale) for scale in (1.0, 8.0))
    assert "embed" not in one
    for small, large in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(large, 8 * np.asarray(small), rtol=1e-6)
    bound = 1 / math.sqrt(64)
    kernel = np.asarray(one["hidden"]["0"]["kernel"])
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert np.abs(np.asarray(one["hidden"]["0"]["bias"])).max() <= bound


def test_permuted_labels_are_training_labels_and_padding_is_in_no_mask():
    (run,) = make_runs(**OMNIGROK, label_permutation=[1.0])
    own = task.make_data(run)
    changed = own.labels != own.truth
    assert changed[:1000].mean() > 0.8
    assert not changed[1000:].any()
    assert sorted(own.labels[:1000]) == sorted(own.truth[:1000])
    assert (own.train_mask.sum(), own.test_mask.sum(), own.novel_mask.sum()) == (1000, 797, 0)
    assert own.train.tolist() == list(range(1000))


def test_images_have_no_moduli_no_fractions_and_no_structure():
    (run,) = make_runs(**OMNIGROK, prime=[11, 13], train_fraction=[0.2, 0.3])
    assert "prime" not in run.values
    assert "train_fraction" not in run.values
    assert run.run_id.startswith("mlp-digits-c0.0-wd0.01-")
    assert run.task.structure is None
    assert (run.task.n_train, run.task.n_examples, run.task.n_outputs) == (1000, 1797, 10)


def test_a_network_of_pairs_cannot_learn_images():
    with pytest.raises(InvalidSettingError, match="--models=transformer: cannot learn"):
        make_runs(operation=["digits"])
    runs = make_runs(model=["mlp"], operation=["digits", "add"])
    assert [len(batch) for batch in grid.plan_batches(runs, 9)] == [1, 1]


# --------------------------------------------------------------------------- whole programs


def test_digits_go_through_the_sweep_and_say_who_they_are(folder, tmp_path, capsys):
    workdir = tmp_path / "w"
    arguments = ["--operations=mnist", "--init_scales=1,8", "--seeds=1", "--steps=20",
                 "--checkpoint_every=10", "--mlp_width=16", "--cloud_points=40",
                 "--activation=relu", "--losses=squared_error", "--batch_size=200"]  # fmt: skip
    assert call(sweep.main, *arguments, f"--workdir={workdir}") == 0
    assert "digits stand in for MNIST" in capsys.readouterr().out
    found = grokjax.load(workdir)
    assert list(found.runs["status"]) == ["done"] * 2
    assert set(found.runs["operation"]) == {"digits"}
    assert found.runs["prime"].isna().all()
    assert set(found.persistence["cloud"]) == {"hidden1", "hidden2", "hidden3"}
    assert set(found.persistence["n_points"]) == {40}
    assert found.metrics["novel_accuracy"].isna().all()
    assert found.metrics["test_accuracy"].notna().all()
    run_id = found.runs["run_id"].iloc[0]
    raw = found.view(run_id, 20).last_states(797)
    pixels = jnp.asarray(datasets.load("digits").pixels[1000:], jnp.float32) / 16
    (run,) = (run for run in found.config.runs if run.run_id == run_id)
    _, states, _ = reference.mlp(found.checkpoint(run_id, 20), run.model, pixels)
    assert raw.shape == (797, 16)
    centred = np.asarray(states[-1][0])
    centred = centred - centred.mean(0)
    np.testing.assert_allclose(np.sort(raw, axis=0), np.sort(centred, axis=0), atol=1e-5)
    assert found.cloud(run_id, 20, "hidden1").shape == (40, 16)
    assert "8×8 digits" in (workdir / "figures" / "accuracy.svg").read_text()
    before = found.persistence
    (workdir / "results" / "persistence.parquet").unlink()
    assert call(analyze.main, f"--workdir={workdir}") == 0
    assert before.equals(found.persistence)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=transformer"], "--models=transformer: cannot learn --operations=digits"),
        (["--models=transformer,mlp"], "--models=transformer: cannot learn"),
        (["--diagnostics=fourier"], "fourier measures tasks whose elements have a structure"),
        (["--clouds=embedding"], "embedding"),
        (["--mnist_dir=/nowhere"], "/nowhere has no train-images-idx3-ubyte"),
    ],
)
def test_what_has_no_meaning_for_images_is_refused(folder, tmp_path, capsys, arguments, message):
    workdir = tmp_path / "w"
    assert call(sweep.main, "--operations=mnist", *arguments, f"--workdir={workdir}") == 2
    assert message in capsys.readouterr().err
    assert not workdir.exists()
