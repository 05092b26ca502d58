"""Sharpness: the largest eigenvalue of the Hessian of the training loss.

Found by Lanczos's method (ARPACK's restarted one, by way of SciPy) from products of the Hessian
with vectors, forward over reverse (Pearlmutter 1994, Neural Computation 6, 147-160). Gradient
descent at rate η becomes unstable where it exceeds 2 / η (Cohen et al. 2021, arXiv 2103.00065).

A product costs about two gradients over the training examples, and twenty to forty are needed: at
p = 113 with all 3,830 examples of the study's split as much as 300 to 600 training steps, so it is
taken every ``hessian_every`` checkpoints, by default the tenth: 6 to 12 % of 500 steps on average.
``hessian_examples=512`` costs a seventh of that, and is noisier.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokjax.diagnostics import Options, Rows, RunView, Table

# Relative to the eigenvalue: products are in float32.
_TOLERANCE = 1e-3
_MOST_RESTARTS = 20


class Largest(NamedTuple):
    """The largest eigenvalue of a symmetric operator."""

    value: float  # NaN where it did not converge
    n_products: int


def largest_eigenvalue(product: Callable[[Any], Any], n: int, seed: int = 0) -> Largest:
    """Largest (most positive) eigenvalue of a symmetric operator on n ≥ 2 numbers, to 0.1 %.

    ``product`` takes and returns (n,) float32. The start is random and the same for a seed.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    n_products = 0

    def counted(vector: NDArray[Any]) -> NDArray[Any]:
        nonlocal n_products
        n_products += 1
        return np.asarray(product(vector.astype(np.float32).ravel()))

    start = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    operator = LinearOperator((n, n), matvec=counted, dtype=np.float32)
    settings = {"which": "LA", "tol": _TOLERANCE, "maxiter": _MOST_RESTARTS, "v0": start}
    try:
        (value,) = eigsh(operator, k=1, return_eigenvectors=False, **settings)
    except ArpackNoConvergence:
        value = math.nan
    return Largest(float(value), n_products)


TABLES = {
    "sharpness": Table(
        columns={"sharpness": "float64", "n_products": "int64", "n_examples": "int64"},
        empty=("sharpness",),  # where Lanczos's method did not converge
    )
}
SETTINGS = ("hessian_examples",)


def steps(checkpoint_steps: Sequence[int], options: Options) -> set[int]:
    """The checkpoints at which it is measured: every k-th, and the last."""
    return {*checkpoint_steps[:: options.hessian_every], checkpoint_steps[-1]}


def measure(views: Sequence[RunView], options: Options) -> Rows:
    """Sharpness of the runs at one checkpoint; NaN of a network that is not finite."""
    from grokjax.diagnostics import _derivatives  # here, because it needs JAX

    rows = []
    for view in views:
        loss, params = view.loss(options.hessian_examples), view.params
        product = functools.partial(_derivatives.hessian_product, loss, params)
        n = _derivatives.size(params)
        found = Largest(math.nan, 0)
        if np.isfinite(product(np.ones(n, np.float32))).all():
            found = largest_eigenvalue(product, n)
        n_examples = min(options.hessian_examples, int(view.train_mask.sum()))
        key = {"run_id": view.run_id, "step": view.step}
        described = {"n_products": found.n_products, "n_examples": n_examples}
        rows.append(key | {"sharpness": found.value} | described)
    return {"sharpness": rows}
