"""Normalisation of clouds, and points chosen to cover one."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from grokjax import clouds
from grokjax.diagnostics import persistence

POINTS = np.random.default_rng(0).normal(3, 2, (40, 6))


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
