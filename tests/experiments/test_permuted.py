"""H1 with permuted labels: windows by hand, planted rises found, none found in noise."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import permuted

STEPS = np.arange(0, 10_001, 500)


class Pool:
    """Made-up runs: with true labels and 10 % permuted H1 rises ``fold`` times at step 5,000.

    In layer 1 it does 2,000 steps before.
    """

    def __init__(self, fold=3.0, n=5, seed=0, levels=(0.0, 0.1, 0.2)):
        rng = np.random.default_rng(seed)
        frames = {"runs": [], "metrics": [], "persistence": []}
        self.horizons = {}
        for level in levels:
            for run in range(n):
                run_id = f"{run}-{level:g}"
                self.horizons[run_id] = int(STEPS[-1])
                own = {"run_id": run_id, "model": "transformer", "operation": "add", "prime": 197}
                own |= {"label_permutation": level, "seed": run, "status": "done"}
                came = 5000.0 if level < 0.2 else np.nan
                own |= {"memorisation_step": 1000.0, "generalisation_step": came}
                frames["runs"].append(own)
                base = np.exp(0.1 * rng.standard_normal())
                for step in STEPS:
                    late = step >= 5000 and level < 0.2
                    noise = base * np.exp(0.1 * rng.standard_normal())
                    row = {"run_id": run_id, "step": step}
                    metrics = {"test_accuracy": float(late), "test_loss": 5.0 - late}
                    frames["metrics"].append(row | metrics)
                    for cloud, rise in (("embedding", 5000), ("layer1", 3000)):
                        h1 = noise * (fold if step >= rise and level < 0.2 else 1.0)
                        own = {"cloud": cloud, "h1_max": h1, "h1_total": 9 * h1}
                        own |= {"h0_max": 2 - late, "h0_total": 1.0}
                        frames["persistence"].append(row | own)
        self.frames = {name: pd.DataFrame(rows) for name, rows in frames.items()}

    def table(self, name):
        return self.frames[name]

    def tables(self):
        return list(self.frames)

    def finished(self):
        return self.frames["runs"]


def row(frame, level, windows, statistic="H1 max"):
    (found,) = frame[
        (frame.label_permutation == level)
        & (frame.windows == windows)
        & (frame.statistic == statistic)
    ].to_dict("records")
    return found


def test_a_planted_rise_is_found_where_it_is_and_not_where_runs_only_memorise():
    frame = permuted.table(Pool())
    assert len(frame) == 2 * 2 * 3
    for level in (0.0, 0.1):
        for windows in (permuted.GENERALISATION, permuted.TRAINING):
            found = row(frame, level, windows)
            assert found["generalised"] == found["n"] == 5
            assert found["low"] < 3 < found["high"] and found["p"] < 0.001
    assert row(frame, 0.2, permuted.GENERALISATION)["n"] == 0
    only = row(frame, 0.2, permuted.TRAINING)
    assert only["n"] == 5 and 0.8 < only["low"] < only["high"] < 1.2
    assert only["p_beside"] < 1e-4 < 0.05 < row(frame, 0.1, permuted.TRAINING)["p_beside"]


def test_of_noise_nothing_is_found_but_at_its_level():
    frames = [permuted.table(Pool(fold=1.0, seed=seed)) for seed in range(40)]
    every = pd.concat(frames)
    every = every[(every.statistic == "H1 max") & (every.windows == permuted.TRAINING)]
    assert 0 < (every.p < 0.05).mean() < 0.12
    assert (every.p_beside.dropna() < 0.05).mean() < 0.12


def test_windows_by_hand():
    pool = Pool()
    rows = pool.table("persistence")
    rows = rows[(rows.run_id == "3-0.1") & (rows.cloud == "embedding")].set_index("step").h1_max
    expected = {
        permuted.GENERALISATION: rows.loc[1000:4500].mean(),
        permuted.TRAINING: rows.loc[1000:3000].mean(),
    }
    for windows, before in expected.items():
        own = permuted.ratios(pool, "h1_max", windows).set_index("run_id").loc["3-0.1"]
        assert own.before == pytest.approx(before)
        assert own.after == pytest.approx(rows.loc[8000:].mean())


def test_tests_by_hand():
    pool = Pool(fold=1.2)
    own = permuted.ratios(pool, "h1_total", permuted.TRAINING)
    logs = {
        level: np.log(part.after / part.before) for level, part in own.groupby("label_permutation")
    }
    found = row(permuted.table(pool), 0.1, permuted.TRAINING, "H1 total")
    assert found["p"] == pytest.approx(stats.ttest_1samp(logs[0.1], 0).pvalue)
    welch = stats.ttest_ind(logs[0.1], logs[0.0], equal_var=False).pvalue
    assert found["p_beside"] == pytest.approx(welch)
    assert found["ratio"] == pytest.approx(np.exp(logs[0.1].mean()))


def test_every_cloud_has_its_leads_where_enough_generalise():
    few = Pool(levels=[0.05])
    few.frames["runs"]["generalisation_step"] = [5000.0] * 3 + [np.nan] * 2
    frame = permuted.leads_by_cloud([*(Pool(levels=[level]) for level in (0.0, 0.1, 0.2)), few])
    assert set(frame.cloud) == {"embedding", "layer1"}
    assert set(frame.label_permutation) == {0.0, 0.1}
    assert list(frame.columns[:2]) == ["label_permutation", "cloud"]
    own = frame[(frame.statistic == "H1 max") & (frame.reference == "test accuracy")]
    assert (own.n == 5).all() and len(own) == 4
    lags = own.groupby("cloud").lag.mean()
    assert lags["embedding"] - lags["layer1"] == pytest.approx(2000, abs=500)
    few.frames["runs"]["generalisation_step"] = [5000.0] * 4 + [np.nan]
    assert set(permuted.leads_by_cloud([few]).label_permutation) == {0.05}


def test_what_comes_after_generalisation_by_hand():
    longer, other = Pool(levels=[0.0]), Pool(levels=[0.1], seed=1)
    longer.frames["runs"]["generalisation_step"] = [8000.0] * 2 + [9000.0] + [np.nan] * 2
    frame = permuted.beyond(longer, other)
    assert frame.groupby(["label_permutation", "statistic"]).size().to_dict() == {
        (0.0, "H1 max"): 3, (0.0, "H1 total"): 3, (0.1, "H1 max"): 5, (0.1, "H1 total"): 5,
    }  # fmt: skip
    own = frame[frame.statistic == "H1 total"].set_index("run_id")
    # Others as long as these on average, in whole checkpoints: 1,667 steps, so three of 500.
    for pool, run_id, came, end in ((longer, "2-0", 9000, 10_000), (other, "4-0.1", 5000, 6500)):
        rows = pool.table("persistence")
        rows = rows[(rows.run_id == run_id) & (rows.cloud == "embedding")].set_index("step")
        before, after = rows.h1_total.loc[1000 : came - 500], rows.h1_total.loc[came:end]
        assert own.loc[run_id].before == pytest.approx(before.mean())
        assert own.loc[run_id].after == pytest.approx(after.mean())
        assert own.loc[run_id].steps == end - came
    never = Pool(levels=[0.2])
    assert len(permuted.since(never, "h1_max")) == len(permuted.beyond(never, other)) == 0
