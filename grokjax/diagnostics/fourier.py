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
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Options, Rows, RunView, Structure, Table, _exclusion, irreps
from grokjax.diagnostics._exclusion import RestrictedExcluded as RestrictedExcluded
from grokjax.diagnostics.spectra import Concentration as Concentration
from grokjax.diagnostics.spectra import circularity as circularity
from grokjax.diagnostics.spectra import concentration as concentration
from grokjax.diagnostics.spectra import discrete_log_order as discrete_log_order
from grokjax.diagnostics.spectra import shares as shares
from grokjax.diagnostics.spectra import spectrum as spectrum
from grokjax.diagnostics.spectra import wave_power

Floats = NDArray[np.float64]


class NeuronFrequencies(NamedTuple):
    """For each neuron the frequency that explains most of it, and how much."""

    frequency: NDArray[np.int64]  # (W,); 0 where a neuron is constant or not finite
    explained: Floats  # (W,); share of the neuron's variance, NaN where frequency is 0


def neuron_frequencies(neurons: ArrayLike) -> NeuronFrequencies:
    """The frequency whose eight waves over inputs explain most of each neuron's variance.

    Neurons are post-activation values of shape (n², w), rows a·n + b, n at least 3; they are
    centred over all n² inputs. One that varies by less than 1e-5 of its root mean square has no
    frequency.

    Raises:
        ValueError: On another shape.
    """
    array = np.asarray(neurons)
    n = _exclusion.side(array, "neurons")
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
        return NeuronFrequencies(*_exclusion.strongest(power, n, variance, mean_square))


def key_frequencies(neurons: ArrayLike) -> tuple[int, ...]:
    """The distinct frequencies that :func:`neuron_frequencies` finds, ascending; may be empty.

    Nanda et al.'s definition has no threshold: neurons without structure, as at initialisation,
    give nearly every frequency. It is their ``explained`` shares that tell.
    """
    frequency = neuron_frequencies(neurons).frequency
    return tuple(np.unique(frequency[frequency > 0]).tolist())


def restricted_and_excluded(
    logits: ArrayLike, labels: ArrayLike, train_mask: ArrayLike, key_frequencies: Iterable[int]
) -> RestrictedExcluded:
    """Loss and accuracy with the key frequencies' waves of a + b alone, and without them.

    Each output's logits, as a function of the n² inputs, are projected on the normalised waves
    cos(w_k (a + b)) and sin(w_k (a + b)) of the key frequencies k. *Restricted*: these projections
    plus each output's mean over the inputs; cross-entropy and accuracy over all n² inputs.
    *Excluded*: the logits less the projections; over the training inputs.

    The prediction is the largest logit. Where m logits, the label's among them, are largest to
    within 2.5e-7 (two float32 roundings) of the largest original logit of any input, the input
    counts 1/m, as on average under a random choice: where nothing but rounding is left, accuracy
    is that of chance. All four numbers are NaN where any logit is not finite; the excluded ones
    where nothing trains.

    Args:
        logits: Shape (n², q), rows a·n + b, without padding; q is n, or p where the residue 0
            is left out.
        labels: Shape (n²,), integers below q: what the loss is taken against.
        train_mask: Shape (n²,), boolean.
        key_frequencies: Frequencies in 1 … ⌊n/2⌋; repeated ones count once. May be empty.

    Raises:
        ValueError: On other shapes, labels or frequencies.
    """
    return _exclusion.together(*_checked(logits, labels, train_mask, key_frequencies), _on_waves)


def restricted_and_excluded_by_frequency(
    logits: ArrayLike, labels: ArrayLike, train_mask: ArrayLike, key_frequencies: Iterable[int]
) -> RestrictedExcluded:
    """:func:`restricted_and_excluded` of each key frequency alone: four arrays (K,), ascending."""
    return _exclusion.one_by_one(*_checked(logits, labels, train_mask, key_frequencies), _on_waves)


def _checked(
    logits: Any, labels: Any, train_mask: Any, frequencies: Iterable[int]
) -> tuple[_exclusion.Inputs, list[int]]:
    inputs = _exclusion.check_inputs(logits, labels, train_mask)
    n = len(inputs.totals)
    return inputs, _exclusion.distinct(frequencies, n // 2, f"key frequencies of {n} residues")


def _on_waves(sums: Floats, key_sets: _exclusion.KeySets) -> Floats:
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


_MEASURES = dict.fromkeys(RestrictedExcluded._fields, "float64")
_NOTHING = RestrictedExcluded(math.nan, math.nan, math.nan, math.nan)
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


class _Lens(NamedTuple):
    """The measures of one structure: by frequency for a cycle, by irrep for any other group."""

    names: Sequence[str]
    degrees: Any  # (K,) integers
    power: Callable[[Any], Floats]
    neurons: Callable[[Any], tuple[Any, Any]]  # each neuron's frequency or irrep, and its share
    parts: _exclusion.Parts
    totals: Any = None  # (N, N) element that each input asks for; None for sums of places


def _lens(structure: Structure) -> _Lens:
    # A conjugate in a cycle is no sum of places.
    sums = structure.asked is None or np.array_equal(structure.asked, structure.table)
    if structure.kind == "cyclic" and sums:
        n = len(structure.elements) // 2 + 1
        return _Lens([str(k) for k in range(n)], [1] * n, spectrum, neuron_frequencies, _on_waves)
    found = irreps.decompose(structure.table)
    return _Lens(
        found.names,
        found.dimensions,
        lambda rows: irreps.power(rows, found),
        lambda neurons: irreps.neuron_irreps(neurons, found),
        lambda sums, key_sets: irreps.in_blocks(sums, key_sets, found),
        structure.asked,
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
    lens, order = _lens(structure), structure.elements
    pairs: Any = (order[:, None] * len(view.embedding) + structure.second).ravel()
    if np.array_equal(pairs, np.arange(len(view.labels))):
        pairs = slice(None)  # a view instead of a copy
    found, share = lens.neurons(view.neurons()[pairs])
    frequencies, n_neurons = np.unique(found[found > 0], return_counts=True)
    keys = frequencies.tolist()
    explained = share[np.isfinite(share)]
    power = lens.power(view.embedding[order])
    concentrated = concentration(power, n_top=min(6, power.size - 1))
    one_cycle = len(structure.cycles) == 1
    measures, alone = _NOTHING, None
    if structure.asked is not None:
        asked = (view.logits()[pairs], view.labels[pairs], view.train_mask[pairs])
        inputs = _exclusion.check_inputs(*asked, lens.totals)
        measures = _exclusion.together(inputs, keys, lens.parts)
        if options.save_key_frequencies:
            alone = _exclusion.one_by_one(inputs, keys, lens.parts)
    one = {
        **key,
        "key_frequencies": ",".join(map(str, keys)),
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
    rows: dict[str, list[dict[str, Any]]] = {"fourier": [one], "spectra": [], "key_frequencies": []}
    for matrix, powers in spectra.items():
        values = zip(lens.names, lens.degrees, map(float, powers), strict=True)
        for k, (name, degree, value) in enumerate(values):
            own = {"frequency": k, "irrep": name, "degree": degree, "power": value}
            rows["spectra"].append({**key, "matrix": matrix, **own})
    if alone:
        rows["key_frequencies"] = [
            {**key, "frequency": k, "n_neurons": int(n)}
            | dict(zip(_MEASURES, map(float, values), strict=True))
            for k, n, *values in zip(keys, n_neurons, *alone, strict=True)
        ]
    return rows
