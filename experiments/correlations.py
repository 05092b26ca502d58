"""Tables 1 and 2: Spearman's ρ of test accuracy and a statistic of persistence, done honestly.

The study printed cells in bold for "p < 0.05" without n, test or correction. Every cell here has
its per-seed values and p-values from surrogates that keep step and autocorrelation. They are
corrected for false discoveries in one family with all other tests, by `experiments.discoveries`.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from experiments import curves, sweeps
from experiments.artefact import Context
from grokjax import statistics
from grokjax.settings import labels

# As the study's tables name them → our columns.
STATISTICS = {labels.COLUMNS[column]: column for column in curves.STATISTICS}
LEVEL = 0.05
# Draws of each test. Shift and exchange are of the family that `experiments.discoveries` corrects:
# shift has enough for a lone finding in it by either correction; exchange cannot go below 2 / k!
# with k seeds.
N_SURROGATES = {"shift": 149_999, "block": 999, "phase": 999, "exchange": 9_999}
# Name of a test → its column of p-values.
TESTS = {test: f"p_{test}" for test in (*N_SURROGATES, "event")}
_NONE = {
    **{"n_seeds": 0, "n_checkpoints": 0, "ours_mean": np.nan, "ours_sd": np.nan, "per_seed": ""},
    **{"naive_significant": 0, **dict.fromkeys(TESTS.values(), np.nan)},
}


def reference(table: str) -> pd.DataFrame:
    """The study's table of that name, as printed."""
    return pd.read_csv(sweeps.FOLDER / "reference" / f"{table}.csv")


Floats = NDArray[np.float64]


def series(context: Context, cell: Mapping[Any, Any]) -> dict[str, tuple[pd.Series, pd.Series]]:
    """Test accuracy and statistic of each run of a cell against step, in the order of seeds.

    Runs that do not have both are left out: all of them where a cell was not run.
    """
    runs = context.found(label_permutation=float(cell["label_permutation"]))
    run_ids = list(runs.sort_values("seed")["run_id"])
    column = STATISTICS[str(cell["statistic"])]
    accuracy = context.values("metrics", "test_accuracy", run_ids)
    own = context.values("persistence", column, run_ids, str(cell["cloud"])).reindex(accuracy.index)
    return {
        run_id: (accuracy[run_id], own[run_id])
        for run_id in run_ids
        if run_id in accuracy and run_id in own
    }


def in_words(cell: Mapping[Any, Any]) -> str:
    """What a cell of `reference` is a number of."""
    level = 100 * float(cell["label_permutation"])
    return f"ρ of {cell['statistic']}, {cell['cloud']}, {level:g} % permuted"


def measure(context: Context, table: str) -> pd.DataFrame:
    """Our values of every cell of a table of which there is any.

    Args:
        context: with the sweep whose levels of label permutation the table has.
        table: ``table1`` or ``table2``.

    Returns:
        The study's rows with, for each cell: ``n_seeds`` with a defined ρ, ``n_checkpoints``,
        ``ours_mean`` and ``ours_sd`` (sample SD) over them, ``per_seed`` (ρ of each, in the order
        of seeds), ``naive_significant`` (how many seeds ordinary Spearman calls significant), and
        p-values (columns of `TESTS`), which `experiments.discoveries` corrects. NaN where no seed
        has a defined ρ.
    """
    steps = context.table("runs").set_index("run_id")["generalisation_step"].astype("float64")
    rows = []
    for cell in reference(table).to_dict("records"):
        own = series(context, cell)
        found = cell_tests(list(own.values()), steps[list(own)].to_numpy()) if own else _NONE
        rows.append({**cell, **found})
    return pd.DataFrame(rows)


def cell_tests(
    pairs: Sequence[tuple[pd.Series, pd.Series]], generalised: Floats
) -> dict[str, object]:
    """One cell: ρ of each seed, the pooled tests, and that of event times; see `measure`.

    Args:
        pairs: test accuracy and statistic against step, a pair a seed.
        generalised: (n,) step at which each did, NaN where it did not.
    """
    xs, ys = ([pair[i].to_numpy(np.float64) for pair in pairs] for i in (0, 1))
    pooled = {
        method: statistics.pooled_surrogate(xs, ys, method=method, n_surrogates=n)
        for method, n in N_SURROGATES.items()
        if method in statistics.SURROGATE_METHODS
    }
    exchange = statistics.pooled_exchange(xs, ys, n_surrogates=N_SURROGATES["exchange"])
    events = [statistics.half_rise_step(y.index.to_numpy(), y.to_numpy()) for _, y in pairs]
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
        TESTS["event"]: statistics.event_time_test(generalised, events).p_value,
    }


def _naive_p(x: np.ndarray, y: np.ndarray) -> float:
    """The p-value that takes checkpoints for independent draws; 1 for a constant series."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        p_value = stats.spearmanr(x, y, nan_policy="omit").pvalue
    return 1.0 if np.isnan(p_value) else float(p_value)
