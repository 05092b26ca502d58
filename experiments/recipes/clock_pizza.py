"""Distance irrelevance of Zhong et al. 2023 (arXiv 2306.17844, section 4.3), as a diagnostic.

Of the logits of the right answers, l(a, b): the standard deviation over pairs of one difference
a − b, mean over differences, as a share of the standard deviation over all pairs. A pizza, whose
logits depend on a − b, has little; a clock, whose do not, has much.
"""

import numpy as np

from grokjax.diagnostics import Table

TABLES = {"clock_pizza": Table(columns={"distance_irrelevance": "float64"})}
SETTINGS = ()
NEEDS_STRUCTURE = True


def distance_irrelevance(logits, labels):
    """The share, given logits (n², n), rows a·n + b, and labels (n²,)."""
    right = np.take_along_axis(np.asarray(logits, np.float64), labels[:, None], 1)
    n = round(len(right) ** 0.5)
    a = np.arange(n)
    by_difference = right.reshape(n, n)[a[None], (a[None] + a[:, None]) % n]
    return float(by_difference.std(axis=1).mean() / right.std())


def measure(views, options):
    """Rows for runs at one checkpoint."""
    return {
        "clock_pizza": [
            {
                "run_id": view.run_id,
                "step": view.step,
                "distance_irrelevance": distance_irrelevance(view.logits(), view.labels),
            }
            for view in views
        ]
    }
