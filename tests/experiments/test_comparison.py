"""The study's numbers beside ours: what is there is measured, and there are rows for everything."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from experiments import (
    artefact,
    claims,
    comparison,
    contrasts,
    correlations,
    crosscorrelation,
    evidence,
    registry,
    sweeps,
)
from experiments.comparison import OTHER, SAME
from experiments.verdicts import AGREE, DIFFER, NOT_RUN
from grokjax.report import summaries
from grokjax.store import results
from grokjax.store.errors import WorkdirError
from tests import synthetic
from tests.experiments import synthetic_sweeps

STEPS = np.arange(0, 60_001, 500)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The transformer's two sweeps at small scale."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("transformer_grid", "transformer_permutation"):
        synthetic_sweeps.make(folder, name)
    return folder


def claim(number):
    return next(row for row in claims.reference().to_dict("records") if row["id"] == str(number))


def rewrite(folder, table, change):
    """Changes a table of a work directory."""
    path = folder / "results" / f"{table}.parquet"
    settings = results.Results(folder, []).settings(table)
    results.write_parquet(path, change(pd.read_parquet(path)), settings)


def test_a_row_for_everything_the_study_states_and_none_run(tmp_path):
    frame = comparison.compare(comparison.contexts_of(tmp_path, "paper"), "paper")
    assert frame["source"].value_counts()[["table1", "table2"]].tolist() == [60, 80]
    assert len(frame) == 21 + 60 + 80
    assert set(frame["verdict"]) == {NOT_RUN}
    assert frame["ours"].isna().all()
    assert (frame["margin"] > 0).all()
    assert frame["margin_reason"].str.len().gt(20).all()


def test_every_claim_is_of_one_artefact():
    sources = [source for one in registry.ARTEFACTS.values() for source in one.sources]
    assert len(sources) == len(set(sources))
    assert set(claims.reference()["artefact"]) <= set(sources)


def test_a_dimension_says_of_which_cloud():
    frame = claims.reference().query("quantity == 'lid_mean'")
    assert set(frame["cloud"]) == {"layer2_both"}


# --------------------------------------------------------------------------- what is there


def test_runs_that_two_sweeps_share_are_read_from_one(root):
    context = artefact.load("transformer_permutation", root, "small")
    levels = context.runs()["label_permutation"]
    assert sorted(set(levels)) == [0.0, 0.01, 0.02, 0.05, 0.1, 0.2]
    assert (levels == 0).sum() == 3  # seeds at p = 31 and α = 0.5, of 27 runs of the grid
    assert [path.name for path in context.pool.paths] == [
        "transformer_permutation-small",
        "transformer_grid-small",
    ]


def test_tables_alone_will_do_and_what_is_missing_is_said(root, tmp_path):
    work = sweeps.TRAININGS["transformer_grid"].workdir(root, "small")
    runs = pd.read_parquet(work / "results" / "runs.parquet")
    kept = runs[(runs["train_fraction"] == 0.5) & runs["seed"].isin((46, 47))]["run_id"]
    for name in ("runs", "metrics", "persistence"):
        frame = pd.read_parquet(work / "results" / f"{name}.parquet")
        frame = frame[frame["run_id"].isin(kept)]
        frame.to_parquet(tmp_path / f"{name}.parquet")
    contexts = comparison.contexts_of(tmp_path / "none", "small", [tmp_path])
    assert [name for name, context in contexts.items() if context is not None] == [
        "transformer_grid",
        "transformer_permutation",
    ]
    frame = comparison.compare(contexts, "small")
    there = frame[frame["verdict"] != NOT_RUN]
    # Steps and H1 at α = 0.3, and the cells of three clouds with true labels.
    assert len(there) == 5 + 12
    row = there.iloc[1]
    assert row["n"] == 2
    assert "α = 0.5 alone" in row["note"]
    assert "to step 800 of 2,400" in row["note"]
    page = "".join(comparison.body(frame, contexts.values(), "small"))
    assert "Not run: 144 numbers" in page


def test_a_run_in_two_folders_counts_once_and_the_longer_one(root, tmp_path):
    work = sweeps.TRAININGS["transformer_grid"].workdir(root, "small")
    for name in ("runs", "metrics", "persistence"):
        frame = pd.read_parquet(work / "results" / f"{name}.parquet")
        if name != "runs":
            later = frame[frame["step"] == 800].assign(step=900)
            frame = pd.concat([frame, later])
        frame.to_parquet(tmp_path / f"{name}.parquet")
    context = artefact.load("transformer_grid", root, "small", [tmp_path])
    assert len(context.table("runs")) == 27
    assert set(context.pool.horizons.values()) == {900}
    assert context.pool.paths == [tmp_path]


def test_a_sweep_that_is_still_at_work_counts_as_far_as_it_came(tmp_path):
    folder = tmp_path / "w"
    synthetic.make(folder, steps=1000, every=100, reached=600)
    (folder / "results" / "runs.parquet").unlink()
    pool = evidence.Pool([evidence.Folder(folder)])
    assert set(pool.table("runs")["status"]) == {"running"}
    assert set(pool.horizons.values()) == {600}
    assert pool.steps[-1] == 600
    begun = tmp_path / "begun"
    synthetic.make(begun, steps=1000, every=100, reached=-1)
    assert not evidence.Pool([evidence.Folder(begun)])


def test_clouds_that_were_normalised_otherwise_are_refused(root, tmp_path):
    work = sweeps.TRAININGS["transformer_grid"].workdir(root, "small")
    for name in ("runs", "metrics", "persistence"):
        frame = pd.read_parquet(work / "results" / f"{name}.parquet")
        results.write_parquet(tmp_path / f"{name}.parquet", frame, {"cloud_normalisation": "none"})
    pool = evidence.Pool([evidence.Folder(tmp_path)])
    with pytest.raises(ValueError, match="normalised by none"):
        pool.table("persistence")
    with pytest.raises(WorkdirError, match="tables alone"):
        pool.sweep_of(pool.table("runs")["run_id"].iloc[0])
    with pytest.raises(WorkdirError, match=r"neither a sweep nor runs\.parquet"):
        evidence.Folder(tmp_path / "none")


# --------------------------------------------------------------------------- measuring


def test_runs_that_never_generalise_do_not_drop_out(tmp_path):
    synthetic_sweeps.make(tmp_path, "transformer_grid")
    folder = sweeps.TRAININGS["transformer_grid"].workdir(tmp_path, "small")

    runs = pd.read_parquet(folder / "results" / "runs.parquet")
    of_row = (runs["prime"] == 37) & (runs["train_fraction"] == 0.5)
    lost = set(runs[of_row & (runs["seed"] < 48)]["run_id"])

    def never(frame):
        steps = frame["generalisation_step"].mask(frame["run_id"].isin(lost))
        return frame.assign(generalisation_step=steps)

    def low(frame):
        return frame.assign(
            test_accuracy=frame["test_accuracy"].mask(frame["run_id"].isin(lost), 0.6)
        )

    rewrite(folder, "runs", never)
    rewrite(folder, "metrics", low)
    context = artefact.load("transformer_grid", tmp_path, "small")
    sample = claims.measure(context, claim(1))
    judged = claims.judge(claim(1), sample)
    assert judged.n == 3
    assert judged.estimate == np.inf  # two of three never came
    assert "1 of 3 runs generalised" in sample.note
    frame = contrasts.generalisation_steps(context)
    (row,) = frame[(frame["runs_0.5"] == 3) & (frame["runs_0.9"] == 1)].to_dict("records")
    assert np.isfinite(row["step_0.5"])
    assert np.isnan(row["step_0.9"])


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_runs_that_may_generalise_yet_decide_nothing(lost, root, tmp_path):
    """Cells and lags at 10 %, of three runs of 800 steps where the study has 60,000."""
    context = dataclasses.replace(
        artefact.load("transformer_permutation", root, "small"), scale="paper"
    )
    runs = context.table("runs")
    chosen = runs.index[runs["label_permutation"] == 0.1][:lost]
    context.pool._tables["runs"] = runs.assign(
        generalisation_step=runs["generalisation_step"].drop(chosen)
    )
    cells = correlations.reference("table1").to_dict("records")
    own = [cell for cell in cells if float(cell["label_permutation"]) == 0.1]
    rows = pd.DataFrame([comparison.cell_row("table1", cell, context) for cell in own])
    decided = rows["verdict"].isin((AGREE, DIFFER))
    assert decided.any() == (not lost)
    words = f"{lost} of 3 have not generalised yet"
    assert rows["note"].str.contains(words).all() == bool(lost)
    lags = claims.measure(context, claim(16))
    assert len(lags.run_ids) == 4 * 3 - lost
    context.pool.horizons.update(dict.fromkeys(runs["run_id"], 60_000))
    assert context.not_yet(runs["run_id"]) == []


def test_the_split_of_runs_that_never_generalise_has_one_definition(root):
    context = artefact.load("transformer_permutation", root, "small")
    runs = context.runs()
    before, after = claims.windows(context, runs, "persistence", "h1_max", "embedding")
    whole = summaries.windows(runs, context.table("persistence"), "h1_max")
    own = whole.set_index("run_id").loc[runs["run_id"]]
    np.testing.assert_array_equal(before, own["before"])
    # Of some of the runs it is the same: the split is not that of those chosen.
    few = runs[runs["label_permutation"] == 0.2]
    np.testing.assert_array_equal(
        claims.windows(context, few, "persistence", "h1_max", "embedding")[1],
        after[(runs["label_permutation"] == 0.2).to_numpy()],
    )


@pytest.mark.parametrize(
    ("came", "ended", "last"),
    [
        ([1, 1, 1, 1], True, 0.2),
        ([1, 1, 0, 0], True, 0.05),
        ([1, 0, 1, 1], True, 0.0),
        ([0, 1, 1, 1], True, -1.0),
        ([1, 1, 0, 0], False, np.nan),
        ([1, 1, 1, 1], False, 0.2),
    ],
)
def test_the_last_level_at_which_a_seed_generalises(came, ended, last):
    row = pd.Series(np.array(came, bool), index=[0.0, 0.05, 0.1, 0.2])
    assert claims._last_level(row, ended) == pytest.approx(last, nan_ok=True)


def test_levels_from_a_sweep(root, monkeypatch):
    monkeypatch.setattr(sweeps.Training, "steps", lambda *_: 800)
    context = artefact.load("transformer_permutation", root, "small")
    sample = claims.measure(context, claim(20))
    # All made-up runs generalise, at 20 % of permuted labels too.
    np.testing.assert_array_equal(sample.parts[""], [0.2, 0.2, 0.2])
    assert claims.judge(claim(20), sample).word == DIFFER


def curve(at, steps=STEPS, width=500.0):
    return pd.Series(1 / (1 + np.exp(-(steps - at) / width)), index=steps)


@pytest.mark.parametrize("lag", [-2, 0, 3])
def test_lags_of_steps_that_were_planted_are_found(lag):
    noise = np.random.default_rng(0).normal(scale=0.005, size=(2, len(STEPS)))
    accuracy, loops = curve(20_000) + noise[0], curve(20_000 - 500 * lag) + noise[1]
    assert crosscorrelation.own_peak(accuracy, loops) == lag


def test_noise_has_few_peaks():
    rng = np.random.default_rng(0)
    found = [
        crosscorrelation.own_peak(
            curve(20_000) + rng.normal(scale=0.005, size=len(STEPS)),
            pd.Series(rng.normal(size=len(STEPS)), index=STEPS),
        )
        for _ in range(100)
    ]
    assert np.isfinite(found).sum() <= 12
    assert np.isnan(crosscorrelation.own_peak(curve(20_000), curve(20_000) * 0))


def test_a_peak_that_is_none():
    rng = np.random.default_rng(0)
    hump = pd.Series(np.exp(-(((STEPS - 30_000) / 8_000) ** 2)), index=STEPS)
    assert abs(claims.peak(hump + rng.normal(scale=0.05, size=len(STEPS))) - 30_000) <= 6_000
    noise = [claims.peak(pd.Series(rng.normal(size=len(STEPS)), index=STEPS)) for _ in range(200)]
    assert np.isfinite(noise).sum() <= 40


def test_about_none_is_a_checkpoint_of_the_scale(root, monkeypatch):
    context = artefact.load("transformer_permutation", root, "small")
    # Made-up accuracy and H0 total step at the same checkpoint; there is one every 100 steps.
    assert comparison.claim_row(claim(18), context)["verdict"] == SAME
    found = claims.measure(context, claim(18))
    off = dataclasses.replace(found, parts={"": found.parts[""] + 200.0})
    monkeypatch.setattr(claims, "measure", lambda *_: off)
    assert comparison.claim_row(claim(18), context)["verdict"] == OTHER
