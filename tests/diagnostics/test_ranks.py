"""Ranks, norms, participation ratios and dimensions of what has them in closed form."""

import types

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from grokjax.diagnostics import Options, homology_dimension, participation, ranks, weights
from tests.helpers import make_runs
from tests.shapes import polygon


def orthogonal(n, k, seed=0):
    """(n, k) centred and orthonormal columns."""
    random = np.random.default_rng(seed).normal(size=(n, k))
    return np.linalg.qr(random - random.mean(axis=0))[0]


def test_m_equal_singular_values_have_rank_m():
    for m in (1, 3, 5):
        flat = 7 * orthogonal(20, m) @ np.eye(m, 9)
        assert ranks.of_points(flat + 5) == pytest.approx((m, m, m))
        assert ranks.of_matrix(flat) == pytest.approx((m, m, m))


def test_ranks_of_unequal_singular_values():
    # Singular values 3 and 1: shares 3/4 and 1/4, variances 9 and 1.
    share = np.array([0.75, 0.25])
    expected = (np.exp(-(share * np.log(share)).sum()), 100 / 82, 10 / 9)
    assert ranks.of_points(orthogonal(20, 2) * [3, 1]) == pytest.approx(expected)
    assert ranks.of_singular_values([1, 3, 0]) == pytest.approx(expected)


def test_ranks_at_the_edges():
    assert ranks.of_points(np.ones((5, 2))) == (0, 0, 0)
    assert ranks.of_matrix(np.ones((5, 2))) == pytest.approx((1, 1, 1))
    assert np.isnan(ranks.of_points(np.full((5, 2), np.inf))).all()
    for bad in (np.zeros(3), np.zeros((0, 3))):
        with pytest.raises(ValueError, match=r"must have shape \(n, m\)"):
            ranks.of_points(bad)


def test_norms_are_a_row_a_parameter():
    params = {"embed": {"embedding": np.diag([3.0, 4.0])}, "blocks": {"0": {"bias": np.ones(4)}}}
    gradient = {"embed": {"embedding": np.ones((2, 2))}, "blocks": {"0": {"bias": np.zeros(4)}}}
    first, second = weights.norms(params, gradient)
    assert [first[k] for k in ("parameter", "size", "norm", "gradient_norm")] == [
        *("embed/embedding", 4, 5, 2),
    ]
    assert [second[k] for k in ("parameter", "size", "norm", "gradient_norm")] == [
        *("blocks/0/bias", 4, 2, 0),
    ]
    assert first["stable_rank"] == pytest.approx(25 / 16)
    assert np.isnan(second["effective_rank"])


# --------------------------------------------------------------------------- participation


def test_participation_counts_waves():
    n = 31
    angle = 2 * np.pi * np.arange(n) / n
    columns = [np.cos(3 * angle), np.cos(3 * angle) + np.sin(5 * angle) + 9, np.eye(n)[4]]
    power = np.abs(np.fft.rfft(np.transpose(columns), axis=0)).T ** 2
    # One wave; two equal ones; all 15 alike. The constant does not count.
    assert participation.inverse_participation(power) == pytest.approx([1, 1 / 2, 1 / 15])


def test_participation_is_that_of_doshi_and_gromovs_code_on_columns_of_mean_0():
    def published(column):  # as utils/data_processing.py of d-doshi/Grokking is used, r = 2
        magnitudes = np.abs(np.fft.rfft(column))
        return np.sum((magnitudes / np.sqrt(np.sum(magnitudes**2))) ** 4)

    columns = np.random.default_rng(0).normal(size=(6, 31)) + 0.5
    ours = participation.inverse_participation(np.abs(np.fft.rfft(columns)) ** 2)
    assert ours == pytest.approx([published(column - column.mean()) for column in columns])
    # With the mean it is another number.
    assert all(
        abs(published(column) - own) > 0.01 for column, own in zip(columns, ours, strict=True)
    )
    # Two-sided, each wave is two.
    two = np.abs(np.fft.fft(columns))[:, 1:] ** 2
    assert ours == pytest.approx(2 * (two**2).sum(axis=1) / two.sum(axis=1) ** 2)


@pytest.mark.parametrize("operation", ["add", "multiply", "s3"])
def test_matrices_are_read_in_the_groups_order(operation):
    (run,) = make_runs(operation=[operation], prime=[13])
    structure, n = run.task.structure, run.task.n_elements
    m = len(structure.elements)
    wave = np.cos(2 * np.pi * np.arange(m) / m)
    if operation == "s3":  # the sign of a permutation, an irrep of degree 1
        cubes = structure.table[np.diagonal(structure.table), np.arange(m)]
        wave = np.where(cubes == cubes[np.argmax(structure.table[:, 0] == 0)], 1.0, -1.0)
    rows = np.zeros((n, 1))
    rows[structure.elements, 0] = wave
    view = types.SimpleNamespace(
        run_id="r", step=5, structure=structure, embedding=rows,
        head_rows=lambda: {"query": np.stack([rows, 0 * rows], axis=1)},
        params={"unembed": {"kernel": rows.T}},
    )  # fmt: skip
    found = participation.measure([view], Options())["participation"]
    assert [row["matrix"] for row in found] == ["embedding", "query", "unembed"]
    assert [row["n_columns"] for row in found] == [1, 2, 1]
    assert [row["ipr_mean"] for row in found] == pytest.approx([1, 1, 1])
    assert found[0].keys() == {"run_id", "step", *participation.TABLES["participation"].columns}


# --------------------------------------------------------------------------- dimension


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_dimension_of_a_cube_is_that_of_its_points(d):
    points = np.random.default_rng(d).random((800, d))
    embedded = points @ orthogonal(20, d).T
    assert homology_dimension.estimate(embedded).dimension == pytest.approx(d, rel=0.12)


def test_the_dimension_of_a_circle_is_one():
    angle = 2 * np.pi * np.random.default_rng(0).random(600)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert homology_dimension.estimate(circle).dimension == pytest.approx(1, abs=0.05)


def test_the_slope_is_that_of_spanning_trees():
    points = np.random.default_rng(1).random((60, 2))
    rng = np.random.default_rng(7)
    sizes = np.unique(np.geomspace(60 / 8, 60, 8).round().astype(int))
    totals = [
        np.mean(
            [
                minimum_spanning_tree(squareform(pdist(rng.choice(points, n, replace=False)))).sum()
                for _ in range(1 if n == 60 else 4)
            ]
        )
        for n in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(totals), 1)[0]
    found = homology_dimension.estimate(points, seed=7)
    assert found.slope == pytest.approx(slope, rel=1e-5)
    assert found.dimension == pytest.approx(1 / (1 - slope), rel=1e-5)


def test_dimensions_at_the_edges():
    assert np.isnan(homology_dimension.estimate(np.full((20, 2), np.nan))).all()
    assert np.isnan(homology_dimension.estimate(np.ones((20, 2)))).all()
    with pytest.raises(ValueError, match="n >= 16"):
        homology_dimension.estimate(polygon(5))
