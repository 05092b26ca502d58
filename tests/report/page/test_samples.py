"""Which runs and checkpoints the page has in detail."""

import numpy as np
import pandas as pd

from grokjax.report import snapshots
from grokjax.report.page import samples
from grokjax.settings import labels


def made_up_candidates(n_settings, n_seeds, n_steps=121, points=197):
    rows = [
        {"run_id": f"{k}-{s}", "model": "mlp", "prime": points, "train_fraction": k / 1000,
         "operation": "add", "label_permutation": 0.0, "weight_decay": 1.0, "learning_rate": 1.0,
         "init_scale": 1.0, "status": "done", "generalisation_step": s}
        for k in range(n_settings)
        for s in range(n_seeds)
    ]  # fmt: skip
    runs = pd.DataFrame(rows)

    def candidate(run_id):
        return samples.Candidate(
            run_id=run_id, points=points, steps=range(n_steps), marks=[], batch=run_id[-1]
        )

    return labels.group(runs), runs, candidate


def test_every_setting_gets_one_run_before_any_gets_two():
    settings, runs, candidate = made_up_candidates(4, 5)
    for n_bytes in (3.4e5, 1e6, 4e6):
        chosen = samples.choose(settings, runs, candidate, n_bytes)
        cost = sum(candidate(run_id).cost(len(steps)) for run_id, steps in chosen.items())
        assert cost <= n_bytes
        counts = [sum(name.startswith(f"{k}-") for name in chosen) for k in range(4)]
        assert min(counts) >= 1 and max(counts) - min(counts) <= 1
    few = samples.choose(settings, runs, candidate, 3.4e5)
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
    assert snapshots.telling_order(runs) == list("gdfabce")


def test_thinned_steps_are_even_and_keep_their_marks():
    steps = list(range(0, 60_500, 500))
    few = snapshots.thin(steps, 16, marks=[13_500, 14_000])
    assert len(few) <= 16 and {0, 13_500, 14_000, 60_000} <= set(few) <= set(steps)
    assert np.diff(snapshots.thin(steps, 61)).tolist() == [1000] * 60
    assert snapshots.thin([0, 5], 16) == [0, 5]
