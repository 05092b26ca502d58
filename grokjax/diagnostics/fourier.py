"""Fourier measures of networks that compute on residues, after Nanda et al. (arXiv:2301.05217).

Residues 0 … n − 1 carry the orthonormal real basis of their published figure script: the constant,
and for each frequency k the two waves √(2/n) cos(w_k x) and √(2/n) sin(w_k x) with w_k = 2πk/n,
k = 1 … ⌊n/2⌋. For even n (residues without 0, read by discrete logarithm) the last frequency has
one wave, the alternating signs over √n.

Over the n² inputs (a, b), in rows a·n + b, a frequency has the eight waves of a, of b, and the
four products of both, which span the same space as the waves of a + b and of a − b.

Arrays may be NumPy's or JAX's, of any real dtype; sums are float64; what comes back is NumPy's or
Python's. Non-finite values give NaN (and no key frequency), not an error.

Shapes: N residues, F = ⌊N/2⌋ frequencies, W neurons, Q outputs, K key frequencies.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from grokjax.diagnostics import (
    Options,
    Rows,
    RunArrays,
    RunView,
    Structure,
    Table,
    _exclusion,
    irreps,
)
from grokjax.diagnostics._exclusion import Floats, Lens, NeuronFrequencies, RestrictedExcluded


class Concentration(NamedTuple):
    """How few frequencies hold a spectrum's power, the constant left aside."""

    top_share: float  # share of the power in the n_top strongest frequencies
    effective_frequencies: float  # inverse Simpson index: m when m frequencies share equally
    gini: float  # 0 for equal shares, 1 − 1/F for one frequency


def spectrum(rows: ArrayLike) -> Floats:
    """Power of each frequency in rows indexed by residue: an embedding, or heads' q, k, v rows.

    Rows (n, …, d), n at least 3, row x of residue x (in the order of discrete logarithms where the
    operation is multiplicative), give (…, ⌊n/2⌋ + 1), float64. Entry 0 is the constant, entry k
    frequency k: the squared coefficients of its waves, summed over the last axis. A spectrum sums
    to the squared norm of its rows.

    Raises:
        ValueError: Fewer than two axes or than 3 residues.
    """
    array = np.asarray(rows, np.float64)
    if array.ndim < 2 or len(array) < 3:
        raise ValueError(f"rows must have shape (n, ..., d) with n >= 3, not {array.shape}")
    table = array.reshape(len(array), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        constant = table.sum(axis=0, keepdims=True) ** 2 / len(array)
        power = np.concatenate([constant, _wave_power(table)])
        summed = power.reshape(-1, *array.shape[1:]).sum(axis=-1)
    return np.moveaxis(summed, 0, -1)


def shares(power: ArrayLike) -> Floats:
    """(…, F + 1) spectra → (…, F) shares of the power, float64, the constant left out.

    Entry k − 1 is frequency k. NaN where there is no power beside the constant.
    """
    waves = np.asarray(power, np.float64)[..., 1:]
    with np.errstate(invalid="ignore"):
        return waves / waves.sum(axis=-1, keepdims=True)


def concentration(power: ArrayLike, n_top: int = 6) -> Concentration:
    """Three measures of how concentrated one spectrum (F + 1,) is; ``n_top`` is for ``top_share``.

    The share of the strongest frequencies; the inverse Simpson index 1 / Σ s² (Hill 1973, order
    2; the participation ratio) of shares s; and the Gini coefficient as a measure of sparsity
    (Hurley and Rickard 2009, arXiv:0811.4706), which Nanda et al. take of norms instead: pass
    ``np.sqrt(power)`` for theirs. NaN where there is no power beside the constant, or it is not
    finite.

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


def circularity(embedding: ArrayLike, n_components: int = 4) -> float:
    """Circularity of Zhong et al. (arXiv:2306.17844): do principal components lie on one wave?

    For each of the first principal components (scores of the centred rows) of an embedding (n, d),
    the largest share of its power at one frequency, averaged; the paper takes 4 components. 1 for
    circles of distinct size; where two frequencies have equal power, components mix them, and it
    falls. Components that do not exist (fewer dimensions, or a singular value of 0 to rounding) are
    left out of the average. NaN where rows are not finite or all the same.

    Raises:
        ValueError: Fewer than 3 rows, another shape, or no components asked for.
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


def _wave_power(table: Floats) -> Floats:
    """(N, …) → (F, …): squared coefficients of each frequency's waves, summed over its waves."""
    n = table.shape[0]
    # The transform, unlike products with the basis, waits for no other thread.
    power: Floats = np.abs(np.fft.rfft(table, axis=0)[1:]) ** 2 * (2 / n)
    if n % 2 == 0:
        power[-1] /= 2
    return power


def neuron_frequencies(neurons: ArrayLike) -> NeuronFrequencies:
    """The frequency whose eight waves over inputs explain most of each neuron's variance.

    Neurons are post-activation values (n², w), rows a·n + b, n at least 3, centred over all inputs.
    One that varies by less than 1e-5 of its root mean square has no frequency.

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
        power = _wave_power(by_a) + _wave_power(by_b) + _wave_power(by_sum)
        # At the last frequency of an even n, a + b and a − b are the same wave.
        distinct = slice(None, (n - 1) // 2)
        power[distinct] += _wave_power(by_difference)[distinct]
        return _exclusion.strongest(power, n, variance, mean_square)


def key_frequencies(neurons: ArrayLike, lens: Lens | None = None) -> tuple[int, ...]:
    """The distinct frequencies that :func:`neuron_frequencies` finds, ascending; may be empty.

    By the lens of another structure they are the irreps that its ``neurons`` finds. The definition
    has no threshold: neurons without structure, as at initialisation, give nearly every frequency.
    It is their ``explained`` shares that tell.
    """
    find = neuron_frequencies if lens is None else lens.neurons
    frequency = find(neurons).frequency
    return tuple(np.unique(frequency[frequency > 0]).tolist())


def restricted_and_excluded(
    logits: ArrayLike,
    labels: ArrayLike,
    train_mask: ArrayLike,
    key_frequencies: Iterable[int],
    lens: Lens | None = None,
    *,
    each: bool = False,
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
        logits: Shape (n², q), rows a·n + b, without padding; q is n, or p without residue 0.
        labels: Shape (n²,), integers below q: what the loss is taken against.
        train_mask: Shape (n²,), boolean.
        key_frequencies: Frequencies in 1 … ⌊n/2⌋; repeated ones count once. May be empty.
        lens: Of another structure than n residues, such as :func:`irreps.lens` gives; frequencies
            are then the numbers of its irreps.
        each: Each key frequency alone: four arrays (K,), frequencies ascending.

    Raises:
        ValueError: On other shapes, labels or frequencies.
    """
    if lens is None:
        lens = _lens_of_residues(_exclusion.side(np.asarray(logits), "logits"))
    return _exclusion.evaluate(logits, labels, train_mask, key_frequencies, lens, each)


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
_CONCENTRATION = dict.fromkeys(
    ("concentration", "effective_frequencies", "gini", "circularity"), "float64"
)
_LOGITS = _exclusion.OfLogits._fields
_NO_LOGITS = _exclusion.OfLogits("", math.nan, math.nan, math.nan)
TABLES = {
    "fourier": Table(
        columns={"key_frequencies": "str", "explained": "float64", **_MEASURES, **_CONCENTRATION}
        | dict(zip(_LOGITS, ("str", "float64", "float64", "float64"), strict=True)),
        empty=("explained", "circularity", *_MEASURES, *_LOGITS[1:]),
        later=_NO_LOGITS._asdict(),
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
        only_where=lambda fourier: (
            (fourier["key_frequencies"] != "") & fourier["restricted_loss"].notna()
        ),
    ),
}
SETTINGS = ()
NEEDS_STRUCTURE = True
ON_DEVICE = ("answers",)


def _is_cycle(structure: Structure) -> bool:
    # A conjugate in a cycle is no sum of places.
    sums = structure.asked is None or np.array_equal(structure.asked, structure.table)
    return structure.kind == "cyclic" and sums


def lens_of(structure: Structure) -> Lens:
    """The measures that a structure calls for."""
    if _is_cycle(structure):
        return _lens_of_residues(len(structure.elements))
    return irreps.lens(irreps.decompose(structure.table), structure.asked)


def _lens_of_residues(n: int) -> Lens:
    frequencies = range(n // 2 + 1)
    names, degrees = [str(k) for k in frequencies], [1 for _ in frequencies]
    sizes = [1 if 2 * k % n == 0 else 2 for k in frequencies]
    totals = np.add.outer(np.arange(n), np.arange(n)) % n
    return Lens(names, degrees, sizes, spectrum, neuron_frequencies, _on_waves, totals)


def constants(structure: Structure, options: Options) -> dict[str, Any]:
    """What ``on_device`` needs of a structure."""
    return irreps.constants(structure, cycle=_is_cycle(structure))


def on_device(run: RunArrays, constants: Any, options: Options) -> dict[str, Any]:
    """Sums over all inputs from which ``measure`` makes its rows."""
    from grokjax.diagnostics import _on_device  # here, because it needs JAX

    found: dict[str, Any] = _on_device.reduce(run, constants, options.save_key_frequencies)
    return found


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Every Fourier measure of the runs at one checkpoint, elements in their group's order.

    A frequency is one of a cycle, or the number of an irreducible representation of another group,
    whose name and degree are in the spectra; 0 is the constant. ``explained`` is the mean over
    neurons of the share of their variance that their frequency explains, ``concentration`` the
    share of the embedding's power in its six strongest. Restricted and excluded measures are NaN
    for a task that asks for no product of its elements, circularity for elements on no cycle.

    Beside them stands what the logits say by themselves (see ``_exclusion.of_logits``), and
    exclusion on the pairs that do not train.
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
    reduced = view.reduced.get("fourier")
    if reduced:
        found, share = reduced["frequency"], reduced["explained"]
    else:
        found, share = lens.neurons(view.neurons()[pairs])
    frequencies, n_neurons = np.unique(found[found > 0], return_counts=True)
    keys = frequencies.tolist()
    explained = share[np.isfinite(share)]
    power = lens.power(view.embedding[order])
    concentrated = concentration(power, n_top=min(6, power.size - 1))
    circular = circularity(view.embedding[order]) if len(structure.cycles) == 1 else math.nan
    measures, alone, logits = RestrictedExcluded(*[math.nan] * 4), None, _NO_LOGITS
    if structure.asked is not None:
        asked = (view.labels[pairs], view.train_mask[pairs], keys, lens)
        if reduced:
            measures, logits = _exclusion.of_sums(reduced, keys, lens)
            rows = reduced.get("logits")
        else:
            rows = view.logits()[pairs]
            measures = restricted_and_excluded(rows, *asked)
            logits = _exclusion.of_logits(rows, *asked)
        if options.save_key_frequencies:
            alone = restricted_and_excluded(rows, *asked, each=True)
    one = {
        **key,
        "key_frequencies": ",".join(map(str, keys)),
        "explained": float(explained.mean()) if explained.size else math.nan,
        **measures._asdict(),
        **dict(zip(_CONCENTRATION, (*concentrated, circular), strict=True)),
        **logits._asdict(),
    }
    spectra = {"embedding": power}
    for name, head_rows in view.head_rows().items():
        spectra |= {f"{name}{h}": own for h, own in enumerate(lens.power(head_rows[order]))}
    kinds = list(zip(lens.names, lens.degrees, strict=True))
    by_frequency = [
        {**key, "matrix": matrix, "frequency": k, "irrep": name, "degree": degree, "power": value}
        for matrix, powers in spectra.items()
        for k, ((name, degree), value) in enumerate(zip(kinds, powers.tolist(), strict=True))
    ]
    each = [
        {**key, "frequency": k, "n_neurons": int(n)}
        | dict(zip(_MEASURES, map(float, values), strict=True))
        for k, n, *values in (zip(keys, n_neurons, *alone, strict=True) if alone else ())
    ]
    return {"fourier": [one], "spectra": by_frequency, "key_frequencies": each}
