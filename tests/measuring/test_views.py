"""Names, points and selection of a network's clouds."""

import jax
import numpy as np
import pytest

from grokjax.diagnostics import Options
from grokjax.measuring import views
from grokjax.models.network import Model
from grokjax.settings.fields import InvalidSettingError
from grokjax.tasks.task import make_data
from grokjax.training import data
from tests.helpers import make_config, make_runs

(TRANSFORMER,) = make_runs()
(MLP,) = make_runs(model=["mlp"])


def test_names_by_model():
    assert views.choose(["all"], TRANSFORMER) == ("embedding", "layer1", "layer2")
    assert views.choose(["all"], MLP) == ("embedding", "hidden1", "hidden2", "hidden3")
    assert views.choose(["hidden", "embedding"], TRANSFORMER) == ("layer1", "layer2", "embedding")
    assert views.choose(["embedding_both", "layer2_both"], TRANSFORMER) == ("layer2_both",)
    assert views.choose(["layer1", "hidden3"], MLP) == ("hidden3",)
    assert views.last_cloud(TRANSFORMER) == "layer2_both"
    views.validate_clouds(["layer1", "hidden3", "layer2_both"], [TRANSFORMER, MLP])
    with pytest.raises(InvalidSettingError, match="--clouds=layer9: there is no cloud 'layer9'"):
        views.validate_clouds(["layer9"], [TRANSFORMER])
    with pytest.raises(InvalidSettingError, match="hidden1"):
        views.validate_clouds(["hidden1"], [TRANSFORMER])


def test_features_have_hidden_layers_alone():
    (run,) = make_runs(model=["mlp"], operation=["digits"])
    assert views.choose(["all"], run) == ("hidden1", "hidden2", "hidden3")
    with pytest.raises(InvalidSettingError, match="there is no cloud 'embedding'"):
        views.validate_clouds(["embedding"], [run])


def test_every_token_gives_a_point():
    n_test = 23**2 - TRANSFORMER.task.n_train
    assert views.available_points("embedding", TRANSFORMER) == 23
    assert views.available_points("layer1", TRANSFORMER) == n_test
    assert views.available_points("layer1_both", TRANSFORMER) == 2 * n_test
    assert views.available_points("hidden1_both", MLP) == n_test
    (three,) = make_runs(equals_token=[True])
    assert views.available_points("layer1_both", three) == 3 * n_test
    # Of a task that leaves out pairs, those with a label: b = 0 has no inverse.
    (divide,) = make_runs(operation=["divide"])
    assert views.available_points("layer1", divide) == 23 * 22 - divide.task.n_train


@pytest.mark.parametrize("operation", ["add", "divide", "s3"])
def test_points_of_a_cloud_are_test_examples_always_the_same(operation):
    (run,) = make_runs(operation=[operation])
    data = make_data(run)
    places = views.test_places(run, data.test_mask)
    assert np.array_equal(places, views.test_places(run, data.test_mask))
    assert not data.train_mask[places].any()
    assert (data.truth[places] >= 0).all()
    assert len(set(places.tolist())) == len(places) == run.task.n_examples - run.task.n_train


def test_hidden_clouds_have_the_last_tokens_or_all_tokens_states():
    states = {"layer1": np.random.default_rng(1).normal(size=(2, 50, 4)).astype(np.float32)}
    second = views.take("layer1", states, 20, "random")
    np.testing.assert_array_equal(second, states["layer1"][1, :20])
    both = views.take("layer1_both", states, 20, "random")
    np.testing.assert_array_equal(both, states["layer1"][:, :10].reshape(20, 4))
    assert views.take("layer1", states, 20, "farthest").shape == (20, 4)


def test_who_is_measured():
    (pairs,) = make_runs(model=["mlp"])
    (digits,) = make_runs(model=["mlp"], operation=["digits"])
    (maximum,) = make_runs(model=["mlp"], operation=["max"])
    runs = (pairs, digits, maximum)
    own, hidden = Options(clouds=("embedding",)), Options(clouds=("hidden1",))
    assert [views.measures("persistence", run, own) for run in runs] == [True, False, True]
    assert [views.measures("persistence", run, hidden) for run in runs] == [True] * 3
    assert [views.measures("fourier", run, hidden) for run in runs] == [True, False, False]
    assert [views.measures("dimension", run, own) for run in runs] == [True] * 3


@pytest.mark.parametrize("axes", [{}, {"model": ["mlp"], "mlp_inputs": ["one_hot"]}])
def test_logits_with_other_rows_as_the_embedding(axes):
    config = make_config(prime=[7], **axes)
    (run,) = config.runs
    model = Model(config=run.model, sizes=data.sizes([run]))
    params = jax.device_get(model.init(jax.random.key(0), model.sizes, 1.0))
    view = views.view(run, params, 0, config.train, Options())
    np.testing.assert_array_equal(view.with_embedding(view.embedding), view.logits())
    # A residue in another's place: what is said of its pairs is what was said of the other's.
    order = np.array([3, 0, 1, 2, 4, 5, 6])
    mixed = view.with_embedding(view.embedding[order].astype(np.float64))
    own = view.logits().reshape(7, 7, 7)
    first = own[order] if axes else own[order][:, order]
    np.testing.assert_allclose(mixed.reshape(7, 7, 7), first, atol=1e-5)
