"""Images: the IDX reader, and the control's training against a plain reference."""

import gzip
import math
import struct
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokjax.train import Program
from hypothesis import given, settings
from hypothesis import strategies as st

import grokjax
from grokjax import analyze, models, sweep, tasks, train
from grokjax.models import Model
from grokjax.settings import grid
from grokjax.settings.fields import InvalidSettingError, ModelConfig, RunSpec
from grokjax.tasks import datasets
from grokjax.tasks.datasets import DatasetError, read_idx
from tests.programs import call

SHAPE = (5, 2, 3)
VALUES = np.arange(30, dtype=np.uint8).reshape(SHAPE)


def idx(values, *, kind=8, shape=None):
    """The bytes of an IDX file."""
    shape = values.shape if shape is None else shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + values.tobytes()


# --------------------------------------------------------------------------- the reader


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("n_first", [0, 2, 5])
def test_it_reads_the_first_entries(tmp_path, pack, n_first):
    path = tmp_path / "images"
    path.write_bytes(pack(idx(VALUES)))
    assert np.array_equal(read_idx(path, SHAPE, n_first), VALUES[:n_first])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it begins with nothing"),
        (idx(VALUES, kind=9), "it begins with 00 00 09 03, expected 00 00 08 03"),
        (idx(VALUES, shape=(5, 6)), "it begins with 00 00 08 02"),
        (idx(VALUES, shape=(5, 3, 2)), r"has axes \(5, 3, 2\), expected \(5, 2, 3\)"),
        (idx(VALUES)[:9], r"has axes \(5,\), expected"),
        (idx(VALUES)[:-1], "ends early"),
        (idx(VALUES) + b"x", "goes on after its values"),
        (gzip.compress(idx(VALUES), mtime=0)[:-9], "cannot be read"),
        (gzip.compress(idx(VALUES), mtime=0)[:12] + b"\xff" * 30, "begins with|cannot be read"),
        (b"\x1f\x8b", "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_idx(path, SHAPE, 5)
    assert str(path) in str(caught.value)


def test_neither_a_large_header_nor_a_bomb_takes_memory(tmp_path):
    huge, bomb = tmp_path / "huge", tmp_path / "bomb"
    huge.write_bytes(idx(VALUES, shape=(2**31, 2**15, 2**15)))
    bomb.write_bytes(gzip.compress(idx(VALUES) + bytes(50_000_000)))
    tracemalloc.start()
    for path in (huge, bomb):
        with pytest.raises(DatasetError):
            read_idx(path, SHAPE, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60), st.booleans())
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory, noise, at, zipped):
    good = idx(VALUES)
    content = good[:at] + noise + good[at + len(noise) :]
    path = tmp_path_factory.mktemp("fuzz") / "images"
    path.write_bytes(gzip.compress(content) if zipped else content)
    try:
        values = read_idx(path, SHAPE, 5)
    except DatasetError:
        assert content[:16] != good[:16] or len(content) != len(good)
    else:
        assert content[:16] == good[:16]
        assert values.tobytes() == content[16:]


# --------------------------------------------------------------------------- the sets


@pytest.fixture
def folder(monkeypatch):
    """No folder was named in this process, and none is when the test is over."""
    monkeypatch.setattr(datasets, "_folder", None)


def write_mnist(path, *, label=3):
    """Four files of MNIST's shapes, all gzipped but one."""
    path.mkdir()
    for name, shape in datasets._FILES.values():
        values = np.zeros(shape, np.uint8)
        values.reshape(shape[0], -1)[:, 0] = np.arange(shape[0]) % 7 if len(shape) > 1 else label
        packed = idx(values) if len(shape) == 1 else gzip.compress(idx(values), 1)
        (path / (name if len(shape) == 1 else f"{name}.gz")).write_bytes(packed)


def test_mnist_is_the_first_training_images_and_all_test_images(tmp_path):
    write_mnist(tmp_path / "m")
    images = datasets.read_mnist(tmp_path / "m")
    assert images.pixels.shape == (11_000, 784)
    expected = np.concatenate([np.arange(1000) % 7, np.arange(10_000) % 7])
    assert np.array_equal(images.pixels[:, 0], expected)
    assert set(images.labels.tolist()) == {3}


def test_a_label_that_is_no_digit_is_refused(tmp_path):
    write_mnist(tmp_path / "m", label=10)
    with pytest.raises(DatasetError, match="a label 10"):
        datasets.read_mnist(tmp_path / "m")


def test_absent_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no train-images-idx3-ubyte or .*\.gz") as caught:
        datasets.read_mnist(tmp_path)
    assert all(name in str(caught.value) for name, _ in datasets._FILES.values())


def test_one_folder_a_process(folder, tmp_path):
    datasets.use(str(tmp_path))
    datasets.recall("/elsewhere")
    datasets.use(str(tmp_path))
    with pytest.raises(DatasetError, match="another process"):
        datasets.use("/elsewhere")


# --------------------------------------------------------------------------- the engine


def spec(**values):
    fixed = {"model": "digits_mlp", "operation": "digits", "prime": 10,
             "train_fraction": 1000 / 1797, "label_permutation": 0.0, "weight_decay": 0.01,
             "learning_rate": 1e-3, "init_scale": 1.0, "seed": 46}  # fmt: skip
    return RunSpec(**fixed | values)


def program():
    config = ModelConfig(model="digits_mlp", mlp_width=12, mlp_depth=2, activation="relu")
    return Program(model=Model(config=config, n_tokens=10), batch_size=200, precision="float32")


def plain_outputs(params, pixels):
    """The network as in a textbook."""
    state = pixels
    for i in ("0", "1"):
        layer = params["hidden"][i]
        state = jnp.maximum(state @ layer["kernel"] + layer["bias"][None], 0)
    return state @ params["unembed"]["kernel"] + params["unembed"]["bias"][None]


def test_loss_gradient_and_steps_equal_a_plain_reference():
    run, prog, mesh = spec(), program(), train.runs_mesh(1)
    data = train.place(mesh, tasks.stack([run]))
    state = train.init(prog, mesh, data)
    params = jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.params))
    own = jax.tree.map(lambda leaf: leaf[0], data)
    order = np.asarray(train.training_order(own, jnp.int32(0), 5, 200))
    assert sorted(order.ravel().tolist()) == list(range(1000))  # five batches are an epoch
    _, losses = train.train_chunk(prog, mesh, 5, state, data, 0)
    images = datasets.load("digits")
    labels, pixels = jnp.asarray(images.labels), jnp.asarray(images.pixels, jnp.float32) / 16
    first = second = jax.tree.map(np.zeros_like, params)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(params, chosen):
        target = jnp.eye(10)[labels[chosen]]
        outputs = plain_outputs(params, pixels[chosen])
        return ((outputs - target) ** 2).mean()

    with jax.default_matmul_precision("highest"):
        for t in range(1, 6):
            value, gradient = jax.device_get(loss_and_gradient(params, order[t - 1]))
            np.testing.assert_allclose(losses[0, t - 1], value, rtol=1e-5)
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)

            def update(p, m, v, t=t):
                step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
                return p - 1e-3 * (step + 0.01 * p)

            params = jax.tree.map(update, params, first, second)


def test_evaluation_counts_train_and_test_images_and_no_novel_pair():
    prog, mesh = program(), train.runs_mesh(1)
    data = train.place(mesh, tasks.stack([spec(), spec(seed=47)]))
    params = jax.device_get(train.init(prog, mesh, data).params)
    found = jax.device_get(train.evaluate(prog, mesh, params, data))
    assert found.count.tolist() == [[1000, 797, 0]] * 2
    images = datasets.load("digits")
    for i in range(2):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], params)
        outputs = np.asarray(plain_outputs(own, images.pixels.astype(np.float32) / 16))
        right = outputs.argmax(1) == images.labels
        errors = ((outputs - np.eye(10)[images.labels]) ** 2).mean(1)
        assert found.right[i].tolist() == [right[:1000].sum(), right[1000:].sum(), 0]
        np.testing.assert_allclose(
            found.loss[i], [errors[:1000].sum(), errors[1000:].sum(), 0], rtol=1e-4
        )
    assert np.isnan(train.metrics(found)["novel_accuracy"]).all()


def test_the_init_scale_multiplies_biases_too():
    model = program().model
    one, eight = (model.init(jax.random.key(0), 10, scale) for scale in (1.0, 8.0))
    for small, large in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(large, 8 * np.asarray(small), rtol=1e-6)
    bound = 1 / math.sqrt(64)
    kernel = np.asarray(one["hidden"]["0"]["kernel"])
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert np.abs(np.asarray(one["hidden"]["0"]["bias"])).max() <= bound


def test_permuted_labels_are_training_labels_and_padding_is_in_no_mask():
    task = tasks.make_task(spec(label_permutation=1.0))
    changed = task.labels.ravel() != task.true_labels.ravel()
    assert changed[:1000].mean() > 0.8
    assert not changed[1000:].any()
    assert sorted(task.labels.ravel()[:1000]) == sorted(task.true_labels.ravel()[:1000])
    assert (task.train_mask.sum(), task.test_mask.sum(), task.novel_mask.sum()) == (1000, 797, 0)


@pytest.mark.parametrize(
    ("model", "operation"), [("mlp", "digits"), ("digits_mlp", "add"), ("mnist_mlp", "digits")]
)
def test_images_and_their_models_belong_together(model, operation):
    axes = {name: [value] for name, value in vars(spec()).items()}
    with pytest.raises(InvalidSettingError, match=f"--models={model}: cannot learn"):
        grid.expand(axes | {"model": [model], "operation": [operation]})


# --------------------------------------------------------------------------- whole programs


def test_digits_go_through_the_sweep_and_say_who_they_are(folder, tmp_path, capsys):
    workdir = tmp_path / "w"
    arguments = ["--operations=mnist", "--init_scales=1,8", "--seeds=1", "--steps=20",
                 "--checkpoint_every=10", "--mlp_width=16", "--cloud_points=40"]  # fmt: skip
    assert call(sweep.main, *arguments, f"--workdir={workdir}") == 0
    assert "digits stand in for MNIST" in capsys.readouterr().out
    found = grokjax.load(workdir)
    assert list(found.runs["status"]) == ["done"] * 2
    assert set(found.runs["operation"]) == {"digits"}
    assert set(found.persistence["cloud"]) == {"hidden1"}
    assert set(found.persistence["n_points"]) == {40}
    assert found.metrics["novel_accuracy"].isna().all()
    assert found.metrics["test_accuracy"].notna().all()
    run_id = found.runs["run_id"].iloc[0]
    pixels = datasets.load("digits").pixels[1000:].astype(np.float32) / 16
    layer = found.checkpoint(run_id, 20)["hidden"]["0"]
    states = np.maximum(pixels @ layer["kernel"] + layer["bias"][None], 0)
    raw = found.view(run_id, 20).last_states(797)
    assert raw.shape == (797, 16)
    cloud = found.cloud(run_id, 20, "hidden1")
    assert cloud.shape == (40, 16)
    assert states.shape == (797, 16)
    assert "8×8 digits" in (workdir / "figures" / "accuracy.svg").read_text()
    before = found.persistence
    (workdir / "results" / "persistence.parquet").unlink()
    assert call(analyze.main, f"--workdir={workdir}") == 0
    assert before.equals(found.persistence)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--primes=13"], "--primes=13: has no meaning with --operations=mnist"),
        (["--train_fractions=0.5"], "--train_fractions=0.5: has no meaning"),
        (["--models=mlp"], "--models=mlp: has no meaning"),
        (["--operations=mnist,add"], "cannot be combined"),
        (["--diagnostics=fourier"], "networks that compute on residues"),
        (["--clouds=embedding"], "there is no cloud 'embedding'; there are all, hidden"),
        (["--mnist_dir=/nowhere"], "/nowhere has no train-images-idx3-ubyte"),
    ],
)
def test_what_has_no_meaning_for_images_is_refused(folder, tmp_path, capsys, arguments, message):
    workdir = tmp_path / "w"
    assert call(sweep.main, "--operations=mnist", *arguments, f"--workdir={workdir}") == 2
    assert message in capsys.readouterr().err
    assert not workdir.exists()


def test_every_set_has_its_model_and_pixels():
    assert set(grid.IMAGE_MODELS.values()) == set(grid.IMAGE_SETS) == set(datasets.PIXELS)
    assert models.Model(config=ModelConfig(model="mnist_mlp"), n_tokens=10).side == 105
