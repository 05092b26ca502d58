import itertools
import pathlib

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.text import Text

from grokjax.diagnostics import persistence
from grokjax.report import figures

STEPS = [0, 500, 1000, 1500]


def tables(values, status="done", **axes):
    """Tables of runs and metrics: seeds' values of test accuracy, for each setting of the axes."""
    base = {
        "model": ["transformer"],
        "operation": ["add"],
        "prime": [23],
        "train_fraction": [0.5],
        "label_permutation": [0.0],
        "weight_decay": [1.0],
        "learning_rate": [0.003],
        "init_scale": [1.0],
    }
    runs, rows = [], []
    for point in itertools.product(*(base | axes).values()):
        for seed, own in enumerate(values):
            run_id = f"{point}-{seed}"
            spec = dict(zip(base, point, strict=True))
            runs.append({"run_id": run_id, **spec, "seed": seed, "status": status})
            rows += [
                {"run_id": run_id, "step": step, "test_accuracy": value, "train_accuracy": 1.0}
                for step, value in zip(STEPS, own, strict=False)
            ]
    return pd.DataFrame(runs), pd.DataFrame(rows)


def thick(axes):
    """The lines of means."""
    return [line for line in axes.lines if line.get_linewidth() > 1 and line.get_marker() != "x"]


def thin(axes):
    """The lines of runs."""
    return [line for line in axes.lines if line.get_linewidth() < 1 and line.get_marker() != "x"]


def one_column(runs, table):
    return figures.curves(runs, table, ["test_accuracy"], ylabel="accuracy")


# --------------------------------------------------------------------------- curves


def test_the_mean_and_one_sample_deviation_of_the_seeds_are_drawn():
    values = [[0, 0.2, 0.6, 1], [0, 0.4, 0.8, 1], [0, 0.6, 1.0, 1]]
    (axes,) = one_column(*tables(values)).axes
    (mean,) = thick(axes)
    np.testing.assert_allclose(mean.get_xydata().T, [STEPS, np.mean(values, axis=0)])
    (band,) = (item for item in axes.collections if isinstance(item, PolyCollection))
    at = band.get_paths()[0].vertices
    spread = np.std(values, axis=0, ddof=1)
    for i in (1, 2):
        own = at[at[:, 0] == STEPS[i], 1]
        mid = np.mean(values, axis=0)[i]
        np.testing.assert_allclose([own.min(), own.max()], [mid - spread[i], mid + spread[i]])
    np.testing.assert_allclose([line.get_ydata() for line in thin(axes)], values)


def test_a_single_run_has_no_band():
    (axes,) = one_column(*tables([[0, 0.2, 0.6, 1]])).axes
    assert len(thick(axes)) == 1 and not axes.collections


def test_runs_that_ended_early_are_drawn_to_a_cross_and_not_averaged():
    runs, table = tables([[0, 0.2, 0.6, 1], [0, 0.8, np.nan, np.nan]])
    runs.loc[1, "status"] = "diverged"
    figure = one_column(runs, table)
    (axes,) = figure.axes
    np.testing.assert_allclose(thick(axes)[0].get_ydata(), [0, 0.2, 0.6, 1])
    assert [len(line.get_xdata()) for line in thin(axes)] == [4, 2]
    (cross,) = (line for line in axes.lines if line.get_marker() == "x")
    assert cross.get_xydata().tolist() == [[500, 0.8]]
    (legend,) = figure.legends
    assert "not in the mean" in legend.get_texts()[-1].get_text()


def test_where_all_diverged_or_nothing_has_come_the_panel_is_empty():
    runs, table = tables([[0, np.nan], [np.nan, np.nan]], status="diverged")
    (axes,) = one_column(runs, table).axes
    assert not thick(axes)
    (axes,) = one_column(runs.assign(status="running"), table[:0]).axes
    assert not axes.lines


def test_a_sweep_in_progress_averages_the_runs_that_have_come_so_far():
    (axes,) = one_column(*tables([[0, 0.2, 0.6, 1], [0, 0.4]], status="running")).axes
    np.testing.assert_allclose(thick(axes)[0].get_ydata(), [0, 0.3, 0.6, 1])


def test_infinite_values_are_left_out():
    (axes,) = one_column(*tables([[0, np.inf, 0.6, 1], [0, 0.4, 0.6, 1]])).axes
    np.testing.assert_allclose(thick(axes)[0].get_ydata(), [0, 0.4, 0.6, 1])


def test_panels_are_models_and_primes_and_colours_what_else_differs():
    axes = {"model": ["transformer", "mlp"], "prime": [23, 29], "train_fraction": [0.3, 0.5]}
    figure = one_column(*tables([[0, 1, 1, 1]], **axes))
    titles = [own.get_title() for own in figure.axes]
    assert titles == [f"{m}, p = {p}" for m in ("transformer", "MLP") for p in (23, 29)]
    by_colour = [[line.get_color() for line in thick(own)] for own in figure.axes]
    assert by_colour == [list(figures.panels.PALETTE[:2])] * 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["α = 0.3", "α = 0.5"]


def test_train_and_test_differ_by_dash():
    figure = figures.accuracy(*tables([[0, 0, 0, 1]]))
    styles = {line.get_linestyle() for line in thick(figure.axes[0])}
    assert len(styles) == 2
    assert figure.axes[0].get_ylim() == (-0.03, 1.03)


def test_more_than_can_be_drawn_is_said():
    primes = [p for p in range(3, 100) if all(p % d for d in range(2, p))]
    figure = one_column(*tables([[0, 1]] * 10, prime=primes))
    assert len(figure.axes) == figures.MOST_PANELS
    text = figure.get_suptitle()
    assert f"the first 12 of {len(primes)} panels" in text and "means of 240 runs" in text
    assert not thin(figure.axes[0]) and thick(figure.axes[0])


@pytest.mark.parametrize("columns", [[], ["nonsense"], ["test_accuracy"] * 5])
def test_columns_that_cannot_be_drawn_are_refused(columns):
    with pytest.raises(ValueError, match="columns are"):
        figures.curves(*tables([[0, 1]]), columns, ylabel="")


def test_no_runs_and_unknown_clouds_are_refused():
    runs, table = tables([[0, 1]])
    with pytest.raises(ValueError, match="empty"):
        figures.accuracy(runs[:0], table)
    with pytest.raises(ValueError, match=r"'layer9'.*embedding"):
        figures.topology(runs, table.assign(cloud="embedding", h1_max=0.1), cloud="layer9")


def test_topology_draws_the_cloud_asked_for():
    runs, table = tables([[0, 1, 2, 3]])
    table["h1_total"] = table["test_accuracy"]
    both = pd.concat([table.assign(cloud="embedding"), table.assign(cloud="layer1", h1_total=9)])
    figure = figures.topology(runs, both, "h1_total")
    np.testing.assert_allclose(thick(figure.axes[0])[0].get_ydata(), [0, 1, 2, 3])
    assert figure.axes[0].get_ylabel() == "H1 total (embedding)"


# --------------------------------------------------------------------------- one run


def ring(n=23, k=5):
    angle = 2 * np.pi * k * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


def test_diagrams_share_axes_that_hold_every_bar():
    noise = np.random.default_rng(0).normal(size=(23, 3))
    diagrams = {0: persistence.diagrams(noise), 500: persistence.diagrams(ring())}
    figure = figures.persistence_diagrams(diagrams)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    low, high = figure.axes[0].get_xlim()
    for axes, degrees in zip(figure.axes, diagrams.values(), strict=True):
        ticks, points = axes.collections
        np.testing.assert_array_equal(points.get_offsets(), degrees[1])
        deaths = degrees[0][np.isfinite(degrees[0][:, 1]), 1]
        drawn = [path.vertices[0, 1] for path in ticks.get_paths()]
        np.testing.assert_array_equal(np.sort(drawn), np.sort(deaths))
        assert ((deaths > low) & (deaths < high)).all()
        assert ((degrees[1] > low) & (degrees[1] < high)).all()
        assert [line.get_marker() for line in axes.lines].count("^") == 1  # never dies


def test_diagrams_without_bars_say_so():
    figure = figures.persistence_diagrams({0: [np.zeros((0, 2))] * 2})
    assert "not finite" in [text.get_text() for text in figure.axes[0].texts]
    with pytest.raises(ValueError, match="at least one step"):
        figures.persistence_diagrams({})


def test_neighbours_along_the_wave_are_joined_and_coloured_in_turn():
    figure = figures.embedding({500: ring()}, frequency=5)
    axes = figure.axes[0]
    (line,) = axes.lines
    edges = np.linalg.norm(np.diff(line.get_xydata(), axis=0), axis=1)
    assert len(edges) == 23  # closed
    np.testing.assert_allclose(edges, 2 * np.sin(np.pi / 23))
    (points,) = axes.collections
    assert points.get_array().tolist() == [5 * r % 23 for r in range(23)]
    assert axes.get_xlabel() == "100% of variance"


def test_clouds_that_are_not_finite_leave_their_panel_empty():
    figure = figures.embedding({0: ring(), 500: ring() * np.nan, 1000: ring()})
    assert [len(axes.lines) for axes in figure.axes[:3]] == [1, 0, 1]
    with pytest.raises(ValueError, match="at least one step"):
        figures.embedding({})


def birth():
    curve = pd.DataFrame({"step": STEPS, "test_accuracy": [0, 0, 1, 1], "h1_max": [1, 1, 2, 3]})
    clouds = {step: ring() for step in (0, 1500)}
    diagrams = {step: persistence.diagrams(cloud) for step, cloud in clouds.items()}
    return curve, clouds, diagrams


def test_crocker_draws_a_matrix_a_degree():
    scales, steps = [0.0, 0.5, 1.0], [0, 100, 300]
    table = pd.DataFrame(
        [
            (name, step, "embedding", degree, scale, float(degree + step / 100 + i))
            for name in ("a", "b") for step in steps for degree in (0, 1)
            for i, scale in enumerate(scales)
        ],
        columns=["run_id", "step", "cloud", "degree", "scale", "betti"],
    )  # fmt: skip
    table.loc[(table["step"] == 300) & (table["scale"] == 1.0), "betti"] = np.nan
    figure = figures.crocker(table, "b", mark=100)
    for degree, axes in enumerate(figure.axes[:2]):
        values = axes.collections[0].get_array()
        expected = np.add.outer([0, 1, 2], [0, 1, 3]) + degree
        np.testing.assert_array_equal(values.filled(-1)[:2], expected[:2])
        assert values.mask[2].tolist() == [False, False, True]
        assert axes.lines[0].get_xdata() == [100, 100]
    with pytest.raises(ValueError, match="no rows of cloud 'layer1' of run a"):
        figures.crocker(table, "a", cloud="layer1")


def test_birth_marks_its_steps_on_the_curves():
    figure = figures.birth(*birth(), frequency=5, title="a run")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles.count("step 0") == titles.count("step 1,500") == 1
    above = next(axes for axes in figure.axes if axes.get_ylabel() == "test accuracy")
    assert [line.get_xdata()[0] for line in above.lines[:2]] == [0, 1500]
    curve, clouds, diagrams = birth()
    with pytest.raises(ValueError, match="steps"):
        figures.birth(curve, clouds, {0: diagrams[0]})


# --------------------------------------------------------------------------- for print


def every_figure(width):
    axes = {"prime": [23, 29, 31, 37], "train_fraction": [0.3, 0.5], "label_permutation": [0, 0.1]}
    curve, clouds, diagrams = birth()
    yield figures.accuracy(*tables([[0, 0, 0, 1], [0, 0, 1, 1]], **axes), width=width)
    yield figures.persistence_diagrams(diagrams, width=width)
    yield figures.embedding(clouds, frequency=5, width=width)
    yield figures.birth(curve, clouds, diagrams, width=width)


@pytest.mark.parametrize("width", [figures.COLUMN, figures.PAGE])
def test_type_survives_printing_and_legends_overlap_nothing(width):
    for figure in every_figure(width):
        assert figure.get_figwidth() == width
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # lays it out
        renderer = canvas.get_renderer()
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
        assert min(sizes) >= 7
        panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
        for legend in figure.legends:
            box = legend.get_window_extent(renderer)
            assert not any(box.overlaps(panel) for panel in panels)
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_the_same_figure_gives_the_same_bytes_whatever_the_callers_settings(tmp_path, suffix):
    written = []
    for i, size in enumerate((10, 30)):
        with mpl.rc_context({"font.size": size, "lines.linewidth": size, "svg.hashsalt": str(i)}):
            figure = figures.birth(*birth())
            figures.save(figure, tmp_path / f"{i}.{suffix}")
            assert mpl.rcParams["font.size"] == size
        written.append((tmp_path / f"{i}.{suffix}").read_bytes())
    assert written[0] == written[1]


def test_pyplot_and_its_global_state_are_not_used():
    package = pathlib.Path(figures.__file__).parent
    assert not any("pyplot" in path.read_text() for path in package.rglob("*.py"))


def test_colours_are_okabe_and_itos():
    # Okabe and Ito (2008), "Color universal design", without yellow.
    published = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"]
    assert sorted(figures.panels.PALETTE) == sorted(published)
    many = figures.panels.colours(20)
    luminance = [np.dot(mpl.colors.to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in many]
    assert len(set(many)) == 20 and luminance == sorted(luminance)


# --------------------------------------------------------------------------- interventions


def test_an_intervention_is_drawn_beside_what_was_and_random_ones():
    runs, metrics = tables([[0.1, 0.5, 0.9, 1.0], [0.1, 0.4, 0.8, 1.0]])
    rows = []
    which = itertools.product(["wave1", "loop"], ["train", "test"])
    for place, (subspace, pairs) in enumerate(which):
        own = metrics.rename(columns={"test_accuracy": "accuracy_before"})
        own = own.assign(accuracy=0.1 * place, random_accuracy=0.1 * place + 0.05)
        rows.append(own.assign(subspace=subspace, intervention="removed", pairs=pairs))
    table = pd.concat(rows, ignore_index=True)
    (axes,) = figures.ablation(runs, table, subspace="loop").axes
    before, after, random = thick(axes)
    np.testing.assert_allclose(before.get_ydata(), [0.1, 0.45, 0.85, 1.0])
    np.testing.assert_allclose(after.get_ydata(), 0.3)
    np.testing.assert_allclose(random.get_ydata(), 0.35)
    with pytest.raises(ValueError, match="no rows of wave1 kept on test pairs"):
        figures.ablation(runs, table, intervention="kept")
