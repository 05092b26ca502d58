"""What the page knows is what tables and checkpoints hold."""

import numpy as np
import pandas as pd
import pytest

import grokjax
from grokjax import clouds
from grokjax.diagnostics import coordinates, fourier
from grokjax.report import figures, planes
from grokjax.report.page import details, payload
from grokjax.store import results
from tests import synthetic
from tests.report import packed
from tests.report.packed import unpack


def test_details_are_those_of_the_checkpoints(grid):
    data = payload.build(grokjax.load(grid))
    sweep = grokjax.load(grid)
    run_id = sweep.runs["run_id"][0]
    own = data["details"][run_id]
    assert own["steps"] == [0, 100, 200, 300, 400]
    for i, step in enumerate(own["steps"]):
        h0, h1 = sweep.diagram(run_id, step)
        # Packed at 16 bits of the row's range.
        drawn = unpack(own["h0_deaths"])[i]
        np.testing.assert_allclose(drawn[np.isfinite(drawn)], h0[:-1, 1], atol=1e-4)
        births, deaths = (unpack(own[name])[i] for name in ("h1_births", "h1_deaths"))
        np.testing.assert_allclose(births[np.isfinite(births)], h1[:, 0], atol=1e-4)
        np.testing.assert_allclose(deaths[np.isfinite(deaths)], h1[:, 1], atol=1e-4)
        plane, shares = planes.principal_plane(sweep.cloud(run_id, step))
        drawn = unpack(own["components"])[i].reshape(-1, 2)
        np.testing.assert_allclose(np.abs(drawn), np.abs(plane), atol=1e-4)
        np.testing.assert_allclose(own["shares"][i], shares, atol=1e-4)
        embedding = sweep.checkpoint(run_id, step)["embed"]["embedding"]
        spectrum = fourier.shares(fourier.spectrum(embedding))
        np.testing.assert_allclose(unpack(own["spectra"])[i], spectrum, atol=1e-5)
        assert own["frequencies"][i] == spectrum.argmax() + 1
    assert own["frequency"] == own["frequencies"][-1] == 3


def test_a_run_that_diverged_is_shown_as_far_as_it_went(grid):
    data = payload.build(grokjax.load(grid))
    assert data["runs"]["status"] == ["done", "done", "done", "diverged"]
    own = data["details"][data["runs"]["run_id"][3]]
    known = np.isfinite(unpack(own["components"])).all(axis=1)
    assert known.tolist() == [True, True, False, False, False]
    assert np.isfinite(unpack(own["h0_deaths"])).any(axis=1).tolist() == known.tolist()
    assert own["frequencies"][2:] == [0, 0, 0]


def test_curves_are_the_tables(grid):
    sweep = grokjax.load(grid)
    data = payload.build(sweep)
    drawn = {own["key"]: own for own in data["curves"]["quantities"]}
    assert {"metrics/test_accuracy", "persistence/embedding/h1_total"} <= drawn.keys()
    wide = figures.wide(sweep.metrics, "test_accuracy", data["runs"]["run_id"]).T.to_numpy()
    own = drawn["metrics/test_accuracy"]
    np.testing.assert_allclose(unpack(own["runs"]), wide, atol=1e-4)
    last = [row[np.isfinite(row)][-1] for row in wide]
    np.testing.assert_allclose(packed.floats(own["ends"])[0], last, rtol=1e-6)
    loss = figures.wide(sweep.metrics, "train_loss", data["runs"]["run_id"]).T.to_numpy()
    np.testing.assert_allclose(10 ** unpack(drawn["metrics/train_loss"]["runs"]), loss, rtol=1e-3)


def test_coordinates_are_those_of_the_cloud_and_its_wave(grid):
    sweep = grokjax.load(grid)
    data = payload.build(sweep)
    run_id = sweep.runs["run_id"][0]
    own = data["details"][run_id]
    drawn = unpack(own["angles"])
    for i, step in enumerate(own["steps"]):
        cloud = sweep.cloud(run_id, step)
        found = coordinates.circular(cloud)
        if not found.bars.size:
            assert own["coordinates"][i] is None and np.isnan(drawn[i]).all()
            continue
        np.testing.assert_allclose(drawn[i], found.angles[:, 0], atol=1e-3)
        said = own["coordinates"][i]
        np.testing.assert_allclose([said["birth"], said["death"]], found.bars[0], atol=1e-4)
        wave = coordinates.wave(found.angles[:, 0])
        assert said["frequency"] == wave.frequency
        assert said["correlation"] == pytest.approx(wave.correlation, abs=1e-4)
    assert own["coordinates"][-1]["frequency"] == 3  # as it was planted
    ended = data["details"][sweep.runs["run_id"][3]]
    assert ended["coordinates"][2:] == [None] * 3  # not finite


def test_where_there_is_no_time_for_all_coordinates_the_ends_of_runs_come_first(monkeypatch):
    wanted = {"a": range(0, 500, 100), "b": range(0, 500, 100)}
    points, when = {"a": 10, "b": 10}, {"a": 200, "b": None}
    for n, expected in (
        (1, ({400}, set())),
        (2, ({400}, {400})),
        (5, ({0, 100, 200, 400}, {400})),
        (99, (set(wanted["a"]), set(wanted["b"]))),
    ):
        monkeypatch.setattr(details, "_COORDINATES", n * 1000 + 999)
        found = details.with_coordinates(wanted, points, when)
        assert (found["a"], found["b"]) == expected


def test_settings_are_those_of_the_tables_metadata(tmp_path):
    config = synthetic.make(tmp_path / "w")
    synthetic.add_checkpoints(tmp_path / "w", config)
    sweep = grokjax.load(tmp_path / "w")
    other = "none" if config.options.cloud_normalisation != "none" else "centre"
    before = payload.build(sweep)
    written = {own["name"]: own["settings"] for own in before["tables"]}["persistence"]
    assert written["cloud_normalisation"] == config.options.cloud_normalisation
    path = tmp_path / "w/results/persistence.parquet"
    results.write_parquet(path, sweep.persistence, written | {"cloud_normalisation": other})
    after = payload.build(grokjax.load(tmp_path / "w"))
    written = {own["name"]: own["settings"] for own in after["tables"]}["persistence"]
    assert written["cloud_normalisation"] == other
    # Clouds are drawn and their bars found as the table has them.
    run_id = config.runs[0].run_id
    raw = sweep.checkpoint(run_id, 400)["embed"]["embedding"]
    plane, _ = planes.principal_plane(clouds.normalize(raw, other))
    drawn = unpack(after["details"][run_id]["components"])[-1].reshape(-1, 2)
    np.testing.assert_allclose(np.abs(drawn), np.abs(plane), atol=1e-3)


def test_small_tables_are_there_with_every_digit(grid):
    sweep = grokjax.load(grid)
    tables = {own["name"]: own for own in payload.build(sweep)["tables"]}
    assert tables.keys() == {"runs", "metrics", "persistence"}
    assert tables["metrics"]["rows"] == 20
    assert tables["metrics"]["csv"] == sweep.metrics.to_csv(index=False)


def test_the_command_has_every_setting_of_the_grid(grid):
    command = payload.provenance(grokjax.load(grid))["command"]
    assert command.startswith("python -m grokjax.sweep --")
    for flag in ("--primes=11", "--label_permutations=0.0,1.0", "--steps=400", "--d_model=16",
                 "--checkpoint_every=100", "--diagnostics=persistence", "--seeds=46,47",
                 "--nosave_diagrams"):  # fmt: skip
        assert f" {flag}" in command
    assert "workdir" not in command


def test_what_was_run_is_told_where_it_is_in_every_id_or_not_as_usual(grid):
    told = payload.provenance(grokjax.load(grid))["grid"]
    assert told["label_permutations"] == ["0.0", "1.0"] and told["models"] == ["transformer"]
    assert told["precision"] == ["float32"] and told["d_model"] == ["16"]
    assert "activation" not in told and "steps" not in told


def test_runs_can_be_asked_for_by_name(grid, monkeypatch):
    sweep = grokjax.load(grid)
    last = sweep.runs["run_id"][2]
    monkeypatch.setattr(payload, "_DETAILS_BYTES", 4000)  # room for one
    assert list(payload.build(sweep, [last])["details"]) == [last]
    data = payload.build(sweep)
    # Of the two seeds that generalised the earlier one, the lower of the two middle ones.
    earlier = sweep.runs.set_index("run_id")["generalisation_step"].idxmin()
    assert list(data["details"]) == [earlier]
    assert any("of 1 of 4 runs" in note for note in data["notes"])
    assert payload.details_of(sweep, last)["steps"] == [0, 100, 200, 300, 400]
    with pytest.raises(ValueError, match="no run 'nonsense'"):
        payload.build(sweep, ["nonsense"])


def test_saved_diagrams_stand_in_for_checkpoints_that_are_gone(tmp_path):
    config = synthetic.make(tmp_path / "w", steps=200)
    rows = [
        {"run_id": run.run_id, "step": step, "cloud": "embedding", "dimension": dimension,
         "birth": birth, "death": death}
        for run in config.runs
        for step in (0, 100)
        for dimension, birth, death in ((0, 0.0, 1.5), (0, 0.0, np.inf), (1, 1.2, 1.4))
    ]  # fmt: skip
    results.write_parquet(tmp_path / "w/results/diagrams.parquet", pd.DataFrame(rows))
    data = payload.build(grokjax.load(tmp_path / "w"))
    own = data["details"][config.runs[0].run_id]
    assert own["steps"] == [0, 100] and "components" not in own
    assert unpack(own["h0_deaths"]) == pytest.approx(np.full((2, 1), 1.5))
    assert unpack(own["h1_deaths"]) == pytest.approx(np.full((2, 1), 1.4))
