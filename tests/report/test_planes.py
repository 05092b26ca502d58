import types

import numpy as np
import pytest

from grokjax.report import planes


def circle(n, k, d=16, seed=0):
    """n residues on a circle in d dimensions, in the order of a wave of frequency k."""
    directions, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, 2)))
    angle = 2 * np.pi * k * np.arange(n) / n
    return 3 + np.stack([np.cos(angle), np.sin(angle)], axis=1) @ directions.T


def test_principal_plane_keeps_the_distances_of_a_flat_cloud():
    cloud = circle(31, 4)
    plane, shares = planes.principal_plane(cloud)
    gaps = np.linalg.norm(cloud[:, None] - cloud, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(plane[:, None] - plane, axis=-1), gaps, atol=1e-12)
    np.testing.assert_allclose(shares, [0.5, 0.5], atol=1e-12)


def test_principal_plane_is_of_largest_variance():
    cloud = np.random.default_rng(1).normal(size=(40, 5)) * [1, 7, 2, 5, 3]
    plane, shares = planes.principal_plane(cloud)
    values = np.linalg.eigvalsh(np.cov(cloud.T))[::-1]
    np.testing.assert_allclose(plane.var(axis=0, ddof=1), values[:2])
    np.testing.assert_allclose(shares, values[:2] / values.sum())


def test_signs_follow_another_time():
    cloud = np.random.default_rng(2).normal(size=(20, 6)) * [6, 5, 1, 1, 1, 1]
    plane, _ = planes.principal_plane(cloud)
    for signs in ([1, -1], [-1, 1], [-1, -1]):
        again, _ = planes.principal_plane(cloud, like=plane * signs)
        np.testing.assert_allclose(again, plane * signs)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_plane(bad):
    cloud = circle(11, 1)
    cloud[3, 2] = bad
    plane, shares = planes.principal_plane(cloud)
    assert np.isnan(plane).all() and np.isnan(shares).all()
    assert np.isnan(planes.fourier_plane(cloud, 1)).all()
    assert planes.strongest_frequency(cloud) == 0


def test_points_that_coincide_and_clouds_of_one_dimension_have_planes():
    plane, shares = planes.principal_plane(np.ones((5, 3)))
    assert not plane.any() and np.isnan(shares).all()
    plane, shares = planes.principal_plane(np.arange(4.0)[:, None])
    np.testing.assert_allclose(np.abs(plane), [[1.5, 0], [0.5, 0], [0.5, 0], [1.5, 0]])
    np.testing.assert_allclose(shares, [1, 0])
    assert planes.strongest_frequency(np.ones((5, 3))) == 0


@pytest.mark.parametrize("k", [1, 4, 15])
def test_fourier_plane_puts_residues_at_the_angle_of_their_wave(k):
    plane = planes.fourier_plane(circle(31, k), k)
    angle = 2 * np.pi * k * np.arange(31) / 31
    np.testing.assert_allclose(plane, np.stack([np.cos(angle), np.sin(angle)], axis=1), atol=1e-12)
    assert planes.strongest_frequency(circle(31, k)) == k


def test_the_plane_of_a_wave_shows_none_of_another():
    def wave(k):
        return np.stack([trig(2 * np.pi * k * np.arange(31) / 31) for trig in (np.cos, np.sin)]).T

    both = np.concatenate([3 * wave(4), wave(9)], axis=1)
    np.testing.assert_allclose(planes.fourier_plane(both, 9), wave(9), atol=1e-12)
    assert planes.strongest_frequency(both) == 4


def test_neighbours_are_a_wavelength_apart():
    order = planes.neighbours_order(31, 4)
    assert sorted(order) == list(range(31))
    assert ((4 * (order - np.roll(order, 1))) % 31 == 1).all()
    assert (planes.neighbours_order(12, 4) == np.arange(12)).all()


@pytest.mark.parametrize("n", [4, 10, 11])
def test_the_wave_of_two_values_has_no_plane(n):
    alternating = 5 * np.cos(np.pi * np.arange(n))[:, None] * np.eye(1, 6)
    cloud = circle(n, 1, d=6) + alternating
    assert planes.strongest_frequency(cloud) == (1 if n % 2 == 0 else 5)


def structure(kind, elements, names=()):
    return types.SimpleNamespace(kind=kind, elements=np.array(elements), names=names)


def test_only_a_cycle_has_an_order_by_frequency():
    assert planes.circle_frequency(circle(11, 4, d=2), structure("cyclic", range(11))) == 4
    assert planes.circle_frequency(np.ones((11, 2)), structure("cyclic", range(11))) == 1
    for kind in ("group", "cycles"):
        assert planes.circle_frequency(circle(11, 4, d=2), structure(kind, range(11))) == 0
    assert planes.circle_frequency(circle(11, 4, d=2), None) == 0


def test_elements_are_called_as_their_group_has_it():
    units = structure("group", [1, 5, 7, 11], ("one", "five", "seven", "eleven"))
    assert planes.element_names(12, units)[:6] == ["0", "one", "2", "3", "4", "five"]
    assert planes.reading_order(12, units).tolist() == list(range(12))
    assert planes.element_names(3, None) == ["0", "1", "2"]


def test_elements_are_read_in_the_order_of_their_structure():
    assert (planes.reading_order(7, None) == np.arange(7)).all()
    assert planes.reading_order(7, structure("cyclic", [1, 3, 2, 6, 4, 5])).tolist() == [
        1,
        3,
        2,
        6,
        4,
        5,
    ]
