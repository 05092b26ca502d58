"""Images, the control without a group: MNIST from IDX files, or the 8x8 digits of scikit-learn."""

import dataclasses
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.fields import Part
from grokjax.tasks import datasets
from grokjax.tasks.datasets import EXAMPLES, N_CLASSES, N_TRAIN
from grokjax.tasks.task import Integers, Permutation


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
    def inputs(self) -> str:
        """Features, and whose."""
        return f"features {self.name}"

    @property
    def n_places(self) -> int:
        """Number of images."""
        return EXAMPLES[self.name]

    @property
    def n_examples(self) -> int:
        """The same: every place is an example."""
        return self.n_places

    @property
    def truth(self) -> NDArray[np.int32]:
        """(n,) digits."""
        return datasets.load(self.name).labels

    def train_places(self, random: np.random.Generator) -> Integers:
        """The first, whatever the seed."""
        return np.arange(N_TRAIN)

    @staticmethod
    def features(name: str) -> tuple[NDArray[np.uint8], float]:
        """(n, pixels) brightness of every image, and the number that stands for white."""
        return datasets.load(name).pixels, datasets.PIXELS[name][1]

    @classmethod
    def use(cls, source: str, value: str, recalled: bool = False) -> None:
        """Says where MNIST is; ``recalled`` where a sweep that is read again found it."""
        (datasets.recall if recalled else datasets.use)(value)

    @classmethod
    def resolve(cls, name: str) -> tuple[str, str]:
        """What is learned under a name, and what is worth telling of that.

        Raises:
            InvalidSettingError: if the images cannot be read.
        """
        note = ""
        if name == "mnist" and not datasets.named():
            name, note = "digits", "no --mnist_dir: scikit-learn's 8x8 digits stand in for MNIST"
        datasets.require(name)
        return name, note

    @classmethod
    def title(cls, name: str) -> str:
        """The set, as figures call it."""
        return "MNIST" if name == "mnist" else "scikit-learn's 8×8 digits in MNIST's stead"


PARTS: dict[str, type[Part]] = dict.fromkeys(EXAMPLES, Images)
