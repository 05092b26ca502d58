"""Circular coordinates of spaces that are known, and the waves that they follow."""

import itertools
import types

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kstest

from grokjax.diagnostics import Options, persistence
from grokjax.diagnostics import coordinates as co
from tests.data.dreimac import make as dreimac
from tests.helpers import make_runs
from tests.shapes import flat_torus, polygon, sphere


def waves(p, frequencies, noise=0.0, seed=0, width=32):
    """(p, width) rows: a plane of its own for each wave, and noise of that share of their norm."""
    rng = np.random.default_rng(seed)
    turns = 2 * np.pi * np.outer(np.arange(p), frequencies) / p
    planes = np.linalg.qr(rng.normal(size=(width, width)))[0][: 2 * len(frequencies)]
    rows = np.concatenate([np.cos(turns), np.sin(turns)], axis=1) @ planes
    scale = noise * np.sqrt(len(frequencies) / width)
    return rows + scale * rng.normal(size=rows.shape)


def klein_bottle(n_u=20, n_v=10):
    """A grid on a Klein bottle in four dimensions, and its first angle."""
    u, v = (
        2 * np.pi * grid.ravel() / n
        for grid, n in zip(np.mgrid[:n_u, :n_v], (n_u, n_v), strict=True)
    )
    radius = 2 + np.cos(v)
    half = np.sin(v) * np.array([np.cos(u / 2), np.sin(u / 2)])
    return np.column_stack([radius * np.cos(u), radius * np.sin(u), *half]), u


def apart(found, expected):
    """The largest difference of two coordinates (n,), up to sign and shift, in radians."""
    deviations = []
    for sign in (1, -1):
        difference = np.exp(1j * (found - sign * expected))
        deviations.append(np.abs(np.angle(difference / difference.mean())).max())
    return min(deviations)


def n_holes(points, level=0.05):
    """Bars of degree 1 that are longer than noise's, all tested together at a level."""
    bars = persistence.diagrams(points)[1]
    return int((co.bar_p_values(bars) * len(bars) < level).sum())


# --------------------------------------------------------------------------- spaces


@pytest.mark.parametrize("n", [12, 40, 101])
def test_the_circle_has_its_own_angle(n):
    found = co.circular(polygon(n))
    assert apart(found.angles[:, 0], 2 * np.pi * np.arange(n) / n) < 1e-6
    assert found.residuals[0] < 0.5
    np.testing.assert_allclose(found.bars, persistence.diagrams(polygon(n))[1], rtol=1e-6)


def test_an_ellipse_has_its_arc_length():
    t = np.linspace(0, 2 * np.pi, 20001)
    curve = np.stack([1.5 * np.cos(t), np.sin(t)], axis=1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    share = np.arange(80) / 80
    points = np.stack(
        [np.interp(share * length[-1], length, curve[:, i]) for i in range(2)], axis=1
    )
    assert apart(co.circular(points).angles[:, 0], 2 * np.pi * share) < 0.05


def test_each_of_two_circles_has_a_coordinate():
    circle = polygon(30)
    found = co.circular(np.concatenate([circle, polygon(30, centre=5.0)]), 2)
    angle = 2 * np.pi * np.arange(30) / 30
    for place in range(2):
        on = [found.angles[rows, place] for rows in (slice(30), slice(30, 60))]
        assert min(apart(own, angle) for own in on) < 1e-6
        assert min(np.ptp(np.exp(1j * own)).real for own in on) < 1e-6  # constant on the other


def test_a_flat_torus_has_both_of_its_angles():
    n = 9
    found = co.circular(flat_torus(n), 2)
    grid = 2 * np.pi * np.array(list(itertools.product(range(n), repeat=2))) / n
    deviations = [[apart(found.reduced[:, i], grid[:, j]) for j in range(2)] for i in range(2)]
    assert sorted(map(min, deviations)) == pytest.approx([0, 0], abs=0.05)
    assert {int(np.argmin(own)) for own in deviations} == {0, 1}


def test_the_waves_of_a_torus_have_their_angles_under_noise():
    found = co.circular(waves(113, [33, 9], 0.05, width=128), 2)
    true = 2 * np.pi * np.outer(np.arange(113), [33, 9]) / 113
    off = [[apart(found.reduced[:, i], true[:, j]) for j in range(2)] for i in range(2)]
    assert max(map(min, off)) < 0.05
    assert {int(np.argmin(own)) for own in off} == {0, 1}


@pytest.mark.parametrize(("prime", "n_long"), [(2, 2), (3, 1)])
def test_a_klein_bottle_has_a_second_loop_over_z2_alone(prime, n_long):
    bars, _, _ = co._longest(squareform(pdist(klein_bottle()[0])), 6, prime)
    length = bars[:, 1] - bars[:, 0]
    assert np.flatnonzero(length > 2 * length[n_long]).tolist() == list(range(n_long))


def test_a_klein_bottle_has_one_coordinate():
    points, angle = klein_bottle()
    assert apart(co.circular(points).angles[:, 0], angle) < 0.05
    # Values of −1, 0 and 1 alone do not add up to 0 around its triangles.
    with pytest.raises(ValueError, match="over 3 have no integer lift"):
        co.circular(points, prime=3)


@pytest.mark.parametrize(
    ("points", "noise", "holes"),
    [
        (polygon(200), 0.1, 1),
        (polygon(200) * [1.5, 1.0], 0.1, 1),
        (np.concatenate([polygon(100), polygon(100, centre=5.0)]), 0.1, 2),
        (waves(113, [33]), 0.1, 1),
        (waves(113, [33, 42]), 0.02, 2),
        (sphere(100), 0.1, 0),
    ],
    ids=["circle", "ellipse", "two circles", "wave", "two waves", "sphere"],
)
def test_the_number_of_holes(points, noise, holes):
    # Without noise there are no bars of noise to be compared with.
    noisy = points + noise * np.random.default_rng(1).normal(size=points.shape)
    assert n_holes(noisy) == holes


@pytest.mark.parametrize(("n", "width"), [(60, 3), (113, 32)])
def test_nothing_is_found_in_noise(n, width):
    clouds = [np.random.default_rng(seed).normal(size=(n, width)) for seed in range(60)]
    assert sum(n_holes(cloud) > 0 for cloud in clouds) <= 7  # binomial(60, 0.05): 0.5 %


# --------------------------------------------------------------------------- DREiMac

CLOUDS = dreimac.clouds()
ANGLES = pd.read_csv(dreimac.FOLDER / "angles.csv").pivot(
    index=["cloud", "point"], columns="coordinate", values="angle"
)


@pytest.mark.parametrize("name", CLOUDS)
def test_by_pereas_method_angles_are_those_of_dreimac(name):
    points, n_classes = CLOUDS[name]
    theirs = ANGLES.loc[name].to_numpy()[:, :n_classes]
    ours = co.circular(points, n_classes, prime=47, method="perea").reduced
    off = [[apart(ours[:, i], own) for i in range(n_classes)] for own in theirs.T]
    assert {int(np.argmin(one)) for one in off} == set(range(n_classes))
    assert max(map(min, off)) < 1e-4


# --------------------------------------------------------------------------- waves


@pytest.mark.parametrize(
    ("p", "frequencies", "noise"),
    [
        (59, (7,), 0.2),
        (59, (20, 9), 0.05),
        (59, (20, 9), 0.2),
        (113, (20, 9), 0.2),
        (113, (5, 17, 26), 0.05),
        (113, (5, 17, 26), 0.1),
    ],
)
def test_planted_waves_are_found_after_reduction(p, frequencies, noise):
    found = co.circular(waves(p, frequencies, noise), len(frequencies))
    best = [co.wave(angles, 99) for angles in found.reduced.T]
    assert {one.frequency for one in best} == set(frequencies)
    assert all(one.correlation > 0.95 and one.p_value == 0.01 for one in best)
    assert (found.reduced_residuals < 0.5).all()


def test_reduction_undoes_a_change_of_the_torus_basis():
    """Persistence may give the classes of 33 and 33 + 9 for the waves 33 and 9."""
    given = set()
    for seed in range(6):
        found = co.circular(waves(113, [33, 9], 0.2, seed), 2)
        given |= {co.wave(angles, 9).frequency for angles in found.angles.T}
        assert {co.wave(angles, 9).frequency for angles in found.reduced.T} == {33, 9}
        assert (found.reduced_residuals < 0.5).all()
    assert given == {33, 9, 33 + 9, 33 - 9}


def test_reduction_finds_a_short_basis_whatever_the_given_one():
    rng = np.random.default_rng(0)
    short = np.diag([1.0, 1.2, 0.9])
    for _ in range(50):
        change = np.eye(3, dtype=int)
        for _ in range(6):
            i, j = rng.choice(3, 2, replace=False)
            change[i] += rng.integers(-3, 4) * change[j]
        basis = change @ short
        reduced = co._reduce(basis @ basis.T) @ basis
        np.testing.assert_allclose(sorted(np.linalg.norm(reduced, axis=1)), [0.9, 1.0, 1.2])


def test_a_wave_is_recognised_up_to_sign_and_shift():
    x = np.arange(31)
    for k, sign in itertools.product(range(1, 16), (1, -1)):
        found = co.wave(0.7 + sign * 2 * np.pi * k * x / 31, 99)
        assert (found.frequency, round(found.correlation, 9)) == (k, 1)
    assert co.wave(np.full(31, 2.0)).correlation == pytest.approx(0, abs=1e-12)
    assert co.wave(np.full(31, 2.0)).p_value == 1


@pytest.mark.parametrize("spread", [np.pi, 0.5])
def test_the_wave_p_value_is_uniform_also_for_concentrated_angles(spread):
    rng = np.random.default_rng(3)
    drawn = [co.wave(spread * rng.uniform(-1, 1, 31), 199, seed).p_value for seed in range(300)]
    assert kstest(drawn, "uniform").pvalue > 0.01
    # A coordinate that follows a wave, however faintly, is told from that.
    faint = 0.5 * np.sin(2 * np.pi * 3 * np.arange(31) / 31)
    assert co.wave(faint, 199).p_value <= 0.01


# --------------------------------------------------------------------------- edges


def test_fewer_classes_come_back_where_there_are_fewer_bars():
    assert co.circular(polygon(12), 3).angles.shape == (12, 1)
    none = co.circular(np.arange(3.0)[:, None], 2)
    assert none.angles.shape == (3, 0)
    assert none.bars.shape == (0, 2)
    assert none.reduced.shape == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.full((3, 2), np.nan),), "points must be finite"),
        ((np.zeros(4),), "points must be finite, of shape"),
        ((polygon(5), 0), "n_classes must lie in 1 … 6, not 0"),
        ((polygon(5), 1, 2), "prime must be an odd prime, not 2"),
        ((polygon(5), 1, 9), "prime must be an odd prime, not 9"),
        ((polygon(5), 1, 47, "alike"), "method must be one of .*, not 'alike'"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        co.circular(*arguments)


def test_bad_angles_and_bars_are_refused():
    with pytest.raises(ValueError, match="angles must have shape"):
        co.wave(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="births above 0"):
        co.bar_p_values([[0.0, 1.0]])
    assert np.isnan(co.bar_p_values([[1.0, 2.0]])).all()
    assert co.bar_p_values([[1.0, 2.0], [1.0, np.inf]])[1] == 0


@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_as_a_diagnostic_it_reads_rows_in_the_groups_order(operation):
    (run,) = make_runs(operation=[operation], prime=[31])
    structure = run.task.structure
    n = len(structure.elements)
    embedding = np.zeros((31, 32))
    embedding[structure.elements] = waves(n, [7], 0.05)
    view = types.SimpleNamespace(
        run_id="r", step=5, structure=structure, embedding=embedding, cloud=lambda name: embedding
    )
    (row,) = co.measure([view], Options(coordinate_classes=1))["coordinates"]
    assert row.keys() == {"run_id", "step", *co.TABLES["coordinates"].columns}
    assert (row["frequency"], row["reduced_frequency"], row["place"]) == (7, 7, 0)
    assert row["correlation"] > 0.99
    assert row["death"] - row["birth"] > 0.5
