import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

import grokjax
from grokjax.report import drawing, figures, page, planes, summaries
from grokjax.settings import labels
from grokjax.store import results
from grokjax.diagnostics import fourier
from grokjax.measuring.loading import Sweep
from grokjax.report.page import curves, packing, payload, samples
from grokjax.store.results import METRICS, Results
from tests import synthetic

PAYLOAD = re.compile(r'<script type="application/json" id="payload">(.*?)</script>', re.S)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two settings of two seeds, with checkpoints; the last run diverges."""
    folder = tmp_path_factory.mktemp("grid") / "w"
    config = synthetic.make(folder, label_permutation=(0.0, 1.0), diverged=[3])
    synthetic.add_checkpoints(folder, config, diverged=[3])
    return folder


@pytest.fixture(scope="module")
def written(grid):
    """Its page."""
    return drawing.write(grid)


def read_page(path):
    """What the page of a work directory knows."""
    return json.loads(PAYLOAD.search(path.read_text())[1])


# --------------------------------------------------------------------------- summaries


def test_the_summary_counts_and_averages_by_setting(grid):
    frame = drawing.summary(grid)
    sweep = grokjax.load(grid)
    assert frame["label_permutation"].tolist() == [0, 1]
    assert frame["runs"].tolist() == [2, 2]
    assert frame["generalised"].tolist() == [2, 0]
    assert frame["diverged"].tolist() == [0, 1]
    assert "failed" not in frame and "running" not in frame
    steps = sweep.runs["generalisation_step"][:2]
    assert frame["median_step"][0] == steps.median() and pd.isna(frame["median_step"][1])
    own = sweep.persistence.set_index(["run_id", "step"])["h1_max"]
    before = []
    for run_id, step in zip(sweep.runs["run_id"][:2], steps, strict=True):
        series = own[run_id]
        before.append(series[(series.index >= 100) & (series.index < step)].mean())
    assert frame["h1_max_before"][0] == pytest.approx(np.mean(before))
    assert frame["h1_max_after"][0] == pytest.approx(
        np.mean([own[run_id][400] for run_id in sweep.runs["run_id"][:2]])
    )


def test_runs_that_diverged_are_not_averaged(grid):
    frame = summaries.outcomes(grokjax.load(grid))
    assert frame["before"].isna().tolist() == [False, False, False, True]
    only = frame["after"][2]
    assert drawing.summary(grid)["h1_max_after"][1] == pytest.approx(only)


def test_settings_are_told_apart_by_what_differs(grid):
    runs = grokjax.load(grid).runs
    assert labels.settings(runs) == ["model", "prime", "label_permutation"]
    first, second = labels.group(runs)
    assert first.name == "transformer, p = 11, true labels"
    assert second.line == "100 % of labels permuted"
    assert [*first.run_ids, *second.run_ids] == runs["run_id"].tolist()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("label_permutation", 0.05, "5 % of labels permuted"),
        ("model", "mlp", "MLP"),
        ("train_fraction", 0.3, "α = 0.3"),
        ("learning_rate", 0.003, "lr 0.003"),
        ("init_scale", 8.0, "init × 8"),
        ("weight_decay", 0.0, "weight decay 0"),
        ("operation", "add", "add"),
    ],
)
def test_settings_in_words(column, value, words):
    assert labels.in_words(column, value) == words


# --------------------------------------------------------------------------- the page's data


def test_details_are_those_of_the_checkpoints(grid):
    data = payload.build(grokjax.load(grid))
    sweep = grokjax.load(grid)
    run_id = sweep.runs["run_id"][0]
    own = data["details"][run_id]
    assert own["steps"] == [0, 100, 200, 300, 400]
    for i, step in enumerate(own["steps"]):
        h0, h1 = sweep.diagram(run_id, step)
        # Packed at 16 bits of the row's range.
        drawn = packing.unpack(own["h0_deaths"])[i]
        np.testing.assert_allclose(drawn[np.isfinite(drawn)], h0[:-1, 1], atol=1e-4)
        births, deaths = (packing.unpack(own[name])[i] for name in ("h1_births", "h1_deaths"))
        np.testing.assert_allclose(births[np.isfinite(births)], h1[:, 0], atol=1e-4)
        np.testing.assert_allclose(deaths[np.isfinite(deaths)], h1[:, 1], atol=1e-4)
        plane, shares = planes.principal_plane(sweep.cloud(run_id, step))
        drawn = packing.unpack(own["components"])[i].reshape(-1, 2)
        np.testing.assert_allclose(np.abs(drawn), np.abs(plane), atol=1e-4)
        np.testing.assert_allclose(own["shares"][i], shares, atol=1e-4)
        embedding = sweep.checkpoint(run_id, step)["embed"]["embedding"]
        spectrum = fourier.shares(fourier.spectrum(embedding))
        np.testing.assert_allclose(packing.unpack(own["spectra"])[i], spectrum, atol=1e-5)
        assert own["frequencies"][i] == spectrum.argmax() + 1
    assert own["frequency"] == own["frequencies"][-1] == 3


def test_a_run_that_diverged_is_shown_as_far_as_it_went(grid):
    data = payload.build(grokjax.load(grid))
    assert data["runs"]["status"] == ["done", "done", "done", "diverged"]
    own = data["details"][data["runs"]["run_id"][3]]
    known = np.isfinite(packing.unpack(own["components"])).all(axis=1)
    assert known.tolist() == [True, True, False, False, False]
    assert np.isfinite(packing.unpack(own["h0_deaths"])).any(axis=1).tolist() == known.tolist()
    assert own["frequencies"][2:] == [0, 0, 0]


def test_curves_are_the_tables_and_their_means_leave_out_what_diverged(grid):
    sweep = grokjax.load(grid)
    data = payload.build(sweep)
    drawn = {own["key"]: own for own in data["curves"]["quantities"]}
    assert {"metrics/test_accuracy", "persistence/embedding/h1_total"} <= drawn.keys()
    wide = figures.wide(sweep.metrics, "test_accuracy", data["runs"]["run_id"]).T.to_numpy()
    own = drawn["metrics/test_accuracy"]
    np.testing.assert_allclose(packing.unpack(own["runs"]), wide, atol=1e-4)
    mean, spread = (packing.unpack(own[name]) for name in ("mean", "spread"))
    np.testing.assert_allclose(mean, [wide[:2].mean(axis=0), wide[2]], atol=1e-4)
    np.testing.assert_allclose(spread[0], wide[:2].std(axis=0, ddof=1), atol=1e-4)
    assert np.isnan(spread[1]).all()  # one run is left
    loss = figures.wide(sweep.metrics, "train_loss", data["runs"]["run_id"]).T.to_numpy()
    np.testing.assert_allclose(
        10 ** packing.unpack(drawn["metrics/train_loss"]["runs"]), loss, rtol=1e-3
    )


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
    assert packing.unpack(own["h0_deaths"]) == pytest.approx(np.full((2, 1), 1.5))
    assert packing.unpack(own["h1_deaths"]) == pytest.approx(np.full((2, 1), 1.4))


# --------------------------------------------------------------------------- bounds


def test_settings_come_before_runs_and_runs_of_all_settings_alike(tmp_path):
    synthetic.make(tmp_path / "w", train_fraction=(0.4, 0.5, 0.6), seed=(1, 2, 3), every=40)
    sweep = grokjax.load(tmp_path / "w")
    runs, steps = sweep.runs, sweep.config.train.checkpoint_steps
    found = list(curves.quantities(sweep, list(runs["run_id"]), steps))

    def size(n_bytes):
        drawn = curves.payload(found, steps, runs, labels.group(runs), n_bytes)
        parts = [own[name]["data"] for own in drawn["quantities"] for name in _PARTS]
        return drawn, sum(map(len, parts))

    drawn, needed = size(10**9)
    assert len(drawn["runs"]) == 9 and len(drawn["steps"]) == 11
    for share, n_runs, n_steps in ((0.9, 7, 11), (0.7, 9, 6), (0.3, 3, 5)):
        drawn, used = size(int(share * needed))
        assert used <= share * needed
        assert (len(drawn["runs"]), len(drawn["steps"])) == (n_runs, n_steps)
        per_setting = [sum(i // 3 == k for i in drawn["runs"]) for k in range(3)]
        assert max(per_setting) - min(per_setting) <= 1
        assert drawn["steps"][0] == 0 and drawn["steps"][-1] == 400


_PARTS = ("mean", "spread", "runs")


def made_up_candidates(n_settings, n_seeds, n_steps=121, prime=197):
    rows = [
        {"run_id": f"{k}-{s}", "model": "mlp", "prime": prime, "train_fraction": k / 1000,
         "operation": "add", "label_permutation": 0.0, "weight_decay": 1.0, "learning_rate": 1.0,
         "init_scale": 1.0, "status": "done", "generalisation_step": s}
        for k in range(n_settings)
        for s in range(n_seeds)
    ]  # fmt: skip
    runs = pd.DataFrame(rows)

    def candidate(run_id):
        return samples.Candidate(
            run_id=run_id, prime=prime, steps=range(n_steps), marks=[], batch=run_id[-1]
        )

    return labels.group(runs), runs, candidate


def test_every_setting_gets_one_run_before_any_gets_two():
    settings, runs, candidate = made_up_candidates(4, 5)
    for n_bytes in (3e5, 1e6, 4e6):
        chosen = samples.choose(settings, runs, candidate, n_bytes)
        cost = sum(candidate(run_id).cost(len(steps)) for run_id, steps in chosen.items())
        assert cost <= n_bytes
        counts = [sum(name.startswith(f"{k}-") for name in chosen) for k in range(4)]
        assert min(counts) >= 1 and max(counts) - min(counts) <= 1
    few = samples.choose(settings, runs, candidate, 3e5)
    many = samples.choose(settings, runs, candidate, 4e6)
    assert {len(steps) for steps in many.values()} == {samples.MOST_STEPS}
    assert max(len(steps) for steps in few.values()) < samples.MOST_STEPS


def test_files_are_bounded_too(monkeypatch):
    settings, runs, candidate = made_up_candidates(4, 5)
    monkeypatch.setattr(samples, "_MOST_FILES", 61)  # one batch of runs
    chosen = samples.choose(settings, runs, candidate, 1e9)
    assert chosen and len({run_id[-1] for run_id in chosen}) == 1


def test_the_most_telling_runs_of_a_setting_come_first():
    runs = pd.DataFrame(
        {
            "run_id": list("abcdefg"),
            "status": ["done"] * 5 + ["diverged", "done"],
            "generalisation_step": pd.array([50, 10, 30, None, None, None, 20], "Int64"),
        }
    )
    assert samples.telling_order(runs) == list("gdfabce")


def test_thinned_steps_are_even_and_keep_their_marks():
    steps = list(range(0, 60_500, 500))
    few = samples.thin(steps, 16, marks=[13_500, 14_000])
    assert len(few) <= 16 and {0, 13_500, 14_000, 60_000} <= set(few) <= set(steps)
    assert np.diff(samples.thin(steps, 61)).tolist() == [1000] * 60
    assert samples.thin([0, 5], 16) == [0, 5]


def test_packing_keeps_all_but_the_last_bits():
    rows = np.random.default_rng(0).normal(size=(20, 300)) * np.logspace(-9, 9, 20)[:, None]
    rows[3, 7], rows[4, 8], rows[5] = np.nan, np.inf, -np.inf
    back = packing.unpack(json.loads(json.dumps(packing.pack(rows))))
    there = np.isfinite(rows)
    assert (np.isfinite(back) == there).all()
    known = np.where(there, rows, 0)
    span = np.where(there, rows, -np.inf).max(1) - np.where(there, rows, np.inf).min(1)
    for i in set(range(20)) - {5}:
        gap = np.abs(back[i] - rows[i])[there[i]]
        assert gap.max() <= span[i] / 131_068 + 1.2e-7 * np.abs(known[i]).max()
    same = packing.unpack(packing.pack([[2.5, 2.5, np.nan]]))
    np.testing.assert_array_equal(same, [[2.5, 2.5, np.nan]])
    assert packing.unpack(packing.pack(np.zeros((3, 0)))).shape == (3, 0)


def test_mean_and_spread_leave_out_what_is_missing():
    values = np.array([[1, np.nan, 3, np.nan], [3, 5, np.nan, np.nan], [5, 7, np.nan, np.nan]])
    mean, spread = curves.mean_and_spread(values)
    np.testing.assert_array_equal(mean, [3, 6, 3, np.nan])
    np.testing.assert_allclose(spread, [2, np.sqrt(2), np.nan, np.nan])


# --------------------------------------------------------------------------- writing


def test_the_report_is_written_whole(grid, written):
    assert written == grid / "report" / "index.html"
    drawn = ("accuracy", "h1_max", "h1_total", "diagrams", "embedding", "birth")
    names = sorted(path.name for path in (grid / "figures").iterdir())
    assert names == sorted(f"{name}.svg" for name in drawn)
    assert [path.name for path in (grid / "report").iterdir()] == ["index.html"]
    assert read_page(written)["figures"] == names


def test_figures_come_out_the_same_again(grid, written):
    first = {path.name: path.read_bytes() for path in (grid / "figures").iterdir()}
    drawing.write(grid)
    assert {path.name: path.read_bytes() for path in (grid / "figures").iterdir()} == first


@pytest.mark.parametrize(
    "what",
    [
        {"diagnostics": ()},
        {"label_permutation": (1.0,)},
        {"diverged": [0, 1]},
        {"seed": (46,)},
        {"reached": 200},
        {"model": ("transformer", "mlp"), "prime": (5, 7)},
    ],
    ids=["unmeasured", "none generalised", "all diverged", "single", "halfway", "mixed"],
)
def test_every_sweep_has_a_report(tmp_path, what):
    synthetic.make(tmp_path / "w", **what)
    data = read_page(drawing.write(tmp_path / "w"))
    assert sum(own["runs"] for own in data["settings"]) == len(data["runs"]["run_id"])
    assert data["checkpoints"] is False and data["details"] == {}
    assert (tmp_path / "w/figures/accuracy.svg").exists()
    drawing.summary(tmp_path / "w")


def test_a_sweep_whose_tables_are_not_written_yet_has_one_too(tmp_path):
    config = synthetic.make(tmp_path / "w", reached=100)
    for path in (tmp_path / "w/results").glob("*.parquet"):
        path.unlink()
    row = {"run_id": config.runs[0].run_id, "step": 0, **dict.fromkeys(METRICS.columns, 0.5)}
    Results(tmp_path / "w", [run.run_id for run in config.runs]).append("metrics", METRICS, [row])
    data = read_page(drawing.write(tmp_path / "w"))
    assert data["runs"]["status"] == ["running", "running"]
    assert data["runs"]["last_test_accuracy"] == [0.5, None]


def test_one_checkpoint_that_cannot_be_read_is_said_and_the_rest_is_shown(tmp_path):
    config = synthetic.make(tmp_path / "w", steps=200)
    synthetic.add_checkpoints(tmp_path / "w", config)
    (broken,) = (tmp_path / "w/checkpoints").glob("*/params/100/params/manifest.ocdbt")
    broken.write_bytes(b"nonsense")
    data = payload.build(grokjax.load(tmp_path / "w"))
    assert data["details"][config.runs[0].run_id]["steps"] == [0, 200]
    assert any("step 100 cannot be read" in note for note in data["notes"])


def test_a_batch_that_cannot_be_identified_is_said_with_the_reason(tmp_path):
    config = synthetic.make(tmp_path / "w", steps=200)
    synthetic.add_checkpoints(tmp_path / "w", config)
    (meta,) = (tmp_path / "w/checkpoints").glob("*/params/0/meta/metadata")
    meta.write_text("nonsense")
    sweep = grokjax.load(tmp_path / "w")
    data = payload.build(sweep)
    assert not data["details"] and len(data["notes"]) == 1
    assert re.search(r"Left out: .* at step 0 cannot be read", data["notes"][0])
    with pytest.raises(KeyError, match=r"no checkpoint of run .* at step 0 cannot be read"):
        sweep.steps(config.runs[0].run_id)


def test_names_cannot_break_out_of_the_page(tmp_path):
    folder = tmp_path / "a<b>{{script}}&"
    synthetic.make(folder)
    text = page.render(payload.build(grokjax.load(folder)))
    assert "<title>a&lt;b&gt;{{script}}&amp; · grokjax</title>" in text
    assert json.loads(PAYLOAD.search(text)[1])["title"] == folder.name
    assert page.as_json({"x": "</script><!--"}) == '{"x":"\\u003c/script>\\u003c!--"}'
    with pytest.raises(ValueError, match="JSON"):
        page.as_json({"x": float("nan")})


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
