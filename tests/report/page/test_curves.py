"""Curves: what fits, what runs came to, tables that are not known."""

import dataclasses

import numpy as np
import pandas as pd

import grokjax
from grokjax.measuring.loading import Sweep
from grokjax.report import summaries
from grokjax.report.page import curves
from grokjax.settings import labels
from tests import synthetic


def test_runs_have_fewer_steps_before_fewer_runs_have_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "_FEWEST_STEPS", 4)
    synthetic.make(tmp_path / "w", train_fraction=(0.4, 0.5, 0.6), seed=(1, 2, 3), every=40)
    sweep = grokjax.load(tmp_path / "w")
    runs, steps = sweep.runs, sweep.config.train.checkpoint_steps
    found = list(curves.quantities(sweep, list(runs["run_id"]), steps))

    def size(n_bytes):
        drawn = curves.payload(found, steps, runs, labels.group(runs), n_bytes)
        parts = [own["runs"][name] for own in drawn["quantities"] for name in ("data", "limits")]
        return drawn, sum(map(len, parts))

    drawn, needed = size(10**9)
    assert len(drawn["runs"]) == 9 and len(drawn["steps"]) == 11
    for share, n_runs, n_steps in ((1.3, 9, 11), (0.8, 9, 6), (0.4, 6, 5)):
        drawn, used = size(int(share * needed))
        assert used <= share * needed
        assert (len(drawn["runs"]), len(drawn["steps"])) == (n_runs, n_steps)
        per_setting = [sum(i // 3 == k for i in drawn["runs"]) for k in range(3)]
        assert max(per_setting) - min(per_setting) <= 1
        assert drawn["steps"][0] == 0 and drawn["steps"][-1] == 400


def test_ends_are_the_last_value_and_the_windows_of_runs_that_did_not_end(grid):
    sweep = grokjax.load(grid)
    runs, steps = summaries.outcomes(sweep), sweep.config.train.checkpoint_steps
    found = {own.key: own for own in curves.quantities(sweep, list(runs["run_id"]), steps)}
    last, before, after = curves.ends(found["persistence/embedding/h1_max"], steps, runs)
    np.testing.assert_allclose(before, runs["before"])
    np.testing.assert_allclose(after, runs["after"])
    assert np.isnan(after[3]) and np.isfinite(last[3])  # the fourth diverged at step 200
    own = sweep.persistence.set_index(["run_id", "step"])["h1_max"]
    ids = list(runs["run_id"])
    np.testing.assert_allclose(
        last, [own[name, step] for name, step in zip(ids, [400, 400, 400, 100], strict=True)]
    )


def test_tables_of_later_lenses_get_curves_without_being_known(tmp_path, monkeypatch):
    config = synthetic.make(tmp_path / "w", steps=200)
    ids = [run.run_id for run in config.runs]
    rows = pd.DataFrame({"run_id": ids, "step": 100, "roundness": [0.5, 0.7], "note": "text"})
    many = pd.DataFrame({"run_id": ids * 2, "step": 100, "power": 1.0})
    sweep = Sweep(tmp_path / "w")
    tables = {"shape": rows, "spectra": many}
    monkeypatch.setattr(Sweep, "tables", lambda self: tuple(tables))
    monkeypatch.setattr(Sweep, "__getattr__", lambda self, name: tables[name])
    found = {own.key: own for own in curves.quantities(sweep, ids, (0, 100, 200))}
    assert [key for key in found if not key.startswith("metrics/")] == ["shape/roundness"]
    np.testing.assert_array_equal(
        found["shape/roundness"].values, [[np.nan, 0.5, np.nan], [np.nan, 0.7, np.nan]]
    )
    assert not dataclasses.asdict(found["shape/roundness"])["log"]
