"""Landscapes, images and CROCKER matrices by their definitions."""

import types

import numpy as np
import pytest
from scipy.stats import norm

from grokjax.diagnostics import Options, crocker, landscapes, persistence
from tests.shapes import polygon, random_cloud


def test_the_landscape_of_one_bar_is_a_tent():
    scales = np.linspace(0, 4, 9)
    found = persistence.landscapes([[1.0, 3.0], [0.0, np.inf]], scales, 2)
    np.testing.assert_allclose(found[0], [0, 0, 0, 0.5, 1, 0.5, 0, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(found[1], np.zeros(9))


@pytest.mark.parametrize("seed", range(5))
def test_landscapes_are_the_largest_tents(seed):
    bars = persistence.diagrams(random_cloud(seed))[0]
    scales = np.linspace(0, 1.5, 11)
    tents = [[max(0.0, min(t - b, d - t)) for b, d in bars if d < np.inf] for t in scales]
    levels = [(sorted(one, reverse=True) + [0.0] * 4)[:4] for one in tents]
    found = persistence.landscapes(bars, scales, 4)
    np.testing.assert_allclose(found, np.transpose(levels), atol=1e-12)


def test_scales_of_landscapes_are_even():
    with pytest.raises(ValueError, match="scales must be evenly spaced"):
        persistence.landscapes([[0.0, 1.0]], [0.0, 1.0, 3.0])


def test_an_image_is_a_weighted_sum_of_gaussians():
    bars = np.array([[0.2, 0.9], [0.5, 1.7], [0.1, np.inf]])
    found = persistence.image(bars, 2.0, 8, 0.15)
    middles = (np.arange(8) + 0.5) / 4
    expected = np.zeros((8, 8))
    for birth, death in bars[:2]:
        along = [norm.pdf(middles, at, 0.15) for at in (death - birth, birth)]
        expected += (death - birth) / 2 * np.outer(*along)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # Where pixels are small against the bandwidth they sum to the weights.
    fine = persistence.image([[0.9, 1.9]], 2.0, 60, 0.1)
    assert fine.sum() * (2 / 60) ** 2 == pytest.approx(0.5, rel=1e-6)


def test_a_diagram_without_bars_has_an_empty_image_and_landscape():
    assert not persistence.image(np.zeros((0, 2)), 2.0, 5).any()
    assert not persistence.landscapes(np.zeros((0, 2)), np.linspace(0, 1, 4)).any()


def view(points):
    return types.SimpleNamespace(
        run_id="r", step=5, cloud_names=("embedding",), cloud=lambda name: points
    )


OPTIONS = Options(diagram_grid=5, image_pixels=3, landscape_levels=2)


def test_tables_are_of_the_same_grid_whatever_the_cloud():
    tables = []
    for points in (polygon(12), 0.1 * polygon(5), np.full((4, 2), np.nan)):
        found = landscapes.measure([view(points)], OPTIONS) | crocker.measure(
            [view(points)], OPTIONS
        )
        for name, table in {**landscapes.TABLES, **crocker.TABLES}.items():
            assert all(row.keys() == {"run_id", "step", *table.columns} for row in found[name])
            places = [tuple(row[column] for column in table.within) for row in found[name]]
            assert len(set(places)) == len(places)
            tables.append((name, places))
    assert tables[:3] == tables[3:6] == tables[6:]
    assert [len(places) for _, places in tables[:3]] == [20, 18, 10]


def test_values_lie_at_their_place():
    points = polygon(12)
    diagrams = persistence.diagrams(points)
    found = landscapes.measure([view(points)], OPTIONS)
    (row,) = [r for r in found["landscapes"] if (r["degree"], r["level"], r["scale"]) == (1, 1, 1)]
    birth, death = diagrams[1][0]
    assert row["value"] == pytest.approx(min(1 - birth, death - 1))
    (row,) = [
        r
        for r in found["images"]
        if (r["degree"], r["persistence"]) == (1, 1) and r["birth"] == pytest.approx(1 / 3)
    ]
    density = norm.pdf(1 / 3, birth, 0.1) * norm.pdf(1, death - birth, 0.1)
    assert row["value"] == pytest.approx((death - birth) / 2 * density)


def test_crocker_counts_components_and_loops():
    rows = crocker.measure([view(polygon(12))], OPTIONS)["crocker"]
    numbers = [[r["betti"] for r in rows if r["degree"] == degree] for degree in (0, 1)]
    # Sides are 0.52, those of the inscribed triangle, where the loop ends, 1.73.
    assert numbers == [[12, 12, 1, 1, 1], [0, 0, 1, 1, 0]]
