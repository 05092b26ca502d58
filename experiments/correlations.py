"""Tables 1 and 2: Spearman's ρ of test accuracy and a statistic of persistence, done honestly.

The study printed cells in bold for "p < 0.05" without n, test or correction. Every cell here has
its per-seed values, p-values from surrogates that keep step and autocorrelation, and a correction
for false discoveries over the family: all cells of the table that could be tested.
"""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from experiments import sweeps
from experiments.artefact import Context
from grokjax import statistics
from grokjax.report import figures

STATISTICS = {
    "H0 max": "h0_max",
    "H0 total": "h0_total",
    "H1 max": "h1_max",
    "H1 total": "h1_total",
}
LEVEL = 0.05
N_SURROGATES = 999
# Name of a pooled test → its column of p-values.
TESTS = {
    "shift": "p_shift",
    "block": "p_block",
    "phase": "p_phase",
    "exchange": "p_exchange",
}


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
    accuracy = figures.wide(
        context.table("metrics"), "test_accuracy", list(context.table("runs")["run_id"])
    )
    persistence = context.table("persistence")
    rows = []
    for cell in reference(table).to_dict("records"):
        runs = context.runs(label_permutation=float(cell["label_permutation"]))
        run_ids = list(runs.sort_values("seed")["run_id"])
        own = figures.wide(
            persistence[persistence["cloud"] == cell["cloud"]],
            STATISTICS[str(cell["statistic"])],
            run_ids,
        )
        x = {run_id: accuracy[run_id].to_numpy() for run_id in run_ids}
        y = {run_id: own[run_id].to_numpy() for run_id in run_ids}
        rows.append({**cell, **cell_tests(x, y)})
    frame = pd.DataFrame(rows)
    for name in ("shift", "exchange"):
        p_values = frame[TESTS[name]].to_numpy()
        frame[f"{TESTS[name]}_bh"] = statistics.benjamini_hochberg(p_values)
        frame[f"{TESTS[name]}_by"] = statistics.benjamini_yekutieli(p_values)
    return frame


def cell_tests(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> dict[str, object]:
    """One cell: ρ of each seed and the pooled tests; see `measure`."""
    xs, ys = list(x.values()), [y[run_id] for run_id in x]
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


def significant(frame: pd.DataFrame, test: str, correction: str) -> pd.Series:
    """Which cells a pooled test calls significant after a correction (bh or by)."""
    return frame[f"{TESTS[test]}_{correction}"] < LEVEL


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
            called = significant(tested, test, correction)
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
