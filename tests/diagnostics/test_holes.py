"""Holes of spaces that are known, of noise, and the waves of planted embeddings."""

import itertools
import types

import numpy as np
import pytest
from scipy.stats import kstest

from grokjax.diagnostics import Options, holes, persistence
from tests.helpers import make_runs
from tests.shapes import flat_torus, polygon, sphere


def waves(p, frequencies, noise=0.0, seed=0, width=32):
    """(p, width) rows: a plane of its own for each wave, and noise of that share of their norm."""
    rng = np.random.default_rng(seed)
    turns = 2 * np.pi * np.outer(np.arange(p), frequencies) / p
    planes = np.linalg.qr(rng.normal(size=(width, width)))[0][: 2 * len(frequencies)]
    rows = np.concatenate([np.cos(turns), np.sin(turns)], axis=1) @ planes
    return rows + noise * np.sqrt(len(frequencies) / width) * rng.normal(size=rows.shape)


def two_circles(n):
    """Circles that touch, n points together, in a plane."""
    left = polygon(n // 2) - [1.0, 0.0]
    return np.concatenate([left, -left[1:]])


def noisy(points, noise, seed=0):
    return points + noise * np.random.default_rng(seed).normal(size=points.shape)


# --------------------------------------------------------------------------- stretches


def by_brute_force(diagrams):
    """Numbers of bars alive in the middle between any two ends; equal neighbours joined."""
    ends = sorted({e for bars in diagrams for e in bars.ravel().tolist() if 0 < e < np.inf})
    pieces = []
    for low, high in itertools.pairwise(ends):
        middle = (low + high) / 2
        numbers = tuple(int(((b[:, 0] <= middle) & (middle < b[:, 1])).sum()) for b in diagrams)
        if pieces and pieces[-1][:3] == numbers:
            pieces[-1] = (*numbers, pieces[-1][3], high)
        else:
            pieces.append((*numbers, low, high))
    return sorted((p for p in pieces if p[1] or p[2]), key=lambda p: -p[4] / p[3])


@pytest.mark.parametrize("seed", range(6))
def test_stretches_are_those_of_brute_force(seed):
    cloud = noisy([polygon(14), sphere(20), flat_torus(5)][seed % 3], 0.1, seed)
    found = persistence.diagrams(cloud, max_dimension=2)
    assert [tuple(own) for own in holes.stretches(found)] == by_brute_force(found)


def test_a_bar_that_ends_as_another_begins_does_not_end_a_stretch():
    h1 = [[1.0, 2.0], [2.0, 4.0]]
    (own,) = holes.stretches([[[0.0, 0.5], [0.0, np.inf]], h1, np.zeros((0, 2))])
    assert own == (1, 1, 0, 1.0, 4.0)
    assert own.ratio == 4
    assert holes.stretches([[[0.0, 0.5], [0.0, np.inf]], np.zeros((0, 2)), []]) == []
    with pytest.raises(ValueError, match="must hold degrees 0, 1 and 2, got 2"):
        holes.stretches([[], []])


@pytest.mark.parametrize(
    ("points", "noise", "space", "numbers"),
    [
        (polygon(40), 0.1, "circle", (1, 1, 0)),
        (polygon(40) * [2.0, 1.0], 0.05, "circle", (1, 1, 0)),
        (two_circles(59), 0.05, "two circles", (1, 2, 0)),
        (flat_torus(8), 0.05, "torus", (1, 2, 1)),
        (sphere(59), 0.05, "sphere", (1, 0, 1)),
        (np.concatenate([polygon(24), polygon(24, centre=5.0)]), 0.05, "other", (2, 2, 0)),
        (waves(59, [7], 0.2), 0, "circle", (1, 1, 0)),
    ],
    ids=["circle", "ellipse", "touching", "torus", "sphere", "apart", "wave"],
)
def test_spaces_are_told_apart(points, noise, space, numbers):
    found = holes.compare(noisy(points, noise, 1))
    own = found.stretches[0]
    assert (own.b0, own.b1, own.b2) == numbers
    assert found.p_values[0] == 0.05
    assert holes.name_of(own, 0.05) == space
    assert holes.name_of(own, 0.1) == holes.name_of(own, np.nan) == "undecided"


def test_two_waves_are_a_circle_at_small_scales_and_a_torus_at_large_ones():
    # Steps of 1 turn the first wave by little and the second by four times as much.
    found = holes.compare(waves(113, [2, 8], 0.02), normalise=lambda cloud: cloud)
    told = [holes.name_of(*own) for own in zip(found.stretches, found.p_values, strict=True)]
    there = [name for name in told if name != "undecided"]
    assert there == ["circle", "torus"]
    scales = {name: own.low for name, own in zip(there, found.stretches, strict=False)}
    assert scales["circle"] < scales["torus"]


@pytest.mark.parametrize("spread", [np.ones(3), 0.7 ** np.arange(12)])
def test_the_p_value_keeps_its_level_in_noise(spread):
    p_values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = holes.compare(rng.normal(size=(30, len(spread))) * spread, seed=(seed,))
        p_values.append(found.p_values[0] if found.p_values else 1.0)
        assert found.p_values == sorted(found.p_values)
    assert kstest(np.array(p_values) - rng.uniform(0, 0.05, 60), "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) < 0.15  # binomial(60, 0.05): 0.1 %


def test_long_bars_are_those_of_the_planted_holes():
    found = persistence.diagrams(noisy(two_circles(150), 0.05), max_dimension=2)
    assert [holes.n_long(found[degree]) for degree in (1, 2)] == [2, 0]


# --------------------------------------------------------------------------- planes


@pytest.mark.parametrize("p", [59, 60])
@pytest.mark.parametrize("spread", [np.ones(32), 0.9 ** np.arange(40), np.ones(2)])
def test_no_frequency_stands_out_of_noise(p, spread):
    rng = np.random.default_rng(p)
    found = [holes.standing_out(rng.normal(size=(p, len(spread))) * spread) for _ in range(100)]
    assert sum(bool(one) for one in found) <= 13  # binomial(100, 0.05): 0.1 %


@pytest.mark.parametrize(("frequencies", "noise"), [((7,), 1.0), ((3, 29), 0.5), ((30,), 1.0)])
def test_planted_frequencies_stand_out_alone(frequencies, noise):
    for p in (59, 60) if max(frequencies) < 30 else (60,):
        assert set(holes.standing_out(waves(p, frequencies, noise))) == set(frequencies)


def test_the_plane_of_a_wave_is_a_circle_with_its_radius():
    rows = waves(61, [9])
    own, projected = holes.plane(rows, 9)
    assert own.purity == pytest.approx(1)
    assert own.aspect == pytest.approx(1)
    # A regular polygon: its loop is born at a side and dies at the side of an inscribed triangle.
    side = 2 * np.sin(np.pi / 61)
    assert side + own.loop == pytest.approx(persistence.diagrams(polygon(61))[1][0, 1], abs=1e-5)
    assert np.linalg.norm(projected, axis=1) == pytest.approx(1)
    flat = rows * 1.0
    flat[:] = np.cos(2 * np.pi * 9 * np.arange(61) / 61)[:, None]
    assert holes.plane(flat, 9)[0].aspect == pytest.approx(0, abs=1e-6)
    assert holes.plane(np.ones((5, 2)), 1)[0] == (0, 0, 0)


def test_other_waves_in_the_plane_lower_its_purity():
    p, x = 59, np.arange(59)
    angle = 2 * np.pi * x / p
    rows = np.stack([2 * np.cos(3 * angle) + np.cos(5 * angle), 2 * np.sin(3 * angle)], axis=1)
    assert holes.plane(rows, 3)[0].purity == pytest.approx(8 / 9)
    with pytest.raises(ValueError, match="frequency must lie in 1 … 29, not 30"):
        holes.plane(rows, 30)


def test_planes_can_say_no():
    """Filtered to its frequency every embedding has an ellipse there; all rows together do not."""
    n_small = 0
    for seed in range(40):
        rows = np.random.default_rng(seed).normal(size=(31, 16))
        n_waves, found = holes.compare_planes(rows, 19, (seed,))
        n_small += found[0]["p_value"] <= 0.05
        assert len(found) == max(n_waves, 1)
    assert n_small <= 8  # binomial(40, 0.05): 0.1 %
    n_waves, found = holes.compare_planes(waves(59, [7, 20], 0.3), 19, (0,))
    assert n_waves == 2
    assert {own["frequency"] for own in found} == {7, 20}
    assert all(own["p_value"] == 0.05 and own["purity"] > 0.9 for own in found)


# --------------------------------------------------------------------------- as a diagnostic


@pytest.mark.parametrize("operation", ["add", "multiply", "s3"])
def test_as_a_diagnostic_it_reads_rows_in_the_groups_order(operation):
    (run,) = make_runs(operation=[operation], prime=[31])
    structure = run.task.structure
    n = len(structure.elements)
    points = np.zeros((run.task.n_elements, 32))
    points[structure.elements] = waves(n, [1 if n == 6 else 7], 0.05)
    view = types.SimpleNamespace(
        run_id="r", step=5, structure=structure, cloud_names=("embedding", "layer1"),
        points=lambda name: points, normalise=lambda cloud: cloud,
    )  # fmt: skip
    found = holes.measure([view], Options(hole_surrogates=19))
    for name, table in holes.TABLES.items():
        assert all(row.keys() == {"run_id", "step", *table.columns} for row in found[name])
    first = {row["cloud"]: row for row in found["holes"] if row["place"] == 0}
    if operation == "s3":
        assert found["planes"] == []
        assert np.isnan(first["embedding"]["waves"])
        return
    # Of products residue 0 is not an element: it lies within the circle.
    circle = "circle" if operation == "add" else "other"
    assert first["embedding"]["space"] == first["layer1"]["space"] == circle
    assert first["embedding"]["waves"] == 1
    assert np.isnan(first["layer1"]["waves"])
    (plane,) = found["planes"]
    assert plane["frequency"] == 7
    again = holes.measure([view], Options(hole_surrogates=19))
    np.testing.assert_equal(again, found)  # the same surrogates every time


def test_every_k_th_checkpoint_and_the_last_are_measured():
    assert holes.steps(range(0, 60, 10), Options(hole_every=2)) == {0, 20, 40, 50}
