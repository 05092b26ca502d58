"""Whether our values over seeds agree with a number of the study: agree, differ or cannot tell.

The margin of every number is declared in ``reference/``, with its reason, and nothing here widens
it. *agree*: the 90 % interval of our mean lies within the margin of what the study states.
*differ*: its 95 % interval lies wholly beyond. *cannot tell*: neither, or fewer than two seeds. So
either of the first two words is wrong in at most one case of twenty, and noise ends in the third.
The rule is that of ``grokjax.statistics.equivalence``, with two more sources of error: the standard
error of the study's own mean where it states a spread over seeds (Welch's degrees of freedom), and
the grid on which a quantity is known.
"""

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from grokjax.statistics import AGREE, CANNOT_TELL, DIFFER

NOT_RUN = "not run"
STUDY_SEEDS = 5
LEVEL = 0.05
MOST_SEEDS = 1000


class Target(NamedTuple):
    """What the study states, and what difference from it is of no account."""

    low: float
    high: float
    margin: float
    sd: float = 0.0  # over the study's seeds, where it states one

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest mean that is the study's but for the margin."""
        # The slack is rounding in the last bits of sums such as 0.2 + 0.1.
        slack = 1e-9 * max(abs(self.low), abs(self.high), self.margin)
        return self.low - self.margin - slack, self.high + self.margin + slack


class Judged(NamedTuple):
    """A verdict and what it rests on; intervals of 90 %."""

    word: str
    estimate: float
    low: float
    high: float
    n: int
    seeds_needed: float  # for a verdict, if estimate and spread stay; inf: no number will do


NOTHING = Judged(CANNOT_TELL, math.nan, math.nan, math.nan, 0, math.nan)


def judge(values: ArrayLike, target: Target, grain: float = 0.0, settings: int = 1) -> Judged:
    """The mean of (n,) values, one a seed, beside a target; NaN is left out.

    Args:
        values: one a seed.
        target: the study's.
        grain: distance of the grid on which a value is known, such as that of checkpoints. No
            spread over seeds counts as smaller than its share, grain / √12.
        settings: number of those that `all_of` joins, where one that differs is enough: so many
            chances to be wrong are paid for.
    """
    kept = _kept(values)
    n = len(kept)
    if n == 0:
        return NOTHING
    mean = float(kept.mean())
    if n == 1:
        return NOTHING._replace(estimate=mean, n=1)
    own = max(float(kept.var(ddof=1)), grain**2 / 12) / n
    theirs = target.sd**2 / STUDY_SEEDS
    error, df = math.sqrt(own + theirs), _welch(own, theirs, n)
    narrow, wide = (_quantile(level, df) * error for level in (LEVEL, LEVEL / 2 / settings))
    low, high = target.ends
    word = CANNOT_TELL
    if low <= mean - narrow and mean + narrow <= high:
        word = AGREE
    elif mean - wide > high or mean + wide < low:
        word = DIFFER
    needed = math.nan if word != CANNOT_TELL else seeds_needed(mean, own * n, target)
    return Judged(word, mean, mean - narrow, mean + narrow, n, needed)


def judge_median(steps: ArrayLike, horizons: ArrayLike, target: Target) -> Judged:
    """The median of (n,) steps, one a seed, NaN where a run had not come there by its horizon.

    Runs that never came count: as later than their horizon, by how much nobody knows. The interval
    is that of order statistics, exact for any distribution, of at least 90 %, for both words: at
    five seeds, the fewest that can have a verdict, it runs from the first to the last (94 %).
    """
    steps_n, horizons_n = np.asarray(steps, np.float64), np.asarray(horizons, np.float64)
    never = np.isnan(steps_n)
    earliest = np.sort(np.where(never, horizons_n, steps_n))
    latest = np.sort(np.where(never, np.inf, steps_n))
    n = len(earliest)
    if n == 0:
        return NOTHING
    middle = float(np.median(latest))
    ends = _median_ends(earliest, latest)
    low, high = target.ends
    word = CANNOT_TELL  # comparisons with NaN are false
    if low <= ends[0] and ends[1] <= high:
        word = AGREE
    elif ends[0] > high or ends[1] < low:
        word = DIFFER
    needed = math.nan
    if word == CANNOT_TELL and n > 1 and math.isfinite(middle):
        # For large n the median of normal values needs π/2 times the seeds of the mean.
        spread = math.pi / 2 * float(np.where(never, horizons_n, steps_n).var(ddof=1))
        needed = max(seeds_needed(middle, spread, target), 5)
    return Judged(word, middle, *ends, n, needed)


def all_of(parts: Sequence[Judged]) -> Judged:
    """The verdict on a number that is stated of several settings at once.

    It agrees if each of them does and differs if one does. The interval is what holds all of
    theirs; n is of all seeds, seeds needed are those of each setting.
    """
    words = [part.word for part in parts]
    word = DIFFER if DIFFER in words else AGREE if set(words) == {AGREE} else CANNOT_TELL
    known = [part for part in parts if part.n]
    if not known:
        return NOTHING
    needed = [part.seeds_needed for part in known if part.word == CANNOT_TELL]
    return Judged(
        word,
        float(np.mean([part.estimate for part in known])),
        float(np.nanmin([part.low for part in known])) if _any(known, "low") else math.nan,
        float(np.nanmax([part.high for part in known])) if _any(known, "high") else math.nan,
        sum(part.n for part in known),
        max(needed) if word == CANNOT_TELL and needed else math.nan,
    )


def seeds_needed(mean: float, variance: float, target: Target, power: float = 0.8) -> float:
    """Fewest seeds that give a verdict with this power, if mean and variance stay what they are.

    Infinite if more than `MOST_SEEDS` would be needed, or if the study's own standard error, which
    no number of our seeds makes smaller, is too large for one.
    """
    low, high = target.ends
    inside = low <= mean <= high
    gap = min(abs(mean - low), abs(mean - high))
    theirs = target.sd**2 / STUDY_SEEDS
    level = LEVEL if inside else LEVEL / 2

    def enough(n: int) -> bool:
        df = _welch(variance / n, theirs, n)
        quantiles = _quantile(level, df) + _quantile(1 - power, df)
        return quantiles * math.sqrt(variance / n + theirs) <= gap

    first = bisect.bisect_left(range(2, MOST_SEEDS + 1), True, key=enough) + 2
    return float(first) if first <= MOST_SEEDS else math.inf


def _quantile(tail: float, df: float) -> float:
    """What Student's t exceeds with this probability."""
    return float(-special.stdtrit(df, tail))


def _kept(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    return array[~np.isnan(array)]


def _welch(own: float, theirs: float, n: int) -> float:
    """Degrees of freedom of the difference of two means with these squared standard errors."""
    if theirs == 0 or own + theirs == 0:
        return n - 1
    return (own + theirs) ** 2 / (own**2 / (n - 1) + theirs**2 / (STUDY_SEEDS - 1))


def _median_ends(earliest: NDArray[np.float64], latest: NDArray[np.float64]) -> tuple[float, float]:
    """Order statistics that hold the median but for `LEVEL` on each side; NaN for too few."""
    n = len(earliest)
    if stats.binom.cdf(0, n, 0.5) > LEVEL:
        return math.nan, math.nan
    place = max(k for k in range(n // 2) if stats.binom.cdf(k, n, 0.5) <= LEVEL)
    return float(earliest[place]), float(latest[n - 1 - place])


def _any(parts: Sequence[Judged], name: str) -> bool:
    return any(not math.isnan(getattr(part, name)) for part in parts)
