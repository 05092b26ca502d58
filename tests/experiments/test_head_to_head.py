"""A head-to-head of predictors on simulated runs, whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from experiments import head_to_head
from experiments.head_to_head import ALL, BETTER, CONSTANT, NEITHER, STEP
from tests.report.test_figures import tables

HORIZON, LAST = 1000, 2000


@pytest.fixture(autouse=True)
def _few_fits(monkeypatch):
    for name, value in {"OUTER": 3, "INNER": 2, "TREES": 5}.items():
        monkeypatch.setattr(head_to_head, name, value)


def simulated(seed=0, n_seeds=12, never=0.2, every=200):
    """Runs of two settings that generalise at random steps, some never; rows as ``known`` gives."""
    random, rows = np.random.default_rng(seed), []
    for run in range(2 * n_seeds):
        setting = f"setting {run % 2}"
        grokked = float(random.integers(4, 21) * 100) if random.random() > never else np.nan
        own, walk = random.normal(), 0.0
        for step in range(0, LAST + 1, every):
            walk += random.normal()
            left = min(grokked if np.isfinite(grokked) else np.inf, LAST + HORIZON) - step
            rows.append(
                {
                    "run_id": f"run{run}",
                    "seed": run // 2,
                    "setting": setting,
                    "step": step,
                    "last": LAST,
                    "generalisation_step": grokked,
                    "planted": -left + 100 * random.normal(),
                    "noise": random.normal(),
                    "number of the run": own,
                    "walk": walk,
                }
            )
    return pd.DataFrame(rows)


# --------------------------------------------------------------------------- what is asked


def test_what_remains_is_known_of_every_row_that_is_asked():
    frame = simulated()
    asked = head_to_head.asked(frame, HORIZON)
    for row in asked.itertuples():
        assert row.step + HORIZON <= LAST
        grokked = row.generalisation_step
        assert not grokked <= row.step
        expected = HORIZON if np.isnan(grokked) else min(grokked - row.step, HORIZON)
        assert row.remaining == expected
    # All rows before generalisation that are early enough are there, of those that never do too.
    early = frame[frame["step"] <= LAST - HORIZON]
    before = early[~(early["generalisation_step"] <= early["step"])]
    assert len(asked) == len(before)
    assert asked["generalisation_step"].isna().any()


@pytest.mark.parametrize("scheme", head_to_head.SCHEMES)
def test_folds_share_no_seed_and_hold_every_row_once(scheme):
    frame = head_to_head.asked(simulated(), HORIZON)
    tested = []
    for train, test in head_to_head.folds(frame, scheme):
        known, new = frame.iloc[train], frame.iloc[test]
        assert not set(known["seed"]) & set(new["seed"])
        assert not set(known["run_id"]) & set(new["run_id"])
        assert bool(set(known["setting"]) & set(new["setting"])) == (scheme == "seeds")
        tested += test.tolist()
    assert sorted(tested) == list(range(len(frame)))


class Made:
    """A pool of two runs with tables, and embeddings of three waves of equal power."""

    def __init__(self):
        runs, metrics = tables([[0.1, 0.5, 0.9, 1.0], [0.1, 0.1, 0.2, 0.3]])
        runs["generalisation_step"] = pd.array([1000, pd.NA], "Int64")
        self.tables = {"runs": runs}
        for table, column, cloud in head_to_head.TABLES.values():
            own = metrics[["run_id", "step"]].assign(cloud=cloud)
            frame = self.tables.setdefault(table, own)
            if cloud not in set(frame["cloud"]):
                frame = self.tables[table] = pd.concat([frame, own], ignore_index=True)
            frame.loc[frame["cloud"] == cloud, column] = len(cloud) + own["step"].to_numpy() / 1000

    def table(self, name):
        return self.tables[name]

    def sweep_of(self, run_id):
        return self

    def checkpoint(self, run_id, step):
        turns = 2 * np.pi * np.outer(np.arange(13), (1, 2, 5)) / 13
        rows = 5 + step * np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
        return {"embed": {"embedding": rows.astype(np.float32)}}


def test_quantities_are_those_of_the_tables_and_checkpoints():
    pool = Made()
    asked = head_to_head.asked(head_to_head.known(pool), 500)
    frame = head_to_head.of_embeddings(pool, asked[asked["step"] > 0])
    # The first run generalises at step 1,000, the other never; both end at 1,500.
    assert frame[["seed", "step", "remaining"]].to_numpy().tolist() == [
        [0, 500, 500], [1, 500, 500], [1, 1000, 500]
    ]  # fmt: skip
    last = frame.iloc[-1]
    assert last["effective rank"] == pytest.approx(6, abs=1e-4)
    assert last["embedding norm"] == pytest.approx(1000 * np.sqrt(13 * 3), rel=1e-5)
    for name, (_, _, cloud) in head_to_head.TABLES.items():
        assert last[name] == len(cloud) + 1
    assert set(frame["setting"]) == {"transformer, p = 23"}


# --------------------------------------------------------------------------- planted truths


def verdicts(frame, quantities, schemes=("seeds",)):
    asked = head_to_head.asked(frame, HORIZON)
    found = head_to_head.measured(asked, quantities, schemes, HORIZON)
    return head_to_head.compare(asked, found, quantities), asked, found


def test_a_planted_predictor_wins_and_noise_does_not():
    quantities = ("noise", "planted")
    table, asked, found = verdicts(simulated(), quantities, head_to_head.SCHEMES)
    for scheme in head_to_head.SCHEMES:
        own = table[table["scheme"] == scheme].set_index("quantity")
        assert own["verdict"]["planted"] == BETTER and own["verdict"]["noise"] == NEITHER
        assert own["verdict"][ALL] == BETTER
        assert own["best"]["planted"] == 100 and own["best"]["noise"] == 0
        # Its noise has an SD of 100 steps: a mean error of 80, less where the horizon cuts it.
        assert own["with_step"]["planted"] < 110
        assert own["gain"]["planted"] == pytest.approx(
            own["alone"][STEP] - own["with_step"]["planted"]
        )
        text = head_to_head.conclusion(table, scheme)
        assert "1 of 2 quantities beat the step itself" in text and "planted" in text
    # The constant is the median, by hand.
    errors = []
    for train, test in head_to_head.folds(asked, "seeds"):
        middle = asked["remaining"].iloc[train].median()
        errors.append((asked["remaining"].iloc[test] - middle).abs())
    by_seed = pd.concat(errors).groupby(asked["seed"]).mean()
    own = table.set_index(["scheme", "quantity"])["alone"]
    assert own["seeds", CONSTANT] == pytest.approx(by_seed.mean())
    figure = head_to_head.draw(table, asked, found)
    assert [axes.get_xlabel() for axes in figure.axes][:2] == ["mean error, steps"] * 2


def test_of_pure_noise_none_beats_the_step_and_it_says_so():
    # A number that is the same at all checkpoints of a run is known where the run is: a fold that
    # tore runs apart would call it the best of predictors.
    quantities = ("number of the run", "walk")
    table, _, _ = verdicts(simulated(3, every=50), quantities)
    own = table.set_index("quantity")
    assert not (own["verdict"] == BETTER).any()
    assert own["alone"]["number of the run"] > 0.9 * own["alone"][CONSTANT]
    text = head_to_head.conclusion(table, "seeds")
    assert text.endswith("no single quantity beats the step itself.")


def test_through_the_command(tmp_path, capsys, monkeypatch):
    frame = head_to_head.asked(simulated(), HORIZON)
    monkeypatch.setattr(head_to_head, "QUANTITIES", ("planted",))
    frame.to_csv(tmp_path / "checkpoints.csv", index=False)
    given = [f"--checkpoints={tmp_path / 'checkpoints.csv'}", f"--out={tmp_path}"]
    head_to_head.main([*given, f"--horizon={HORIZON}"])
    printed = capsys.readouterr().out
    assert "24 runs, 12 seeds, 2 settings" in printed and "| planted |" in printed
    for name in ("head_to_head.csv", "head_to_head.html", "head_to_head.svg"):
        assert (tmp_path / name).exists()
    table = pd.read_csv(tmp_path / "head_to_head.csv")
    assert set(table["scheme"]) == set(head_to_head.SCHEMES)
