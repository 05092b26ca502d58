"""Errors of angles are those that were put there."""

import numpy as np
import pytest

from experiments import coordinates


def test_an_error_knows_neither_sign_nor_shift_and_is_what_was_added():
    true = np.linspace(0, 6, 50)
    off = np.tile([0.1, -0.1], 25)
    for sign in (1, -1):
        assert coordinates.error(sign * true + 2 + off, true) == pytest.approx((0.1, 0.1))
    nowhere = np.append(true, [np.nan] * 3)
    assert coordinates.error(np.append(true + off, [9.0] * 3), nowhere) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("name", coordinates.CLOUDS)
def test_points_lie_where_their_angles_say(name):
    rng = np.random.default_rng(0)
    cloud = coordinates.CLOUDS[name](0.0, rng)
    points, planes, angles = cloud
    assert len(points) == len(angles) and angles.shape[1] == len(planes)
    if name.startswith("ellipse"):  # its angle is its arc length
        step = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
        assert step == pytest.approx(step.mean(), rel=0.01)
    else:
        assert coordinates.own_errors(cloud) == pytest.approx(0, abs=1e-9)
        noisy = coordinates.CLOUDS[name](0.1, rng)
        assert 0.005 < coordinates.own_errors(noisy) < 0.15
