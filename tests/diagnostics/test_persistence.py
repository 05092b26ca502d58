"""Persistence: Betti numbers of known spaces, four engines against each other, and the algebra."""

import itertools
import math
import os
import pickle
import subprocess
import sys

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ripser import ripser
from scipy.cluster.hierarchy import linkage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import pdist, squareform

from grokjax.diagnostics import persistence as ph

INF = math.inf


def polygon(n, radius=1.0, centre=0.0):
    """The n corners of a regular polygon."""
    angles = 2 * np.pi * np.arange(n) / n
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1) + [centre, 0.0]


def sphere(n):
    """n points of a Fibonacci lattice on the unit sphere."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)


def cube_surface():
    """The 26 surface points of a 3 x 3 x 3 grid."""
    grid = np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=3)))
    return grid[np.abs(grid).max(axis=1) == 1]


def flat_torus(n):
    """n x n grid on the product of two unit circles in four dimensions."""
    circle = polygon(n)
    return np.array([np.concatenate([a, b]) for a in circle for b in circle])


def projective_plane(n):
    """n lines through the origin as projection matrices: torsion only Z/2 coefficients see."""
    lines = sphere(2 * n)[:n]
    return (lines[:, :, None] * lines[:, None, :]).reshape(n, 9)


def random_cloud(seed):
    """One of five kinds of cloud, some with ties, duplicates or hardly any points."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 28))
    match seed % 5:
        case 0:
            return rng.normal(size=(n, 3))
        case 1:
            return rng.integers(0, 4, size=(n, 2)).astype(float)
        case 2:
            rows = rng.normal(size=(n, 128))
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)
        case 3:
            return rng.normal(size=(int(rng.integers(1, 5)), 2))
        case _:
            noisy = polygon(n) + 0.1 * rng.normal(size=(n, 2))
            return np.concatenate([noisy, noisy[:: int(rng.integers(1, 4))]])


NAMED_CLOUDS = {
    "single point": np.zeros((1, 3)),
    "two points": np.array([[0.0, 0.0], [3.0, 4.0]]),
    "all equal": np.ones((7, 4)),
    "duplicates": np.repeat(polygon(6), 3, axis=0),
    "circle": polygon(24),
    "two circles": np.concatenate([polygon(16), polygon(16, centre=5.0)]),
    "sphere": sphere(40),
    "cube surface": cube_surface(),
    "torus": flat_torus(6),
    "projective plane": projective_plane(50),
}


def rows(diagram):
    """Bars of positive length as sorted tuples: the test's own canonical form."""
    return sorted((float(b), float(d)) for b, d in diagram if d > b)


def rounded_distances(points):
    return squareform(pdist(points).astype(np.float32)) if len(points) > 1 else np.zeros((1, 1))


def by_ripser(points, max_dimension):
    square = rounded_distances(points)
    return ripser(square, maxdim=max_dimension, distance_matrix=True)["dgms"]


def by_gudhi(points, max_dimension):
    complex_ = gudhi.RipsComplex(distance_matrix=rounded_distances(points).tolist())
    tree = complex_.create_simplex_tree(max_dimension=max_dimension + 1)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    found = [tree.persistence_intervals_in_dimension(d) for d in range(max_dimension + 1)]
    return [np.reshape(intervals, (-1, 2)) for intervals in found]


def assert_engines_agree(points, max_dimension):
    """All four engines give the same sorted rows, with no tolerance: distances are shared."""
    by_redzed = ph.diagrams(points, max_dimension, engine="redzed")
    by_giotto = ph.diagrams(points, max_dimension, engine="giotto")
    for d, (ours, second) in enumerate(zip(by_redzed, by_giotto, strict=True)):
        assert ours.dtype == second.dtype == np.float64
        assert ours.shape == second.shape == (len(ours), 2)
        assert np.array_equal(ours, second)
        assert rows(ours) == [tuple(row) for row in ours.tolist()], "sorted, no empty bars"
        assert rows(ours) == rows(by_ripser(points, max_dimension)[d])
        assert rows(ours) == rows(by_gudhi(points, max_dimension)[d])


# Engines


@pytest.mark.parametrize("name", NAMED_CLOUDS)
def test_engines_agree_on_named_clouds(name):
    assert_engines_agree(NAMED_CLOUDS[name], max_dimension=1)


@pytest.mark.parametrize("seed", range(100))
def test_engines_agree_on_random_clouds(seed):
    assert_engines_agree(random_cloud(seed), max_dimension=1)


@pytest.mark.parametrize("name", ["single point", "all equal", "duplicates", "sphere", "torus"])
def test_engines_agree_in_degree_two(name):
    assert_engines_agree(NAMED_CLOUDS[name], max_dimension=2)


def test_engines_agree_on_a_cloud_large_enough_for_giottos_threads():
    points = np.random.default_rng(0).normal(size=(ph._GIOTTO_THREADS_FROM + 5, 6))
    expected = ph.diagrams(points)
    for n_threads in (1, 2):
        ph.require_same(expected, ph.diagrams(points, engine="giotto", n_threads=n_threads))


@pytest.mark.parametrize("engine", ph.ENGINES)
@pytest.mark.parametrize("max_dimension", [0, 1, 2])
def test_one_diagram_per_degree_with_infinite_bars(engine, max_dimension):
    found = ph.diagrams(polygon(8), max_dimension, engine)
    assert len(found) == max_dimension + 1
    assert [np.isinf(bars).sum() for bars in found] == [1, 0, 0][: max_dimension + 1]
    assert found[0].shape == (8, 2)


# Known spaces


@pytest.mark.parametrize("engine", ph.ENGINES)
@pytest.mark.parametrize("n", [4, 12, 30])
def test_polygon_has_its_closed_form_diagram(engine, n):
    side = 2 * math.sin(math.pi / n)
    filled = 2 * math.sin(math.pi * math.ceil(n / 3) / n)
    h0, h1 = ph.diagrams(polygon(n), engine=engine)
    np.testing.assert_allclose(h0, [[0, side]] * (n - 1) + [[0, INF]], rtol=1e-6)
    np.testing.assert_allclose(h1, [[side, filled]], rtol=1e-6)


@pytest.mark.parametrize("engine", ph.ENGINES)
@pytest.mark.parametrize(
    ("name", "scale", "betti"),
    [
        ("single point", 0.0, (1, 0, 0)),
        ("two points", 4.9, (2, 0, 0)),
        ("two points", 5.0, (1, 0, 0)),
        ("all equal", 0.0, (1, 0, 0)),
        ("duplicates", 0.0, (6, 0, 0)),
        ("duplicates", 1.1, (1, 1, 0)),
        ("circle", 1.0, (1, 1, 0)),
        ("two circles", 1.0, (2, 2, 0)),
        ("sphere", 0.9, (1, 0, 1)),
        ("cube surface", 1.5, (1, 0, 1)),
        ("torus", 1.45, (1, 2, 1)),
        ("projective plane", 1.0, (1, 1, 1)),
    ],
)
def test_betti_numbers(engine, name, scale, betti):
    found = ph.diagrams(NAMED_CLOUDS[name], 2, engine)
    assert tuple(int(ph.betti_curve(bars, [scale])[0]) for bars in found) == betti


def test_octahedron_has_one_void():
    _, h1, h2 = ph.diagrams(np.concatenate([np.eye(3), -np.eye(3)]), max_dimension=2)
    assert h1.shape == (0, 2)
    np.testing.assert_allclose(h2, [[math.sqrt(2), 2]], rtol=1e-7)


def test_degree_zero_is_single_linkage():
    points = np.random.default_rng(3).normal(size=(60, 5))
    heights = np.sort(linkage(points, "single")[:, 2])
    h0 = ph.diagrams(points)[0]
    np.testing.assert_allclose(h0[:, 1], [*heights, INF], rtol=1e-7)
    assert not h0[:, 0].any()


# Distances and input


def test_values_are_exact_in_float32_and_close_points_do_not_cancel():
    points = 1e6 + np.array([[0.0], [1e-3], [3e-3]])
    h0, _ = ph.diagrams(points)
    assert np.array_equal(h0, h0.astype(np.float32))
    np.testing.assert_allclose(h0[:2, 1], [1e-3, 2e-3], rtol=1e-6)


def test_any_real_dtype_is_read():
    points = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    expected = ph.diagrams(points.astype(np.float64))
    ph.require_same(expected, ph.diagrams(points))
    ph.require_same(expected, ph.diagrams(points.tolist()))
    ph.require_same(ph.diagrams(np.eye(3)), ph.diagrams(np.eye(3, dtype=np.int8)))


BAD_POINTS = {
    "shape (3,)": np.zeros(3),
    "shape (2, 2, 2)": np.zeros((2, 2, 2)),
    "shape (0, 3)": np.zeros((0, 3)),
    "shape (3, 0)": np.zeros((3, 0)),
    "NaN or inf in 1 of 3 rows": np.array([[0.0, 1.0], [np.nan, np.nan], [1.0, 1.0]]),
    "NaN or inf in 2 of 2 rows": np.array([[-INF, 1.0], [0.0, INF]]),
    "overflow float32": np.array([[0.0], [1e39]]),
    "too far apart": np.array([[0.0], [1e300]]),
    "complex": np.ones((2, 2), dtype=complex),
}


@pytest.mark.parametrize("engine", ph.ENGINES)
@pytest.mark.parametrize("message", BAD_POINTS)
def test_bad_points_are_refused(message, engine):
    with pytest.raises(ValueError) as error:
        ph.diagrams(BAD_POINTS[message], engine=engine)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "ripser"}, "engine must be one of redzed, giotto, got 'ripser'"),
        ({"max_dimension": 3}, "max_dimension must be 0, 1 or 2, got 3"),
        ({"max_dimension": -1}, "max_dimension must be 0, 1 or 2, got -1"),
        ({"n_threads": 0}, "n_threads must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ph.diagrams(polygon(4), **options)
    with pytest.raises(ValueError, match=message):
        ph.many([], **options)


coordinates = arrays(
    np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.integers(-8, 8)
)


@settings(deadline=None, max_examples=50)
@given(points=coordinates, exponent=st.integers(-30, 30), data=st.data())
def test_scale_equivariance_and_order_of_points(points, exponent, data):
    expected = ph.diagrams(points)
    scaled = ph.diagrams(points * 2.0**exponent)
    ph.require_same([bars * 2.0**exponent for bars in expected], scaled)
    shuffled = data.draw(st.permutations(range(len(points))))
    ph.require_same(expected, ph.diagrams(points[shuffled]))


# Summary


def test_summary_of_handwritten_diagrams():
    h0 = [[0, 1.0], [0, 3.0], [0, INF]]
    h1 = [[1.0, 5.0], [2.0, 4.0], [2.5, 4.5], [1.0, INF]]
    found = ph.summarize([h0, h1, [[0.0, 99.0]]])
    assert found == ph.Summary(
        h0_max=3.0,
        h0_total=4.0,
        h0_entropy=pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75), rel=1e-14),
        h1_max=4.0,
        h1_second=2.0,
        h1_gap=2.0,
        h1_total=8.0,
        h1_count=3,
        h1_entropy=pytest.approx(1.5 * math.log(2), rel=1e-14),
        connectivity=3.0,
    )


def test_summary_of_a_circle_keeps_the_degrees_apart():
    found = ph.summarize(ph.diagrams(polygon(12)))
    side = 2 * math.sin(math.pi / 12)
    assert found.h0_max == found.connectivity == pytest.approx(side, rel=1e-6)
    assert found.h0_total == pytest.approx(11 * side, rel=1e-6)
    assert found.h0_entropy == pytest.approx(math.log(11), rel=1e-12)
    assert found.h1_max == found.h1_gap == found.h1_total
    assert found.h1_max == pytest.approx(math.sqrt(3) - side, rel=1e-6)
    assert (found.h1_second, found.h1_count, found.h1_entropy) == (0.0, 1, 0.0)


def test_summary_without_finite_bars_is_zero():
    found = ph.summarize(ph.diagrams(np.ones((5, 3))))
    assert found == ph.Summary(*[0.0] * 7, 0, 0.0, 0.0)
    assert all(math.copysign(1, value) == 1 for value in found)
    assert type(found.h1_count) is int
    assert all(type(v) is float for name, v in found._asdict().items() if name != "h1_count")


def test_summary_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    found = ph.diagrams(rng.normal(size=(80, 20)))
    shuffled = [rng.permutation(bars) for bars in found]
    assert ph.summarize(found) == ph.summarize(shuffled)
    assert found[1][:, 0].tolist() != shuffled[1][:, 0].tolist()


@pytest.mark.parametrize(
    ("diagrams", "message"),
    [
        ([np.zeros((0, 2))], "degrees 0 and 1, got 1"),
        ([np.zeros((0, 2)), np.zeros((2, 3))], r"shape \(k, 2\), got shape \(2, 3\)"),
        ([np.zeros((0, 2)), [[0.0, np.nan]]], "finite birth <= death"),
        ([[[2.0, 1.0]], np.zeros((0, 2))], "finite birth <= death"),
        ([[[-INF, 1.0]], np.zeros((0, 2))], "finite birth <= death"),
    ],
)
def test_summary_refuses_what_are_no_diagrams(diagrams, message):
    with pytest.raises(ValueError, match=message):
        ph.summarize(diagrams)


# Betti curves


def test_betti_curve_counts_half_open_bars():
    bars = [[0.0, 1.0], [0.5, 2.0], [0.5, 0.5], [1.0, INF]]
    curve = ph.betti_curve(bars, [3.0, -1.0, 0.0, 0.5, 1.0, 2.0])
    assert curve.tolist() == [1, 0, 1, 2, 2, 1]
    assert curve.dtype == np.int64
    assert ph.betti_curve(np.zeros((0, 2)), [0.0, 1.0]).tolist() == [0, 0]
    assert ph.betti_curve(bars, []).shape == (0,)


@pytest.mark.parametrize("thresholds", [0.5, [[0.5]], [np.nan], [INF]])
def test_betti_curve_refuses_bad_thresholds(thresholds):
    with pytest.raises(ValueError, match="thresholds must be finite"):
        ph.betti_curve([[0.0, 1.0]], thresholds)


# Distances between diagrams


def matching_costs(a, b):
    """L-infinity cost matrix of the matching problem with diagonal copies, (n + m, n + m)."""
    n, m = len(a), len(b)
    costs = np.zeros((n + m, n + m))
    costs[:n, :m] = np.abs(a[:, None] - b[None]).max(axis=2)
    costs[:n, m:] = (a[:, 1] - a[:, 0])[:, None] / 2
    costs[n:, :m] = (b[:, 1] - b[:, 0])[None] / 2
    return costs


def bottleneck_by_bisection(costs):
    """Smallest entry of the cost matrix below which a perfect matching exists."""
    levels = np.unique(costs)
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        graph = csr_matrix(costs <= levels[middle])
        if (maximum_bipartite_matching(graph) >= 0).all():
            high = middle
        else:
            low = middle + 1
    return levels[low]


lattice_diagrams = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 6)).map(lambda bar: (bar[0] / 4, sum(bar) / 4)),
    max_size=3,
).map(lambda bars: np.array(bars).reshape(-1, 2))


@settings(deadline=None, max_examples=100)
@given(a=lattice_diagrams, b=lattice_diagrams)
def test_distances_equal_trying_every_matching(a, b):
    costs = matching_costs(a, b)
    places = range(len(costs))
    matched = [costs[places, p] for p in itertools.permutations(places)]
    assert ph.distance(a, b) == pytest.approx(
        min(cost.max(initial=0.0) for cost in matched), rel=1e-14
    )
    assert ph.distance(a, b, "wasserstein") == pytest.approx(
        min(cost.sum() for cost in matched), rel=1e-8, abs=1e-12
    )


@pytest.mark.parametrize("degree", [0, 1])
def test_distances_between_real_diagrams_equal_independent_solvers(degree):
    rng = np.random.default_rng(1)
    a, b = (ph.diagrams(rng.normal(size=(n, 16)))[degree] for n in (50, 60))
    finite_a, finite_b = (bars[np.isfinite(bars[:, 1])] for bars in (a, b))
    costs = matching_costs(finite_a, finite_b)
    optimum = costs[linear_sum_assignment(costs)].sum()
    assert ph.distance(a, b, "wasserstein") == pytest.approx(optimum, rel=1e-8)
    assert ph.distance(a, b) == pytest.approx(bottleneck_by_bisection(costs), rel=1e-14)


@pytest.mark.parametrize("metric", ph.METRICS)
def test_distance_treats_infinite_empty_and_zero_bars(metric):
    empty, bar = np.zeros((0, 2)), [[0.0, 1.0]]
    endless = [[0.0, INF]]
    assert ph.distance(empty, empty, metric) == 0.0
    assert ph.distance(bar, empty, metric) == ph.distance(empty, bar, metric) == 0.5
    assert ph.distance(bar, [[0.0, 1.0], [2.0, 2.0]], metric) == 0.0
    assert ph.distance(endless, endless, metric) == 0.0
    assert ph.distance(endless, [[0.25, INF]], metric) == 0.25
    assert ph.distance(endless, empty, metric) == ph.distance(bar, endless, metric) == INF


def test_bottleneck_distance_is_stable_under_moved_points():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(40, 3))
    moved = points + rng.uniform(-0.01, 0.01, size=points.shape)
    largest_step = np.linalg.norm(moved - points, axis=1).max()
    for before, after in zip(ph.diagrams(points, 2), ph.diagrams(moved, 2), strict=True):
        assert 0 < ph.distance(before, after) <= 2 * largest_step


def test_distance_refuses_bad_input():
    with pytest.raises(ValueError, match="metric must be one of bottleneck, wasserstein, got 'l2'"):
        ph.distance([[0.0, 1.0]], [[0.0, 1.0]], "l2")
    with pytest.raises(ValueError, match="finite birth <= death"):
        ph.distance([[0.0, 1.0]], [[1.0, 0.0]])


# Many clouds


def mixed_clouds():
    """Clouds of many sizes; those at 2 and 5 are bad."""
    good = [random_cloud(seed) for seed in range(6)]
    return [*good[:2], np.full((3, 2), np.nan), *good[2:4], np.zeros(4), *good[4:]]


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("engine", ph.ENGINES)
def test_many_keeps_the_order_and_isolates_errors(engine, n_threads, monkeypatch):
    monkeypatch.setattr(ph, "_GIOTTO_INLINE_WORK", 0)
    clouds = mixed_clouds()
    found = ph.many(clouds, engine=engine, n_threads=n_threads)
    assert len(found) == len(clouds)
    for index, (cloud, result) in enumerate(zip(clouds, found, strict=True)):
        if index in (2, 5):
            assert isinstance(result, ValueError)
        else:
            ph.require_same(ph.diagrams(cloud), result)
    assert "NaN or inf in 3 of 3 rows" in str(found[2])


def test_many_isolates_errors_raised_while_computing(monkeypatch):
    clouds = [polygon(4), np.array([[0.0], [1e39]]), polygon(5)]
    monkeypatch.setattr(ph, "_GIOTTO_INLINE_WORK", 0)
    for engine in ph.ENGINES:
        first, second, third = ph.many(clouds, engine=engine, n_threads=2)
        assert (len(first[0]), len(third[0])) == (4, 5)
        assert isinstance(second, ValueError)
        assert "overflow float32" in str(second)


def test_many_passes_max_dimension_and_takes_stacks_and_generators():
    stack = np.stack([polygon(6), 2 * polygon(6)])
    for engine in ph.ENGINES:
        found = ph.many(stack, engine=engine, n_threads=2, max_dimension=2)
        assert [len(bars) for bars in found] == [3, 3]
        ph.require_same([2 * bars for bars in found[0]], found[1])
        assert len(ph.many((cloud for cloud in stack), engine=engine)) == 2
        assert ph.many([], engine=engine, n_threads=2) == []


def test_giotto_workers_are_other_processes_without_jax(monkeypatch):
    def where(*_):
        return os.getpid(), [name for name in ("jax", "flax") if name in sys.modules]

    monkeypatch.setattr(ph, "_compute", where)
    small = ph.many([polygon(4)] * 4, engine="giotto", n_threads=2)
    assert {pid for pid, _ in small} == {os.getpid()}
    monkeypatch.setattr(ph, "_GIOTTO_INLINE_WORK", 0)
    spread = ph.many([polygon(4)] * 4, engine="giotto", n_threads=2)
    assert os.getpid() not in {pid for pid, _ in spread}
    assert all(loaded == [] for _, loaded in spread)


def test_few_clouds_share_the_threads(monkeypatch):
    monkeypatch.setattr(ph, "_GIOTTO_INLINE_WORK", 0)
    monkeypatch.setattr(ph, "_compute", lambda cloud, engine, degree, n_threads: n_threads)
    assert ph.many([polygon(4)], engine="giotto", n_threads=4) == [4]
    assert ph.many([polygon(4)] * 2, engine="giotto", n_threads=4) == [2, 2]
    assert ph.many([polygon(4)] * 3, engine="giotto", n_threads=2) == [1, 1, 1]


def test_many_survives_the_death_of_a_worker(monkeypatch):
    monkeypatch.setattr(ph, "_GIOTTO_INLINE_WORK", 0)
    clouds = [polygon(4)] * 3
    monkeypatch.setattr(ph, "_compute", lambda *_: os._exit(1))
    found = ph.many(clouds, engine="giotto", n_threads=2)
    assert len(found) == 3
    assert all(isinstance(result, RuntimeError) for result in found)
    monkeypatch.setattr(ph, "_compute", lambda cloud, *_: len(cloud))
    assert ph.many(clouds, engine="giotto", n_threads=2) == [4, 4, 4]


def test_importing_the_module_is_light():
    heavy = ("jax", "flax", "orbax", "absl", "sklearn", "gph", "gudhi", "joblib", "pandas")
    code = (
        "import sys, grokjax.diagnostics.persistence;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Cross-check


@pytest.mark.parametrize("engine", ph.ENGINES)
@pytest.mark.parametrize("max_dimension", [0, 1, 2])
def test_verify_accepts_either_engine_and_any_order_of_rows(engine, max_dimension):
    points = random_cloud(4)
    computed = [bars[::-1] for bars in ph.diagrams(points, max_dimension, engine)]
    ph.verify(points, computed, engine)


def nudge_one_death(found):
    found[1][-1, 1] = np.nextafter(np.float32(found[1][-1, 1]), np.float32(9))


def drop_a_bar(found):
    found[1] = found[1][1:]


def swap_degrees(found):
    found[:] = found[::-1]


def cut_the_infinite_bar(found):
    found[0][-1, 1] = 7.0


def lose_a_death(found):
    found[1][0, 1] = np.nan


def pair_births_with_other_deaths(found):
    found[1][:, 1] = found[1][::-1, 1]


@pytest.mark.parametrize(
    ("plant", "degree", "difference"),
    [
        (nudge_one_death, 1, r"[1-9]\.\d+e-0[78]"),
        (drop_a_bar, 1, "inf"),
        (swap_degrees, 0, "inf"),
        (cut_the_infinite_bar, 0, "inf"),
        (lose_a_death, 1, "nan"),
        (pair_births_with_other_deaths, 1, r"0\.\d+"),
    ],
)
def test_verify_detects_a_planted_mismatch(plant, degree, difference):
    points = np.random.default_rng(5).normal(size=(20, 3))
    computed = ph.diagrams(points)
    plant(computed)
    message = rf"engines redzed and giotto disagree in degree {degree}: .* difference {difference}$"
    with pytest.raises(ph.EngineMismatch, match=message) as error:
        ph.verify(points, computed, "redzed")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_verify_detects_a_broken_engine(monkeypatch):
    points = polygon(9)
    computed = ph.diagrams(points, engine="giotto")
    right = ph._redzed
    monkeypatch.setattr(ph, "_redzed", lambda *args: right(*args)[::-1])
    with pytest.raises(ph.EngineMismatch, match="engines giotto and redzed disagree in degree 0"):
        ph.verify(points, computed, "giotto")


def test_verify_and_require_same_refuse_bad_input():
    with pytest.raises(ValueError, match="engine must be one of redzed, giotto, got 'both'"):
        ph.verify(polygon(4), ph.diagrams(polygon(4)), "both")
    with pytest.raises(ValueError, match="equally many degrees, got 1 and 2"):
        ph.require_same(ph.diagrams(polygon(4), 0), ph.diagrams(polygon(4), 1))
