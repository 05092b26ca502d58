"""Measures of ``fourier`` in JAX, of one run: float64 sums over all inputs, to be mapped over runs.

The formulas, their thresholds and what is not a number are those of ``fourier``, ``irreps`` and
``_exclusion``, which serve anyone's NumPy arrays; a test holds the two together. Loops go over the
first element of inputs, so that sums have the same order as there.

Shapes: N elements of the structure, K frequencies or irreps, W neurons, Q outputs.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from grokjax.diagnostics import RunArrays
from grokjax.diagnostics._exclusion import NEGLIGIBLE, TIE

# Values of a block of neurons that are transformed together: 64 MiB.
_TOGETHER = 2**23


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def reduce(run: RunArrays, constants: Any, each: bool) -> dict[str, Any]:
    """Everything that ``fourier.measure`` makes its rows of; to measure each key alone, logits."""
    n, side = len(constants["basis"]), math.isqrt(len(run.labels))
    pairs: Any = slice(None)
    if constants["order"] is not None or side != n:
        first, second = constants["order"] or (jnp.arange(n), jnp.arange(n))
        pairs = (first[:, None] * side + second[None]).ravel()
    inputs = (run.neurons, run.logits, run.labels, run.train_mask)
    own_neurons, own_logits, labels, train = (array[pairs] for array in inputs)
    found = neurons(own_neurons, constants)
    if "totals" in constants:
        found |= logits(own_logits, labels, train, found["frequency"], constants)
        found |= {"logits": own_logits} if each else {}
    return found


def neurons(rows: jax.Array, constants: Any) -> dict[str, jax.Array]:
    """(N², W) → (W,) strongest frequency or irrep, 0 for none, and the share that it explains."""
    n = constants["basis"].shape[0]
    measure = _in_a_cycle if constants["squares"] is None else _in_a_group
    power, variance, mean_square = measure(rows.reshape(n, n, -1), constants)
    varies = jnp.isfinite(power).all(axis=0) & (variance > NEGLIGIBLE * mean_square)
    winner = jnp.where(varies, power.argmax(axis=0), 0)
    share = jnp.take_along_axis(power, winner[None], axis=0)[0] / variance
    frequency = jnp.where(varies, winner + 1, 0).astype(jnp.int32)
    return {"frequency": frequency, "explained": jnp.where(varies, share, jnp.nan)}


def _of_kinds(squares: jax.Array, constants: Any) -> jax.Array:
    """(N, …) by column of the basis → (K, …): sums over each frequency's or irrep's columns."""
    return jnp.tensordot(constants["kinds"], squares, 1, precision=lax.Precision.HIGHEST)


def _in_a_cycle(blocks: jax.Array, constants: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    n, width = blocks.shape[1:]
    first = blocks[0, 0].astype(jnp.float64)
    zeros = jnp.zeros((n, width))

    def add(sums: tuple[jax.Array, ...], item: tuple[jax.Array, jax.Array]) -> Any:
        a, own = item
        by_b, by_sum, by_difference, squares = sums
        # Less its first value a neuron loses little to cancellation, and a constant is 0.
        block = own.astype(jnp.float64) - first[None]
        twice = jnp.concatenate([block, block])
        by_sum += lax.dynamic_slice_in_dim(twice, n - a, n)
        by_difference += lax.dynamic_slice_in_dim(twice, a, n)
        squares += (block * block).sum(axis=0)
        return (by_b + block, by_sum, by_difference, squares), block.sum(axis=0)

    start = (zeros, zeros, zeros, jnp.zeros(width))
    (by_b, by_sum, by_difference, squares), by_a = lax.scan(add, start, (jnp.arange(n), blocks))
    mean = by_b.sum(axis=0) / n**2
    variance = squares - n**2 * mean**2
    sums = jnp.concatenate([by_a, by_b, by_sum, by_difference], axis=1)
    waves = _of_kinds(_product(constants["basis"].T, sums) ** 2, constants)[1:] / n
    in_a, in_b, in_sum, in_difference = jnp.split(waves, 4, axis=1)
    # At the last frequency of an even n, a + b and a − b are the same wave.
    distinct = jnp.arange(n // 2)[:, None] < (n - 1) // 2
    power = in_a + in_b + in_sum + jnp.where(distinct, in_difference, 0)
    return power, variance, variance + n**2 * (mean + first) ** 2


def _in_a_group(blocks: jax.Array, constants: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    m, width = blocks.shape[1:]
    n_parts = max(1, min(width, m * m * width // _TOGETHER))
    size = -(-width // n_parts)
    padded = jnp.pad(blocks, ((0, 0), (0, 0), (0, size * n_parts - width)))
    parts = jnp.moveaxis(padded.reshape(m, m, n_parts, size), 2, 0)
    found = lax.map(lambda part: _part_in_a_group(part, constants), parts)
    power, variance, mean_square = found
    power = jnp.moveaxis(power, 0, 1)  # (K, parts, size)
    power = power.reshape(len(power), -1)[:, :width]
    return power, variance.ravel()[:width], mean_square.ravel()[:width]


def _part_in_a_group(blocks: jax.Array, constants: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    m, basis = len(blocks), constants["basis"]
    first = blocks[0, 0].astype(jnp.float64)
    centred = blocks.astype(jnp.float64) - first[None, None]
    mean = centred.mean(axis=(0, 1))
    centred -= mean[None, None]
    variance = (centred**2).sum(axis=(0, 1))
    in_h = _product(basis.T, centred.sum(axis=0))
    rows = _product(basis.T, centred.reshape(m, -1)).reshape(centred.shape)  # by column, h, neuron
    explained = _of_kinds((in_h**2 + rows.sum(axis=1) ** 2) / m, constants)
    for kinds, columns in constants["squares"]:  # irreps of one size at a time: (C,), (C, size)
        own = jnp.moveaxis(basis[:, columns], 0, 2)  # (C, size, M)
        products = jnp.einsum("csm,ctmw->cstw", own, rows[columns], precision=lax.Precision.HIGHEST)
        explained = explained.at[kinds].add((products**2).sum(axis=(1, 2)))
    return explained[1:], variance, variance + m**2 * (mean + first) ** 2


def logits(
    rows: jax.Array, label: jax.Array, train: jax.Array, frequency: jax.Array, constants: Any
) -> dict[str, jax.Array]:
    """Restricted and excluded measures at the neurons' frequencies, and what logits say alone.

    Args:
        rows: (N², Q) logits.
        label: (N²,).
        train: (N²,), boolean.
        frequency: (W,) of the neurons; they are the key frequencies.
        constants: ``totals`` (N, N), and ``second`` (N, N), the b of each a and total.

    Returns:
        Sums over inputs; excluded ones for those that train, and for the others.
    """
    n, n_outputs = len(constants["totals"]), rows.shape[1]
    blocks, labels = rows.reshape(n, n, -1), label.reshape(n, n)
    zeros = jnp.zeros((n, n_outputs))

    def add(sums: jax.Array, item: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return sums + item[0].astype(jnp.float64)[item[1]], None

    sums, _ = lax.scan(add, zeros, (blocks, constants["second"]))
    mean = sums.sum(axis=0) / n**2
    in_basis = _product(constants["basis"].T, sums)
    is_key = jnp.zeros(len(constants["kinds"])).at[frequency].set(1.0).at[0].set(0.0)
    chosen = (is_key @ constants["kinds"])[:, None]
    removed = _product(constants["basis"], chosen * in_basis) / n
    tie = TIE * jnp.maximum(rows.max(), -rows.min()).astype(jnp.float64)
    asked = zeros.at[constants["totals"].ravel(), label].add(1.0)
    restricted = removed + mean[None]
    largest = restricted.max(axis=1, keepdims=True)
    log_sum = jnp.log(jnp.exp(restricted - largest).sum(axis=1, keepdims=True)) + largest
    first = restricted >= largest - tie
    credit = first / first.sum(axis=1, keepdims=True)

    def one(item: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        own, own_label, own_train, totals = item
        block = own.astype(jnp.float64)
        spread = ((block - mean[None]) ** 2).sum()
        loss, credit = _losses(block - removed[totals], own_label, tie)
        kept = jnp.stack([own_train, ~own_train])
        of_sets = (jnp.where(kept, found[None], 0).sum(1) for found in (loss, credit))
        return spread, *of_sets

    of_blocks = lax.map(one, (blocks, labels, train.reshape(n, n), constants["totals"]))
    spread, loss, credit_excluded = (own.sum(axis=0) for own in of_blocks)
    return {
        "finite": jnp.isfinite(sums).all(),
        "power": _of_kinds((in_basis**2).sum(axis=1), constants) / n,
        "variance": spread,
        "restricted": jnp.stack(
            [((log_sum - restricted) * asked).sum() / n**2, (credit * asked).sum() / n**2]
        ),
        "excluded": jnp.stack([loss, credit_excluded]),
        "count": jnp.stack([train.sum(), (~train).sum()]),
    }


def _losses(rows: jax.Array, label: jax.Array, tie: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(M, Q), (M,) → (M,), (M,): cross-entropies, exact for small ones too; credit."""
    own = jnp.take_along_axis(rows, label[:, None], axis=1)[:, 0]
    others = jnp.where(label[:, None] == jnp.arange(rows.shape[1])[None], -jnp.inf, rows)
    rival = others.max(axis=1)
    lead = own - rival
    others -= rival[:, None]
    level = jnp.maximum(lead, 0)[:, None] - tie
    tied = 1 / (1 + (others >= level).sum(axis=1))
    credit = jnp.where(lead > tie, 1.0, jnp.where(jnp.abs(lead) <= tie, tied, 0.0))
    log_rivals = jnp.log(jnp.exp(others).sum(axis=1))
    return jnp.logaddexp(0.0, log_rivals - lead), credit
