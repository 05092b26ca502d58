"""Images for the control: MNIST from IDX files, or the 8x8 digits that scikit-learn ships.

Examples are numbered: the first `N_TRAIN` train, those after them test. MNIST, as in Omnigrok:
the first 1,000 of its training images and its 10,000 test images. Digits: scikit-learn's 1,797 in
their own order, which is by writer, so that most test digits are of writers not trained on.

The IDX format (LeCun et al., yann.lecun.com/exdb/mnist): two zero bytes, the type (8: unsigned
byte), the number of axes, each axis as a big-endian 32-bit integer, then the values. A file is
untrusted: what its header says is checked against what is expected before anything is allocated,
and a compressed file is never inflated beyond that.
"""

import dataclasses
import functools
import gzip
import math
import pathlib
import struct
import zlib
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.fields import InvalidSettingError, Part
from grokjax.tasks.task import Integers, Permutation

# Name → examples, pixels of each, and the value of a white one.
SETS = {"mnist": (11_000, 784, 255.0), "digits": (1_797, 64, 16.0)}
N_TRAIN, N_CLASSES = 1_000, 10

# Name without .gz → axes; of training and of test images, each with its labels behind it.
_FILES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


class DatasetError(ValueError):
    """A file of images is missing, damaged or not what it should be; the message names it."""


class Examples(NamedTuple):
    """Examples in order, those that train first."""

    pixels: NDArray[np.uint8]  # (n, width), from 0 to the white of `SETS`
    labels: NDArray[np.int32]  # (n,), 0 to 9


def read_idx(path: pathlib.Path, shape: tuple[int, ...], n_first: int) -> NDArray[np.uint8]:
    """(n_first, *shape[1:]) first entries of an IDX file of unsigned bytes, plain or gzip.

    Args:
        path: the file; what it begins with tells whether it is compressed.
        shape: the axes its header must give.
        n_first: how many entries along the first axis to read; at most ``shape[0]``.

    Raises:
        DatasetError: if the file cannot be read, its header is another one, it ends early, or
            (read to its end) goes on.
    """
    wanted = n_first * math.prod(shape[1:])
    whole = n_first == shape[0]
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as file:
                _check_header(path, file.read(4 + 4 * len(shape)), shape)
                # One byte more tells whether the file goes on; no more is ever inflated.
                data = file.read(wanted + whole)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if len(data) != wanted:
        which = "ends early" if len(data) < wanted else "goes on after its values"
        raise DatasetError(f"{path} {which}: its axes {shape} need {math.prod(shape)} values")
    return np.frombuffer(data, np.uint8).reshape(n_first, *shape[1:])


def _check_header(path: pathlib.Path, header: bytes, shape: tuple[int, ...]) -> None:
    expected = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    if header[:4] != expected[:4]:
        raise DatasetError(
            f"{path} is no IDX file of unsigned bytes with {len(shape)} axes: it begins with "
            f"{header[:4].hex(' ') or 'nothing'}, expected {expected[:4].hex(' ')}"
        )
    if header != expected:
        n_axes = (len(header) - 4) // 4
        found = struct.unpack(f">{n_axes}I", header[4 : 4 + 4 * n_axes])
        raise DatasetError(f"{path} has axes {found}, expected {shape}")


def read_mnist(folder: pathlib.Path) -> Examples:
    """The first 1,000 training images and all test images; raises ``DatasetError``."""
    parts = []
    for name, shape in _FILES.items():
        found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not found:
            every = ", ".join(_FILES)
            raise DatasetError(f"{folder} has no {name} or {name}.gz; it must hold {every}")
        n_first = N_TRAIN if name.startswith("train") else shape[0]
        parts.append(read_idx(found[0], shape, n_first))
    pixels, labels = np.concatenate(parts[::2]), np.concatenate(parts[1::2])
    if labels.max() >= N_CLASSES:
        raise DatasetError(f"{folder} has a label {labels.max()}; labels are 0 to {N_CLASSES - 1}")
    return Examples(pixels.reshape(len(pixels), -1), labels.astype(np.int32))


_folder: pathlib.Path | None = None  # of MNIST's files; see ``Images.use``


@functools.cache
def load(name: str) -> Examples:
    """The examples of ``mnist`` or ``digits``, read once.

    Raises:
        DatasetError: if MNIST's files are not there or not right, or no folder was named.
    """
    if name == "mnist":
        if _folder is None:
            raise DatasetError("no folder of MNIST's files was named (--mnist_dir)")
        images = read_mnist(_folder)
    else:
        # scikit-learn takes a second to import, which only the stand-in should cost.
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = Examples(pixels.astype(np.uint8), labels.astype(np.int32))
    assert images.pixels.shape == SETS[name][:2]
    return images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(Permutation):
    """Which digit an image shows. The first examples train, the others test."""

    column: ClassVar[str] = "operation"
    examples: ClassVar[str] = "features"
    n_elements: ClassVar[int] = 0
    n_outputs: ClassVar[int] = N_CLASSES
    n_train: ClassVar[int] = N_TRAIN
    structure: ClassVar[None] = None
    sources: ClassVar[dict[str, str]] = {
        "mnist_dir": "folder of MNIST's four IDX files, plain or gzipped; without it the task "
        "mnist learns the 8x8 digits that scikit-learn ships, and says so"
    }

    @property
    def n_places(self) -> int:
        """Number of images."""
        return SETS[self.name][0]

    n_examples = n_places

    @property
    def truth(self) -> NDArray[np.int32]:
        """(n,) digits."""
        return load(self.name).labels

    def train_places(self, random: np.random.Generator) -> Integers:
        """The first, whatever the seed."""
        return np.arange(N_TRAIN)

    @staticmethod
    def features(name: str) -> tuple[NDArray[np.uint8], float]:
        """(n, pixels) brightness of every image, and the number that stands for white."""
        return load(name).pixels, SETS[name][2]

    @staticmethod
    def use(source: str, value: str, recalled: bool = False) -> None:
        """Says where MNIST's files are.

        A folder that is ``recalled``, where a sweep that is read again found them, counts only if
        none was named already. Otherwise raises ``DatasetError`` if that was another one.
        """
        global _folder
        path = pathlib.Path(value).absolute()
        if _folder is None:
            _folder = path
        elif _folder != path and not recalled:
            raise DatasetError(f"MNIST was read from {_folder}; another process can read {path}")

    @classmethod
    def resolve(cls, name: str) -> tuple[str, str]:
        """What is learned under a name, and what is worth telling of that.

        Raises:
            InvalidSettingError: if the images cannot be read.
        """
        note = ""
        if name == "mnist" and _folder is None:
            name, note = "digits", "no --mnist_dir: scikit-learn's 8x8 digits stand in for MNIST"
        try:
            load(name)
        except DatasetError as error:
            raise InvalidSettingError("mnist_dir", _folder, str(error)) from error
        return name, note

    @classmethod
    def title(cls, name: str) -> str:
        """The set, as figures call it."""
        return "MNIST" if name == "mnist" else "scikit-learn's 8×8 digits in MNIST's stead"


PARTS: dict[str, type[Part]] = dict.fromkeys(SETS, Images)
