"""When a run memorises and generalises, and what its curves have to do with each other.

A grokking run makes every curve step once, and checkpoints are strongly autocorrelated. The
p-value that usually comes with Spearman's rho takes checkpoints for independent draws and calls
most pairs of unrelated step-like curves significant. Here p-values come from surrogates that
keep the step and the autocorrelation (`spearman_surrogate`), pooled over seeds
(`pooled_surrogate`, `pooled_exchange`), with a false-discovery correction over the family tested.

Conventions, the same in every function:
    Series are (n,) values at consecutive, evenly spaced checkpoints, taken as float64. NaN is a
    value that was not measured. Infinite values, series that are not one-dimensional, and
    partners of different length are refused with a ValueError.
    method: how surrogates are made, `shift`, `block` or `phase` (see `surrogates`).
    n_surrogates, n_resamples: how many are drawn, at least 1; otherwise a ValueError.
    seed: of everything random; equal seeds give equal results.
    Two-sided p-values are (1 + #{|s| >= |observed|}) / (1 + n_surrogates).
"""

from grokjax.statistics._series import SURROGATE_METHODS
from grokjax.statistics.association import (
    PooledTest,
    SurrogateTest,
    benjamini_hochberg,
    benjamini_yekutieli,
    pooled_exchange,
    pooled_surrogate,
    spearman,
    spearman_surrogate,
    surrogates,
)
from grokjax.statistics.crosscorrelation import (
    CCF_LAG_LABEL,
    Peak,
    PooledCcf,
    ccf,
    ccf_peak,
    ccf_surrogate_band,
    pooled_ccf,
)
from grokjax.statistics.effects import (
    Interval,
    SeedContrast,
    before_after,
    bootstrap_interval,
    ratio_over_seeds,
    smallest_detectable_effect,
    smallest_detectable_fold,
)
from grokjax.statistics.steps import (
    GENERALISED_ACCURACY,
    MEMORISED_ACCURACY,
    first_step,
    generalisation_step,
    memorisation_step,
    threshold_sensitivity,
)

__all__ = [
    "CCF_LAG_LABEL",
    "GENERALISED_ACCURACY",
    "MEMORISED_ACCURACY",
    "SURROGATE_METHODS",
    "Interval",
    "Peak",
    "PooledCcf",
    "PooledTest",
    "SeedContrast",
    "SurrogateTest",
    "before_after",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "bootstrap_interval",
    "ccf",
    "ccf_peak",
    "ccf_surrogate_band",
    "first_step",
    "generalisation_step",
    "memorisation_step",
    "pooled_ccf",
    "pooled_exchange",
    "pooled_surrogate",
    "ratio_over_seeds",
    "smallest_detectable_effect",
    "smallest_detectable_fold",
    "spearman",
    "spearman_surrogate",
    "surrogates",
    "threshold_sensitivity",
]
