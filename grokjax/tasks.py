"""Operations, splits and label permutation: a run's data, alone or padded into a batch.

Every random choice comes from a stream named by its purpose and by the part of the run's spec that
it concerns, never from a place in a batch. Runs that differ only in, say, weight decay share
their split, their initialisation and their order of batches, so that comparing them is a paired
comparison.

Shapes: R runs, N training pairs (padded to the batch's largest), P padded prime.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from grokjax import datasets
from grokjax.grid import IMAGE_SETS, RunSpec


def _add(a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    return (a + b) % prime


# Name → f(a, b, prime) on integer arrays, with values in 0 … prime - 1.
OPERATIONS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {"add": _add}

# What each random choice may depend on. Fractions are nested: the split is a fixed order of all
# pairs, of which the first n_train train.
_SPLIT = ("operation", "prime", "seed")
_LABELS = ("operation", "prime", "train_fraction", "label_permutation", "seed")
_INIT = ("model", "prime", "seed")
_BATCHES = ("operation", "prime", "train_fraction", "seed")
_CLOUD = ("operation", "prime", "train_fraction", "seed")


def _entropy(run: RunSpec, purpose: str, fields: tuple[str, ...]) -> bytes:
    text = "|".join([purpose, *(f"{name}={getattr(run, name)!r}" for name in fields)])
    return hashlib.sha256(text.encode()).digest()


def _generator(run: RunSpec, purpose: str, fields: tuple[str, ...]) -> np.random.Generator:
    words = np.frombuffer(_entropy(run, purpose, fields), dtype="<u4")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words.tolist())))


def _key_data(run: RunSpec, purpose: str, fields: tuple[str, ...]) -> np.ndarray:
    return np.frombuffer(_entropy(run, purpose, fields)[:8], dtype="<u4").astype(np.uint32)


def init_key(run: RunSpec) -> np.ndarray:
    """(2,) uint32 key data (threefry) of the run's initial parameters."""
    return _key_data(run, "init", _INIT)


def batch_key(run: RunSpec) -> np.ndarray:
    """(2,) uint32 key data (threefry) of the order in which training pairs come."""
    return _key_data(run, "batches", _BATCHES)


def cloud_generator(run: RunSpec) -> np.random.Generator:
    """The stream from which the pairs of the run's hidden-state clouds are drawn."""
    return _generator(run, "cloud", _CLOUD)


class Task(NamedTuple):
    """One run's data at its own prime p; row a, column b holds the pair (a, b).

    Images are laid out in a square in the same way: p is then its side, image i is the "pair"
    i // p, i % p, and the places after the last image are in no mask.
    """

    labels: np.ndarray  # (p, p) int32: what the run is told, permuted on some training pairs
    true_labels: np.ndarray  # (p, p) int32: the operation's values
    train_mask: np.ndarray  # (p, p) bool
    test_mask: np.ndarray  # (p, p) bool
    novel_mask: np.ndarray  # (p, p) bool: test pairs that no training pair gives away; no image
    train_pairs: np.ndarray  # (n_train,) int32: a * p + b, ascending


def make_task(run: RunSpec) -> Task:
    """Split and labels of one run.

    ``label_permutation`` is the share of the training pairs, rounded to a whole number of them,
    whose labels are permuted among themselves; test labels stay true. A test pair (a, b) is novel
    unless (b, a) trains with the label asked of (a, b): such a pair is answered by a network that
    merely treats both positions alike.
    """
    if run.operation in IMAGE_SETS:
        return _image_task(run)
    p = run.prime
    a, b = np.divmod(np.arange(p * p, dtype=np.int64), p)
    truth = OPERATIONS[run.operation](a, b, p).astype(np.int32)
    train = np.sort(_generator(run, "split", _SPLIT).permutation(p * p)[: run.n_train])
    labels = _permuted(run, truth, train)
    train_mask = np.zeros(p * p, bool)
    train_mask[train] = True
    transpose = b * p + a
    given_away = train_mask[transpose] & (labels[transpose] == truth)
    return Task(
        labels=labels.reshape(p, p),
        true_labels=truth.reshape(p, p),
        train_mask=train_mask.reshape(p, p),
        test_mask=~train_mask.reshape(p, p),
        novel_mask=(~train_mask & ~given_away).reshape(p, p),
        train_pairs=train.astype(np.int32),
    )


def _image_task(run: RunSpec) -> Task:
    """The first images train, the others test; only permuted labels depend on the seed."""
    p, n = run.side, run.n_examples
    truth = np.zeros(p * p, np.int32)
    truth[:n] = datasets.load(run.operation).labels
    place = np.arange(p * p)
    train = place[: run.n_train]
    return Task(
        labels=_permuted(run, truth, train).reshape(p, p),
        true_labels=truth.reshape(p, p),
        train_mask=(place < run.n_train).reshape(p, p),
        test_mask=((place >= run.n_train) & (place < n)).reshape(p, p),
        novel_mask=np.zeros((p, p), bool),
        train_pairs=train.astype(np.int32),
    )


def _permuted(run: RunSpec, truth: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The labels a run is told: some of its training labels permuted among themselves."""
    labels = truth.copy()
    n_permuted = round(run.label_permutation * run.n_train)
    if n_permuted:
        rng = _generator(run, "labels", _LABELS)
        chosen = rng.choice(train, n_permuted, replace=False)
        labels[chosen] = labels[rng.permutation(chosen)]
    return labels


Array: TypeAlias = Any  # NumPy on the host, JAX in a program


class RunData(NamedTuple):
    """Everything a step or an evaluation needs of R runs, padded to common shapes."""

    prime: Array  # (R,) int32
    n_train: Array  # (R,) int32
    learning_rate: Array  # (R,) float32
    weight_decay: Array  # (R,) float32
    init_scale: Array  # (R,) float32
    init_key: Array  # (R, 2) uint32
    batch_key: Array  # (R, 2) uint32
    train_a: Array  # (R, N) int32
    train_b: Array  # (R, N) int32
    train_label: Array  # (R, N) int32
    labels: Array  # (R, P, P) int32
    split: Array  # (R, P, P) int8: PADDING, TRAIN, LEAKED (test, not novel) or NOVEL


PADDING, TRAIN, LEAKED, NOVEL = 0, 1, 2, 3


def stack(runs: Sequence[RunSpec]) -> RunData:
    """The data of a batch, padded to its largest prime and largest training set."""
    tasks = [make_task(run) for run in runs]
    n_runs, p_max = len(runs), max(run.side for run in runs)
    n_max = max(run.n_train for run in runs)
    pairs = np.zeros((3, n_runs, n_max), np.int32)
    labels = np.zeros((n_runs, p_max, p_max), np.int32)
    split = np.full((n_runs, p_max, p_max), PADDING, np.int8)
    for i, (run, task) in enumerate(zip(runs, tasks, strict=True)):
        p, n = run.side, run.n_train
        pairs[0, i, :n], pairs[1, i, :n] = np.divmod(task.train_pairs, p)
        pairs[2, i, :n] = task.labels.ravel()[task.train_pairs]
        labels[i, :p, :p] = task.labels
        split[i, :p, :p] = np.select(
            [task.train_mask, task.novel_mask, task.test_mask], [TRAIN, NOVEL, LEAKED], PADDING
        )
    return RunData(
        prime=np.array([run.prime for run in runs], np.int32),
        n_train=np.array([run.n_train for run in runs], np.int32),
        learning_rate=np.array([run.learning_rate for run in runs], np.float32),
        weight_decay=np.array([run.weight_decay for run in runs], np.float32),
        init_scale=np.array([run.init_scale for run in runs], np.float32),
        init_key=np.stack([init_key(run) for run in runs]),
        batch_key=np.stack([batch_key(run) for run in runs]),
        train_a=pairs[0],
        train_b=pairs[1],
        train_label=pairs[2],
        labels=labels,
        split=split,
    )
