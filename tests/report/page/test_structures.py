"""Elements of every structure on one page: cycles, groups, products of cycles, none at all."""

import itertools
import json

import numpy as np
import pytest

import grokjax
from grokjax.report import drawing, figures, page
from grokjax.report.page import payload
from grokjax.settings import labels
from tests import synthetic
from tests.report import mixed
from tests.report.packed import unpack


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed") / "w"
    return folder, mixed.make(folder)


@pytest.fixture(scope="module")
def data(made):
    return json.loads(page.as_json(payload.build(grokjax.load(made[0]))))


def details(made, data, operation):
    """Details of a task's run, and the embeddings that they are of."""
    folder, config = made
    run, sweep = mixed.run_of(config, operation), grokjax.load(folder)
    own = data["details"][run.run_id]
    rows = [sweep.checkpoint(run.run_id, step)["embed"]["embedding"] for step in own["steps"]]
    return own, np.array(rows, np.float64)


def test_a_symmetric_group_has_its_irreps_and_no_wave(made, data):
    own, rows = details(made, data, "s3")
    assert own["names"] == ["(2,1)", "(1,1,1)"] and own["even"] == [0.8, 0.2]
    assert own["elements"] == ["".join(map(str, p)) for p in itertools.permutations((1, 2, 3))]
    assert own["frequency"] == 0 and "waves" not in own and "frequencies" not in own
    sign = np.array([1, -1, -1, 1, 1, -1])  # of the permutations in lexicographic order
    whole = (rows**2).sum(axis=(1, 2)) - ((rows.sum(axis=1)) ** 2).sum(axis=1) / 6
    shares = ((sign @ rows) ** 2).sum(axis=1) / 6 / whole
    drawn = unpack(own["spectra"])
    np.testing.assert_allclose(drawn, np.stack([1 - shares, shares], axis=1), atol=1e-4)


def test_a_product_of_cycles_has_frequencies_of_each_and_no_wave(made, data):
    own, rows = details(made, data, "z2xz4")
    assert own["names"] == ["(0,1)", "(0,2)", "(1,0)", "(1,1)", "(1,2)"]
    assert own["elements"][:5] == ["(0,0)", "(0,1)", "(0,2)", "(0,3)", "(1,0)"]
    assert own["frequency"] == 0 and "waves" not in own
    power = (np.abs(np.fft.fft2(rows.reshape(-1, 2, 4, rows.shape[-1]), axes=(1, 2))) ** 2).sum(-1)
    power[:, :, 1] += power[:, :, 3]  # conjugates
    shares = power[:, :, :3].reshape(-1, 6)[:, 1:]
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(unpack(own["spectra"]), shares, atol=1e-4)
    assert own["even"] == pytest.approx([2 / 7, 1 / 7, 1 / 7, 2 / 7, 1 / 7], abs=1e-4)


def test_units_are_shown_in_the_order_of_their_cycle(made, data):
    own, rows = details(made, data, "multiply")
    powers = [pow(2, k, 11) for k in range(10)]  # 2 is the least primitive root of 11
    assert own["elements"] == [str(unit) for unit in powers]
    assert own["names"] == list("12345") and own["even"] == pytest.approx(
        [2 / 9] * 4 + [1 / 9], abs=1e-4
    )
    power = (np.abs(np.fft.rfft(rows[:, powers], axis=1)) ** 2).sum(axis=2)[:, 1:]
    power[:, -1] /= 2
    shares = power / power.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(unpack(own["spectra"]), shares, atol=1e-4)
    assert own["frequencies"] == (power[:, :4].argmax(axis=1) + 1).tolist()  # those with a plane
    assert own["frequency"] >= 1 and len(own["waves"]["data"]) == len(own["components"]["data"])


def test_elements_without_structure_have_neither_spectrum_nor_wave(made, data):
    own, _ = details(made, data, "average")
    assert own["elements"] == [str(number) for number in range(11)] and own["frequency"] == 0
    assert not {"spectra", "names", "waves", "frequencies"} & own.keys()
    assert np.isfinite(unpack(own["components"])).all()


def test_what_has_no_embedding_has_curves_and_nothing_is_missing(made, data):
    _, config = made
    ids = {run.run_id for run in config.runs if run.task.n_elements}
    assert set(data["details"]) == ids and data["notes"] == []
    of_images = data["runs"]["setting"][
        data["runs"]["run_id"].index(mixed.run_of(config, "digits").run_id)
    ]
    elements = {own["name"].split(", ")[1]: own["elements"] for own in data["settings"]}
    assert data["settings"][of_images]["elements"] == 0
    assert elements["s3"] == 6 and elements["add"] == 11


def test_a_sweep_of_images_alone_says_why_it_shows_no_embedding(tmp_path):
    config = synthetic.make(tmp_path / "w", steps=100, model=["mlp"], operation=["digits"],
                            diagnostics=(), clouds=("hidden",))  # fmt: skip
    synthetic.add_checkpoints(tmp_path / "w", config)
    data = payload.build(grokjax.load(tmp_path / "w"))
    assert data["notes"] == ["These networks have no embedding: there are curves alone."]
    assert "embedding" not in dict(drawing.draw(grokjax.load(tmp_path / "w")))


def test_settings_and_columns_are_those_that_differ(made, data):
    names = [own["name"] for own in data["settings"]]
    assert names[0] == "MLP, add, p = 11, adamw, d model 16"
    assert "MLP, s3, sgd, d model 24" in names and len(set(names)) == len(names) == 24
    runs = grokjax.load(made[0]).runs
    assert labels.settings(runs) == ["model", "operation", "prime", "optimizer", "d_model"]
    assert data["words"] == {"batch_size": {"full": 0}}
    assert {"beta1", "momentum", "batch_size", "loss"} <= set(data["columns"]) <= set(data["runs"])
    of_s3 = data["runs"]["operation"].index("s3")
    assert data["runs"]["prime"][of_s3] is None and data["runs"]["prime"][0] == 11


def test_the_command_names_every_part_and_no_empty_flag(made):
    command = payload.provenance(grokjax.load(made[0]))["command"]
    assert "--operations=add,multiply,s3,z2xz4,average,digits" in command
    assert "--optimizers=adamw,sgd" in command and "--d_model=16,24" in command
    assert "--batch_size=full" in command
    assert not [word for word in command.split() if word.endswith("=")]


def test_figures_are_of_what_there_is(made):
    drawn = dict(drawing.draw(grokjax.load(made[0])))
    assert drawn.keys() == {"accuracy", "h1_max", "h1_total", "diagrams", "embedding", "birth"}
    titles = [axes.get_title() for axes in drawn["accuracy"].axes]
    assert [title.replace("\n", " ") for title in titles] == [
        "MLP, add, p = 11", "MLP, multiply, p = 11", "MLP, s3", "MLP, z2xz4",
        "MLP, average, p = 11", "MLP, scikit-learn's 8×8 digits in MNIST's stead",
    ]  # fmt: skip
    assert len(drawn["h1_max"].axes) == 5  # no empty panel of images


def test_elements_of_no_cycle_are_not_joined_and_coloured_one_after_the_other():
    cloud = np.random.default_rng(0).normal(size=(6, 4))
    axes, bar = figures.embedding({0: cloud}, frequency=0).axes
    (points,) = axes.collections
    assert not axes.lines and points.get_array().tolist() == list(range(6))
    assert points.get_cmap().name == "cividis" and bar.get_ylabel() == "element"
    joined = figures.embedding({0: cloud}, frequency=1).axes[0]
    assert len(joined.lines) == 1 and joined.collections[0].get_cmap().name == "twilight"
