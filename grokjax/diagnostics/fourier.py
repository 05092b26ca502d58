"""Fourier measures of networks that compute on residues, after Nanda et al. (arXiv:2301.05217).

Residues 0 … n − 1 carry the orthonormal real basis of their published figure script: the constant,
and for each frequency k the two waves √(2/n) cos(w_k x) and √(2/n) sin(w_k x) with w_k = 2πk/n,
k = 1 … ⌊n/2⌋. For even n (residues without 0, read by discrete logarithm) the last frequency has
one wave, the alternating signs over √n.

Over the n² inputs (a, b), in rows a·n + b, a frequency has the eight waves of a, of b, and the
four products of both. The products span the same space as the waves of a + b and of a − b, so all
that is needed of n² rows are their sums over inputs with equal a, b, a + b and a − b.

Arrays may be NumPy's or JAX's, of any real dtype; sums are float64; what comes back is NumPy's or
Python's. Non-finite values give NaN (and no key frequency), not an error.

Shapes: N residues, F = ⌊N/2⌋ frequencies, W neurons, Q outputs, K key frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Options, Rows, RunView, Table
from grokjax.diagnostics._exclusion import Inputs, evaluate

Floats = NDArray[np.float64]

ADDITIVE = ("add", "subtract")
MULTIPLICATIVE = ("multiply", "divide")

# A neuron whose variance is below this share of its mean square varies by rounding alone.
_CONSTANT = 1e-10


class NeuronFrequencies(NamedTuple):
    """For each neuron the frequency that explains most of it, and how much."""

    frequency: NDArray[np.int64]  # (W,); 0 where a neuron is constant or not finite
    explained: Floats  # (W,); share of the neuron's variance, NaN where frequency is 0


class RestrictedExcluded(NamedTuple):
    """Losses in nats; floats, or arrays of shape (K,) for one key frequency at a time."""

    restricted_loss: Any
    excluded_loss: Any
    restricted_accuracy: Any
    excluded_accuracy: Any


class Concentration(NamedTuple):
    """How few frequencies hold a spectrum's power, the constant left aside."""

    top_share: float  # share of the power in the n_top strongest frequencies
    effective_frequencies: float  # inverse Simpson index: m when m frequencies share equally
    gini: float  # 0 for equal shares, 1 − 1/F for one frequency


def spectrum(rows: ArrayLike | jax.Array) -> Floats:
    """Power of each frequency in rows indexed by residue: an embedding, or heads' q, k, v rows.

    Args:
        rows: Shape (n, …, d), n at least 3: row x belongs to residue x. Read rows through
            :func:`residue_order` first where the operation is multiplicative.

    Returns:
        Shape (…, ⌊n/2⌋ + 1), float64: for an embedding (p, d) one spectrum, for heads (p, h, d)
        one a head. Entry 0 is the constant, entry k frequency k: the squared coefficients of its
        waves, summed over the last axis. A spectrum sums to the squared norm of its rows.

    Raises:
        ValueError: Fewer than two axes or than 3 residues.
    """
    array = np.asarray(rows, np.float64)
    if array.ndim < 2 or array.shape[0] < 3:
        raise ValueError(f"rows must have shape (n, ..., d) with n >= 3, not {array.shape}")
    n = array.shape[0]
    table = array.reshape(n, -1)
    with np.errstate(invalid="ignore", over="ignore"):
        constant = table.sum(axis=0, keepdims=True) ** 2 / n
        power = np.concatenate([constant, _wave_power(table)])
        summed: Floats = power.reshape(-1, *array.shape[1:]).sum(axis=-1)
    return np.moveaxis(summed, 0, -1)


def shares(power: ArrayLike) -> Floats:
    """Share of each frequency in a spectrum's power, the constant left out.

    Args:
        power: Shape (…, F + 1), as from :func:`spectrum`.

    Returns:
        Shape (…, F), float64: entry k − 1 is frequency k; sums to 1. NaN where there is no power
        beside the constant.
    """
    waves = np.asarray(power, np.float64)[..., 1:]
    with np.errstate(invalid="ignore"):
        result: Floats = waves / waves.sum(axis=-1, keepdims=True)
    return result


def concentration(power: ArrayLike, n_top: int = 6) -> Concentration:
    """Three measures of how concentrated one spectrum is.

    The share of the strongest frequencies; the inverse Simpson index 1 / Σ s² (Hill 1973, order
    2; the participation ratio) of shares s; and the Gini coefficient as a measure of sparsity
    (Hurley and Rickard 2009, arXiv:0811.4706), which Nanda et al. take of norms instead: pass
    ``np.sqrt(power)`` for theirs.

    Args:
        power: Shape (F + 1,), as from :func:`spectrum`.
        n_top: How many frequencies ``top_share`` counts.

    Returns:
        Three floats, NaN where there is no power beside the constant, or it is not finite.

    Raises:
        ValueError: On another shape, or ``n_top`` outside 1 … F.
    """
    array = np.asarray(power, np.float64)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"power must have shape (F + 1,) with F >= 1, not {array.shape}")
    share = np.sort(shares(array))
    n = share.size
    if not 1 <= n_top <= n:
        raise ValueError(f"n_top is {n_top}; it must be from 1 to {n}, the number of frequencies")
    weights = (n - np.arange(n) - 0.5) / n
    return Concentration(
        top_share=float(share[-n_top:].sum()),
        effective_frequencies=float(1 / (share**2).sum()),
        gini=float(1 - 2 * (share * weights).sum()),
    )


def circularity(embedding: ArrayLike | jax.Array, n_components: int = 4) -> float:
    """Circularity of Zhong et al. (arXiv:2306.17844): do principal components lie on one wave?

    For each of the first principal components (scores of the centred rows), the largest share of
    its power at one frequency, averaged. 1 for circles of distinct size. Where two frequencies
    have equal power, components mix them, and the measure falls: it is the paper's, as it stands.

    Args:
        embedding: Shape (n, d), n at least 3.
        n_components: How many components; the paper takes 4. Components that do not exist (fewer
            dimensions, or a singular value of 0 to rounding) are left out of the average.

    Returns:
        From 0 to 1. NaN where rows are not finite or all the same.

    Raises:
        ValueError: On another shape, or no components asked for.
    """
    rows = np.asarray(embedding, np.float64)
    if rows.ndim != 2 or rows.shape[0] < 3:
        raise ValueError(f"embedding must have shape (n, d) with n >= 3, not {rows.shape}")
    if n_components < 1:
        raise ValueError(f"n_components is {n_components}; it must be at least 1")
    if not np.isfinite(rows).all():
        return math.nan
    scores, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    # Rows are float32 as a rule: what is below their rounding is no component.
    rounding = np.finfo(np.float32).eps
    if sizes[0] <= rounding * np.linalg.norm(rows):
        return math.nan
    real = sizes > rounding * max(rows.shape) * sizes[0]
    return float(_wave_power(scores[:, real][:, :n_components]).max(axis=0).mean())


def neuron_frequencies(neurons: ArrayLike | jax.Array) -> NeuronFrequencies:
    """The frequency whose eight waves over inputs explain most of each neuron's variance.

    Args:
        neurons: Shape (n², w), rows a·n + b, n at least 3: post-activation values. They are
            centred over all n² inputs.

    Returns:
        :class:`NeuronFrequencies`. A neuron that varies by less than 1e-5 of its root mean square
        has no frequency.

    Raises:
        ValueError: On another shape.
    """
    array = np.asarray(neurons)
    n = _side(array, "neurons")
    blocks = array.reshape(n, n, -1)
    first = blocks[0, 0].astype(np.float64)
    by_a, by_b, by_sum, by_difference = np.zeros((4, n, array.shape[1]))
    squares = np.zeros(array.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        for a in range(n):
            # Less its first value a neuron loses little to cancellation, and a constant is 0.
            block = blocks[a] - first
            by_a[a] = block.sum(axis=0)
            by_b += block
            by_sum[a:] += block[: n - a]
            by_sum[:a] += block[n - a :]
            by_difference[: n - a] += block[a:]
            by_difference[n - a :] += block[:a]
            squares += np.einsum("bw,bw->w", block, block)
        mean = by_b.sum(axis=0) / n**2
        variance = squares - n**2 * mean**2
        mean_square = variance + n**2 * (mean + first) ** 2
        power = _wave_power(by_a) + _wave_power(by_b) + _wave_power(by_sum)
        # At the last frequency of an even n, a + b and a − b are the same wave.
        distinct = slice(None, (n - 1) // 2)
        power[distinct] += _wave_power(by_difference)[distinct]
        varies = np.isfinite(power).all(axis=0) & (variance > _CONSTANT * mean_square)
        winner = np.where(varies, power.argmax(axis=0), 0)
        best = np.take_along_axis(power, winner[None], axis=0)[0] / n
        explained = np.divide(best, variance, out=np.full_like(best, np.nan), where=varies)
    return NeuronFrequencies(np.where(varies, winner + 1, 0), explained)


def key_frequencies(neurons: ArrayLike | jax.Array) -> tuple[int, ...]:
    """The distinct frequencies that :func:`neuron_frequencies` finds, ascending.

    Nanda et al.'s definition has no threshold: neurons without structure, as at initialisation,
    give nearly every frequency. It is their ``explained`` shares that tell.

    Args:
        neurons: As for :func:`neuron_frequencies`.

    Returns:
        Integers in 1 … ⌊n/2⌋; empty where no neuron varies or is finite.

    Raises:
        ValueError: On another shape.
    """
    frequency = neuron_frequencies(neurons).frequency
    return tuple(int(k) for k in np.unique(frequency[frequency > 0]))


def restricted_and_excluded(
    logits: ArrayLike | jax.Array,
    labels: ArrayLike | jax.Array,
    train_mask: ArrayLike | jax.Array,
    key_frequencies: Iterable[int],
) -> RestrictedExcluded:
    """Loss and accuracy with the key frequencies' waves of a + b alone, and without them.

    Each output's logits, as a function of the n² inputs, are projected on the normalised waves
    cos(w_k (a + b)) and sin(w_k (a + b)) of the key frequencies k. *Restricted*: these projections
    plus each output's mean over the inputs; cross-entropy and accuracy over all n² inputs.
    *Excluded*: the logits less the projections; over the training inputs.

    The prediction is the largest logit. Where m logits, the label's among them, are largest to
    within 2.5e-7 (two float32 roundings) of the largest original logit of any input, the input
    counts 1/m, as on average under a random choice: where nothing but rounding is left, accuracy
    is that of chance.

    Args:
        logits: Shape (n², q), rows a·n + b, without padding; q is n, or p where the residue 0
            is left out.
        labels: Shape (n²,), integers below q: what the loss is taken against.
        train_mask: Shape (n²,), boolean.
        key_frequencies: Frequencies in 1 … ⌊n/2⌋, as from :func:`key_frequencies`; repeated ones
            count once. May be empty.

    Returns:
        Four floats. All are NaN where any logit is not finite; the excluded ones where nothing
        trains.

    Raises:
        ValueError: On other shapes, labels or frequencies.
    """
    inputs = _check_inputs(logits, labels, train_mask)
    frequencies = _check_frequencies(key_frequencies, inputs.n)
    return RestrictedExcluded(*(float(value) for value in evaluate(inputs, [frequencies])[:, 0]))


def restricted_and_excluded_by_frequency(
    logits: ArrayLike | jax.Array,
    labels: ArrayLike | jax.Array,
    train_mask: ArrayLike | jax.Array,
    key_frequencies: Iterable[int],
) -> RestrictedExcluded:
    """:func:`restricted_and_excluded` with each key frequency alone, restricted or excluded.

    Args:
        logits: As for :func:`restricted_and_excluded`, and so for the others.
        labels: See above.
        train_mask: See above.
        key_frequencies: See above.

    Returns:
        Four arrays of shape (K,), float64, for the K distinct frequencies in ascending order.

    Raises:
        ValueError: As :func:`restricted_and_excluded`.
    """
    inputs = _check_inputs(logits, labels, train_mask)
    frequencies = _check_frequencies(key_frequencies, inputs.n)
    return RestrictedExcluded(*evaluate(inputs, [[k] for k in frequencies]))


def residue_order(n_residues: int, operation: str) -> NDArray[np.int64]:
    """The order in which residues are read so that the operation becomes addition of places.

    Args:
        n_residues: p; a prime for multiplicative operations.
        operation: ``"add"`` or ``"subtract"`` (the residues as they are), ``"multiply"`` or
            ``"divide"`` (:func:`discrete_log_order`).

    Returns:
        Shape (p,) or, multiplicative, (p − 1,): ``rows[residue_order(p, op)]`` is what
        :func:`spectrum` and :func:`circularity` are to be given. Rows of pairs are read likewise,
        ``rows[(order[:, None] * p + order).ravel()]``; outputs may keep their order.

    Raises:
        ValueError: An unknown operation, or as :func:`discrete_log_order`.
    """
    if operation in ADDITIVE:
        return np.arange(n_residues)
    if operation in MULTIPLICATIVE:
        return discrete_log_order(n_residues)
    known = ", ".join(ADDITIVE + MULTIPLICATIVE)
    raise ValueError(f"operation is {operation!r}; orders are known for {known}")


def discrete_log_order(p: int) -> NDArray[np.int64]:
    """Nonzero residues as powers of the least primitive root g: entry i is g^i mod p.

    The product of entries i and j is entry (i + j) mod (p − 1). The residue 0 has no logarithm and
    is left out.

    Args:
        p: An odd prime.

    Returns:
        Shape (p − 1,), integers; a permutation of 1 … p − 1 starting at 1.

    Raises:
        ValueError: ``p`` is not an odd prime.
    """
    if p < 3 or any(p % d == 0 for d in range(2, math.isqrt(p) + 1)):
        raise ValueError(f"discrete logarithms need an odd prime, not {p}")
    for root in range(2, p):
        powers = [1]
        while (power := powers[-1] * root % p) != 1:
            powers.append(power)
        if len(powers) == p - 1:
            break
    return np.array(powers)


def _side(array: NDArray[Any], name: str) -> int:
    """N of an array of N² rows."""
    n = math.isqrt(array.shape[0]) if array.ndim else 0
    if array.ndim != 2 or n < 3 or n * n != array.shape[0] or not array.shape[1]:
        raise ValueError(f"{name} must have n^2 rows, n >= 3, and 2 axes, not {array.shape}")
    return n


def _check_inputs(logits: Any, labels: Any, train_mask: Any) -> Inputs:
    array, label, mask = np.asarray(logits), np.asarray(labels), np.asarray(train_mask)
    n = _side(array, "logits")
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
    return Inputs(n, array, label.astype(np.int64), mask)


def _check_frequencies(frequencies: Iterable[int], n: int) -> list[int]:
    distinct = sorted({int(k) for k in frequencies})
    if distinct and (distinct[0] < 1 or distinct[-1] > n // 2):
        raise ValueError(f"key frequencies of {n} residues are from 1 to {n // 2}, not {distinct}")
    return distinct


def _wave_power(table: Floats) -> Floats:
    """(N, …) → (F, …): squared coefficients of each frequency's waves, summed over its waves."""
    n = table.shape[0]
    # The transform, unlike products with the basis, waits for no other thread.
    power: Floats = np.abs(np.fft.rfft(table, axis=0)[1:]) ** 2 * (2 / n)
    if n % 2 == 0:
        power[-1] /= 2
    return power


# --------------------------------------------------------------------------- as a diagnostic

_MEASURES = dict.fromkeys(RestrictedExcluded._fields, "float64")
TABLES = {
    "fourier": Table(
        columns={
            "key_frequencies": "str",
            "explained": "float64",
            **_MEASURES,
            "concentration": "float64",
            "effective_frequencies": "float64",
            "gini": "float64",
            "circularity": "float64",
        }
    ),
    "spectra": Table(
        columns={"matrix": "str", "frequency": "int64", "power": "float64"},
        unit=("run_id", "step", "matrix"),
        within=("frequency",),
    ),
    "key_frequencies": Table(
        columns={"frequency": "int64", "n_neurons": "int64", **_MEASURES},
        within=("frequency",),
        optional=True,
    ),
}
SETTINGS = ()


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Every Fourier measure of the runs at one checkpoint, residues in the operation's order.

    ``key_frequencies`` is a comma list, empty where there are none; ``explained`` is the mean over
    neurons of the share of their variance that their frequency explains: it tells structure from
    the nearly all frequencies that untrained neurons give. ``concentration`` is the share
    of the embedding's power in its six strongest frequencies. Spectra are those of the embedding
    and of each head's rows (``query0`` …); frequency 0 is the constant.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for view in views:
        key = {"run_id": view.run_id, "step": view.step}
        order, pairs = _reading(view.prime, view.operation)
        inputs = (view.logits()[pairs], view.labels[pairs], view.train_mask[pairs])
        found = neuron_frequencies(view.neurons()[pairs])
        frequencies, n_neurons = np.unique(found.frequency[found.frequency > 0], return_counts=True)
        explained = found.explained[np.isfinite(found.explained)]
        power = spectrum(view.embedding[order])
        concentrated = concentration(power, n_top=min(6, power.size - 1))
        rows["fourier"].append(
            {
                **key,
                "key_frequencies": ",".join(map(str, frequencies)),
                "explained": float(explained.mean()) if explained.size else math.nan,
                **restricted_and_excluded(*inputs, frequencies)._asdict(),
                "concentration": concentrated.top_share,
                "effective_frequencies": concentrated.effective_frequencies,
                "gini": concentrated.gini,
                "circularity": circularity(view.embedding[order]),
            }
        )
        spectra = {"embedding": power}
        for name, head_rows in view.head_rows().items():
            spectra |= {f"{name}{h}": one for h, one in enumerate(spectrum(head_rows[order]))}
        rows["spectra"] += [
            {**key, "matrix": matrix, "frequency": k, "power": float(value)}
            for matrix, powers in spectra.items()
            for k, value in enumerate(powers)
        ]
        if options.save_key_frequencies:
            alone = restricted_and_excluded_by_frequency(*inputs, frequencies)
            rows["key_frequencies"] += [
                {
                    **key,
                    "frequency": int(k),
                    "n_neurons": int(n),
                    **dict(zip(_MEASURES, values, strict=True)),
                }
                for k, n, *values in zip(frequencies, n_neurons, *alone, strict=True)
            ]
    return rows


def _reading(p: int, operation: str) -> tuple[NDArray[np.int64], Any]:
    """Residues, and rows a · p + b of pairs, so read that the operation adds places."""
    order = residue_order(p, operation)
    if operation == "add":
        return order, slice(None)
    # a − b and a / b are sums with the second residue read backwards.
    backwards = operation in ("subtract", "divide")
    second = np.roll(order[::-1], 1) if backwards else order
    return order, (order[:, None] * p + second).ravel()
