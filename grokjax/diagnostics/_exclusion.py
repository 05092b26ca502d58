"""Restricted and excluded losses of logits, computed: what ``fourier`` defines and documents.

The waves of a + b that are removed or kept are one row of numbers for each total (a + b) mod n.
So restricted logits are a table (n, q), and all training inputs of one total lose the same row,
which lets many sets of frequencies share the exponentials of the logits.

Shapes: N residues, F = ⌊N/2⌋ frequencies, Q outputs, M inputs of one total, S sets of frequencies.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Two float32 roundings: logits closer than this share of the largest are not told apart.
_TIE = 2.5e-7
# A removed row that spans more than this could underflow the products of exponentials.
_LONGEST_REACH = 500.0


class Inputs(NamedTuple):
    """Logits of all inputs, in rows a · n + b, and what is asked of them."""

    n: int
    logits: NDArray[Any]  # (N², Q)
    labels: NDArray[np.int64]  # (N²,)
    train_mask: NDArray[np.bool_]  # (N²,)


def evaluate(inputs: Inputs, key_sets: list[list[int]]) -> Floats:
    """(4, S): restricted loss, excluded loss, restricted and excluded accuracy of each set."""
    n, logits, labels, train_mask = inputs
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _sums_by_total(logits, n)
    if not np.isfinite(sums).all():
        return np.full((4, len(key_sets)), np.nan)
    tie = _TIE * max(float(logits.max()), -float(logits.min()))
    total = np.add.outer(np.arange(n), np.arange(n)).ravel() % n
    # How often each label is asked for among the inputs that share restricted logits.
    asked = np.bincount(total * logits.shape[1] + labels, minlength=sums.size).reshape(sums.shape)
    mean = sums.sum(axis=0) / n**2
    transform = np.fft.rfft(sums, axis=0) / n
    removed = np.array([_on_waves(transform, keys, n) for keys in key_sets]).reshape(
        -1, *sums.shape
    )
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
    return np.array(
        [
            restricted_loss,
            excluded_loss / n_train,
            restricted_accuracy,
            excluded_accuracy / n_train,
        ]
    )


def _sums_by_total(logits: NDArray[Any], n: int) -> Floats:
    """(N², Q) → (N, Q): sums over the inputs with equal (a + b) mod n."""
    sums = np.zeros((n, logits.shape[1]))
    for a, block in enumerate(logits.reshape(n, n, -1)):
        sums[a:] += block[: n - a]
        sums[:a] += block[n - a :]
    return sums


def _on_waves(transform: NDArray[np.complex128], keys: list[int], n: int) -> Floats:
    """(F + 1, Q) real transform over totals → (N, Q): its part at the key frequencies."""
    k = np.array(keys, int)
    # Reduced before it becomes an angle, the product keeps every entry to rounding.
    angle = 2 * np.pi * (np.outer(np.arange(n), k) % n) / n
    weight = np.where(2 * k == n, 1, 2) / n
    # einsum, unlike a matrix product this small, waits for no other thread.
    cosines = np.einsum("sk,kq->sq", np.cos(angle) * weight, transform.real[k])
    sines = np.einsum("sk,kq->sq", np.sin(angle) * weight, transform.imag[k])
    return cosines - sines


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
    n_sets = len(removed)
    if n_sets == 1:
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
    losses: Floats = np.log(sums) + largest[:, None] - least - own
    return losses
