"""Whether values over seeds agree with a number: agree, differ or cannot tell, and what it takes.

The margin says what difference is of no account. It is declared beforehand, never taken from the
values themselves, so that noisier values say less and not more.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from grokjax.statistics.association import mean_or_nan, series
from grokjax.statistics.effects import Interval

AGREE, DIFFER, CANNOT_TELL = "agree", "differ", "cannot tell"

_MOST_SEEDS = 100_000


class TargetDifference(NamedTuple):
    """Values over seeds beside a target: what `equivalence` judges by."""

    mean: float
    difference: float  # mean less target; of an interval less its nearer end, 0 inside
    standard_error: float  # of the mean over seeds; NaN below two
    interval: Interval  # of the mean, Student's t
    n: int  # seeds that have a value


def difference_from(
    values: ArrayLike, target: float | tuple[float, float], confidence: float = 0.95
) -> TargetDifference:
    """Mean of (n,) seeds' values less a target: a number, or an interval (low, high).

    NaN values are left out. Raises ValueError for a target that is not finite or upside down.
    """
    low, high = _ends(target)
    kept = series(values, "values")
    kept = kept[~np.isnan(kept)]
    mean, n = mean_or_nan(kept), len(kept)
    error = float(kept.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    half = float(scipy.stats.t.isf((1 - confidence) / 2, n - 1)) * error if n > 1 else math.nan
    difference = mean - min(max(mean, low), high)
    return TargetDifference(mean, difference, error, Interval(mean - half, mean + half), n)


def equivalence(
    values: ArrayLike, target: float | tuple[float, float], margin: float, level: float = 0.05
) -> str:
    """Whether the mean of (n,) seeds' values is the target's, but for a margin: one of three words.

    *agree*: two one-sided t-tests at `level` put the mean within the margin of the target, that is
    its 90 % interval lies inside (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987). *differ*: its
    95 % interval lies wholly outside. *cannot tell*: neither, or fewer than two seeds. So noise
    ends in *cannot tell*, and either of the other words is wrong in at most 5 % of cases if values
    are normal. Equal values have no standard error: of quantities known on a grid, such as steps
    known to a checkpoint, the margin should hold the grid.

    Args:
        values: a value a seed; NaN is left out.
        target: a number, or an interval (low, high) within which all is the same.
        margin: largest difference of no account, in the units of the values, declared beforehand.
        level: of the tests.

    Raises:
        ValueError: a margin that is negative or not finite, or a target as in `difference_from`.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin is {margin}; it must be finite and not negative")
    low, high = _ends(target)
    # The slack is rounding in the last bits of sums such as 0.2 + 0.1.
    slack = 1e-12 * max(abs(low), abs(high), margin)
    low, high = low - margin - slack, high + margin + slack
    narrow = difference_from(values, target, 1 - 2 * level)
    if narrow.n < 2:
        return CANNOT_TELL
    if low <= narrow.interval.low and narrow.interval.high <= high:
        return AGREE
    wide = difference_from(values, target, 1 - level).interval
    return DIFFER if wide.low > high or wide.high < low else CANNOT_TELL


def seeds_needed(
    sd: float, margin: float, difference: float = 0.0, power: float = 0.8, level: float = 0.05
) -> int | None:
    """Fewest seeds with which `equivalence` gives its verdict with the given power.

    The verdict is *agree* if the true difference is smaller than the margin and *differ* if it is
    larger; None if they are equal, or if 100,000 seeds do not suffice. Of a target that is an
    interval, give half its width more as margin and the difference from its middle.

    Args:
        sd: standard deviation over seeds.
        margin: as in `equivalence`.
        difference: of the true mean from the target.
        power: wanted chance of the verdict.
        level: of the tests.

    Raises:
        ValueError: sd or margin negative or not finite, or power not between 0 and 1.
    """
    if not all(math.isfinite(value) and value >= 0 for value in (sd, margin)):
        raise ValueError(f"sd is {sd} and margin {margin}; they must be finite and not negative")
    if not 0 < power < 1:
        raise ValueError(f"power is {power}; it must lie between 0 and 1")
    gap = abs(difference)
    if gap == margin:
        return None

    def enough(n: int) -> bool:
        return sd == 0 or _power(math.sqrt(n) / sd, n - 1, margin, gap, level) >= power

    high = 2
    while not enough(high):
        high *= 2
        if high > _MOST_SEEDS:
            return None
    return next(n for n in range(max(2, high // 2), high + 1) if enough(n))


def _power(per_error: float, df: int, margin: float, gap: float, level: float) -> float:
    """Chance of the verdict, averaged over what the sample SD can be; `per_error` is 1 / SE."""
    shares = (np.arange(2000) + 0.5) / 2000
    spread = np.sqrt(scipy.stats.chi2.ppf(shares, df) / df)
    normal = scipy.special.ndtr
    if gap > margin:
        critical = scipy.stats.t.isf(level / 2, df) * spread
        return float(normal((gap - margin) * per_error - critical).mean())
    critical = scipy.stats.t.isf(level, df) * spread
    inside = normal((margin - gap) * per_error - critical)
    inside = inside - normal(critical - (margin + gap) * per_error)
    return float(np.maximum(inside, 0).mean())


def draws_needed(family_size: int, level: float = 0.05, tails: int = 2) -> int:
    """Draws with which one test alone in a family can pass its false-discovery correction.

    `benjamini_hochberg` over a family asks for level / family_size of a lone finding, and n draws
    give no p-value below tails / (1 + n).
    """
    return math.ceil(tails * family_size / level * (1 - 1e-12)) - 1


def findings_needed(floor: float, family_size: int, level: float = 0.05) -> int:
    """How many tests of a family must reach the floor of their p-values to be found at all.

    1 if a test can be found alone; more than family_size if none can ever be. The floor is
    tails / (1 + draws), and however many draws, of k seeds 2 / k! for `pooled_exchange`, 1 / k!
    for `event_time_test` and 2^(1 - k) for `lead_test`.
    """
    return max(1, math.ceil(floor * family_size / level * (1 - 1e-12)))


def _ends(target: float | tuple[float, float]) -> tuple[float, float]:
    low, high = (float(end) for end in np.broadcast_to(np.asarray(target, np.float64), 2))
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"target is {target}; it must be a number, or an interval (low, high)")
    return low, high
