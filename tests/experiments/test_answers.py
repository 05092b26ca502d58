"""The page of answers says what its tables say, and nothing else."""

import pandas as pd
import pytest

from experiments import answers


def test_page_and_figure_are_those_committed(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["answers", f"--out={tmp_path}"])
    answers.main()
    assert (tmp_path / "README.md").read_text() == (answers.RESULTS / "README.md").read_text()
    assert (tmp_path / "answers.svg").stat().st_size > 10_000


def test_three_numbers_from_the_tables_themselves():
    """Read off the files by hand."""
    surrogates = pd.read_parquet(answers.RESULTS / "surrogates/surrogates.parquet")
    last = surrogates[(surrogates.step > 0) & (surrogates.statistic == "h1_max")]
    last = last[last["null"] == "covariance"]
    within = (last.percentile <= 95).sum()
    assert len(last) == 15
    assert f"as long a loop as {within} of 15 runs" in answers.by_chance()
    leads = pd.read_csv(answers.RESULTS / "leads/leads.csv")
    leads = leads[leads.reference == "test accuracy"]
    assert f"In {sum(leads.after)} of {sum(leads.n)} pairs" in answers.leads()
    cause = pd.read_csv(answers.RESULTS / "cause/cause.csv")
    row = cause[(cause.arm == "longer 0.1") & (cause.beside == "none")].iloc[0]
    assert f"five times as strong delays by {row['median']:.0f} steps" in answers.causes()


@pytest.mark.parametrize(
    ("path", "column", "words"),
    [
        ("leads/leads.csv", "after", answers.leads),
        ("cause/cause.csv", "high", answers.causes),
        ("head_to_head/head_to_head.csv", "gain", answers.predicts),
        ("waves/p113.csv", "correlation", answers.whose_wave),
        ("verdicts/comparison.csv", "ours", answers.rises),
        ("verdicts/comparison.csv", "ours", answers.agrees),
        ("controls/controls.csv", "ratio", answers.without_a_group),
        ("rejection_rates/rejection_rates.csv", "rejected", answers.tests_hold),
        ("ablation/ablation.csv", "accuracy", answers.carries),
        ("surrogates/surrogates.parquet", "value", answers.one_loop),
        ("surrogates/surrogates.parquet", "percentile", answers.by_chance),
        ("holes/p113.csv", "waves", answers.holes),
    ],
)
def test_another_table_is_another_answer(path, column, words, monkeypatch):
    said, read = words(), answers.table

    def changed(asked):
        frame = read(asked)
        factor = [0.5 + i % 2 for i in range(len(frame))]
        return frame.assign(**{column: frame[column] * factor}) if asked == path else frame

    monkeypatch.setattr(answers, "table", changed)
    assert words() != said
