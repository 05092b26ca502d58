"""Diagrams as such: summaries, Betti curves, distances."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from grokjax.diagnostics import persistence as ph
from tests.shapes import polygon

INF = math.inf


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
