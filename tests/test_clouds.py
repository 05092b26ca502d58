"""Normalisation, selection and names of clouds."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from grokjax import clouds, tasks
from grokjax.diagnostics import persistence
from grokjax.settings.fields import InvalidSettingError, ModelConfig
from tests.helpers import SMALL, make_runs

POINTS = np.random.default_rng(0).normal(3, 2, (40, 6))
TRANSFORMER = ModelConfig(model="transformer", **SMALL)
MLP = ModelConfig(model="mlp", **SMALL)


def test_unit_rows_are_centred_first_and_have_length_one():
    expected = POINTS - POINTS.mean(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(clouds.normalize(POINTS), expected, atol=1e-6)


def test_connectivity_scale_is_the_largest_finite_h0_death():
    centred = clouds.normalize(POINTS, "none")
    np.testing.assert_allclose(centred, POINTS - POINTS.mean(0), atol=1e-6)
    scale = persistence.summarize(persistence.diagrams(centred)).connectivity
    scaled = clouds.normalize(POINTS, "connectivity")
    np.testing.assert_allclose(scaled, centred / scale, rtol=1e-5)
    after = persistence.summarize(persistence.diagrams(scaled))
    assert abs(after.connectivity - 1) < 1e-6


def test_rms_radius_becomes_one():
    scaled = clouds.normalize(POINTS, "rms")
    assert abs((scaled.astype(float) ** 2).sum(1).mean() - 1) < 1e-6


@pytest.mark.parametrize("how", clouds.NORMALISATIONS)
def test_a_cloud_without_extent_stays_at_zero(how):
    assert np.all(clouds.normalize(np.ones((5, 3)), how) == 0)
    assert np.all(clouds.normalize(np.ones((1, 3)), how) == 0)


@pytest.mark.parametrize("how", clouds.NORMALISATIONS)
def test_non_finite_points_do_not_crash(how):
    points = POINTS.copy()
    points[0, 0] = np.nan
    assert np.isnan(clouds.normalize(points, how)).any()


def test_bad_arguments():
    with pytest.raises(ValueError, match="unit, none"):
        clouds.normalize(POINTS, "max")
    with pytest.raises(ValueError, match="shape"):
        clouds.normalize(np.ones(3))


def test_farthest_points_are_greedy():
    chosen = clouds.farthest_points(POINTS, 10)
    distances = squareform(pdist(POINTS))
    for i in range(1, 10):
        gap = distances[:, chosen[:i]].min(1)
        assert gap[chosen[i]] == pytest.approx(gap.max())


def test_names_by_model():
    assert clouds.names_for(TRANSFORMER) == ("embedding", "layer1", "layer2")
    assert clouds.names_for(MLP) == ("embedding", "hidden1", "hidden2", "hidden3")
    assert clouds.choose(["hidden", "embedding"], TRANSFORMER) == ("layer1", "layer2", "embedding")
    assert clouds.choose(["all"], MLP) == clouds.names_for(MLP)
    assert clouds.choose(["layer1", "hidden3"], MLP) == ("hidden3",)
    clouds.validate(["layer1", "hidden3", "layer2_both"], [TRANSFORMER, MLP])
    with pytest.raises(InvalidSettingError, match="--clouds=layer9: there is no cloud 'layer9'"):
        clouds.validate(["layer9"], [TRANSFORMER])
    with pytest.raises(InvalidSettingError, match="hidden1"):
        clouds.validate(["hidden1"], [TRANSFORMER])


def test_pairs_of_a_cloud_are_test_pairs_always_the_same():
    (run,) = make_runs()
    task = tasks.make_task(run)
    pairs = clouds.test_pairs(run, task)
    assert np.array_equal(pairs, clouds.test_pairs(run, task))
    assert not task.train_mask.ravel()[pairs].any()
    assert len(set(pairs.tolist())) == len(pairs) == 23**2 - run.n_train


def test_hidden_clouds_have_the_second_tokens_or_both_tokens_states():
    states = {"layer1": np.random.default_rng(1).normal(size=(2, 50, 4)).astype(np.float32)}
    second = clouds.take("layer1", states, 20, "random", "none")
    np.testing.assert_allclose(
        second, states["layer1"][1, :20] - states["layer1"][1, :20].mean(0), atol=1e-6
    )
    both = clouds.take("layer1_both", states, 20, "random", "none")
    expected = states["layer1"][:, :10].reshape(20, 4)
    np.testing.assert_allclose(both, expected - expected.mean(0), atol=1e-6)
    assert clouds.take("layer1", states, 20, "farthest", "unit").shape == (20, 4)
