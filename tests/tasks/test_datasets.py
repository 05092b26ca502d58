"""Images: the IDX reader, and the sets."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokjax.tasks import datasets
from grokjax.tasks.datasets import DatasetError, read_idx

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
    for name, shape in datasets._FILES.items():
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
    with pytest.raises(DatasetError, match="a label 10; labels are 0 to 9"):
        datasets.read_mnist(tmp_path / "m")


def test_absent_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no train-images-idx3-ubyte or .*\.gz") as caught:
        datasets.read_mnist(tmp_path)
    assert all(name in str(caught.value) for name in datasets._FILES)


def test_one_folder_a_process(folder, tmp_path):
    use = datasets.Images.use
    use("mnist_dir", str(tmp_path))
    use("mnist_dir", "/elsewhere", recalled=True)
    use("mnist_dir", str(tmp_path))
    with pytest.raises(DatasetError, match="another process"):
        use("mnist_dir", "/elsewhere")


def test_the_digits_are_those_that_are_known():
    digits = datasets.load("digits")
    assert digits.pixels.shape == (1797, 64)
    assert (digits.pixels.min(), digits.pixels.max()) == (0, 16)
    assert set(digits.labels.tolist()) == set(range(10))
