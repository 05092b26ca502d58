"""Whether the quick sweep holds its claim, by rows that are made up here."""

import pandas as pd
import pytest

from experiments import first_sweep
from grokjax.measuring.loading import Sweep
from grokjax.store import results
from tests import synthetic

WHOLE = pd.DataFrame(
    {
        "prime": [29, 29, 29, 29],
        "label_permutation": [0.0, 0.0, 1.0, 1.0],
        "generalisation_step": [900, 1200, None, None],
        "at_the_end": [0.95, 1.0, 0.04, 0.03],
        "grown": [1.6, 2.0, 1.5, 0.9],
    }
)


@pytest.mark.parametrize(
    ("row", "column", "value", "words"),
    [
        (0, "at_the_end", 0.95, []),
        (0, "at_the_end", 0.949, ["p = 29: 1 of 2 runs fall below 0.95 at the end"]),
        (1, "at_the_end", float("nan"), ["p = 29: 1 of 2 runs fall below 0.95 at the end"]),
        (1, "generalisation_step", None, ["p = 29: 1 of 2 runs do not generalise"]),
        (2, "generalisation_step", 900, ["p = 29: 1 controls generalise"]),
        (3, "grown", 1.7, ["p = 29: 1 of 2 runs grow less than a control does"]),
        (0, "grown", 0.99, ["p = 29: 1 of 2 runs have no longer H1 max after than before",
                            "p = 29: 1 of 2 runs grow less than a control does"]),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_said(row, column, value, words):
    rows = WHOLE.copy()
    rows.loc[row, column] = value
    assert first_sweep.failures(rows) == words


def test_the_end_is_the_last_five_checkpoints(tmp_path, capsys):
    axes = {"prime": [11], "seed": [1, 2], "label_permutation": [0.0, 1.0]}
    config = synthetic.make(tmp_path / "w", steps=2000, every=100, **axes)
    path = tmp_path / "w/results/metrics.parquet"
    sweep = Sweep(tmp_path / "w")
    metrics = sweep.metrics
    metrics["test_accuracy"] = 0.96
    metrics.loc[metrics["step"] == 1500, "test_accuracy"] = 0.2
    metrics.loc[metrics["step"] == 1600, "test_accuracy"] = 0.953
    results.write_parquet(path, metrics)
    rows = first_sweep.table(sweep)
    assert list(rows["at_the_end"]) == [0.953] * len(config.runs)
    assert list(rows["seed"]) == [1, 2, 1, 2]
    assert first_sweep.main([str(tmp_path / "w")]) == 0
    assert "All of the claim holds." in capsys.readouterr().out
    metrics.loc[metrics["step"] == 2000, "test_accuracy"] = 0.9
    results.write_parquet(path, metrics)
    assert first_sweep.main([str(tmp_path / "w")]) == 1
    assert "2 of 2 runs fall below 0.95 at the end" in capsys.readouterr().out
