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

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Options, Rows, RunView, Structure, Table, irreps
from grokjax.diagnostics._exclusion import NEGLIGIBLE, KeySets, check_inputs, evaluate, side
from grokjax.diagnostics._exclusion import RestrictedExcluded as RestrictedExcluded
from grokjax.diagnostics.spectra import Concentration as Concentration
from grokjax.diagnostics.spectra import circularity as circularity
from grokjax.diagnostics.spectra import concentration as concentration
from grokjax.diagnostics.spectra import discrete_log_order as discrete_log_order
from grokjax.diagnostics.spectra import shares as shares
from grokjax.diagnostics.spectra import spectrum as spectrum
from grokjax.diagnostics.spectra import wave_power

if TYPE_CHECKING:
    import jax

Floats = NDArray[np.float64]


class NeuronFrequencies(NamedTuple):
    """For each neuron the frequency that explains most of it, and how much."""

    frequency: NDArray[np.int64]  # (W,); 0 where a neuron is constant or not finite
    explained: Floats  # (W,); share of the neuron's variance, NaN where frequency is 0


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
    n = side(array, "neurons")
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
        power = wave_power(by_a) + wave_power(by_b) + wave_power(by_sum)
        # At the last frequency of an even n, a + b and a − b are the same wave.
        distinct = slice(None, (n - 1) // 2)
        power[distinct] += wave_power(by_difference)[distinct]
        varies = np.isfinite(power).all(axis=0) & (variance > NEGLIGIBLE * mean_square)
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
    inputs = check_inputs(logits, labels, train_mask)
    frequencies = _check_frequencies(key_frequencies, len(inputs.totals))
    return RestrictedExcluded(*evaluate(inputs, [frequencies], _on_waves)[:, 0].tolist())


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
    inputs = check_inputs(logits, labels, train_mask)
    frequencies = _check_frequencies(key_frequencies, len(inputs.totals))
    return RestrictedExcluded(*evaluate(inputs, [[k] for k in frequencies], _on_waves))


def _check_frequencies(frequencies: Iterable[int], n: int) -> list[int]:
    distinct = sorted({int(k) for k in frequencies})
    if distinct and (distinct[0] < 1 or distinct[-1] > n // 2):
        raise ValueError(f"key frequencies of {n} residues are from 1 to {n // 2}, not {distinct}")
    return distinct


def _on_waves(sums: Floats, key_sets: KeySets) -> Floats:
    """(N, Q) sums by total → (S, N, Q): parts of an input's logits at each set's frequencies."""
    n = len(sums)
    transform = np.fft.rfft(sums, axis=0) / n
    parts = np.zeros((len(key_sets), *sums.shape))
    for part, keys in zip(parts, key_sets, strict=True):
        k = np.array(keys, int)
        # Reduced before it becomes an angle, the product keeps every entry to rounding.
        angle = 2 * np.pi * (np.outer(np.arange(n), k) % n) / n
        weight = np.where(2 * k == n, 1, 2) / n
        # einsum, unlike a matrix product this small, waits for no other thread.
        part[:] = np.einsum("sk,kq->sq", np.cos(angle) * weight, transform.real[k])
        part -= np.einsum("sk,kq->sq", np.sin(angle) * weight, transform.imag[k])
    return parts


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
        },
        empty=("explained", "circularity", *_MEASURES),
    ),
    "spectra": Table(
        columns={
            "matrix": "str",
            "frequency": "int64",
            "irrep": "str",
            "degree": "int64",
            "power": "float64",
        },
        unit=("run_id", "step", "matrix"),
        within=("frequency",),
        # Version 0.1 knew cyclic groups alone.
        later={"irrep": lambda frame: frame["frequency"].astype("str"), "degree": 1},
    ),
    "key_frequencies": Table(
        columns={"frequency": "int64", "n_neurons": "int64", **_MEASURES},
        within=("frequency",),
        optional=True,
    ),
}
SETTINGS = ()
NEEDS_STRUCTURE = True


class Lens(NamedTuple):
    """The measures of one structure: by frequency for a cycle, by irrep for any other group."""

    names: Sequence[str]
    degrees: Any  # (K,) integers
    sizes: Any  # (K,) integers, dimensions of the functions of each; they sum to the elements
    power: Callable[[Any], Floats]  # of rows in the group's order
    neurons: Callable[[Any], tuple[Any, Any]]  # each neuron's frequency or irrep, and its share
    together: Callable[..., RestrictedExcluded]  # of logits, labels, mask and keys
    one_by_one: Callable[..., RestrictedExcluded]


def lens_of(structure: Structure) -> Lens:
    """The measures that a structure calls for."""
    # A conjugate in a cycle is no sum of places.
    sums = structure.asked is None or np.array_equal(structure.asked, structure.table)
    if structure.kind == "cyclic" and sums:
        n = len(structure.elements)
        frequencies = range(n // 2 + 1)
        return Lens(
            [str(k) for k in frequencies],
            [1 for _ in frequencies],
            [1 if 2 * k % n == 0 else 2 for k in frequencies],
            spectrum,
            neuron_frequencies,
            restricted_and_excluded,
            restricted_and_excluded_by_frequency,
        )
    found, asked = irreps.decompose(structure.table), structure.asked
    asked = structure.table if asked is None else asked  # and then not used
    return Lens(
        found.names,
        found.dimensions,
        found.sizes,
        lambda rows: irreps.power(rows, found),
        lambda neurons: irreps.neuron_irreps(neurons, found),
        functools.partial(irreps.restricted_and_excluded, table=asked, irreps=found),
        functools.partial(irreps.restricted_and_excluded_by_irrep, table=asked, irreps=found),
    )


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Every Fourier measure of the runs at one checkpoint, elements in their group's order.

    A frequency is one of a cycle of residues, or the number of an irreducible representation of
    another group, whose name and degree are in the spectra. ``key_frequencies`` is a comma list,
    empty where there are none; ``explained`` is the mean over neurons of the share of their
    variance that their frequency explains: it tells structure from the nearly all frequencies that
    untrained neurons give. ``concentration`` is the share of the embedding's power in its six
    strongest frequencies. Spectra are those of the embedding and of each head's rows (``query0``
    …); frequency 0 is the constant. Restricted and excluded measures are NaN for a task that asks
    for no product of its elements, circularity is for elements that are no cycle.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for view in views:
        if view.structure is not None:
            for name, own in _measure_one(view, view.structure, options).items():
                rows[name] += own
    return rows


def _measure_one(view: RunView, structure: Structure, options: Options) -> Rows:
    key = {"run_id": view.run_id, "step": view.step}
    lens, order = lens_of(structure), structure.elements
    pairs: Any = (order[:, None] * len(view.embedding) + structure.second).ravel()
    if np.array_equal(pairs, np.arange(len(view.labels))):
        pairs = slice(None)  # a view instead of a copy
    inputs = (view.logits()[pairs], view.labels[pairs], view.train_mask[pairs])
    found, share = lens.neurons(view.neurons()[pairs])
    frequencies, n_neurons = np.unique(found[found > 0], return_counts=True)
    explained = share[np.isfinite(share)]
    power = lens.power(view.embedding[order])
    concentrated = concentration(power, n_top=min(6, power.size - 1))
    one_cycle = len(structure.cycles) == 1
    asks = structure.asked is not None
    measures = lens.together(*inputs, frequencies) if asks else _NOTHING
    one = {
        **key,
        "key_frequencies": ",".join(map(str, frequencies)),
        "explained": float(explained.mean()) if explained.size else math.nan,
        **measures._asdict(),
        "concentration": concentrated.top_share,
        "effective_frequencies": concentrated.effective_frequencies,
        "gini": concentrated.gini,
        "circularity": circularity(view.embedding[order]) if one_cycle else math.nan,
    }
    spectra = {"embedding": power}
    for name, head_rows in view.head_rows().items():
        spectra |= {f"{name}{h}": own for h, own in enumerate(lens.power(head_rows[order]))}
    columns = zip(range(len(power)), lens.names, lens.degrees, strict=True)
    described = [dict(zip(("frequency", "irrep", "degree"), own, strict=True)) for own in columns]
    rows: dict[str, list[dict[str, Any]]] = {"fourier": [one], "spectra": [], "key_frequencies": []}
    for matrix, powers in spectra.items():
        own = {**key, "matrix": matrix}
        rows["spectra"] += [
            own | about | {"power": float(value)}
            for about, value in zip(described, powers, strict=True)
        ]
    if options.save_key_frequencies and asks:
        alone = lens.one_by_one(*inputs, frequencies)
        rows["key_frequencies"] = [
            {**key, "frequency": int(k), "n_neurons": int(n)}
            | dict(zip(_MEASURES, map(float, values), strict=True))
            for k, n, *values in zip(frequencies, n_neurons, *alone, strict=True)
        ]
    return rows


_NOTHING = RestrictedExcluded(math.nan, math.nan, math.nan, math.nan)
