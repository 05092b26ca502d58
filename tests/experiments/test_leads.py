"""Who leads: a statistic that is planted behind accuracy, or ahead of it, is found there."""

import numpy as np
import pandas as pd
import pytest

from experiments import leads
from experiments.evidence import Folder, Pool
from grokjax.store import results
from tests import synthetic


def plant(folder, lags):
    """Replaces H1 max and accuracy of a made-up sweep by steps, one lag a seed."""
    folder = folder / "results"
    metrics, persistence = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("metrics", "persistence")
    )
    steps = np.sort(metrics["step"].unique())
    for place, (run_id, lag) in enumerate(zip(metrics["run_id"].unique(), lags, strict=True)):
        own = metrics["run_id"] == run_id
        at = steps[len(steps) // 2 + place - 2]
        metrics.loc[own, "test_accuracy"] = 1 / (1 + np.exp(-(metrics.loc[own, "step"] - at) / 20))
        own = persistence["run_id"] == run_id
        late = (persistence.loc[own, "step"] - at - lag) / 20
        persistence.loc[own, "h1_max"] = 0.1 + 0.2 / (1 + np.exp(-late))
    results.write_parquet(folder / "metrics.parquet", metrics)
    results.write_parquet(folder / "persistence.parquet", persistence)


@pytest.mark.parametrize(("sign", "ahead"), [(1, 0), (-1, 6)])
def test_a_planted_lag_is_found(tmp_path, sign, ahead):
    synthetic.make(tmp_path, seed=range(6), steps=2000)
    lags = sign * np.array([110, 120, 130, 140, 150, 160.0])
    plant(tmp_path, lags)
    frame = leads.table(Pool([Folder(tmp_path)]), "embedding")
    row = frame[frame["reference"] == "test accuracy"].set_index("statistic").loc["H1 max"]
    assert row["n"] == 6
    assert row["lag"] == pytest.approx(np.median(lags), abs=15)
    assert (row["after"], row["before"]) == (6 - ahead, ahead)
    assert row["p_order"] == pytest.approx(2 / 64)
    assert row["p_mean"] < 1e-3
    assert min(abs(row["low"]), abs(row["high"])) > 90


def test_what_was_not_measured_has_no_row(tmp_path):
    synthetic.make(tmp_path, seed=range(2), steps=1000)
    frame = leads.table(Pool([Folder(tmp_path)]), "embedding")
    assert "fourier" not in Pool([Folder(tmp_path)]).tables()
    assert set(frame["reference"]) <= {"test accuracy", "−log test loss"}
    assert (frame["n"] > 0).all()
    made = leads.output(Pool([Folder(tmp_path)]), "embedding")
    assert "sign test" in made.page


def test_around_generalisation_a_lag_is_found_and_a_drift_has_none(tmp_path):
    synthetic.make(tmp_path, seed=range(6), steps=2000, every=20)
    plant(tmp_path, 100 + np.array([-9.0, 4, -2, 7, 1, -4]))
    path = tmp_path / "results" / "persistence.parquet"
    rows = pd.read_parquet(path)
    rng = np.random.default_rng(0)
    drift = rows["step"] / 2000 + 0.005 * rng.standard_normal(len(rows))
    results.write_parquet(path, rows.assign(h0_max=drift))
    pool = Pool([Folder(tmp_path)])
    frame = leads.table(pool, "embedding", around=400).set_index(["reference", "statistic"])
    found = frame.loc["test accuracy", "lag"]
    assert found["H1 max"] == pytest.approx(100, abs=15)
    assert abs(found["H0 max"]) < 25
    assert frame.loc[("test accuracy", "H0 max"), "p_mean"] > 0.05
    longer = leads.table(pool, "embedding", around=950).set_index(["reference", "statistic"])
    assert longer.loc[("test accuracy", "H1 max"), "n"] == 5  # of one the end is missing
    # Over all of training a drift is half done in its middle, wherever accuracy is.
    whole = leads.halves(pool, "persistence", "h0_max", "embedding", lambda one: one,
                         leads.windows(pool, 1.0, 0))  # fmt: skip
    assert whole.to_numpy() == pytest.approx(np.full(6, 1000), abs=60)


def test_a_level_is_left_where_values_stay_above_it():
    steps = np.arange(0, 1000, 100)
    values = np.array([9.0, 1, 2, 1, 1, 3, 2, 2.5, 4, 5])
    assert leads.onset(steps, values, 100, 400) == 700
    assert np.isnan(leads.onset(steps, np.ones(10), 100, 400))
