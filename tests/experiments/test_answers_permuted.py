"""What the page says of permuted labels, and of the true ones beside them, done again by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import isotonic_regression

from experiments import answers, committed
from experiments import questions_numbers as numbers
from experiments import questions_permuted as permuted


def test_a_tenth_permuted_by_hand():
    """Who generalises, a ratio and a ρ, without any of our code."""
    runs, own, metrics = (
        pd.read_parquet(answers.RESULTS / committed.PERMUTED[0] / f"{name}.parquet")
        for name in ("runs", "persistence", "metrics")
    )
    end, logs, rho = own.step.max(), [], []
    for run in runs.itertuples():
        rows = own[(own.run_id == run.run_id) & (own.cloud == "embedding")].sort_values("step")
        early = (rows.step >= run.memorisation_step) & (rows.step < run.generalisation_step)
        late = rows[rows.step >= 0.8 * end].h1_max.mean()
        logs.append(np.log(late / rows[early].h1_max.mean()))
        accuracy = metrics[metrics.run_id == run.run_id].sort_values("step").test_accuracy
        rho.append(np.corrcoef(rows.h1_max.rank(), accuracy.rank())[0, 1])
    came = runs.generalisation_step.notna()
    assert f"10 %: {came.sum()} of 5 generalise by step {end:,}" in permuted.rises()
    logs = np.array(logs)[came]
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    assert f"10 % {mean:.2f} ({low:.2f} to {high:.2f})" in permuted.rises()
    assert f"H1 max {np.mean(rho):.2f} (" in permuted.cells()


def test_chance_states_and_order_of_permuted_labels_by_hand(monkeypatch):
    folder, read = answers.RESULTS / "permuted", committed.table
    drawn = pd.read_parquet(folder / "surrogates.parquet")
    drawn = drawn[(drawn.step == 60_000) & (drawn.statistic == "h1_max")]
    above = (drawn.value > drawn.p95).groupby(drawn["null"]).sum()
    for null, words in (("covariance", "singular values"), ("frequency_power", "each frequency")):
        assert f"{words}, above 95 % of them in {above[null]} of 5" in permuted.rises()
    runs, metrics = (pd.read_parquet(folder / f"p197_10/{n}.parquet") for n in ("runs", "metrics"))
    rows = pd.read_parquet(folder / "points512.parquet").merge(metrics, on=["run_id", "step"])
    own = rows[rows.cloud == "layer2"].groupby("run_id")[["h1_total", "test_accuracy"]]
    rho = np.mean([part.rank().corr().iloc[0, 1] for _, part in own])
    assert len(own) == len(runs)
    of_512 = permuted.cells().split("of 512 states")[1]
    assert f"layer2 {rho:.2f} (" in of_512.split(";")[0].split("How many")[0]
    assert "layer2 ahead in H0 max, H0 total, H1 max" in permuted.order()
    assert "of 12 cells" in numbers.same_rho()
    turned = read("permuted/leads.csv").assign(lag=lambda frame: -frame.lag)
    monkeypatch.setattr(
        committed, "table", lambda name: turned if name == "permuted/leads.csv" else read(name)
    )
    assert "layer2 behind in H0 max, H0 total, H1 max" in permuted.order()


def test_a_fifth_permuted_and_true_labels_by_hand():
    """That it does not rise where nothing generalises, a lag, and a count of equal checkpoints."""
    folder = answers.RESULTS / "permuted"
    runs, own = (pd.read_parquet(folder / f"p197_20/{name}.parquet") for name in
                 ("runs", "persistence"))  # fmt: skip
    logs = []
    for run in runs.itertuples():
        rows = own[(own.run_id == run.run_id) & (own.cloud == "embedding")]
        early = rows.step.between(run.memorisation_step, run.memorisation_step + 12_000)
        late = rows[rows.step >= 48_000].h1_max.mean()
        logs.append(np.log(late / rows[early].h1_max.mean()))
    half = stats.t.ppf(0.975, 4) * np.std(logs, ddof=1) / 5**0.5
    mean, low, high = np.exp([np.mean(logs), np.mean(logs) - half, np.mean(logs) + half])
    said = permuted.rises()
    assert f"20 % {mean:.2f} ({low:.2f} to {high:.2f}); H1 total, over generalisation" in said
    assert "Not asked at 20 %: 0 of 5 generalise by step 60,000" in said
    assert runs.generalisation_step.isna().all()
    order = permuted.order()
    assert "20 %: nothing is asked, for 0 of 5 generalise." in order
    # With true labels layer 2 comes within a checkpoint of accuracy, the embedding far behind it:
    # half-way between the first and the last value of isotonic fits.
    own, metrics = (pd.read_parquet(folder / f"p197_0/{name}.parquet") for name in
                    ("persistence", "metrics"))  # fmt: skip
    rows = own.merge(metrics, on=["run_id", "step"]).sort_values("step")
    lags = {}
    for (cloud, run_id), part in rows.groupby(["cloud", "run_id"]):
        fits = [isotonic_regression(x).x for x in (part.test_accuracy, -part.h0_max)]
        halves = [np.interp((fit[0] + fit[-1]) / 2, fit, part.step) for fit in fits]
        lags[cloud, run_id] = halves[1] - halves[0]
    for cloud, low, high in (("layer2", -500, 500), ("embedding", 1000, 9000)):
        of_cloud = [lag for key, lag in lags.items() if key[0] == cloud]
        assert len(of_cloud) == 5 and low < min(of_cloud) and max(of_cloud) < high
    assert (
        "embedding behind in H0 max, H0 total" in order
        and "layer2 H0 max −382" in answers.signed(order)
    )
    same = None  # checkpoints, each with all of its numbers
    for name, now in (("metrics", metrics), ("persistence", own[own.cloud == "embedding"])):
        before = pd.read_parquet(answers.RESULTS / f"fifteen_runs/p197/{name}.parquet")
        both = now.merge(before[now.columns.intersection(before.columns)])[["run_id", "step"]]
        same = both if same is None else same.merge(both)
    assert f"embedding of {len(same)} of {len(metrics)} checkpoints" in order


def test_true_labels_to_the_end_by_hand():
    """ρ of three cells, and the rise of H1 total, without any of our code."""
    folder = answers.RESULTS / committed.TRUE_LONGER
    runs, own, metrics = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("runs", "persistence", "metrics")
    )
    assert set(own.groupby(["run_id", "cloud"]).step.max()) == {60_000}
    rows = own.merge(metrics, on=["run_id", "step"])
    words = numbers.same_rho()
    differing = words.split("differ, means (90 %): ")[1].split("Cells that agree")[0]
    for cloud, statistic, study in (
        ("layer1", "h1_total", "0.33"),
        ("layer2", "h1_total", "0.80"),
        ("layer2", "h1_max", "-0.23"),
    ):
        parts = rows[rows.cloud == cloud].groupby("run_id")[[statistic, "test_accuracy"]]
        rho = np.mean([part.rank().corr().iloc[0, 1] for _, part in parts])
        name = statistic.replace("h1_", "H1 ")
        assert f"{name} of {cloud} {study}, here {rho:.2f} (" in differing
    changes = []
    for run in runs.itertuples():
        one = own[(own.run_id == run.run_id) & (own.cloud == "embedding")]
        early = one[(one.step >= run.memorisation_step) & (one.step < run.generalisation_step)]
        changes.append(one[one.step >= 48_000].h1_total.mean() - early.h1_total.mean())
    half = stats.t.ppf(0.975, 4) * np.std(changes, ddof=1) / 5**0.5
    mean = np.mean(changes)
    assert mean > half
    told = f"shown ({mean:.0f}, {mean - half:.0f} to {mean + half:.0f}; up in 5 of 5) in runs to"
    assert f"it is {told} step 60,000" in numbers.h1_total_rises()


def test_what_h1_does_beyond_the_budget_is_said_once_there_is_any(monkeypatch):
    read = committed.table
    planted = pd.DataFrame(
        {"run_id": list("abcd"), "before": 1.0, "after": [2.0, 2.5, 3.0, 5.0], "steps": 4000.0,
         "label_permutation": [0.2] * 3 + [0.1], "statistic": "H1 max"}
    )  # fmt: skip
    monkeypatch.setattr(
        committed, "table", lambda name: planted if name == "permuted/beyond.csv" else read(name)
    )
    said = permuted.rises()
    assert "H1 max at 10 % 5.00 to 5.00, n = 1, over 4,000 steps" in said
    logs = np.log([2, 2.5, 3])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / 3**0.5
    mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    assert f"H1 max at 20 % {mean:.2f} ({low:.2f} to {high:.2f}), n = 3" in said


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.1, 1.3, "Yes"), (0.9, 1.1, "No rise is told"), (0.7, 0.9, "No, it falls")],
)
def test_the_verdict_on_permuted_labels_is_that_of_its_interval(low, high, verdict, monkeypatch):
    read, path = committed.table, "permuted/permuted.csv"
    changed = read(path).assign(low=low, high=high)
    monkeypatch.setattr(committed, "table", lambda name: changed if name == path else read(name))
    assert permuted.rises().startswith(f"{verdict} at 10 %")
