"""What a task is: examples with labels, a split, and the structure of its elements.

Examples lie flat. Of a task of pairs, place a · n + b is the pair (a, b) of its n elements, whether
or not it is an example; of a task of features, place i is example i.

Every random choice comes from a stream named by its purpose and by the part of the run that it
concerns, never from a place in a batch. Runs that differ only in, say, weight decay share their
split, their initialisation and their order of batches, so that comparing them is a paired
comparison.
"""

import abc
import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokjax.settings.fields import Part, check, field
from grokjax.settings.grid import Run

Integers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """What the elements of a task are to each other."""

    elements: Integers  # (m,) which of the task's elements are the group's, in the group's order
    second: Integers  # (m,) those that, as second of a pair, stand for the group's
    # Orders of the factors of a product of cyclic groups, of which the last runs fastest along the
    # elements; empty for other groups.
    cycles: tuple[int, ...]
    table: NDArray[np.int32]  # (m, m) place of the product of the group's elements i and j
    # (m, m) place of the label of (elements[i], second[j]); None of a task that is no product or
    # conjugate of the group's elements.
    asked: NDArray[np.int32] | None
    names: tuple[str, ...] = ()  # of the elements; empty where they are their own numbers

    @property
    def kind(self) -> str:
        """``group``, ``cyclic`` (a cycle of residues), or ``cycles`` (a product of such)."""
        return ("group", "cyclic", "cycles")[min(len(self.cycles), 2)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fraction(Part):
    """The setting of a task whose examples are split at random."""

    train_fraction: float = field(
        0.3,
        help="fractions of the pairs that train",
        allowed="a number strictly between 0 and 1",
        accepts=lambda v: 0 < v < 1,
        grid=(0.2, 0.25, 0.3),
        traced=True,
        flag="train_fractions",
        symbol="f",
        label="α = {}",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Permutation(Part):
    """The setting of a task some of whose training labels may be permuted."""

    label_permutation: float = field(
        0.0,
        help="fractions of the training examples whose labels are permuted",
        allowed="a number between 0 and 1 (a fraction of the training examples)",
        accepts=lambda v: 0 <= v <= 1,
        traced=True,
        flag="label_permutations",
        symbol="c",
        label=lambda v: f"{100 * v:g} % of labels permuted" if v else "true labels",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTask(Permutation, Fraction, abc.ABC):
    """A task of pairs of elements, some of which train.

    Settings of a base named later come first, in ids and in the order of the grid.
    """

    column: ClassVar[str] = "operation"
    examples: ClassVar[str] = "pairs"

    @property
    @abc.abstractmethod
    def n_elements(self) -> int:
        """Number of elements, each of which has a row in the embedding."""

    @property
    @abc.abstractmethod
    def truth(self) -> NDArray[np.int32]:
        """(n²,) labels, −1 where a pair is no example."""

    @property
    def n_outputs(self) -> int:
        """Labels are elements."""
        return self.n_elements

    @property
    def n_places(self) -> int:
        """All pairs, examples or not."""
        return self.n_elements**2

    n_examples = n_places  # pairs that have a label: all, unless a task says otherwise

    @property
    def structure(self) -> Structure | None:
        """None, unless a task says otherwise."""
        return None

    @property
    def n_train(self) -> int:
        """Number of training pairs: the train fraction of all, rounded to nearest."""
        return round(self.train_fraction * self.n_examples)

    def train_places(self, random: np.random.Generator) -> Integers:
        """Fractions are nested: the split is an order of all examples, of which the first train."""
        places = np.flatnonzero(self.truth >= 0)
        return np.sort(places[random.permutation(len(places))[: self.n_train]])

    def validate(self) -> None:
        """At least one pair must train and one must test."""
        n_train, n = self.n_train, self.n_examples
        message = (
            f"leaves {n_train} of the {n} pairs of {self.in_words} to train on; "
            "at least one pair must train and one must test"
        )
        check(1 <= n_train < n, "train_fractions", self.train_fraction, message)

    @property
    def in_words(self) -> str:
        """Whose pairs they are."""
        return self.name


# What a split leaves out of its stream: fractions are nested, and labels come after it.
_NOT_OF_THE_SPLIT = ("train_fraction", "label_permutation")


def _words(purpose: str, values: Mapping[str, Any]) -> NDArray[np.uint32]:
    """(8,) random words, as good as independent of those of anything else."""
    text = "|".join([purpose, *(f"{name}={value!r}" for name, value in values.items())])
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4").astype(np.uint32)


def _generator(purpose: str, values: Mapping[str, Any]) -> np.random.Generator:
    seed = np.random.SeedSequence(_words(purpose, values).tolist())
    return np.random.Generator(np.random.Philox(seed))


def _told(run: Run, *names: str) -> dict[str, Any]:
    """What says which examples there are (all of the task but its split), settings named, seed."""
    values = run.task.values
    own = {name: value for name, value in values.items() if name not in _NOT_OF_THE_SPLIT}
    named = {name: values[name] for name in names if name in values}
    return {"operation": run.task.name} | own | named | {"seed": run.seed}


def init_key(run: Run) -> NDArray[np.uint32]:
    """(2,) uint32 key data (threefry) of the run's initial parameters.

    Two operations on the same elements begin with the same parameters.
    """
    own = {name: value for name, value in _told(run).items() if name != "operation"}
    return _words("init", {"model": run.model.name} | own)[:2]


def batch_key(run: Run) -> NDArray[np.uint32]:
    """(2,) uint32 key data (threefry) of the order in which training examples come."""
    return _words("batches", _told(run, "train_fraction"))[:2]


def cloud_generator(run: Run) -> np.random.Generator:
    """The stream from which the pairs of the run's hidden-state clouds are drawn."""
    return _generator("cloud", _told(run, "train_fraction"))


def edges_generator(run: Run, step: int) -> np.random.Generator:
    """The stream from which edges between random elements are drawn at a step."""
    return _generator("edges", _told(run, "train_fraction") | {"step": step})


class Data(NamedTuple):
    """One run's data, a row a place."""

    labels: NDArray[np.int32]  # (n_places,): what the run is told, permuted on some; −1: none
    truth: NDArray[np.int32]  # (n_places,): the task's values; −1: none
    train_mask: NDArray[np.bool_]  # (n_places,)
    test_mask: NDArray[np.bool_]  # (n_places,)
    novel_mask: NDArray[np.bool_]  # (n_places,): test pairs that no training pair gives away
    train: Integers  # (n_train,) places, ascending


def make_data(run: Run) -> Data:
    """Split and labels of one run.

    ``label_permutation`` is the share of the training examples, rounded to a whole number of them,
    whose labels are permuted among themselves; test labels stay true. A test pair (a, b) is novel
    unless (b, a) trains with the label asked of (a, b): such a pair is answered by a network that
    merely treats both positions alike. Examples that are no pairs are never novel.
    """
    task = run.task
    train = task.train_places(_generator("split", _told(run)))
    labels = task.truth.copy()
    n_permuted = round(task.values.get("label_permutation", 0.0) * len(train))
    if n_permuted:
        rng = _generator("labels", _told(run, *_NOT_OF_THE_SPLIT))
        chosen = rng.choice(train, n_permuted, replace=False)
        labels[chosen] = labels[rng.permutation(chosen)]
    train_mask = np.zeros(task.n_places, bool)
    train_mask[train] = True
    test_mask = ~train_mask & (task.truth >= 0)
    novel_mask = np.zeros_like(test_mask)
    if task.n_elements:
        transpose = np.arange(task.n_places).reshape(task.n_elements, -1).T.ravel()
        given_away = train_mask[transpose] & (labels[transpose] == task.truth)
        novel_mask = test_mask & ~given_away
    return Data(labels, task.truth, train_mask, test_mask, novel_mask, train)
