"""Controls: a row a setting, from several work directories, with what surrogates say of it."""

import numpy as np
import pandas as pd
import pytest

from experiments import controls
from experiments.evidence import Folder, Pool
from grokjax.store import results
from tests import synthetic


@pytest.fixture
def folders(tmp_path):
    """Runs that generalise, and in a directory of their own runs with permuted labels."""
    synthetic.make(tmp_path / "true", seed=(46, 47, 48), steps=1000)
    synthetic.make(tmp_path / "permuted", seed=(46, 47), label_permutation=(1.0,), steps=1000)
    return [tmp_path / "true", tmp_path / "permuted"]


def draw_surrogates(folder, percentile):
    """A table of surrogates of the null of singular values at every checkpoint of a directory."""
    own = pd.read_parquet(folder / "results" / "persistence.parquet")
    frame = own[["run_id", "step", "cloud"]].assign(
        null="covariance", statistic="h1_max", n_points=11, value=own["h1_max"],
        mean=own["h1_max"] / 2, sd=0.1, z=1.0, percentile=percentile, n=99,
    )  # fmt: skip
    results.write_parquet(folder / "results" / "surrogates.parquet", frame)


def table(folders):
    return controls.table(Pool([Folder(path) for path in folders]), "embedding")


def test_what_generalises_rises_and_what_does_not_stays(folders):
    frame = table(folders).query("statistic == 'h1_max'")
    true, permuted = frame.to_dict("records")
    assert (true["generalised"], permuted["generalised"]) == ("3 of 3", "0 of 2")
    assert (true["n"], permuted["n"]) == (3, 2)
    assert true["low"] > 1.5
    assert permuted["ratio"] == pytest.approx(1)
    assert np.isfinite(true["step"])
    assert np.isnan(permuted["step"])
    assert true["fallen"] == 0
    assert np.isnan(permuted["fallen"])
    assert len(table(folders)) == 2 * len(controls.STATISTICS)


def test_runs_that_fall_back_are_told(folders):
    path = folders[0] / "results" / "metrics.parquet"
    metrics = pd.read_parquet(path)
    came = pd.read_parquet(folders[0] / "results" / "runs.parquet").set_index("run_id")
    after = metrics["step"] > metrics["run_id"].map(came["generalisation_step"])
    last = metrics["step"] == metrics["step"].max()
    metrics.loc[last, "test_accuracy"] = 0.5
    results.write_parquet(path, metrics)
    share = (1 / after.groupby(metrics["run_id"]).sum()).mean()
    true, _ = table(folders).query("statistic == 'h1_max'").to_dict("records")
    assert true["fallen"] == pytest.approx(share)


def test_what_was_not_measured_stays_blank(folders):
    made = controls.output(Pool([Folder(path) for path in folders]), "embedding")
    assert made.numbers["percentile_covariance"].isna().all()
    assert "No surrogates were measured here." in made.page
    assert made.page.count("<h2>") == len(controls.STATISTICS)


def test_nulls_are_looked_at_after_generalisation(folders):
    steps = pd.read_parquet(folders[0] / "results" / "persistence.parquet")["step"]
    draw_surrogates(folders[0], np.where(steps >= 800, 97.0, 20.0))
    frame = table(folders).query("statistic == 'h1_max'")
    true, permuted = frame.to_dict("records")
    assert true["percentile_covariance"] == 97
    assert (true["above_covariance"], true["measured_covariance"]) == (3, 3)
    assert true["over_covariance"] == pytest.approx(2)
    assert permuted["measured_covariance"] == 0
    assert np.isnan(permuted["percentile_covariance"])
    # The surrogates are of another statistic and null than these.
    assert np.isnan(true["percentile_phase"])
    totals = table(folders).query("statistic == 'h1_total'")
    assert totals["percentile_covariance"].isna().all()


def test_a_null_that_is_one_cloud_has_a_ratio_alone(folders):
    draw_surrogates(folders[0], np.nan)
    page = controls.output(Pool([Folder(path) for path in folders]), "embedding").page
    assert "× 2.00" in page


def test_the_command_writes_both(folders, tmp_path):
    named = ",".join(map(str, folders))
    controls.main([f"--workdirs={named}", f"--out={tmp_path / 'out'}"])
    assert len(pd.read_csv(tmp_path / "out" / "controls.csv")) == 8
    assert "<h1>Controls" in (tmp_path / "out" / "controls.html").read_text()
