"""What ``fourier`` and ``irreps`` share: a structure's lens, restricted and excluded losses.

What is removed or kept of a pair's logits is a function of its total, (a + b) mod n or the product
of two elements: restricted logits are a table (n, q), and all inputs of one total lose one row.

Shapes: N totals, Q outputs, M inputs of one total, S sets of frequencies or irreps, W neurons.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
KeySets = Sequence[Sequence[int]]
# (N, Q) sums of logits by total, the sets → (S, N, Q): what each holds of an input's logits.
Parts = Callable[[Floats, KeySets], Floats]

# A neuron whose variance is below this share of its mean square varies by rounding alone.
NEGLIGIBLE = 1e-10
# Two float32 roundings: logits closer than this share of the largest are not told apart.
TIE = 2.5e-7
# Times its even share that a key frequency of the logits has of their power.
_KEY_SHARE = 2
# A removed row that spans more than this could underflow the products of exponentials.
_LONGEST_REACH = 500.0


class RestrictedExcluded(NamedTuple):
    """Losses in nats; floats, or arrays of shape (K,) for one key frequency or irrep at a time."""

    restricted_loss: Any
    excluded_loss: Any
    restricted_accuracy: Any
    excluded_accuracy: Any


class OfLogits(NamedTuple):
    """What the logits say beside restricted and excluded measures."""

    logit_frequencies: str  # the key frequencies or irreps of the logits, a comma list
    logit_power_on_keys: float
    excluded_test_loss: float
    excluded_test_accuracy: float


class NeuronFrequencies(NamedTuple):
    """For each neuron the frequency or irrep that explains most of it, and how much."""

    frequency: NDArray[np.int64]  # (W,); 0 where a neuron is constant or not finite
    explained: Floats  # (W,); share of the neuron's variance, NaN where frequency is 0


class Lens(NamedTuple):
    """The measures of one structure: by frequency for a cycle, by irrep for any other group."""

    names: Sequence[str]
    degrees: Any  # (K,) integers
    sizes: Any  # (K,) integers, dimensions of the functions of each; they sum to the elements
    power: Callable[[Any], Floats]  # of rows in the group's order
    neurons: Callable[[Any], NeuronFrequencies]
    parts: Parts
    totals: Any  # (N, N) element that each input asks for; None where it is no product


def side(array: NDArray[Any], name: str) -> int:
    """N of an array of N² rows."""
    n = math.isqrt(array.shape[0]) if array.ndim else 0
    if array.ndim != 2 or n < 3 or n * n != array.shape[0] or not array.shape[1]:
        raise ValueError(f"{name} must have n^2 rows, n >= 3, and 2 axes, not {array.shape}")
    return n


def strongest(
    power: Floats, scale: int, variance: Floats, mean_square: Floats
) -> NeuronFrequencies:
    """(F, W), (W,), (W,) → each neuron's strongest frequency or irrep, numbered from 1."""
    varies = np.isfinite(power).all(axis=0) & (variance > NEGLIGIBLE * mean_square)
    winner = np.where(varies, power.argmax(axis=0), 0)
    best = np.take_along_axis(power, winner[None], axis=0)[0] / scale
    share = np.divide(best, variance, out=np.full_like(best, np.nan), where=varies)
    return NeuronFrequencies(np.where(varies, winner + 1, 0), share)


def evaluate(
    logits: Any, labels: Any, train_mask: Any, keys: Iterable[int], lens: Lens, each: bool
) -> RestrictedExcluded:
    """``fourier.restricted_and_excluded``, its arguments checked."""
    array, label, mask = np.asarray(logits), np.asarray(labels), np.asarray(train_mask)
    n = side(array, "logits")
    if label.shape != (n * n,) or label.dtype.kind not in "iu":
        raise ValueError(f"labels must be {n * n} integers, not {label.dtype} {label.shape}")
    if mask.shape != (n * n,) or mask.dtype != bool:
        raise ValueError(f"train_mask must be {n * n} booleans, not {mask.dtype} {mask.shape}")
    if array.shape[1] < 2:
        raise ValueError("logits must have at least 2 outputs, not 1")
    if label.min() < 0 or label.max() >= array.shape[1]:
        raise ValueError(
            f"labels run from {label.min()} to {label.max()}; there are {array.shape[1]} outputs"
        )
    totals = np.asarray(lens.totals, np.int64)
    if totals.shape != (n, n) or (np.sort(totals, axis=1) != np.arange(n)).any():
        raise ValueError(f"each of {n} rows of the table must hold 0 to {n - 1} once")
    found, last = sorted({int(k) for k in keys}), len(lens.names) - 1
    if found and (found[0] < 1 or found[-1] > last):
        raise ValueError(f"key frequencies of {n} elements are from 1 to {last}, not {found}")
    key_sets = [[k] for k in found] if each else [found]
    measures = _evaluate(array, label.astype(np.int64), mask, totals, key_sets, lens.parts)
    return RestrictedExcluded(*(measures if each else measures[:, 0].tolist()))


def of_logits(
    logits: NDArray[Any], labels: Any, train_mask: Any, keys: Sequence[int], lens: Lens
) -> OfLogits:
    """Key frequencies of the logits; how much of them is at the neurons'; exclusion on test inputs.

    Nanda et al. (arXiv:2301.05217) read key frequencies off the logits' spectrum, by eye. Here they
    are those with more than twice an even share of the power that logits have as functions of the
    total, the constant aside; evenly each function has 1 / (n − 1). ``logit_power_on_keys`` is the
    share of the logits' variance over inputs, all of it, that such functions at ``keys`` explain.
    """
    n, sums = len(lens.totals), _sums_by_total(logits, lens.totals)
    mean, variance = sums.sum(axis=0) / n**2, 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for block in logits.reshape(n, n, -1):
            variance += float(((block - mean) ** 2).sum())
        own = lens.power(sums) / n
    test = evaluate(logits, labels, ~train_mask, keys, lens, each=False)
    excluded = test.excluded_loss, test.excluded_accuracy
    return OfLogits(*_of_power(own, variance, keys, lens), *excluded)


def _of_power(own: Floats, variance: float, keys: Sequence[int], lens: Lens) -> tuple[str, float]:
    """Key frequencies of logits of that power (K,), and the share of variance at ``keys``."""
    even = np.asarray(lens.sizes) / (len(lens.totals) - 1)
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.flatnonzero(own > _KEY_SHARE * even * own[1:].sum())
    on_keys = float(own[list(keys)].sum()) / variance if variance else math.nan
    return ",".join(map(str, found[found > 0])), on_keys


def of_sums(
    found: Mapping[str, NDArray[Any]], keys: Sequence[int], lens: Lens
) -> tuple[RestrictedExcluded, OfLogits]:
    """The measures of a whole set of keys, from the sums of ``_on_device.logits``."""
    count = np.where(found["count"] > 0, found["count"], math.nan)
    (train_loss, test_loss), (train, test) = (found["excluded"] / count).tolist()
    restricted_loss, restricted = found["restricted"].tolist()
    measures = [restricted_loss, train_loss, restricted, train, test_loss, test]
    if not found["finite"]:
        measures = [math.nan] * len(measures)
    of_power = _of_power(found["power"], float(found["variance"]), keys, lens)
    return RestrictedExcluded(*measures[:4]), OfLogits(*of_power, *measures[4:])


def _sums_by_total(logits: NDArray[Any], totals: NDArray[np.int64]) -> Floats:
    """(N, Q): logits summed over the inputs of each total."""
    n = len(totals)
    sums = np.zeros((n, logits.shape[1]))
    with np.errstate(invalid="ignore", over="ignore"):
        for row, block in zip(totals, logits.reshape(n, n, -1), strict=True):
            sums[row] += block
    return sums


def _evaluate(
    logits: NDArray[Any],
    labels: NDArray[np.int64],
    train_mask: NDArray[np.bool_],
    totals: NDArray[np.int64],
    key_sets: KeySets,
    parts: Parts,
) -> Floats:
    """(4, S): restricted loss, excluded loss, restricted and excluded accuracy of each set."""
    n, sums = len(totals), _sums_by_total(logits, totals)
    if not np.isfinite(sums).all():
        return np.full((4, len(key_sets)), np.nan)
    tie = TIE * max(float(logits.max()), -float(logits.min()))
    total = totals.ravel()
    # How often each label is asked for among the inputs that share restricted logits.
    asked = np.bincount(total * logits.shape[1] + labels, minlength=sums.size).reshape(sums.shape)
    mean = sums.sum(axis=0) / n**2
    removed = parts(sums, key_sets)
    restricted = np.array([_restricted(rows + mean, asked, tie) for rows in removed])
    restricted_loss, restricted_accuracy = restricted.reshape(-1, 2).T
    # Training inputs, those of one total together.
    train = np.flatnonzero(train_mask)
    by_total = train[np.argsort(total[train], kind="stable")]
    ends = np.cumsum(np.bincount(total[train], minlength=n))
    excluded_loss, excluded_accuracy = np.zeros((2, len(key_sets)))
    for s, rows in enumerate(np.split(by_total, ends[:-1])):
        if rows.size:
            block = logits[rows].astype(np.float64)
            loss, credit = _excluded(block, labels[rows], removed[:, s], tie)
            excluded_loss += loss
            excluded_accuracy += credit
    n_train = np.count_nonzero(train_mask) or math.nan
    excluded = excluded_loss / n_train, excluded_accuracy / n_train
    return np.array([restricted_loss, excluded[0], restricted_accuracy, excluded[1]])


def _restricted(logits: Floats, asked: NDArray[np.int64], tie: float) -> tuple[float, float]:
    """Mean loss and credit over all inputs, from one row of logits (N, Q) for each total."""
    largest = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - largest).sum(axis=1, keepdims=True)) + largest
    first = logits >= largest - tie
    credit = first / first.sum(axis=1, keepdims=True)
    n_inputs = asked.sum()
    loss = ((log_sum - logits) * asked).sum() / n_inputs
    return float(loss), float((credit * asked).sum() / n_inputs)


def _excluded(
    logits: Floats, labels: NDArray[np.int64], removed: Floats, tie: float
) -> tuple[Floats, Floats]:
    """(M, Q), (M,), (S, Q) → (S,), (S,): summed loss and credit of the logits less each row."""
    if (n_sets := len(removed)) == 1:
        loss, credit = _losses(logits - removed, labels, tie)
        return loss.sum(keepdims=True), credit.sum(keepdims=True)
    lead = _lead(logits, labels)[0][:, None]
    reach = np.ptp(removed, axis=1)
    # Elsewhere removing the row cannot change which logit is the largest.
    near = (np.abs(lead) <= reach + tie) | (reach > _LONGEST_REACH)
    i, j = np.nonzero(near)
    near_loss, near_credit = _losses(logits[i] - removed[j], labels[i], tie)
    # Of nothing, bincount is integer.
    loss = np.bincount(j, near_loss, n_sets).astype(np.float64)
    credit = np.bincount(j, near_credit, n_sets).astype(np.float64)
    if not near.all():
        with np.errstate(divide="ignore"):  # a long reach, whose underflow is not used
            far_loss = _losses_by_products(logits, labels, removed)
        loss += np.where(near, 0, far_loss).sum(axis=0)
        credit += ((lead > 0) & ~near).sum(axis=0)
    return loss, credit


def _lead(logits: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(R, Q), (R,) → (R,) the label's logit less the largest other; (R, Q) others less that one."""
    others = logits.copy()
    every = np.arange(len(labels))
    others[every, labels] = -np.inf
    rival = others.max(axis=1)
    others -= rival[:, None]
    return logits[every, labels] - rival, others


def _losses(logits: Floats, labels: NDArray[np.int64], tie: float) -> tuple[Floats, Floats]:
    """(R, Q), (R,) → (R,), (R,): cross-entropies, exact for small ones too; credit."""
    lead, others = _lead(logits, labels)
    credit = (lead > tie).astype(np.float64)
    tied = np.abs(lead) <= tie
    if tied.any():
        level = np.maximum(lead[tied], 0)[:, None] - tie
        credit[tied] = 1 / (1 + (others[tied] >= level).sum(axis=1))
    log_rivals = np.log(np.exp(others, out=others).sum(axis=1))
    return np.logaddexp(0, log_rivals - lead), credit


def _losses_by_products(logits: Floats, labels: NDArray[np.int64], removed: Floats) -> Floats:
    """(M, Q), (M,), (S, Q) → (M, S): cross-entropies, from M + S rows of exponentials."""
    largest, least = logits.max(axis=1), removed.min(axis=1)
    sums = np.einsum(
        "mq,sq->ms", np.exp(logits - largest[:, None]), np.exp(least[:, None] - removed)
    )
    own = logits[np.arange(len(labels)), labels][:, None] - removed[:, labels].T
    return np.log(sums) + largest[:, None] - least - own
