"""The phase diagram: cells of known runs, and tests that say yes, no and nothing as they should."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import phase
from tests import synthetic

FRACTIONS = np.linspace(0.3, 0.8, 6)
DECAYS = 0.5 * 10 ** (np.arange(0, 6) / 5)
SEEDS = range(200, 205)
STEPS = np.arange(0, 2401, 120)


class Made:
    """Tables as a pool gives them."""

    def __init__(self, **tables):
        self.tables = tables

    def table(self, name):
        return self.tables[name]


def joined(frames):
    return pd.concat(frames, ignore_index=True)


def made(grown=1.0, else_grown=1.0, noise=0.1):
    """Runs of a grid that generalise beyond a line, whose H1 max grows by these factors.

    The line is blurred by half a cell, so that some cells are mixed.
    """
    rng = np.random.default_rng(0)
    runs, metrics, persistence = [], [], []
    for (i, f), (j, d), seed in itertools.product(enumerate(FRACTIONS), enumerate(DECAYS), SEEDS):
        came = i + j + rng.normal(0, 0.7) > 4.5
        step = int(600 + 120 * (10 - i - j)) if came else None
        run = {"run_id": f"{f:g}-{d:g}-{seed}", "model": "transformer", "operation": "add"}
        run |= {"prime": 31, "train_fraction": f, "weight_decay": d, "seed": seed}
        runs.append(run | {"memorisation_step": 120, "generalisation_step": step})
        accuracy = came * (STEPS - (step or 0) >= 0)
        h1 = 0.1 * np.exp(rng.normal(0, 0.1) + np.zeros(len(STEPS)))
        h1[STEPS >= 1800] *= (grown if came else else_grown) * np.exp(rng.normal(0, noise))
        own = pd.DataFrame({"run_id": run["run_id"], "step": STEPS})
        metrics.append(own.assign(test_accuracy=accuracy.astype(float)))
        persistence.append(own.assign(cloud="embedding", h1_max=h1))
    table = pd.DataFrame(runs).assign(status="done")
    table["generalisation_step"] = table["generalisation_step"].astype("Int64")
    return Made(runs=table, metrics=joined(metrics), persistence=joined(persistence))


# --------------------------------------------------------------------------- cells


def test_cells_are_what_was_planted():
    pool = made(grown=2, else_grown=1.2, noise=0)
    runs = pool.tables["runs"]
    ended = runs.index[-1]  # came, and diverged then: it counts as a run, and has no ratio
    runs.loc[ended, "status"] = "diverged"
    first = pool.tables["metrics"]["run_id"] == runs["run_id"][ended]
    late = first & (pool.tables["metrics"]["step"] >= 2160)
    pool.tables["metrics"].loc[late, "test_accuracy"] = 0.5
    frame = phase.cells(phase.measured(pool))
    assert len(frame) == 36 and (frame["n"] == 5).all()
    came = runs.groupby(["train_fraction", "weight_decay"])["generalisation_step"]
    np.testing.assert_array_equal(frame["generalised"], came.count())
    assert frame["ratio_generalised"].dropna().round(9).unique() == [2]
    assert frame["ratio_not"].dropna().round(9).unique() == [1.2]
    last, none = frame.iloc[-1], frame.iloc[0]
    assert last["generalised"] == 5 and last["n_generalised"] == 4
    # One of five runs is below 0.9 at three of the checkpoints after step 600.
    assert last["fallen"] == pytest.approx(3 / (len(STEPS) - 6) / 5)
    assert last["step"] == 600 and np.isnan(none["step"]) and np.isnan(none["ratio_generalised"])
    # Wilson (1927) in closed form, for 0 of 5.
    z = stats.norm.isf(0.025) ** 2
    assert (none["share_low"], none["share_high"]) == (0, pytest.approx(z / (5 + z)))
    # Half of five is three.
    three = frame[frame["generalised"] == 2].iloc[0]
    assert np.isnan(three["step"])


def test_runs_of_two_sweeps_and_runs_at_work():
    pool = made()
    pool.tables["runs"].loc[0, "status"] = "running"
    frame = phase.cells(phase.measured(pool))
    assert frame["n"].tolist() == [4] + [5] * 35
    pool.tables["runs"].loc[0, ["status", "seed"]] = "done", 201
    with pytest.raises(ValueError, match="seed, train_fraction, weight_decay"):
        phase.measured(pool)


# --------------------------------------------------------------------------- the three questions


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [((1.5, 1.0), "larger"), ((1.0, 1.5), "smaller"), ((1.2, 1.2), "cannot tell")],
)
def test_a_planted_difference_is_found_and_none_is_not(factors, verdict):
    output, tests = phase.output(made(*factors))
    assert tests["verdict"].tolist()[:2] == [verdict, verdict]
    assert tests["verdict"][2] == "cannot tell"  # decay changes nothing among those that came
    row = tests.iloc[0]
    assert row["least"] <= row["share"] <= row["most"] and row["seeds"] == 5
    assert f"of {row['pairs']:,} pairs of {row['runs']} runs, 5 seeds" in output.page
    titles = [axes.get_title() for axes in output.figure.axes if axes.get_title()]
    assert len(titles) == 4


def test_a_drift_that_all_runs_share_is_no_difference():
    """Runs that generalise early would have the larger ratio if each had windows of its own."""
    pool = made()
    rows = pool.tables["persistence"]
    rows["h1_max"] = 0.1 + rows["step"] / 1000
    assert phase.asked(phase.measured(pool), 9)["share"].tolist()[:2] == [0.5, 0.5]


def test_decay_among_runs_that_generalise():
    pool = made()
    rows = pool.tables["persistence"]
    decay = rows["run_id"].str.split("-").str[1].astype(float)
    rows.loc[rows["step"] >= 1800, "h1_max"] *= decay.pow(0.3)
    row = phase.asked(phase.measured(pool), 999).iloc[2]
    assert row["verdict"] == "larger" and row["share"] > 0.8


def test_concordance_is_mann_and_whitneys_and_counts_by_hand():
    rng = np.random.default_rng(1)
    values, scores = rng.normal(size=(1, 7, 1)), np.array([0, 0, 0, 1, 1, 1, 1.0])[None, :, None]
    found = phase.concordance(values, scores)
    x, y = values[0, 3:, 0], values[0, :3, 0]
    expected = stats.mannwhitneyu(x, y, method="exact")
    assert found.share == pytest.approx(expected.statistic / 12)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.n_pairs, found.n_runs) == (12, 7)
    # Several blocks and columns, ties and values that are not there.
    values, scores = rng.integers(0, 4, (2, 2, 5, 3)).astype(float)
    values[0, 1, 2] = scores[1, 3, 0] = np.nan
    won, pairs, runs = 0.0, 0, set()
    for b, m, i, j in itertools.product(range(2), range(3), range(5), range(5)):
        gap = values[b, i, m] - values[b, j, m]
        if scores[b, i, m] > scores[b, j, m] and np.isfinite(gap):
            won, pairs = won + (gap > 0) + (gap == 0) / 2, pairs + 1
            runs |= {(b, i, m), (b, j, m)}
    found = phase.concordance(values, scores, 99)
    assert (found.n_pairs, found.n_runs) == (pairs, len(runs))
    assert found.share == pytest.approx(won / pairs)


def test_the_order_of_two_units_is_a_matter_of_chance():
    """Of two blocks with two units each, both right: p is a half, as by hand."""
    values = np.array([[[0.0], [1]], [[0], [1]]])
    assert phase.concordance(values, values, 9999).p_value == pytest.approx(0.5, abs=0.02)
    none = phase.concordance(values, np.zeros_like(values), 9)
    assert np.isnan(none.p_value) and np.isnan(none.share) and none.n_pairs == 0


def simulated(rng, effect=0.0):
    """Log ratios and outcomes, (seeds, fractions, decays), that share seeds and splits.

    Whatever a seed's weights and a cell's split do to H1, they do at every decay. Outcomes are
    those of a line, some way off for each seed.
    """
    shape = (5, 8, 8)
    line = np.add.outer(np.arange(8), np.arange(8)) - 6.5
    came = line + rng.normal(0, 0.7, (5, 1, 1)) + rng.normal(0, 0.7, shape) > 0
    common = rng.normal(size=(5, 1, 1)) + rng.normal(size=(5, 8, 1)) + rng.normal(size=(5, 1, 8))
    return common + rng.normal(0, 0.5, shape) + effect * came, came.astype(float)


def rate(asked, effect, n=200, level=0.05):
    """Of simulated sweeps, how many p-values are at or below the level."""
    rng = np.random.default_rng(7)
    ps = [asked(*simulated(rng, effect)) for _ in range(n)]
    return sum(p <= level for p in ps)


def of_decays(values, came):
    return phase.concordance(values, came, 199).p_value


def of_cells(values, came):
    return phase.concordance(values.reshape(1, 5, -1), came.reshape(1, 5, -1), 199).p_value


def of_rises(values, came):
    values = np.where(came == 1, values, np.nan).swapaxes(1, 2)
    decays = np.broadcast_to(np.arange(8)[:, None], values.shape)
    return phase.concordance(values, decays, 199).p_value


@pytest.mark.parametrize("asked", [of_decays, of_cells, of_rises])
def test_levels_are_kept_where_runs_share_seeds_and_splits(asked):
    assert rate(asked, 0) <= stats.binom.isf(0.005, 200, 0.05)


def test_runs_taken_as_independent_would_be_called_different():
    """Why whole fractions are exchanged: each run by itself is not what is random here."""

    def naive(values, came):
        apart = (values.swapaxes(1, 2).reshape(40, 8, 1), came.swapaxes(1, 2).reshape(40, 8, 1))
        return phase.concordance(*apart, 199).p_value

    assert rate(naive, 0, 40) >= 10


def test_power():
    """Of an effect as large as what seeds, splits and decays each do; seeds alone see thrice it."""
    assert rate(of_decays, 1.0, 50) >= 40
    assert rate(of_cells, 3.0, 50) >= 40


# --------------------------------------------------------------------------- the command


def test_tables_figure_and_page_of_a_sweep(tmp_path, capsys):
    axes = {"train_fraction": [0.4, 0.6], "weight_decay": [0.5, 5.0], "seed": [1, 2]}
    late = {0.4: 2.0, 0.6: 0.5}
    synthetic.make(tmp_path / "w", when=lambda run: late[run.task.train_fraction], **axes)
    phase.main([f"--workdirs={tmp_path / 'w'}", f"--out={tmp_path / 'out'}"])
    out = tmp_path / "out"
    names = {"phase.csv", "phase.svg", "phase.pdf", "phase.html", "phase_tests.csv"}
    assert {path.name for path in out.iterdir()} == names
    frame = pd.read_csv(out / "phase.csv")
    assert list(frame) == list(phase.HEADINGS)
    assert frame.groupby("train_fraction")["share"].mean().tolist() == [0, 1]
    said = capsys.readouterr().out
    assert "4 of 8 runs generalise, of 4 cells and 2 seeds." in said
    assert "same fraction and decay: there are no such pairs." in said
