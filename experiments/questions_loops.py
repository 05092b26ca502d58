"""Loops of the fifteen runs: dominance, chance, waves and holes, in words and sections.

As ``experiments.questions_numbers``.
"""

import pandas as pd

from experiments import committed
from experiments.committed import NAMES, each, markdown, percent, ratio_interval, span
from experiments.fifty_seeds import DOMINANT

# Beside fifty_seeds.DOMINANT, so that the page shows what other choices would say.
OTHERS = (1.2, 1.5)
# A value is above chance where it is above this share of the surrogates, in per cent: so is one of
# twenty values by chance.
ABOVE = 95.0
# A coordinate follows a wave at this correlation, and is a map below this residual (in half turns
# over an edge); see grokjax/diagnostics/coordinates.py.
FOLLOWS, IS_A_MAP = 0.95, 0.5
TRANSFORMERS = ["p113", "p197"]
STATISTICS = {"h1_max": "H1 max", "h1_total": "H1 total", "h1_ratio": "longest over second bar"}


def _ratios() -> pd.DataFrame:
    frame = committed.checkpoints()
    return frame.assign(
        ratio=frame.h1_max / frame.h1_second, after=frame.step >= frame.generalisation_step
    )


def one_loop() -> str:
    """Longest over second bar, over all checkpoints after generalising."""
    frame = _ratios()
    own = frame[frame.after].groupby(["runs", "seed"]).ratio
    medians, largest, before = own.median(), own.max(), frame[~frame.after]
    chance = committed.beside("h1_ratio", "frequency_power")
    words = {name: span(medians[name]) for name in NAMES}
    return (
        f"The longest bar is {DOMINANT} times the second or more in "
        f"{(medians >= DOMINANT).sum()} of {len(medians)} runs at the median checkpoint after "
        f"generalisation, in {(largest >= DOMINANT).sum()} at some checkpoint.\n\n"
        f"At the median checkpoint its ratio to the second is {each(words)}; of {len(before)} "
        f"checkpoints before generalisation it is {DOMINANT} or more at "
        f"{(before.ratio >= DOMINANT).sum() or 'none'}. At the last checkpoint the ratio is "
        f"above {ABOVE:.0f} % of {chance.n.max():.0f} random clouds of the same power at each "
        f"frequency in {(chance.percentile > ABOVE).sum()} of {len(chance)} runs, "
        f"where chance gives {len(chance) * (100 - ABOVE) / 100:.2g}."
    )


def one_loop_more() -> str:
    """Run by run, and at other thresholds."""
    frame = _ratios()
    after = frame[frame.after]
    rows = []
    for (name, seed), own in after.groupby(["runs", "seed"], sort=False):
        last = own.sort_values("step").ratio.iloc[-1]
        share = (own.ratio >= DOMINANT).mean()
        rows.append([NAMES[name], seed, f"{own.ratio.median():.2f}", f"{own.ratio.max():.2f}",
                     percent(share), f"{last:.2f}"])  # fmt: skip
    medians = after.groupby(["runs", "seed"]).ratio.median()
    other = ", ".join(f"at {limit} {(medians >= limit).sum()}" for limit in OTHERS)
    before = frame[~frame.after].ratio.max()
    header = ["runs", "seed", "median", "largest", f"checkpoints ≥ {DOMINANT}", "last checkpoint"]
    return (
        f"{markdown(header, rows)}\n\nOf checkpoints from generalisation on. {DOMINANT} is a choice"
        f" made when these ratios were known (largest before generalisation: {before:.2f}); of "
        f"{len(medians)} medians it is reached by {(medians >= DOMINANT).sum()}, {other}."
    )


def _over(statistic: str, null: str, place: str = "last") -> tuple[pd.DataFrame, str]:
    """Rows beside a null, and in words how many times chance's a statistic is."""
    rows = committed.beside(statistic, null, place)
    mean, low, high = ratio_interval(rows.value / rows["mean"])
    return rows, f"{mean:.2f} times ({low:.2f} to {high:.2f})"


def chance() -> str:
    """What surrogates have as well."""
    rows, longest = _over("h1_max", "frequency_power")
    total, totals = _over("h1_total", "frequency_power")
    above = int((rows.percentile > ABOVE).sum())
    n = len(rows)
    low = ratio_interval(rows.value / rows["mean"])[1]
    verdict = "Not all of it" if low > 1 else "Nothing beyond it is told"
    of = {name: ratio_interval(rows.loc[own, "value"] / rows.loc[own, "mean"])[0]
          for name, own in (("T", TRANSFORMERS), ("M", ["mlp197"]))}  # fmt: skip
    noise = committed.beside("h1_total", "isotropic").loc["p197"]
    within = (noise.percentile <= ABOVE).sum()
    covariance = {
        name: (committed.beside(name, "covariance").percentile > ABOVE).sum()
        for name in ("h1_max", "h1_total")
    }
    return (
        f"{verdict}. H1 max is {longest} that of random clouds of the same power at each "
        f"frequency (geometric mean over {n} runs, 95 %), H1 total {totals}.\n\n"
        f"H1 max (transformers {of['T']:.2f}, MLPs {of['M']:.2f}) is above {ABOVE:.0f} % of "
        f"{rows.n.max():.0f} of them in {above} of {n} "
        f"runs, where chance gives {n * (100 - ABOVE) / 100:.2g} (binomial p = "
        f"{committed.by_chance(above, n):.0e}), H1 total in "
        f"{(total.percentile > ABOVE).sum()} of {n}. Clouds of the same singular values are "
        f"exceeded in {covariance['h1_max']} and {covariance['h1_total']} of {n}. Against noise: "
        f"at p = 197 H1 total of {within} of {len(noise)} transformers is within what rows of the "
        f"same norms in random directions have.{_other_step()}"
    )


def _other_step() -> str:
    parts = []
    rows = committed.beside("h1_max", "frequency_power", "between")
    last = committed.beside("h1_max", "frequency_power")
    for name, own in rows.groupby("runs"):
        parts.append(
            f"{(own.percentile > ABOVE).sum()} of {len(own)} at step {own.step.iloc[0]:,} and "
            f"{(last.loc[name].percentile > ABOVE).sum()} of {len(last.loc[name])} at "
            f"{last.loc[name].step.iloc[0]:,} ({NAMES[str(name)]})"
        )
    return f" Which runs exceed depends on the step: H1 max {'; '.join(parts)}." if parts else ""


def _cell(rows: pd.DataFrame) -> str:
    """How many values are above chance, and how many times its mean they are."""
    if rows.empty:
        return "–"
    mean = ratio_interval(rows.value / rows["mean"])[0]
    return f"{(rows.percentile > ABOVE).sum()} of {len(rows)}, × {mean:.2f}"


def chance_more() -> str:
    """By kind of runs, step, statistic and null."""
    rows = []
    nulls = ("frequency_power", "covariance", "isotropic")
    measured = committed.surrogates().set_index(["place", "runs", "statistic"]).sort_index()
    for place in ("between", "last"):
        for name, kind in NAMES.items():
            for statistic, words in STATISTICS.items():
                if (place, name, statistic) in measured.index:
                    own = measured.loc[(place, name, statistic)]
                    cells = [_cell(own[own["null"] == null]) for null in nulls]
                    rows.append([kind, f"{own.step.iloc[0]:,}", words, *cells])
    header = ["runs", "step", "statistic", "same power at each frequency", "same singular values",
              "same norms, random directions"]  # fmt: skip
    return (
        f"{markdown(header, rows)}\n\nRuns above {ABOVE:.0f} % of 99 surrogates, and the geometric "
        "mean of value over surrogates' mean. Surrogates of the same power keep which frequencies "
        "are strong; if a loop is two strong waves and nothing more, they have it too. 99 of them "
        "give percentiles to one per cent; nothing is corrected for the number of cells."
    )


# --------------------------------------------------------------------------- waves and holes


def _followed(rows: pd.DataFrame, of: str = "") -> pd.Series:
    """Whether a coordinate is a map that follows a wave."""
    return (rows[f"{of}correlation"] >= FOLLOWS) & (rows[f"{of}residual"] < IS_A_MAP)


def whose_wave() -> str:
    """Which loops are one wave."""
    longest, some, loose = {}, {}, 0
    for name in NAMES:
        rows = committed.table(f"waves/{name}.csv")
        first = rows[rows.place == 0]
        longest[name] = _followed(first).sum()
        some[name] = _followed(rows, "reduced ").groupby(rows.seed).any().sum()
        loose += (rows["reduced correlation"] >= FOLLOWS).groupby(rows.seed).any().sum()
    n = 5 * len(NAMES)
    planted = committed.table("waves/planted.csv")
    three = (
        planted[planted.waves == 3]
        .groupby("p")["all, of draws"]
        .apply(lambda draws: sum(int(text.split(" of ")[0]) for text in draws))
    )
    return (
        f"Of some loops: in {sum(some.values())} of {n} runs a circular coordinate is a map and "
        f"follows one wave k·x/p; that of the longest bar does in {sum(longest.values())}.\n\n"
        f"A map has a residual below {IS_A_MAP}; waves are of a strong frequency or of a sum of "
        f"two, and are followed to a correlation of {FOLLOWS} ({loose} runs without the condition "
        f"on the residual). That of the longest bar follows one in: "
        f"{each({name: f'{count} of 5' for name, count in longest.items()})}. The others are not "
        f"known to be something else: three planted waves of equal strength are all shown in "
        f"{three[59]} of 15 draws at p = 59 and {three[113]} of 15 at 113; 197 was not tried."
        f"{_noise()}"
    )


def _noise() -> str:
    rows = committed.table("waves/noise.csv")
    found = _followed(rows, "reduced ").groupby([rows.p, rows.seed]).any()
    best = rows.groupby(["p", "seed"])["reduced correlation"].max().max()
    return (
        f" In noise {found.sum()} of {len(found)} clouds have such a coordinate (largest "
        f"correlation with the best of (p − 1)/2 waves: {best:.2f})."
    )


def holes() -> str:
    """Whether Betti numbers are decided."""
    of = {name: committed.table(f"holes/{name}.csv") for name in NAMES}
    kinds = {"transformers": pd.concat([of[name] for name in TRANSFORMERS]), "MLPs": of["mlp197"]}
    decided = {kind: rows["stretches"].notna().sum() for kind, rows in kinds.items()}
    circles = kinds["MLPs"]["stretches"].fillna("").str.contains("circle").sum()
    least = of["mlp197"]["its p"].min()
    words = [
        f"{kind} {rows.waves.median():g} and {rows['planes with a circle'].median():g}"
        for kind, rows in kinds.items()
    ]
    return (
        f"Undecided for transformers: no Betti numbers last longer than chance's in "
        f"{len(kinds['transformers']) - decided['transformers']} of {len(kinds['transformers'])}. "
        f"In MLPs some do in {decided['MLPs']} of {len(kinds['MLPs'])}, at p = {least:g}, the "
        f"least that 19 surrogates allow.\n\n{circles} are called a circle, which is not their "
        "space: planted clouds of three waves and more are called so too. Waves that stand out and "
        f"planes that hold a circle, medians: {', '.join(words)}."
    )
