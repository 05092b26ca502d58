"""Phase diagrams: where cells lie, what they say, how they are drawn."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

import grokjax
from grokjax.report import figures, panels, phases, spacing
from tests import synthetic


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Fractions, decays and seeds; those of little data and decay never come, one run diverges."""
    folder = tmp_path_factory.mktemp("phases") / "w"

    def when(run):
        late = run.values["train_fraction"] < 0.5 and run.values["weight_decay"] < 1
        return 5 if late and run.seed != 2 else 0.2 + 0.1 * run.seed

    grid = {"train_fraction": (0.4, 0.5, 0.7), "weight_decay": (0.1, 1.0, 10.0), "seed": (1, 2, 3)}
    synthetic.make(folder, steps=1000, when=when, diverged=[26], **grid)
    return grokjax.load(folder)


def widths(found):
    return np.diff(found.cells, axis=1)[:, 0]


def test_cells_are_as_wide_as_values_are_apart():
    found = spacing.spaced([0.2, 0.3, 0.5])
    assert found.scale == "linear"
    np.testing.assert_allclose(found.cells, [(0.15, 0.25), (0.25, 0.4), (0.4, 0.6)])
    found = spacing.spaced([0.01, 0.1, 1.0, 10.0])
    assert found.scale == "log"
    np.testing.assert_allclose(found.cells, [(i - 0.5, i + 0.5) for i in (-2, -1, 0, 1)])
    # Less than a decade, or evener by difference.
    assert spacing.spaced([0.2, 0.25, 0.3, 0.4, 0.6, 0.8]).scale == "linear"
    assert spacing.spaced([10, 20, 30, 40, 50, 60, 70, 80, 90, 100]).scale == "linear"
    assert spacing.spaced([0.01, 0.03, 0.1, 0.3, 1.0]).scale == "log"


def test_what_has_no_place_on_the_axis_lies_across_a_gap():
    found = spacing.spaced([0.0, 0.1, 1.0, 10.0, None])
    assert found.scale == "log" and len(found.cells) == 5
    np.testing.assert_allclose(widths(found), 1)
    gaps = [found.cells[i + 1][0] - found.cells[i][1] for i in range(4)]
    np.testing.assert_allclose(gaps, [0.3, 0, 0, 0.3], atol=1e-12)
    for values, scale in (([2, 3, 1000], "even"), (["adam", "sgd"], "even"), ([11, None], "linear"),
                          ([False, True], "even")):  # fmt: skip
        found = spacing.spaced(values)
        assert found.scale == scale
        np.testing.assert_allclose(widths(found), 1)


def test_values_are_in_order_and_null_is_one_of_them():
    assert spacing.values(pd.Series([113, 59, None, 97])) == [59, 97, 113, None]
    assert spacing.values(pd.Series(["sgd", "adamw", "sgd"])) == ["sgd", "adamw"]
    assert spacing.in_words("prime", None) == "no prime"
    assert spacing.in_words("seed", 3) == "seed 3"


def test_cells_are_shares_steps_and_means_of_their_runs(sweep):
    runs = sweep.runs
    columns = ["weight_decay", "train_fraction"]
    share = phases.cells(sweep, columns, "generalised", "last", "mean")
    half = phases.cells(sweep, columns, "generalisation_step", "last", "mean")
    assert len(share.cells) == 9 and {n for _, n in share.cells.values()} == {3}
    for (decay, fraction), own in runs.groupby(columns):
        key = share.axes[0].index(decay), share.axes[1].index(fraction)
        steps = own["generalisation_step"].astype(float)
        assert share.cells[key][0] == pytest.approx(steps.notna().mean())
        assert half.cells[key][0] == sorted(steps.fillna(np.inf))[1]  # of three
    assert half.cells[0, 0][0] == np.inf and share.cells[0, 0][0] == pytest.approx(1 / 3)


def test_columns_of_tables_are_taken_at_the_end_or_over_windows(sweep):
    columns, key = ["weight_decay", "train_fraction"], "persistence/embedding/h1_max"
    own = sweep.persistence.merge(sweep.runs, on="run_id")
    at_end = own[own["step"] == 1000].groupby(columns)["h1_max"]
    for centre in ("mean", "median"):
        expected = getattr(at_end, centre)()  # leaves out the run that diverged, of which it is NaN
        found = phases.cells(sweep, columns, key, "last", centre)
        for (i, j), (value, _) in found.cells.items():
            assert value == pytest.approx(expected[found.axes[0][i], found.axes[1][j]])
    before, after, ratio = (
        phases.cells(sweep, [*columns, "seed"], key, when, "mean").cells
        for when in ("before", "after", "ratio")
    )
    for place, (value, _) in ratio.items():
        np.testing.assert_allclose(value, after[place][0] / before[place][0], rtol=1e-9)
    loss = sweep.metrics.merge(sweep.runs, on="run_id").query("step == 1000").groupby(columns)
    expected = loss["test_loss"].apply(lambda own: np.exp(np.log(own.dropna()).mean()))
    found = phases.cells(sweep, columns, "metrics/test_loss", "last", "mean")
    assert found.scale == "log" and found.title.startswith("geometric mean of test loss")
    for (i, j), (value, _) in found.cells.items():
        assert value == pytest.approx(expected[found.axes[0][i], found.axes[1][j]])


def test_the_figure_has_a_panel_a_value_and_a_rectangle_a_cell(sweep, tmp_path):
    wanted = {"x": "weight_decay", "y": "train_fraction", "value": "generalisation_step"}
    figure = figures.phase_diagram(sweep, **wanted, over="seed")
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["seed 1", "seed 2", "seed 3"]
    assert figure.get_suptitle() == "1 run a cell" and "hatched" in bar.get_ylabel()
    for axes, n_never in zip(panels, (1, 0, 1 + 1), strict=True):  # one diverged
        cells = [own for own in axes.patches if isinstance(own, Rectangle)]
        assert len(cells) == 9 and sum(bool(own.get_hatch()) for own in cells) == n_never
        assert [own.get_text() for own in axes.get_xticklabels()] == ["0.1", "1", "10"]
        np.testing.assert_allclose(axes.get_xticks(), [-1, 0, 1])
        np.testing.assert_allclose(axes.get_yticks(), [0.4, 0.5, 0.7], atol=0.06)
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        figures.save(figures.phase_diagram(sweep, **wanted, over="seed"), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"x": "decay"}, "axis is 'decay'; it must be one of .*weight_decay"),
        ({"over": "status"}, "axis is 'status'"),
        ({"value": "h1_max"}, "value is 'h1_max'; it must be one of generalised, .*h1_max"),
        ({"when": "later"}, "when is 'later'; it must be one of last, before, after, ratio"),
        ({"centre": "mode"}, "centre is 'mode'"),
    ],
)
def test_what_there_is_none_of_is_refused(sweep, more, message):
    with pytest.raises(ValueError, match=message):
        figures.phase_diagram(sweep, **{"x": "weight_decay", "y": "train_fraction"} | more)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.06, "0.06"), (1.234, "1.2"), (96, "96"), (960, "960"), (1080, "1.08k"), (60_000, "60k")],
)
def test_numbers_in_cells_are_short_and_never_powers_of_ten(value, text):
    assert panels.short_number(value) == text
