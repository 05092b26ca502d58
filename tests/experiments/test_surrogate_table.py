"""The table of surrogates: made from embeddings in files, held against figures told before."""

import sys

import numpy as np
import pandas as pd
import pytest

from experiments import surrogate_table
from experiments.surrogate_table import counts, held_against, last_steps, wide


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of two made-up seeds, noise that turns into a circle, called p113."""
    folder = tmp_path_factory.mktemp("surrogates")
    random = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(11) / 11
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    arrays = {}
    for seed in (46, 47):
        for step, weight in ((0, 0.0), (9_000, 1.0), (20_000, 3.0)):
            noise = random.normal(size=(11, 4)).astype(np.float32)
            arrays[f"s{seed}_{step}"] = noise + weight * np.pad(circle, ((0, 0), (0, 2)))
    (folder / "p113").mkdir()
    np.savez(folder / "p113" / "embeddings.npz", **arrays)
    arguments = ["x", "--n", "19", "--embeddings", str(folder / "p113/embeddings.npz")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*arguments, "--output", str(folder / "out")])
        surrogate_table.main()
    return folder / "out"


@pytest.fixture(scope="module")
def rows(made):
    return pd.read_parquet(made / "surrogates.parquet")


def test_first_and_last_steps_beside_every_null(rows):
    assert set(rows["step"]) == {0, 20_000} and len(rows) == 2 * 2 * 5 * 7
    assert set(last_steps(rows)["step"]) == {20_000}
    table = wide(rows, "circulance").set_index("seed")
    assert float(table.loc[46, "before"]) < 0.6 < float(table.loc[46, "after"])
    assert table.loc[46, "circulant"] == "1.000"
    found = counts(rows).set_index(["statistic", "runs"])
    assert found.loc[("circulance", "p113"), "covariance"] == 2
    assert "circulant" not in found  # one surrogate says nothing of chance


def test_the_page_has_the_tables(made):
    page = (made / "README.md").read_text()
    assert "--n 19 --embeddings p113/embeddings.npz" in page
    assert "## H1 max\n\n| runs | seed | before | after | frequency_power |" in page


def test_figures_told_before_are_held_against_standard_errors(rows, monkeypatch):
    own = last_steps(rows).set_index(["seed", "null", "statistic"])
    value = own.loc[(46, "covariance", "h1_max"), "value"]
    row = own.loc[(46, "frequency_power", "h1_total")]
    error = row["sd"] * np.sqrt(2 / 19)
    told = "runs seed h1_max fp_total sv_mean\n"
    told += f"p113 46 {value:.3f} {row['mean'] + 2 * error:.6f} -\n"
    told += f"p113 47 {value + 9:.3f} - -\np7 1 0.1 0.1 0.1"
    monkeypatch.setattr(surrogate_table, "EARLIER", told)
    found = held_against(rows).set_index(["seed", "figure"])["apart"]
    assert len(found) == 3
    assert found[46, "h1_max"] == 0
    assert found[46, "fp_total"] == pytest.approx(2, abs=0.01)
    assert found[47, "h1_max"] == np.inf
