"""Norms of parameters and of the loss's gradient, layer by layer.

The gradient is that of the mean loss over the run's training examples, weight decay not included.
Norms are Euclidean (Frobenius's); those of all parameters together are the roots of the sums of
squares. A matrix has its ranks beside them (see ``ranks``; not centred).

Costs one gradient over the training set, as many examples as seven batches of the study's at
p = 113, and the singular values: 2 to 5 % of 500 steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from grokjax.diagnostics import Options, Rows, RunView, Table, ranks


def named(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Path, such as ``blocks/0/up/kernel``, and array of every parameter, in order."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from named(value, f"{above}{name}/")
        else:
            yield above + name, value


def norms(params: Mapping[str, Any], gradient: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a parameter: its name, numbers in it, norm, gradient's norm, and ranks of a matrix."""
    slopes, rows = dict(named(gradient)), []
    for name, value in named(params):
        array = np.asarray(value, np.float64)
        none = ranks.Ranks(math.nan, math.nan, math.nan)
        row = {
            "parameter": name,
            "size": array.size,
            "norm": float(np.linalg.norm(array)),
            "gradient_norm": float(np.linalg.norm(np.asarray(slopes[name], np.float64))),
        }
        own = ranks.of_matrix(array) if array.ndim == 2 and array.size else none
        rows.append(row | own._asdict())
    return rows


TABLES = {
    "weights": Table(
        columns={"parameter": "str", "size": "int64"}
        | dict.fromkeys(("norm", "gradient_norm", *ranks.Ranks._fields), "float64"),
        within=("parameter",),
        empty=ranks.Ranks._fields,  # of vectors
    )
}
SETTINGS = ("hessian_examples",)


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """A row a parameter of the runs at one checkpoint."""
    from grokjax.diagnostics import _derivatives  # here, because it needs JAX

    rows = []
    for view in views:
        gradient = _derivatives.gradient(view.loss(options.hessian_examples), view.params)
        key = {"run_id": view.run_id, "step": view.step}
        rows += [key | row for row in norms(view.params, gradient)]
    return {"weights": rows}
