"""The claims of fifty seeds: level and power of its tests, verdicts on planted truths."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import fifty_seeds
from experiments.fifty_seeds import CANNOT_TELL, HOLDS, OTHER_WAY

STEPS = np.arange(0, 4001, 200)
SEEDS = range(20)


class Pool:
    """Runs that were made up: accuracy steps at 2,000, what depends on ``sign`` at 2,600 or 1,400.

    With ``sign`` 1 every claim is true of them, with -1 false, with 0 they have noise alone.
    """

    def __init__(self, sign):
        rng = np.random.default_rng(1)
        self.frames = {"runs": [], "metrics": [], "persistence": [], "surrogates": []}
        for permuted in (0.0, 1.0):
            for seed in SEEDS:
                self._add(rng, f"{seed}-{permuted:g}", seed, permuted, sign)
        self.frames = {name: pd.DataFrame(rows) for name, rows in self.frames.items()}

    def _add(self, rng, run_id, seed, permuted, sign):
        came = None if permuted else 2000
        run = {"model": "transformer", "operation": "add", "prime": 59, "status": "done"}
        run |= {"run_id": run_id, "seed": seed, "label_permutation": permuted}
        self.frames["runs"].append(run | {"memorisation_step": 400, "generalisation_step": came})
        half = 2000 + sign * 600
        for step in STEPS:
            rise = stats.norm.cdf((step - half) / 300) * abs(sign) * (1 - permuted)
            rise *= sign if sign else 1
            noise = dict(zip("abcde", 1 + 0.01 * rng.standard_normal(5), strict=True))
            accuracy = 0 if permuted else stats.norm.cdf((step - 2000) / 300)
            own = {"run_id": run_id, "step": step}
            self.frames["metrics"].append(own | {"test_accuracy": accuracy})
            longest = np.exp(0.5 * rise) * noise["a"]
            second = longest / (1.6 if sign > 0 else 1.05)
            self.frames["persistence"].append(
                own | {"cloud": "embedding", "h1_max": longest, "h1_second": second}
                | {"h1_total": np.exp(0.5 * rise) * noise["b"]}
                | {"h0_max": 2 - 0.5 * rise * noise["c"] + noise["d"]}
                | {"h0_total": 2 - 0.5 * rise * noise["d"] + noise["c"]}
            )  # fmt: skip
        for null in fifty_seeds.NULLS:
            for statistic in ("h1_max", "h1_total"):
                over = np.exp(0.2 * sign + 0.3 * rng.standard_normal() * (0.2 if sign else 1))
                row = {"run_id": run_id, "step": 4000, "cloud": "embedding", "null": null}
                self.frames["surrogates"].append(
                    row | {"statistic": statistic, "value": over, "mean": 1.0}
                )

    def table(self, name):
        return self.frames[name]

    def finished(self):
        return self.frames["runs"]


@pytest.mark.parametrize(("sign", "verdict"), [(1, HOLDS), (-1, OTHER_WAY)])
def test_verdicts_follow_what_was_planted(sign, verdict):
    frame = fifty_seeds.table(Pool(sign))
    assert len(frame) == 18
    same = frame.verdict == verdict
    # What falls does not leave its level upwards, so it neither comes first nor last.
    same |= frame.claim.str.contains("leaves its level") & (frame.n == 0) & (sign < 0)
    assert same.all(), frame[~same].to_string()


def test_of_noise_nothing_is_told_and_no_step_is_found():
    frame = fifty_seeds.table(Pool(0)).set_index("claim")
    no_loop = frame.index.str.startswith("the longest bar")
    assert (frame[no_loop].verdict == OTHER_WAY).all()
    assert (frame[~no_loop].verdict == CANNOT_TELL).all(), frame.to_string()


def test_a_value_by_hand():
    values = np.array([0.1, 0.4, np.nan, 0.3, 0.2, 0.6])
    row = fifty_seeds.of_values(values, 1, 18)
    own = values[np.isfinite(values)]
    t = own.mean() / (own.std(ddof=1) / 5**0.5)
    assert row["n"] == 5
    assert row["p"] == pytest.approx(2 * stats.t.sf(t, 4))
    half = stats.t.ppf(0.975, 4) * own.std(ddof=1) / 5**0.5
    assert (row["low"], row["high"]) == pytest.approx((own.mean() - half, own.mean() + half))


@pytest.mark.parametrize("rate", [0.5, 0.05])
def test_tests_keep_their_level_and_what_is_detectable_is_found_with_power(rate):
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 1, (2000, 50))
    shift = stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert np.mean(shift < 0.05) == pytest.approx(0.05, abs=0.015)
    for own in draws[:3]:  # as our rows have it
        assert fifty_seeds.of_values(own, 1, 1)["p"] in shift
    for sign in (1, -1):
        share = fifty_seeds.detectable_share(50, rate, sign, 0.05 / 18)
        if sign < 0 and rate == 0.05:
            assert np.isnan(share)
            continue
        # The chance of every count, summed where the test says no and the side is right.
        counts = np.arange(51)
        no = np.array([stats.binomtest(int(c), 50, rate).pvalue <= 0.05 / 18 for c in counts])
        no &= sign * (counts - 50 * rate) > 0
        assert stats.binom.pmf(counts, 50, share)[no].sum() == pytest.approx(0.8, abs=1e-6)
    sd = draws[0].std(ddof=1)
    found = fifty_seeds.of_values(draws[0], 1, 18)["detectable"]
    moved = stats.ttest_1samp(draws * sd + found, 0, axis=1).pvalue
    assert np.mean(moved < 0.05 / 18) == pytest.approx(0.8, abs=0.04)
