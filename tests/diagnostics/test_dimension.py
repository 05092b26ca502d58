"""TwoNN: scikit-dimension's own fits on 50 clouds, known dimensions, and where it has no answer."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skdim
from scipy.spatial.distance import cdist
from skdim._commonfuncs import get_nn
from threadpoolctl import threadpool_limits

from grokjax.diagnostics import _twonn, dimension

pytestmark = pytest.mark.device

# Few shapes, for each is compiled: LOW dimensions where scikit-dimension's distances are exact.
N, D, LOW, K = 300, 128, 8, 64
# scikit-dimension needs milliseconds a point, so it fits twelve of a cloud.
SAMPLE = np.arange(0, N, 25)


def scikit_dimension(points, neighbors=None):
    """``TwoNN().fit_transform_pw`` at the sampled points, on its own neighbours or on those given.

    It gets the rows of the neighbours that it would find itself, for some points only.
    """
    if neighbors is None:
        neighbors = get_nn(points, K)[1]
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Dropping .* points with zero distance")
        return skdim.id.TwoNN().fit_transform_pw(points, precomputed_knn=neighbors[SAMPLE])


def nearest_by_index(points):
    """The K nearest points by exact distances, the lowest index first where distances are equal."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :K]


def frame(rng, d):
    return np.linalg.qr(rng.normal(size=(D, d)))[0].T


def gaussian(seed, d):
    rng = np.random.default_rng((seed, d))
    return rng.normal(size=(N, d)) @ frame(rng, d)


def circle(seed, noise):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, N)
    plane = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ frame(rng, 2)
    return plane + noise * rng.normal(size=plane.shape)


def hidden_states(seed):
    """Unit rows about 31 class means on two circles, spread in six directions: as if trained."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.outer(rng.integers(0, 31, N), [3, 7]) / 31
    means = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) @ frame(rng, 4)
    states = means + 0.05 * rng.normal(size=(N, 6)) @ frame(rng, 6)
    states += 0.005 * rng.normal(size=states.shape)
    return states / np.linalg.norm(states, axis=1, keepdims=True)


SMOOTH = {
    **{f"gaussian {d} {i}": gaussian(i, d) for d in (2, 5, 20) for i in range(8)},
    **{f"circle {i}": circle(i, 0.01 * (i % 2)) for i in range(6)},
    **{f"hidden states {i}": hidden_states(i) for i in range(8)},
}


@pytest.fixture(scope="module")
def smooth():
    """Name → cloud and estimates; clouds alternate between float32 and float64."""
    dtypes = itertools.cycle([np.float32, np.float64])
    clouds = {name: cloud.astype(next(dtypes)) for name, cloud in SMOOTH.items()}
    return {name: (cloud, dimension.twonn_pointwise(cloud, K)) for name, cloud in clouds.items()}


@pytest.mark.parametrize("name", SMOOTH)
def test_equals_scikit_dimension(smooth, name):
    points, estimates = smooth[name]
    assert estimates.shape == (N,)
    np.testing.assert_allclose(estimates[SAMPLE], scikit_dimension(points), rtol=2e-6)


def with_duplicates(seed):
    points = np.random.default_rng(seed).normal(size=(N, LOW))
    points[: N - 1 : 7] = points[1:N:7]
    points[5:10] = points[4]
    return points


@pytest.mark.parametrize("seed", range(4))
def test_duplicates_are_left_out_as_scikit_dimension_does(seed):
    points = with_duplicates(seed)
    np.testing.assert_allclose(
        dimension.twonn_pointwise(points, K)[SAMPLE], scikit_dimension(points), rtol=2e-6
    )


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("width", [LOW, D])
def test_ties_on_a_lattice(seed, width, distinct):
    # Small integers: every distance is exact by either method, and very many are equal.
    cells = np.random.default_rng(seed).choice(6**4, N, replace=not distinct)
    points = np.zeros((N, width))
    points[:, :4] = np.stack(np.unravel_index(cells, (6,) * 4), axis=1)
    estimates = dimension.twonn_pointwise(points.astype(np.float32), K)
    expected = scikit_dimension(points, nearest_by_index(points))
    np.testing.assert_allclose(estimates[SAMPLE], expected, rtol=2e-6)


@pytest.mark.parametrize("lower_index_is_nearer", [True, False])
def test_the_last_neighbour_is_chosen_in_double_precision(lower_index_is_nearer):
    points = np.random.default_rng(4).normal(size=(N, LOW))
    points[0] = 0
    order = np.argsort(np.linalg.norm(points, axis=1))
    last, next_one = sorted(order[K : K + 2], reverse=not lower_index_is_nearer)
    radius = np.linalg.norm(points[order[K]])
    for i, factor in ((last, 1), (next_one, 1 + 1e-11)):
        points[i] *= radius * factor / np.linalg.norm(points[i])
    neighbors = get_nn(points, K)[1][0]
    assert last in neighbors and next_one not in neighbors
    estimate = dimension.twonn_pointwise(points, K)[0]
    assert estimate == pytest.approx(scikit_dimension(points)[0], rel=2e-6)


def test_a_full_grid_has_only_ratios_of_one():
    points = np.zeros((N, LOW))
    points[:, :3] = np.stack(np.meshgrid(*map(np.arange, (6, 5, 10))), axis=-1).reshape(N, 3) / 8
    expected = scikit_dimension(points, nearest_by_index(points))
    np.testing.assert_array_equal(expected, 0)
    np.testing.assert_array_equal(dimension.twonn_pointwise(points, K), 0)


def test_duplicates_in_many_dimensions_are_at_distance_zero():
    points = gaussian(0, 5).astype(np.float32)
    points[::6] = points[1::6]
    estimates = dimension.twonn_pointwise(points, K)
    # Above 25 dimensions scikit-dimension's distances carry rounding; these two columns do not.
    exact = points.astype(np.float64)
    neighbors = nearest_by_index(exact)
    for i in SAMPLE[:8]:
        within = np.sort(cdist(exact[neighbors[i]], exact[neighbors[i]]), axis=1)[:, 1:3]
        with pytest.warns(UserWarning, match="Dropping"):
            expected = skdim.id.TwoNN(dist=True).fit(within).dimension_
        assert estimates[i] == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_small_distances_survive_in_float32(offset):
    rng = np.random.default_rng(0)
    # Clusters a millionth of the cloud in size: inner products, even in float64, would lose them.
    points = np.repeat(rng.normal(size=(3, LOW)), N // 3, axis=0) * 1e3
    points = (points + offset + 1e-3 * rng.normal(size=(N, LOW))).astype(np.float32)
    expected = scikit_dimension(points.astype(np.float64), nearest_by_index(points))
    np.testing.assert_allclose(dimension.twonn_pointwise(points, K)[SAMPLE], expected, rtol=2e-6)


def test_scale_and_device_arrays_do_not_matter():
    points = gaussian(1, 5).astype(np.float32)
    estimates = dimension.twonn_pointwise(points, K)
    np.testing.assert_allclose(dimension.twonn_pointwise(jnp.asarray(points), K), estimates)
    for scale in (2.0**-90, 2.0**90):
        scaled = dimension.twonn_pointwise((points * scale).astype(np.float32), K)
        np.testing.assert_allclose(scaled, estimates, rtol=1e-12)
    assert estimates.dtype == np.float64
    assert not jax.config.jax_enable_x64


# -------------------------------------------------------------------------- known dimensions


@pytest.mark.parametrize("d", [2, 5])
def test_a_gaussian_in_128_dimensions_has_its_dimension(smooth, d):
    # One cloud of 300 points strays by a tenth; eight of them are the 2,400 points of one estimate.
    means = [dimension.summarize(smooth[f"gaussian {d} {i}"][1]).lid_mean for i in range(8)]
    assert np.mean(means) == pytest.approx(d, rel=0.15)


def test_older_releases_counted_from_zero():
    points = gaussian(3, 5)
    older = dimension.twonn_pointwise(points, K, empirical="from_zero")
    newer = dimension.twonn_pointwise(points, K)
    # As the releases up to 0.3.4 had it, on ratios from 0.5's neighbourhoods.
    neighbors = nearest_by_index(points)
    for i in SAMPLE[:8]:
        within = np.sort(cdist(points[neighbors[i]], points[neighbors[i]]), axis=1)
        x = np.log(np.sort(within[:, 2] / within[:, 1])[:57])
        y = -np.log(1 - np.arange(57) / 64)
        assert older[i] == pytest.approx((x @ y) / (x @ x), rel=2e-6)
    assert 0.93 < np.mean(older / newer) < 0.97


@pytest.mark.parametrize("d", [2, 5, 20])
def test_global_estimate_equals_scikit_dimension(d):
    for points in (gaussian(0, d), gaussian(1, d).astype(np.float32), with_duplicates(d)):
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Dropping .* points with zero distance")
            expected = skdim.id.TwoNN().fit(points).dimension_
        assert dimension.twonn_global(points) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("n_neighbors", [3, 90])
def test_fewest_and_most_neighbours(n_neighbors):
    points = np.random.default_rng(n_neighbors).normal(size=(91, 6))
    neighbors = get_nn(points, n_neighbors)[1][:9]
    with threadpool_limits(1):
        expected = skdim.id.TwoNN().fit_transform_pw(
            points, precomputed_knn=neighbors, n_neighbors=n_neighbors
        )
    estimates = dimension.twonn_pointwise(points, n_neighbors)
    np.testing.assert_allclose(estimates[:9], expected, rtol=2e-6)


# ------------------------------------------------------------------------- no answer, bad inputs


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_estimate_where_a_coordinate_is_not_finite(smooth, bad):
    points = smooth["gaussian 5 0"][0].copy()
    points[17, 3] = bad
    compiled = _twonn.pointwise._cache_size()
    assert np.isnan(dimension.twonn_pointwise(points, K)).all()
    assert _twonn.pointwise._cache_size() == compiled


def test_no_estimate_where_all_members_coincide():
    same = np.ones((N, LOW), np.float32)
    assert np.isnan(dimension.twonn_pointwise(same, K)).all()
    assert np.isnan(dimension.twonn_global(same))
    assert np.isnan(dimension.twonn_global(np.full((N, LOW), np.nan)))
    # A tight knot of equal points far from a cloud: only their own neighbourhoods are empty.
    knot = gaussian(0, 5)
    knot[: K + 1] = 50.0
    estimates = dimension.twonn_pointwise(knot, K)
    np.testing.assert_array_equal(np.isnan(estimates), np.arange(N) <= K)


def test_summary_is_mean_and_population_deviation_and_hides_no_gap():
    assert dimension.summarize([1.0, 2.0, 6.0]) == pytest.approx((3.0, np.sqrt(14 / 3)))
    assert np.isnan(dimension.summarize([1.0, np.nan])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dimension.twonn_pointwise(np.zeros((64, 3))), "64 points are too few.*64.*65"),
        (lambda: dimension.twonn_pointwise(np.zeros(99)), r"\(n, d\) with d >= 1, not \(99,\)"),
        (lambda: dimension.twonn_pointwise(np.zeros((99, 0))), "d >= 1"),
        (lambda: dimension.twonn_pointwise(np.zeros((99, 3)), 2), "at least 3 neighbours, not 2"),
        (lambda: dimension.twonn_pointwise(np.zeros((99, 3), complex)), "real .* complex128"),
        (lambda: dimension.twonn_pointwise(np.zeros((99, 3)), empirical="zero"), "'zero'"),
        (lambda: dimension.twonn_pointwise(np.zeros((1, 99, 3))), r"\(n, d\)"),
        (lambda: dimension.twonn_global(np.zeros((2, 3))), "at least 3 points, not 2"),
        (lambda: dimension.twonn_global(np.zeros(5)), r"\(n, d\)"),
        (lambda: dimension.summarize([]), "n >= 1"),
    ],
)
def test_bad_inputs_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_clouds_side_by_side_are_as_each_alone():
    """Also where one of them has points so close that their distances come from differences."""
    rng = np.random.default_rng(0)
    clouds = rng.normal(size=(3, 60, LOW)).astype(np.float32)
    clouds[1] += 1000
    clouds[1, 30:] = clouds[1, :30] + np.float32(1e-3) * rng.normal(size=(30, LOW))
    with jax.enable_x64(True):
        both = jax.jit(jax.vmap(lambda cloud: _twonn.both(cloud, 8, False)))
        together = jax.device_get(both(clouds))
    for cloud, *found in zip(clouds, *together, strict=True):
        np.testing.assert_allclose(found[0], dimension.twonn_pointwise(cloud, 8), rtol=1e-9)
        np.testing.assert_allclose(found[1], dimension.twonn_global(cloud), rtol=1e-9)
