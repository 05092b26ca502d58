"""Topology as a cause: a planted effect is found, none is not, and runs that never come count."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import cause
from experiments.evidence import Folder, Pool
from tests import synthetic

ARMS = (cause.NONE, *cause.LOOPS, *cause.RANDOM)


def runs_of(shifts, n_seeds=24, never=()):
    """Runs whose arms generalise later by a shift; those of ``never``, (arm, seed), do not."""
    rng = np.random.default_rng(0)
    base = 1300 + rng.normal(0, 150, n_seeds)
    rows = []
    for name in ARMS:
        came = base + shifts.get(name, 0) + rng.normal(0, 30, n_seeds)
        came = np.array([np.nan if (name, s) in never else c for s, c in enumerate(came)])
        rows.append(
            pd.DataFrame({"arm": name, "seed": range(n_seeds), "generalisation_step": came})
        )
    return pd.concat(rows)


def verdicts(runs):
    found = cause.contrasts(runs).set_index(["arm", "beside"])
    return found["verdict"], found


def test_a_shift_beyond_that_of_random_edges_is_a_cause_and_one_as_large_is_none():
    shifts = {"longer 0.1": -200, "shorter 0.1": 300, "random 0.1": 300, "random 0.02": 0}
    verdict, found = verdicts(runs_of(shifts))
    assert verdict["longer 0.1"].tolist() == ["earlier", "earlier"]
    assert verdict["shorter 0.1"].tolist() == ["later", "no more than 100 steps apart"]
    assert set(verdict["longer 0.02"]) == {"no more than 100 steps apart"}
    row = found.loc["longer 0.1", "none"]
    assert row["low"] < -200 < row["high"] < 0
    said = cause.answer(found.reset_index())
    assert [text.endswith("the loops do it.") for text in said] == [False, True, False, False]


def test_runs_that_never_generalise_are_the_latest():
    never = {("longer 0.1", seed) for seed in range(20)}
    runs = runs_of({}, never=never)
    verdict, found = verdicts(runs)
    assert verdict["longer 0.1", "none"] == "later"
    assert found.loc[("longer 0.1", "none"), ["n", "never"]].tolist() == [24, 20]
    assert verdict["shorter 0.1", "none"] != "later"


def test_a_wide_interval_cannot_tell():
    runs = runs_of({}, n_seeds=24)
    noisy = runs["arm"] == "longer 0.1"
    runs.loc[noisy, "generalisation_step"] += np.tile([-500, 500], 12)
    assert verdicts(runs)[0]["longer 0.1", "none"] == "cannot tell"


def test_p_values_are_scipys_exact_ones_and_holms():
    runs = runs_of({"longer 0.1": -40, "shorter 0.1": 25})
    _, found = verdicts(runs)
    wide = runs.pivot(index="seed", columns="arm", values="generalisation_step")
    for (one, other), p in found["p"].items():
        expected = stats.wilcoxon(wide[one] - wide[other], method="exact").pvalue
        assert p == pytest.approx(expected, abs=0.015)
    # Holm's own example of three: 0.01 * 3, 0.02 * 2, and no less than that.
    np.testing.assert_allclose(cause.holm([0.03, 0.01, 0.02]), [0.04, 0.03, 0.04])
    np.testing.assert_array_equal(cause.holm([0.9, 0.8]), [1, 1])
    # Without any difference there is none.
    runs["generalisation_step"] = 1300.0
    assert (cause.contrasts(runs)["p"] == 1).all()


def test_tables_figure_and_page_of_a_sweep(tmp_path):
    common = {"seed": range(8), "steps": 2400, "every": 30}
    synthetic.make(tmp_path / "a", topology_weight=[0.0, 0.02, -0.02, 0.1, -0.1], **common)
    random = {"topology_weight": [0.02, 0.1], "topology_term": ["random_edges"]}
    synthetic.make(tmp_path / "b", **random, **common)
    pool = Pool([Folder(tmp_path / "a"), Folder(tmp_path / "b")])
    runs = cause.table_of_runs(pool)
    assert runs.groupby("arm").size().to_dict() == dict.fromkeys(ARMS, 8)
    own = pool.table("persistence").set_index("run_id").loc[pool.table("runs")["run_id"][0]]
    early = own[own["step"].between(210, 990)]["h1_max"].mean()
    assert early in cause.column(runs, cause.NONE, "early").to_numpy()
    cause.write(runs, tmp_path / "out")
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert made.keys() == {
        "runs.csv",
        "doses.csv",
        *(f"cause.{s}" for s in ("csv", "svg", "pdf", "html")),
    }
    assert pd.read_csv(tmp_path / "out" / "cause.csv").shape == (10, len(cause.CONTRASTS))
    # The table of runs is all that the others need.
    cause.main(["--from_runs", f"--out={tmp_path / 'out'}"])
    for name in ("runs.csv", "doses.csv", "cause.csv", "cause.html"):
        assert (tmp_path / "out" / name).read_bytes() == made[name]
