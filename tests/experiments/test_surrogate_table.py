"""The table of surrogates: made from embeddings in files, held against figures told before."""

import shutil
import sys

import numpy as np
import pandas as pd
import pytest

import grokjax
from experiments import surrogate_table
from experiments.surrogate_table import counts, further_steps, held_against, last_steps, wide
from grokjax.diagnostics import persistence
from tests import synthetic


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
    arguments += ["--more", "p113:9000", "p197:9000"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*arguments, "--output", str(folder / "out")])
        surrogate_table.main()
    return folder / "out"


@pytest.fixture(scope="module")
def rows(made):
    return pd.read_parquet(made / "surrogates.parquet")


def test_first_last_and_further_steps_beside_every_null(rows):
    assert set(rows["step"]) == {0, 9_000, 20_000}
    assert rows.groupby(["seed", "step"]).size().tolist() == 2 * [5 * 7, 5 * 7 + 2, 5 * 7 + 2]
    assert set(further_steps(rows)["step"]) == {9_000}
    assert set(last_steps(rows)["step"]) == {20_000}
    table = wide(rows, "circulance").set_index("seed")
    assert float(table.loc[46, "before"]) < 0.6 < float(table.loc[46, "after"])
    assert table.loc[46, "circulant"] == "1.000"
    found = counts(last_steps(rows)).set_index(["statistic", "runs"])
    assert found.loc[("circulance", "p113"), "covariance"] == 2
    assert "circulant" not in found  # one surrogate says nothing of chance


def test_spreads_are_of_the_surrogates_that_were_compared():
    """Of two surrogates the 5th and 95th percentile have the mean of both between them."""
    cloud = np.random.default_rng(3).normal(size=(30, 4))
    own = surrogate_table.measure(cloud, ("x", 1, 5), 2, 1).set_index(["null", "statistic"])
    for null in surrogate_table.DRAWN:
        for statistic in ("h1_max", "h1_total", "h1_ratio"):
            row = own.loc[(null, statistic)]
            assert row["p5"] < row["p95"]
            assert (row["p5"] + row["p95"]) / 2 == pytest.approx(row["mean"])
        value = own.loc[null]["value"]
        assert value["h1_ratio"] == pytest.approx(value["h1_max"] / value["h1_second"])
        assert own.loc[(null, "h1_ratio"), "percentile"] in (0, 50, 100)
    assert own["p5"].notna().sum() == 2 * 3
    assert surrogate_table.measure(cloud, ("x", 1, 0), 2, 1)["p5"].isna().all()


def test_clouds_that_are_there_are_not_measured_again(made, tmp_path, monkeypatch):
    out = shutil.copytree(made, tmp_path / "out")
    monkeypatch.setattr(surrogate_table, "measure", None)
    before = (out / "surrogates.parquet").read_bytes()
    arguments = ["x", "--embeddings", str(made.parent / "p113/embeddings.npz"), "--more"]
    monkeypatch.setattr(sys, "argv", [*arguments, "p113:9000", "--output", str(out)])
    surrogate_table.main()
    assert (out / "surrogates.parquet").read_bytes() == before
    monkeypatch.setattr(sys, "argv", [*arguments, "p113:9001", "--output", str(out)])
    surrogate_table.main()  # a step that no file has


def test_the_page_has_the_tables(made):
    page = (made / "README.md").read_text()
    assert "--n 19 --embeddings p113/embeddings.npz" in page
    assert "At steps before the last (p113 at 9,000):" in page
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


def test_work_directories_do_as_well(tmp_path):
    config = synthetic.make(tmp_path / "w", steps=300)
    synthetic.add_checkpoints(tmp_path / "w", config)
    clouds = surrogate_table.embeddings(tmp_path / "w")
    assert set(clouds) == {(seed, step) for seed in (46, 47) for step in (0, 300)}
    rows = pd.concat(
        [surrogate_table.measure(raw, ("w", *key), 3, 1) for key, raw in clouds.items()]
    )
    assert set(rows["runs"]) == {"w"} and set(rows["step"]) == {0, 300}
    assert len(rows) == 2 * (5 * 7 + 5 * 7 + 2)
    loaded = grokjax.load(tmp_path / "w")
    for place, seed in enumerate((46, 47)):
        cloud = loaded.cloud(loaded.runs["run_id"][place], 0, "embedding")
        own = rows[(rows["seed"] == seed) & (rows["step"] == 0)].set_index("statistic")["value"]
        h0_total = persistence.summarize(persistence.diagrams(cloud)).h0_total
        assert set(own["h0_total"]) == {h0_total}
    synthetic.make(tmp_path / "v", weight_decay=[0.1, 1.0])
    synthetic.add_checkpoints(tmp_path / "v", grokjax.load(tmp_path / "v").config)
    with pytest.raises(ValueError, match="several runs of seed 46"):
        surrogate_table.embeddings(tmp_path / "v")
