"""Tables 1 and 2: Spearman's ρ of test accuracy and a statistic of persistence, done honestly.

The study printed cells in bold for "p < 0.05" without n, test or correction. Every cell here has
its per-seed values, p-values from surrogates that keep step and autocorrelation, and a correction
for false discoveries over the family: all cells of the table that could be tested.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from experiments import curves, sweeps
from experiments.artefact import Context
from grokjax import statistics
from grokjax.settings import labels

# As the study's tables name them → our columns.
STATISTICS = {labels.COLUMNS[column]: column for column in curves.STATISTICS}
LEVEL = 0.05
N_SURROGATES = 999
# Name of a pooled test → its column of p-values.
TESTS = {test: f"p_{test}" for test in ("shift", "block", "phase", "exchange")}


def reference(table: str) -> pd.DataFrame:
    """The study's table of that name, as printed."""
    return pd.read_csv(sweeps.FOLDER / "reference" / f"{table}.csv")


def measure(context: Context, table: str) -> pd.DataFrame:
    """Our values of every cell of a table.

    Args:
        context: with the sweep whose levels of label permutation the table has.
        table: ``table1`` or ``table2``.

    Returns:
        The study's rows with, for each cell: ``n_seeds`` with a defined ρ, ``n_checkpoints``,
        ``ours_mean`` and ``ours_sd`` (sample SD) over them, ``per_seed`` (ρ of each, in the order
        of seeds), ``naive_significant`` (how many seeds ordinary Spearman calls significant),
        pooled p-values (columns of `TESTS`), and for shift and exchange the corrected ``…_bh`` and
        ``…_by``. NaN where no seed has a defined ρ.
    """
    rows = []
    for cell in reference(table).to_dict("records"):
        runs = context.runs(label_permutation=float(cell["label_permutation"]))
        run_ids = list(runs.sort_values("seed")["run_id"])
        column = STATISTICS[str(cell["statistic"])]
        accuracy = context.values("metrics", "test_accuracy", run_ids)
        own = context.values("persistence", column, run_ids, str(cell["cloud"]))
        x, y = ([frame[run_id].to_numpy() for run_id in run_ids] for frame in (accuracy, own))
        rows.append({**cell, **cell_tests(x, y)})
    frame = pd.DataFrame(rows)
    for name in ("shift", "exchange"):
        p_values = frame[TESTS[name]].to_numpy()
        frame[f"{TESTS[name]}_bh"] = statistics.benjamini_hochberg(p_values)
        frame[f"{TESTS[name]}_by"] = statistics.benjamini_yekutieli(p_values)
    return frame


def cell_tests(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> dict[str, object]:
    """One cell: ρ of each seed and the pooled tests; see `measure`."""
    pooled = {
        method: statistics.pooled_surrogate(xs, ys, method=method, n_surrogates=N_SURROGATES)
        for method in statistics.SURROGATE_METHODS
    }
    exchange = statistics.pooled_exchange(xs, ys, n_surrogates=N_SURROGATES)
    rhos = pooled["shift"].per_series_rho
    finite = rhos[np.isfinite(rhos)]
    return {
        "n_seeds": len(finite),
        "n_checkpoints": len(xs[0]),
        "ours_mean": pooled["shift"].mean_rho,
        "ours_sd": float(finite.std(ddof=1)) if len(finite) > 1 else np.nan,
        "per_seed": " ".join(f"{rho:.2f}" for rho in rhos),
        "naive_significant": sum(_naive_p(a, b) < LEVEL for a, b in zip(xs, ys, strict=True)),
        **{TESTS[method]: test.p_value for method, test in pooled.items()},
        TESTS["exchange"]: exchange.p_value,
    }


def _naive_p(x: np.ndarray, y: np.ndarray) -> float:
    """The p-value that takes checkpoints for independent draws; 1 for a constant series."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        p_value = stats.spearmanr(x, y, nan_policy="omit").pvalue
    return 1.0 if np.isnan(p_value) else float(p_value)


def smallest_exchange_p(n_seeds: int) -> float:
    """About the smallest p-value that exchanging partners among so many seeds can give."""
    return 1 / float(np.prod(np.arange(1, n_seeds + 1))) if n_seeds else np.nan


def fates(frame: pd.DataFrame) -> pd.DataFrame:
    """What honest p-values do to the bold cells: a row for each test and correction.

    Returns:
        ``test``, ``correction``, ``bold`` (cells the study printed bold and we could test),
        ``stay`` (of these, significant here), ``lost``, and ``plain_but_significant``.
    """
    tested = frame[frame["n_seeds"] > 0]
    bold = tested["printed_bold"] == 1
    rows = []
    for test in ("shift", "exchange"):
        for correction in ("bh", "by"):
            called = tested[f"{TESTS[test]}_{correction}"] < LEVEL
            rows.append(
                {
                    "test": test,
                    "correction": correction.upper(),
                    "bold": int(bold.sum()),
                    "stay": int((bold & called).sum()),
                    "lost": int((bold & ~called).sum()),
                    "plain_but_significant": int((~bold & called).sum()),
                }
            )
    return pd.DataFrame(rows)
