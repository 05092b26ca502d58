"""When a run memorises and generalises, and what its curves have to do with each other.

A grokking run makes every curve step once, and the p-value that usually comes with Spearman's rho
calls most pairs of unrelated step-like curves significant. Here p-values come from surrogates that
keep the step and the autocorrelation (`spearman_surrogate`), pooled over seeds
(`pooled_surrogate`, `pooled_exchange`), with a false-discovery correction over the family tested.
Whether two events keep together, and which comes first, is asked of one time a run
(`half_rise_step`, `event_time_test`, `lead_test`), which tells more than whole curves do; runs
that never get there count (`survival`, `logrank`). `equivalence` says whether a mean over seeds
agrees with a number, differs, or cannot tell.

Conventions, the same in every function:
    Series are (n,) values at consecutive, evenly spaced checkpoints, taken as float64. NaN is a
    value that was not measured. Infinite values, series that are not one-dimensional, and
    partners of different length are refused with a ValueError.
    method: how surrogates are made, `shift`, `block` or `phase` (see `surrogates`).
    n_surrogates, n_resamples: how many are drawn, at least 1; otherwise a ValueError.
    seed: of everything random; equal seeds give equal results.
    Surrogate p-values are equal-tailed: 2 (1 + m) / (1 + n_surrogates), at most 1, where m counts
    the surrogates at or beyond the observed value in the tail that has fewer.
"""

from grokjax.statistics.association import SURROGATE_METHODS as SURROGATE_METHODS
from grokjax.statistics.association import PooledTest as PooledTest
from grokjax.statistics.association import SurrogateTest as SurrogateTest
from grokjax.statistics.association import benjamini_hochberg as benjamini_hochberg
from grokjax.statistics.association import benjamini_yekutieli as benjamini_yekutieli
from grokjax.statistics.association import pooled_exchange as pooled_exchange
from grokjax.statistics.association import pooled_surrogate as pooled_surrogate
from grokjax.statistics.association import spearman as spearman
from grokjax.statistics.association import spearman_surrogate as spearman_surrogate
from grokjax.statistics.association import surrogates as surrogates
from grokjax.statistics.crosscorrelation import CCF_LAG_LABEL as CCF_LAG_LABEL
from grokjax.statistics.crosscorrelation import Peak as Peak
from grokjax.statistics.crosscorrelation import PooledCcf as PooledCcf
from grokjax.statistics.crosscorrelation import ccf as ccf
from grokjax.statistics.crosscorrelation import ccf_peak as ccf_peak
from grokjax.statistics.crosscorrelation import ccf_surrogate_band as ccf_surrogate_band
from grokjax.statistics.crosscorrelation import pooled_ccf as pooled_ccf
from grokjax.statistics.effects import GENERALISED_ACCURACY as GENERALISED_ACCURACY
from grokjax.statistics.effects import MEMORISED_ACCURACY as MEMORISED_ACCURACY
from grokjax.statistics.effects import Interval as Interval
from grokjax.statistics.effects import SeedContrast as SeedContrast
from grokjax.statistics.effects import before_after as before_after
from grokjax.statistics.effects import bootstrap_interval as bootstrap_interval
from grokjax.statistics.effects import first_step as first_step
from grokjax.statistics.effects import generalisation_step as generalisation_step
from grokjax.statistics.effects import memorisation_step as memorisation_step
from grokjax.statistics.effects import ratio_over_seeds as ratio_over_seeds
from grokjax.statistics.effects import smallest_detectable_effect as smallest_detectable_effect
from grokjax.statistics.effects import smallest_detectable_fold as smallest_detectable_fold
from grokjax.statistics.effects import threshold_sensitivity as threshold_sensitivity
from grokjax.statistics.events import EventTimeTest as EventTimeTest
from grokjax.statistics.events import FallingBack as FallingBack
from grokjax.statistics.events import LeadTest as LeadTest
from grokjax.statistics.events import LogRank as LogRank
from grokjax.statistics.events import Survival as Survival
from grokjax.statistics.events import event_time_test as event_time_test
from grokjax.statistics.events import falling_back as falling_back
from grokjax.statistics.events import half_rise_step as half_rise_step
from grokjax.statistics.events import lead_test as lead_test
from grokjax.statistics.events import logrank as logrank
from grokjax.statistics.events import survival as survival
from grokjax.statistics.verdicts import AGREE as AGREE
from grokjax.statistics.verdicts import CANNOT_TELL as CANNOT_TELL
from grokjax.statistics.verdicts import DIFFER as DIFFER
from grokjax.statistics.verdicts import TargetDifference as TargetDifference
from grokjax.statistics.verdicts import difference_from as difference_from
from grokjax.statistics.verdicts import draws_needed as draws_needed
from grokjax.statistics.verdicts import equivalence as equivalence
from grokjax.statistics.verdicts import findings_needed as findings_needed
from grokjax.statistics.verdicts import seeds_needed as seeds_needed
