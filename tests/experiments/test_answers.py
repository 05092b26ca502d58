"""The page of answers says what its tables say, and tables are those of the runs."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import answers, committed, verdicts
from experiments import questions_causes as causes
from experiments import questions_loops as loops
from experiments import questions_mlps as mlps
from experiments import questions_numbers as numbers
from experiments import questions_permuted as permuted
from experiments import questions_seeds as seeds
from experiments.verdicts import CANNOT_TELL, DIFFER, Target


def test_page_and_figures_are_those_committed(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["answers", "--page", f"--out={tmp_path}"])
    answers.main()
    assert (tmp_path / "README.md").read_text() == (answers.RESULTS / "README.md").read_text()
    for name in answers.FIGURES:
        assert (tmp_path / name).stat().st_size > 10_000
    page = (tmp_path / "README.md").read_text()
    assert all(answer.group in page and answer.question in page for answer in answers.ANSWERS)
    links = [one.figure for one in answers.ANSWERS if one.figure]
    links += [f"{one.folder}/README.md" for one in answers.ANSWERS]
    assert all((answers.RESULTS / link).exists() for link in links)
    anchors = {f"(#{answers.anchor(line[4:])})" for line in page.splitlines() if line[:4] == "### "}
    assert len(anchors) == page.count("[more](#") and all(anchor in page for anchor in anchors)


def test_a_row_says_the_first_paragraph_and_its_section_the_others():
    answer = answers.Answer("Why, at 5 %?", lambda: "So.\n\nFor this.\n\nAnd that.", "leads")
    assert answers.said(answer) == ("So.", "For this.\n\nAnd that.")
    line = answers.row(answer, *answers.said(answer))
    assert line.startswith("| Why, at 5 %? | Not asked. | So. | [more](#why-at-5-), [leads](")
    both = dataclasses.replace(answer, more=lambda: "| a |")
    assert answers.said(both)[1].endswith("And that.\n\n| a |")
    alone = dataclasses.replace(answer, words=lambda: "So.")
    assert "more" not in answers.row(alone, *answers.said(alone))
    # No row of the page is an essay: details are for sections.
    assert max(len(answers.said(one)[0]) for one in answers.ANSWERS) < 500


def test_tables_follow_from_the_runs_own():
    made = committed.remade()
    assert len(made) == 17
    for path, frame in made.items():
        told = committed.table(path)
        kinds = {name: told[name].dtype for name in told}
        pd.testing.assert_frame_equal(
            frame.replace("", np.nan).astype(kinds), told, check_dtype=False, rtol=1e-5
        )


def raw(name, table):
    return pd.read_parquet(answers.RESULTS / committed.RUNS / name / f"{table}.parquet")


def test_numbers_from_the_runs_tables_by_hand():
    """A change over windows, a ρ, dominance and a count of surrogates, without any of our code."""
    runs, own, metrics = (raw("p197", name) for name in ("runs", "persistence", "metrics"))
    changes, rho = [], []
    for run in runs.itertuples():
        rows = own[own.run_id == run.run_id].sort_values("step")
        early = rows[(rows.step >= run.memorisation_step) & (rows.step < run.generalisation_step)]
        changes.append(rows[rows.step >= 36_000].h1_total.mean() - early.h1_total.mean())
        accuracy = metrics[metrics.run_id == run.run_id].sort_values("step").test_accuracy
        rho.append(np.corrcoef(rows.h1_total.rank(), accuracy.rank())[0, 1])
    half = stats.t.ppf(0.975, 4) * np.std(changes, ddof=1) / 5**0.5
    mean = np.mean(changes)
    words = numbers.h1_total_rises()
    assert f"{mean:.0f} ({mean - half:.0f} to {mean + half:.0f})" in words
    assert f"not shown ({mean:.0f}, {mean - half:.0f} to {mean + half:.0f}; up in 3 of 5)" in words
    assert f"median {np.median(rho):.2f}, SD {np.std(rho, ddof=1):.2f}" in numbers.same_rho()
    own, metrics = (
        pd.read_parquet(answers.RESULTS / committed.TABLE2 / f"{name}.parquet")
        for name in ("persistence", "metrics")
    )
    own = own[own.cloud == "hidden1"].merge(metrics, on=["run_id", "step"])
    rho = [
        np.corrcoef(rows.h1_total.rank(), rows.test_accuracy.rank())[0, 1]
        for _, rows in own.groupby("run_id")
    ]
    half = stats.t.ppf(0.95, 4) * np.std(rho, ddof=1) / 5**0.5
    of_layer = f"hidden1 {np.mean(rho):.2f} ({np.mean(rho) - half:.2f} to {np.mean(rho) + half:.2f}"
    assert of_layer in mlps.true_labels()
    dominant = 0
    for name in committed.NAMES:
        own, runs = raw(name, "persistence"), raw(name, "runs").set_index("run_id")
        own = own[own.step >= own.run_id.map(runs.generalisation_step)]
        dominant += sum((own.h1_max / own.h1_second).groupby(own.run_id).median() >= 1.3)
    assert f"1.3 times the second or more in {dominant} of 15" in loops.one_loop()
    drawn = pd.read_parquet(answers.RESULTS / "surrogates/surrogates.parquet")
    last = drawn[drawn.step.isin((20_000, 40_000, 45_000)) & (drawn.statistic == "h1_max")]
    last = last[(last["null"] == "frequency_power") & (last.percentile > 95)]
    assert f"above 95 % of 99 of them in {len(last)} of 15 runs" in loops.chance()


def log_ratios(folder):
    """After over before of each run's H1 max, without any of our code."""
    runs, own = (
        pd.read_parquet(answers.RESULTS / folder / f"{table}.parquet")
        for table in ("runs", "persistence")
    )
    found = []
    for run in runs.itertuples():
        rows = own[own.run_id == run.run_id]
        early = rows.step.between(run.memorisation_step, run.generalisation_step, "left")
        after, before = (rows[which].h1_max.mean() for which in (rows.step >= 16_000, early))
        found.append(np.log(after / before))
    return np.array(found)


def in_words(ours):
    """Mean, interval and Welch's p of the control's ratios of five seeds, by textbook formulas."""
    addition = log_ratios(f"{committed.RUNS}/p113")
    half = stats.t.ppf(0.975, 4) * np.std(ours, ddof=1) / 5**0.5
    mean, low, high = np.exp([np.mean(ours), np.mean(ours) - half, np.mean(ours) + half])
    errors = np.var([ours, addition], ddof=1, axis=1) / 5  # squared
    t = (np.mean(ours) - np.mean(addition)) / errors.sum() ** 0.5
    degrees = errors.sum() ** 2 / (errors**2 / 4).sum()  # Welch and Satterthwaite
    return (
        f"(95 %): {mean:.2f} ({low:.2f} to {high:.2f}); of addition",
        f"(Welch: p = {2 * stats.t.sf(abs(t), degrees):.2g})",
    )


@pytest.mark.parametrize(
    ("factors", "n_never", "verdict", "chance"),
    [
        (np.full(5, 1.0), 0, "Yes. ", True),
        (np.full(5, 0.3), 0, "No, it falls. ", False),
        (np.array([0.3, 0.6, 1.2, 0.2, 0.4]), 0, "It cannot be told. ", False),
        (np.full(5, 1.0), 1, "Yes. ", True),
        (np.full(5, 1.0), 2, "Cannot be told: of 5 runs of average 3 generalise.", None),
    ],
)
def test_the_control_by_hand_and_its_verdicts(factors, n_never, verdict, chance, monkeypatch):
    read = committed.table

    def changed(path):
        frame = read(path)
        if path == f"{committed.CONTROL}/persistence.parquet":  # late ones times a factor a run
            own = frame.run_id.map(dict(zip(frame.run_id.unique(), factors, strict=True)))
            return frame.assign(h1_max=frame.h1_max * own.where(frame.step >= 16_000, 1.0))
        if path == f"{committed.CONTROL}/runs.parquet":
            step = frame.generalisation_step.mask(frame.index < n_never)
            return frame.assign(generalisation_step=step)
        return frame

    monkeypatch.setattr(committed, "table", changed)
    said = causes.without_a_group_at_size()
    assert said.startswith(verdict)
    assert chance is None or ("which may be chance" in said) == chance
    if not n_never:
        assert all(w in said for w in in_words(log_ratios(committed.CONTROL) + np.log(factors)))


def test_orders_and_jumps_are_told_where_the_tables_tell_them(monkeypatch):
    read = committed.table
    assert seeds.fine().startswith("It cannot be told")
    assert seeds.jumps().startswith("No, in jumps")

    def changed(path):
        frame = read(path)
        if path == f"{committed.FINE}/leads.csv":
            behind = (frame.statistic == "H0 max") & (frame.reference == "test accuracy")
            return frame.assign(lag=30.0, p_mean=frame.p_mean.mask(behind, 0.006))
        return frame.assign(test_accuracy=frame.steps) if path.endswith("spikes.csv") else frame

    monkeypatch.setattr(committed, "table", changed)
    assert seeds.fine().startswith("Told are: H0 max behind test accuracy (")  # 8 times 0.006
    assert seeds.jumps().startswith("It cannot be told")


def test_fifty_seeds_by_hand():
    """A rise, a ρ, dominance and a ratio to surrogates, without any of our code."""
    runs, own, metrics, drawn = (
        pd.read_parquet(answers.RESULTS / committed.FIFTY[0] / f"{name}.parquet")
        for name in ("runs", "persistence", "metrics", "surrogates")
    )
    logs, rho, dominant = [], [], 0
    for run in runs.itertuples():
        rows = own[own.run_id == run.run_id].sort_values("step")
        early = rows.step.between(run.memorisation_step, run.generalisation_step, "left")
        logs.append(np.log(rows[rows.step >= 4800].h1_max.mean() / rows[early].h1_max.mean()))
        accuracy = metrics[metrics.run_id == run.run_id].sort_values("step").test_accuracy
        rho.append(np.corrcoef(rows.h1_total.rank(), accuracy.rank())[0, 1])
        later = rows[rows.step >= run.generalisation_step]
        dominant += (later.h1_max / later.h1_second).median() >= 1.3
    drawn = drawn[(drawn.step == 6000) & (drawn.statistic == "h1_total")]
    drawn = drawn[drawn["null"] == "covariance"]
    over = np.log(drawn.value / drawn["mean"])

    def interval(values):
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
        return np.mean(values), np.mean(values) - half, np.mean(values) + half

    said = seeds.fifty()
    for values, words, change in (
        (logs, "H1 max rises ", np.exp), (rho, "H1 total ", float), (over, "H1 total ", np.exp),
    ):  # fmt: skip
        mean, low, high = (change(value) for value in interval(values))
        assert f"{words}{mean:.2f} ({low:.2f} to {high:.2f}" in said
    assert f"1.3 times the second or more in {dominant} of {len(runs)}" in said


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "No rise is seen. "), (1.5, "Yes. "), (0.5, "No, it falls. ")]
)
def test_the_control_of_another_kind_by_hand(factor, verdict, monkeypatch):
    read = committed.table
    path = f"{committed.OTHER_KIND}/persistence.parquet"
    rows = read(path)
    late = rows.step >= 16_000
    changed = rows.assign(h1_max=rows.h1_max.where(~late, rows.h1_max * factor))
    monkeypatch.setattr(committed, "table", lambda name: changed if name == path else read(name))
    first = changed[changed.step == 0].set_index("run_id").h1_max
    logs = np.log(changed[late].groupby("run_id").h1_max.mean() / first)
    half = stats.t.ppf(0.975, 4) * logs.std(ddof=1) / 5**0.5
    mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    said = causes.another_kind_at_size()
    assert said.startswith(verdict)
    assert f"(95 %): {mean:.2f} ({low:.2f} to {high:.2f}), H1 total" in said


@pytest.mark.parametrize(
    ("path", "column", "words"),
    [
        ("leads/leads.csv", "lag", causes.leads),
        ("leads/leads_shorter.csv", "lag", causes.leads_more),
        ("fifty_seeds/fifty_seeds.csv", "estimate", seeds.fifty),
        ("fifty_seeds/spikes.csv", "test_accuracy", seeds.jumps),
        (f"{committed.FINE}/spikes.csv", "test_accuracy", seeds.jumps),
        (f"{committed.FINE}/leads.csv", "lag", seeds.fine),
        ("permuted/permuted.csv", "ratio", permuted.rises),
        (f"{committed.LONGER}/metrics.parquet", "test_accuracy", permuted.rises),
        (f"{committed.TRUE_LAYERS}/metrics.parquet", "test_loss", permuted.order),
        ("permuted/surrogates.parquet", "value", permuted.rises),
        ("permuted/points512.parquet", "h1_total", permuted.cells),
        ("permuted/leads.csv", "after", permuted.order),
        ("permuted/leads.csv", "lag", permuted.order_more),
        ("verdicts/comparison.csv", "ours", permuted.cells),
        ("verdicts/comparison.csv", "high", permuted.cells_more),
        (f"{committed.PERMUTED[0]}/metrics.parquet", "test_accuracy", permuted.rises),
        ("cause/cause.csv", "high", causes.causes),
        ("cause/doses.csv", "at", causes.causes),
        ("head_to_head/head_to_head.csv", "gain", causes.predicts),
        ("ablation/ablation.csv", "accuracy", causes.carries),
        ("phase/phase.csv", "generalised", causes.phases),
        ("phase/phase_tests.csv", "share", causes.phases),
        (f"{committed.CONTROL}/persistence.parquet", "h1_max", causes.without_a_group_at_size),
        (f"{committed.CONTROL}/controls.csv", "above_covariance", causes.without_a_group_at_size),
        ("controls/controls.csv", "ratio", causes.without_a_group),
        ("controls/controls.csv", "low", causes.without_a_group_more),
        ("rejection_rates/rejection_rates.csv", "rejected", causes.tests_hold),
        ("fifteen_runs/mlp197/persistence.parquet", "h1_max", numbers.h1_max_rises),
        ("fifteen_runs/p197/persistence.parquet", "h1_total", numbers.h1_total_rises),
        ("verdicts/comparison.csv", "ours", numbers.h1_total_rises),
        (f"{committed.TABLE2}/persistence.parquet", "h1_max", numbers.h1_max_rises),
        (f"{committed.TABLE2}/persistence.parquet", "h1_total", mlps.true_labels),
        (f"{committed.TABLE2}/metrics.parquet", "test_accuracy", mlps.true_labels),
        ("verdicts/comparison.csv", "low", mlps.true_labels),
        ("table2/points512.parquet", "h1_total", mlps.true_labels),
        ("verdicts/comparison.csv", "high", mlps.true_labels_more),
        (f"{committed.AGAIN}/persistence.parquet", "h1_total", numbers.again),
        ("fifteen_runs/p113/persistence.parquet", "h1_max", numbers.again),
        ("fifteen_runs/p113/persistence.parquet", "h1_max", numbers.rises_more),
        ("fifteen_runs/p113/metrics.parquet", "test_accuracy", causes.leads),
        ("fifteen_runs/p113/persistence.parquet", "h1_second", loops.one_loop),
        ("fifteen_runs/p113/persistence.parquet", "h1_max", answers.budget),
        ("verdicts/comparison.csv", "ours", numbers.same_rho),
        (f"{committed.TRUE_LONGER}/persistence.parquet", "h1_total", numbers.same_rho),
        (f"{committed.TRUE_LONGER}/persistence.parquet", "h1_total", numbers.h1_total_rises),
        ("verdicts/comparison.csv", "high", numbers.same_numbers),
        ("verdicts/comparison.csv", "high", numbers.same_numbers_more),
        ("verdicts/comparison.csv", "margin", answers.not_told),
        ("surrogates/surrogates.parquet", "value", loops.chance),
        ("surrogates/surrogates.parquet", "percentile", loops.one_loop),
        ("surrogates/surrogates.parquet", "percentile", loops.chance_more),
        ("waves/p113.csv", "reduced correlation", loops.whose_wave),
        ("waves/noise.csv", "reduced correlation", loops.whose_wave),
        ("holes/p113.csv", "waves", loops.holes),
    ],
)
def test_another_table_is_another_answer(path, column, words, monkeypatch):
    """A column in which every second value is three times the other, or values become less."""
    said, read = words(), committed.table

    def with_factors(factors):
        def changed(asked):
            frame = read(asked)
            factor = np.resize(factors(len(frame)), len(frame))
            return frame.assign(**{column: frame[column] * factor}) if asked == path else frame

        monkeypatch.setattr(committed, "table", changed)
        return words()

    ways = [lambda n: [0.5, 1.5], lambda n: np.linspace(1, 0.5, n)]
    assert any(with_factors(way) != said for way in ways)


def test_what_is_said_of_power_is_what_verdicts_do():
    """Values of the spread seen, a little within and beyond the mean from which on they differ."""
    row = numbers.power().set_index("what").filter(like="h1_total (transformer", axis=0).iloc[0]
    target = Target(30.0, 50.0, 2.0)  # Figure 3
    shape = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    told = committed.table("verdicts/comparison.csv").set_index("what").loc[row.name]
    error = (told.high - told.low) / 2 / stats.t.ppf(0.95, 4)
    shape *= error * 5**0.5 / shape.std(ddof=1)
    # One that stays where it is before generalisation would not be called different.
    assert row.differ_below < 21 and row.differ_above > 50
    for edge, out in ((row.differ_above, 1), (row.differ_below, -1)):
        assert verdicts.judge(edge + out * 0.1 + shape, target).word == DIFFER
        assert verdicts.judge(edge - out * 0.1 + shape, target).word == CANNOT_TELL


def test_each_source_that_is_not_run_has_words():
    rows = committed.table("verdicts/comparison.csv")
    assert set(rows[rows.verdict == "not run"].source) == set(answers.NOT_RUN)
    assert committed.by_chance(7, 15) == pytest.approx(
        1 - sum(stats.binom.pmf(k, 15, 0.05) for k in range(7))
    )
