"""Inverse participation ratios of weights over the waves of the elements (Gromov 2023, 2301.02679).

Of one column w of a matrix whose n rows are elements, Σ s_k² with s_k the share of its power at
frequency k (for a group without frequencies: at the irreps, see ``fourier``), the constant left
out: 1 for a column on one wave, about 2 / F for one without structure, F the number of frequencies.

That is (‖ŵ‖₄ / ‖ŵ‖₂)⁴ (Doshi et al. 2310.13061, equation 3) over the one-sided transform, as their
published code has it (d-doshi/Grokking, utils/data_processing.py, r = 2, ``numpy.fft.rfft``), of
columns less their mean: there the mean counts as one more wave. For n odd the two are equal so.
Over the two-sided transform, on which values reach down to 1 / p, all are half as large.

``effective_frequencies`` of ``fourier`` is of a matrix as a whole; columns may each have a wave of
their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokjax.diagnostics import Options, Rows, RunView, Structure, Table, fourier


def inverse_participation(power: ArrayLike) -> NDArray[np.float64]:
    """Spectra (…, F + 1), entry 0 the constant → (…,) ratios; NaN where there is no power."""
    ratios: NDArray[np.float64] = (fourier.shares(power) ** 2).sum(axis=-1)
    return ratios


TABLES = {
    "participation": Table(
        columns={"matrix": "str", "n_columns": "int64"}
        | dict.fromkeys(("ipr_mean", "ipr_median", "ipr_max"), "float64"),
        unit=("run_id", "step", "matrix"),
        empty=("ipr_mean", "ipr_median", "ipr_max"),  # of a matrix of zeros
    )
}
SETTINGS = ()
NEEDS_STRUCTURE = True


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Of the embedding's columns, those of the heads, and the weights that each neuron reads out.

    ``unembed``: a column is a neuron's weights to all outputs, where outputs are elements.
    """
    rows = []
    for view in views:
        if view.structure is None:
            continue
        for name, matrix in _matrices(view, view.structure).items():
            power = fourier.lens_of(view.structure).power(matrix[..., None])
            found = inverse_participation(power).ravel()
            found = found[np.isfinite(found)]
            numbers = dict.fromkeys(("ipr_mean", "ipr_median", "ipr_max"), np.nan)
            if found.size:
                summaries = (found.mean(), np.median(found), found.max())
                numbers = dict(zip(numbers, map(float, summaries), strict=True))
            key = {"run_id": view.run_id, "step": view.step, "matrix": name}
            rows.append(key | {"n_columns": int(np.prod(matrix.shape[1:]))} | numbers)
    return {"participation": rows}


def _matrices(view: RunView, structure: Structure) -> Mapping[str, NDArray[Any]]:
    """Matrices (n, …) with rows in the group's order."""
    order = structure.elements
    found = {"embedding": view.embedding[order]}
    found |= {name: np.asarray(rows)[order] for name, rows in view.head_rows().items()}
    kernel = np.asarray(view.params.get("unembed", {}).get("kernel", np.zeros((0, 0))))
    if kernel.shape[-1] == len(view.embedding):
        found["unembed"] = kernel.T[order]
    return found
