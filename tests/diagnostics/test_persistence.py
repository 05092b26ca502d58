"""Persistence: Betti numbers of known spaces, four engines against each other, and the algebra."""

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
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from grokjax.diagnostics import persistence as ph
from tests.shapes import cube_surface, flat_torus, polygon, projective_plane, random_cloud, sphere

INF = math.inf
NAMES, CHECK = ", ".join(ph.ENGINES), ph.ENGINES[1]
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


def by_gudhi(points, max_dimension):
    complex_ = gudhi.RipsComplex(distance_matrix=rounded_distances(points).tolist())
    tree = complex_.create_simplex_tree(max_dimension=max_dimension + 1)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    found = [tree.persistence_intervals_in_dimension(d) for d in range(max_dimension + 1)]
    return [np.reshape(intervals, (-1, 2)) for intervals in found]


def assert_engines_agree(points, max_dimension):
    """All engines, and GUDHI, give the same sorted rows to the bit: distances are shared."""
    by_redzed = ph.diagrams(points, max_dimension, engine="redzed")
    others = [ph.diagrams(points, max_dimension, engine) for engine in ph.ENGINES[1:]]
    for d, (ours, *theirs) in enumerate(zip(by_redzed, *others, strict=True)):
        for second in theirs:
            assert ours.dtype == second.dtype == np.float64
            assert ours.shape == second.shape == (len(ours), 2)
            assert np.array_equal(ours, second)
        assert rows(ours) == [tuple(row) for row in ours.tolist()], "sorted, no empty bars"
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


@pytest.mark.skipif("giotto" not in ph.ENGINES, reason="giotto-ph is not for this Python")
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


@pytest.mark.parametrize("seed", range(40))
def test_critical_edges_are_as_long_as_the_ends_of_the_bars(seed):
    points = random_cloud(seed)
    bars, edges = ph.critical_edges(points)
    assert rows(bars) == rows(by_gudhi(points, 1)[1])
    assert edges.shape == (len(bars), 2, 2) and edges.dtype == np.int64
    lengths = rounded_distances(points)[edges[..., 0], edges[..., 1]]
    np.testing.assert_array_equal(lengths, bars)
    assert (np.diff(bars[:, 1] - bars[:, 0]) <= 0).all()


@pytest.mark.parametrize("n", [5, 12])
def test_critical_edges_of_a_polygon_are_a_side_and_a_chord(n):
    ((birth, death),) = ph.critical_edges(polygon(n))[1]
    assert abs(birth[1] - birth[0]) in (1, n - 1)
    # An equilateral triangle, as nearly as the corners allow, fills it.
    assert abs(death[1] - death[0]) in (-(-n // 3), n - -(-n // 3))
    assert ph.critical_edges(np.ones((4, 2)))[1].shape == (0, 2, 2)


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
        ({"engine": "gudhi"}, f"engine must be one of {NAMES}, got 'gudhi'"),
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


# Many clouds


def mixed_clouds():
    """Clouds of many sizes; those at 2 and 5 are bad."""
    good = [random_cloud(seed) for seed in range(6)]
    return [*good[:2], np.full((3, 2), np.nan), *good[2:4], np.zeros(4), *good[4:]]


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("engine", ph.ENGINES)
def test_many_keeps_the_order_and_isolates_errors(engine, n_threads, monkeypatch):
    monkeypatch.setattr(ph, "_INLINE_WORK", 0)
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
    monkeypatch.setattr(ph, "_INLINE_WORK", 0)
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


def test_workers_are_other_processes_without_jax(monkeypatch):
    def where(*_):
        return os.getpid(), [name for name in ("jax", "flax") if name in sys.modules]

    monkeypatch.setattr(ph, "_compute", where)
    small = ph.many([polygon(4)] * 4, engine=CHECK, n_threads=2)
    assert {pid for pid, _ in small} == {os.getpid()}
    monkeypatch.setattr(ph, "_INLINE_WORK", 0)
    spread = ph.many([polygon(4)] * 4, engine=CHECK, n_threads=2)
    assert os.getpid() not in {pid for pid, _ in spread}
    assert all(loaded == [] for _, loaded in spread)


def test_few_clouds_share_the_threads(monkeypatch):
    monkeypatch.setattr(ph, "_INLINE_WORK", 0)
    monkeypatch.setattr(ph, "_compute", lambda cloud, engine, degree, n_threads: n_threads)
    assert ph.many([polygon(4)], engine=CHECK, n_threads=4) == [4]
    assert ph.many([polygon(4)] * 2, engine=CHECK, n_threads=4) == [2, 2]
    assert ph.many([polygon(4)] * 3, engine=CHECK, n_threads=2) == [1, 1, 1]


def test_many_survives_the_death_of_a_worker(monkeypatch):
    monkeypatch.setattr(ph, "_INLINE_WORK", 0)
    clouds = [polygon(4)] * 3
    monkeypatch.setattr(ph, "_compute", lambda *_: os._exit(1))
    found = ph.many(clouds, engine=CHECK, n_threads=2)
    assert len(found) == 3
    assert all(isinstance(result, RuntimeError) for result in found)
    monkeypatch.setattr(ph, "_compute", lambda cloud, *_: len(cloud))
    assert ph.many(clouds, engine=CHECK, n_threads=2) == [4, 4, 4]


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
    message = (
        rf"engines redzed and {CHECK} disagree in degree {degree}: .* difference {difference}$"
    )
    with pytest.raises(ph.EngineMismatch, match=message) as error:
        ph.verify(points, computed, "redzed")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_verify_detects_a_broken_engine(monkeypatch):
    points = polygon(9)
    computed = ph.diagrams(points, engine=CHECK)
    right = ph._redzed
    monkeypatch.setattr(ph, "_redzed", lambda *args: right(*args)[::-1])
    with pytest.raises(ph.EngineMismatch, match=f"engines {CHECK} and redzed disagree in degree 0"):
        ph.verify(points, computed, CHECK)


def test_verify_and_require_same_refuse_bad_input():
    with pytest.raises(ValueError, match=f"engine must be one of {NAMES}, got 'both'"):
        ph.verify(polygon(4), ph.diagrams(polygon(4)), "both")
    with pytest.raises(ValueError, match="equally many degrees, got 1 and 2"):
        ph.require_same(ph.diagrams(polygon(4), 0), ph.diagrams(polygon(4), 1))
