"""Clock or pizza: gradient symmetricity and distance irrelevance of Zhong et al. 2023.

*The Clock and the Pizza*, arXiv 2306.17844, sections 4.2 and 4.3, Q the logits and E the embedding:

* ``gradient_symmetricity``: the cosine of ∂Q(a, b)[c] / ∂E[a] and ∂Q(a, b)[c] / ∂E[b], mean over
  triples (a, b, c). A pizza, which averages embeddings first, has much; a clock, which multiplies
  them, little. Where one-hot inputs are summed before anything else it is 1 by construction.
* ``distance_irrelevance``: of the logits of right answers the standard deviation over pairs of one
  difference a − b, mean over differences, as a share of the standard deviation over all pairs.
  A pizza, whose logits depend on a − b, has little; a clock, whose do not, has much.

Both are of sums in one cycle (in a product of residues: of their logarithms; of another task NaN).
Triples are drawn at random, the same ones for every run and checkpoint. Costs a forward pass over
all pairs, which it shares with ``fourier``, and gradients of 1,000 single pairs: at
p = 113 2 % of the time of 500 steps of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from grokjax.diagnostics import Options, Rows, RunView, Structure, Table


def distance_irrelevance(right: ArrayLike) -> float:
    """Of the logits (n, n) of right answers, row a and column b in the order of the cycle.

    NaN where they are not finite or all the same.

    Raises:
        ValueError: on another shape.
    """
    table = np.asarray(right, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"right must have shape (n, n), not {table.shape}")
    spread = table.std() if np.isfinite(table).all() else 0.0
    if spread == 0:
        return math.nan
    a = np.arange(len(table))
    by_difference = table[a[None], (a[None] + a[:, None]) % len(table)]
    return float(by_difference.std(axis=1).mean() / spread)


def gradient_symmetricity(gradients: ArrayLike) -> float:
    """Mean cosine of gradients (T, 2, d) with respect to the rows of a and of b.

    Triples one of whose gradients is 0 are left out; NaN where none is left.
    """
    first, second = np.moveaxis(np.asarray(gradients, np.float64), 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosines = (first * second).sum(axis=1) / lengths
    there = lengths > 0
    return float(cosines[there].mean()) if there.any() else math.nan


TABLES = {
    "clock_pizza": Table(
        columns=dict.fromkeys(("gradient_symmetricity", "distance_irrelevance"), "float64"),
        empty=("gradient_symmetricity", "distance_irrelevance"),
    )
}
SETTINGS = ("symmetricity_triples",)
NEEDS_STRUCTURE = True


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Both measures of the runs at one checkpoint."""
    rows = []
    for view in views:
        numbers = dict.fromkeys(TABLES["clock_pizza"].columns, math.nan)
        structure = view.structure
        if structure is not None and _is_sum(structure) and np.isfinite(view.embedding).all():
            pairs = structure.elements[:, None] * len(view.embedding) + structure.second
            logits = view.logits()[pairs]
            right = _right_answers(structure, view.labels[pairs], logits.shape[-1])
            of_right = np.take_along_axis(logits, right[..., None], axis=-1)[..., 0]
            drawn = _gradients(view, structure, options.symmetricity_triples, logits.shape[-1])
            numbers = {
                "gradient_symmetricity": gradient_symmetricity(drawn),
                "distance_irrelevance": distance_irrelevance(of_right),
            }
        rows.append({"run_id": view.run_id, "step": view.step, **numbers})
    return {"clock_pizza": rows}


def _is_sum(structure: Structure) -> bool:
    asked = structure.asked is not None and np.array_equal(structure.asked, structure.table)
    return asked and structure.kind == "cyclic"


def _right_answers(structure: Structure, labels: Any, n_outputs: int) -> Any:
    """(n, n) what most pairs of the same sum are told: labels of training pairs may be permuted."""
    told = np.zeros((len(structure.elements), n_outputs), np.int64)
    np.add.at(told, (structure.table, labels), 1)
    return told.argmax(axis=1)[structure.table]


def _gradients(view: RunView, structure: Structure, n: int, n_outputs: int) -> Any:
    """(n, 2, d) gradients of logits of triples drawn at random."""
    from grokjax.diagnostics import _derivatives  # here, because it needs JAX

    a, b, output = np.random.default_rng(0).integers(
        0, [[len(structure.elements)], [len(structure.second)], [n_outputs]], (3, n)
    )
    pairs = np.stack([structure.elements[a], structure.second[b]], axis=1)
    like = np.zeros((2, view.embedding.shape[1]), np.float32)
    # Indices of 32 bits, whatever JAX is told of 64.
    places = pairs.astype(np.int32), output.astype(np.int32)
    return _derivatives.pair_gradients(view.pair_logits(), view.params, *places, like)
