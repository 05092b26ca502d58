"""What comes first, foretells, causes and carries generalisation; groups, and tests, in words.

As ``experiments.questions_numbers``. All but the first rest on small networks.
"""

import numpy as np
import pandas as pd
from scipy import stats

from experiments import committed
from experiments import leads as lags
from experiments.committed import markdown, percent, span
from grokjax import statistics

# --------------------------------------------------------------------------- what comes first


def leads() -> str:
    """What comes first, run by run."""
    rows = committed.table("leads/leads.csv")
    own = rows[rows.reference == "test accuracy"]
    loss = rows[rows.reference == "−log test loss"]
    h0 = loss[loss.setting.str.startswith("MLP") & loss.statistic.str.startswith("H0")]
    others = loss.drop(h0.index)
    onset = onsets("h1_max")
    behind = (own.after == own.n).all()
    runs = int(own.groupby("setting").n.max().sum())
    return (
        f"{'Accuracy. ' if behind else ''}In {runs if behind else 'not all'} of {runs} runs every "
        "statistic of the four "
        f"that has a step goes half of its way after test accuracy does (sign test: "
        f"p = {own.p_order.min():.2f} in each of three settings, the least that five runs allow), "
        f"by medians of {own.lag.min():,.0f} to {own.lag.max():,.0f} steps.\n\nA slow rise is half "
        "done late by construction; but by when each first leaves its level for good H1 max is "
        f"later too, in {(onset > 0).sum()} of {len(onset)} runs, by {span(onset, ',.0f')} steps. "
        "Beside −log test loss H0 of the MLP is earlier in "
        f"{h0.before.min()} of {h0.n.max()} runs, "
        f"each other statistic later in all or all but {(others.n - others.after).max()} of the "
        "runs of its setting: what leads depends on what it is held against."
    )


def onsets(column: str) -> pd.Series:
    """By how much a statistic leaves its level after accuracy does, a run of the fifteen."""
    rows = committed.checkpoints().sort_values("step")
    return pd.Series(
        {key: lags.onset_lag(own, column) for key, own in rows.groupby(["runs", "seed"])}
    )


def leads_more() -> str:
    """Lags by setting, and of a shorter budget."""
    tables = [committed.table(f"leads/{name}.csv") for name in ("leads", "leads_shorter")]
    rows = []
    whole, shorter = (
        table[table.reference == "test accuracy"].set_index(["setting", "statistic"])
        for table in tables
    )
    for (setting, statistic), row in whole.iterrows():
        cut = shorter.loc[(setting, statistic)]
        cells = [f"{one.lag:,.0f} ({one.after} of {one.n})" for one in (row, cut)]
        rows.append([setting, statistic, *cells])
    share = f"{percent(committed.SHORTER)} of training"
    header = ["runs", "statistic", "median lag behind accuracy (runs behind, of those with a step)",
              f"the same from the first {share}"]  # fmt: skip
    return (
        f"{markdown(header, rows)}\n\nFrom {share} {shorter.after.sum()} of {shorter.n.sum()} "
        f"pairs of run and statistic are behind, of the whole {whole.after.sum()} of "
        f"{whole.n.sum()}: who comes first hardly depends on the budget, by how much does. The "
        "four statistics of a run move together, so such pairs are no independent cases. "
        "Checkpoints are 500 steps apart. A series leaves its level at the first checkpoint from "
        "which on it stays above all that it was in the first half of the way from memorisation "
        "to generalisation. H1 max does so before test accuracy is one half in some runs: what is "
        "early depends on where one looks."
    )


# --------------------------------------------------------------------------- small networks


def predicts() -> str:
    """H1 against cheaper quantities."""
    rows = committed.table("head_to_head/head_to_head.csv").set_index(["scheme", "quantity"])
    single = rows[~rows.index.get_level_values(1).str.startswith("all")].gain.dropna()
    h1, excluded, loss = (rows.loc["seeds", q] for q in ("H1 max", "excluded loss", "test loss"))
    new = rows.loc[("settings", "H1 max")]
    worse = rows.loc["settings"].query("high < 0")
    better = rows.loc["settings"].query("low > 0 & ~index.str.startswith('all')")
    step, constant = (rows.loc[("seeds", name), "alone"] for name in ("step", "constant"))
    verdict = "Beyond the step, yes" if h1.low > 0 else "Not beyond the step"
    points = committed.table("head_to_head/checkpoints.csv")
    runs = points.groupby("run_id").generalisation_step.first()
    capped = (points.remaining >= points.remaining.max()).mean()
    return (
        f"{verdict} (p = 31, {points.seed.nunique()} seeds in four settings; "
        f"{runs.notna().sum()} of {len(runs)} runs generalise). The steps that remain are "
        f"predicted to {step:.0f} from the step alone; H1 max improves that by {h1.gain:.0f} "
        f"({h1.low:.0f} to {h1.high:.0f}, 99.7 % bootstrap over seeds).\n\n"
        f"Steps that remain are at most {points.remaining.max():,.0f} (so many for "
        f"{percent(capped)} of checkpoints); {constant:.0f} from nothing and {h1.alone:.0f} from "
        f"H1 max alone. For new seeds excluded loss adds {excluded.gain:.0f} "
        f"({excluded.low:.0f} to {excluded.high:.0f}), test loss, which reads the pairs that "
        f"define generalisation, {loss.gain:.0f} ({loss.low:.0f} to {loss.high:.0f}). For new "
        f"settings {len(worse)} of {len(single['settings'])} quantities make it worse, weight norm "
        f"most ({rows.loc[('settings', 'weight norm'), 'gain']:.0f}), H1 max by {-new.gain:.0f} "
        f"({-new.high:.0f} to {-new.low:.0f}); only {' and '.join(better.index)} help."
    )


def causes() -> str:
    """Loops pushed up and down."""
    rows = committed.table("cause/cause.csv").set_index(["arm", "beside"])
    doses = committed.table("cause/doses.csv").set_index("arm")

    def effect(arm: str, other: str = "none") -> str:
        row = rows.loc[(arm, other)]
        return f"{row['median']:.0f} ({row.low:.0f} to {row.high:.0f})"

    def dose(column: str) -> str:
        of = doses[column] / (1 if column == "ratio" else doses.loc["none", column])
        return f"{of['longer 0.02']:.2g} and {of['shorter 0.02']:.2g}"

    n = rows.n.max()
    ends = rows.loc[[("longer 0.02", "none"), ("shorter 0.02", "none")], ["low", "high"]]
    verdict = "No effect of loops" if ends.abs().to_numpy().max() <= 100 else "Nothing is excluded"
    return (
        f"{verdict} beyond 100 steps, the margin planned (p = 31, one block, {n} pairs of runs a "
        f"contrast). Loops {dose('ratio')} times as long in steps 210 to 990 change the step of "
        f"generalisation by {effect('longer 0.02')} and {effect('shorter 0.02')} (medians, 95 %)."
        f"\n\nThey are {dose('at')} times as long by the time they generalise. Pushed five times "
        f"as strongly, longer {effect('longer 0.1')} and shorter {effect('shorter 0.1')} later; "
        f"but beside random edges pushed as strongly {effect('longer 0.1', 'random 0.1')} and "
        f"{effect('shorter 0.1', 'random 0.1')}. That networks could do without loops was not "
        "tested."
    )


def causes_more() -> str:
    """What the grid of checkpoints and the plan allow."""
    rows = committed.table("cause/cause.csv").set_index(["arm", "beside"])
    strong = rows.loc[("longer 0.1", "random 0.1")]
    every = 30  # steps between its checkpoints, experiments/cause.flags
    return (
        f"Steps are known to {every}, so an interval of ±{every} is one checkpoint either way. The "
        "planned contrasts are eight, corrected by Holm: loops of each weight beside none and "
        "beside random edges of that weight; random edges beside none are not among them. After "
        f"correction two differ, the strong pushes beside none. Of the strong push for longer "
        f"loops beside random edges, up to {strong.high:.0f} steps are not excluded, and by the "
        f"spread seen {strong.detectable:.0f} would be found with power 0.8 by an uncorrected "
        "test."
    )


def carries() -> str:
    """What is lost without the strongest wave."""
    rows = committed.table("ablation/ablation.csv")
    rows = rows[(rows.intervention == "removed") & (rows.subspace == "wave1")]
    runs = len(committed.table("ablation/p59/runs.parquet"))
    short, parts = [], []
    rows = rows[rows.setting.str.contains("mean over|p = 59")]
    less = (rows.accuracy_high < 0).all()
    verdict = "Less than without" if less else "Not told to be less than without"
    for row in rows.iloc[::-1].itertuples():
        prime = row.setting.split(",")[1].strip()
        short.append(
            f"at {prime} accuracy is higher by {-row.accuracy_difference:.3f} "
            f"({-row.accuracy_high:.3f} to {-row.accuracy_low:.3f}, {row.n} seeds)"
        )
        parts.append(
            f"{prime}: mean accuracy without the wave is {row.accuracy:.2f}, without random planes "
            f"of its power {row.random_accuracy:.2f}; these share {row.overlap:.2f} of that wave"
        )
    return (
        f"{verdict} random planes of the same power (small networks; median over seeds that "
        f"generalised and stayed, 95 % exact): {'; '.join(short)}.\n\n"
        f"{'; '.join(parts)}. At p = 31 a seed is a mean over "
        f"the settings in which it did; at p = 59 the seeds are those of {runs} that did."
    )


# --------------------------------------------------------------------------- groups, tests

# Per cent of unrelated curves that a test of 5 % may reject in the worst of its cells: three
# standard errors above.
_KEPT = 8.0


def _controls() -> pd.DataFrame:
    """Rows of H1 max of the embedding with the p-value that their interval implies, and BH."""
    rows = committed.table("controls/controls.csv")
    rows = rows[(rows.statistic == "h1_max") & (rows.cloud == "embedding")].reset_index(drop=True)
    error = np.log(rows.high / rows.low) / 2 / stats.t.isf(0.025, rows.n - 1)
    p_values = 2 * stats.t.sf(np.abs(np.log(rows.ratio)) / error, rows.n - 1)
    names = rows.setting.str.replace(r"transformer, |, p = 31|, true labels", "", regex=True)
    corrected = statistics.benjamini_hochberg(p_values)
    return rows.assign(name=names, p=p_values, corrected=corrected)


def phases() -> str:
    """Train fraction by weight decay."""
    cells, tests = committed.table("phase/phase.csv"), committed.table("phase/phase_tests.csv")
    beside = cells.ratio_not.dropna()
    found = [
        f"{row.share:.2f} of {row.pairs:,} pairs, {row.runs} runs (p = {row.p:.2g}: {row.verdict})"
        for row in tests.itertuples()
    ]
    return (
        f"{cells.generalised.sum()} of {cells.n.sum()} runs generalise (p = 31, {len(cells)} cells "
        f"of train fraction and weight decay, {tests.seeds.max()} seeds each). H1 max of runs that "
        f"do not rises as well, on average in {(beside > 1).sum()} of {len(beside)} cells.\n\nOf "
        "two of one seed and decay the one that generalised has the larger ratio of H1 max, after "
        f"over before, in {found[0]}; with the fraction the same too, of two seeds, in {found[1]}. "
        "Of two that generalised, of one seed and fraction, the one with more decay has it in "
        f"{found[2]}. A half is nothing; permutations of whole fractions, seeds and decays; the "
        "three share a level of 5 %."
    )


def without_a_group_at_size() -> str:
    """The control of ``committed.CONTROL``, as it was planned."""
    label = "The label is (a + b)/2, rounded down: of the sum, but of nothing cyclic (p = 113)"
    return _beside_addition(committed.CONTROL, "average", label)


def short_cycles_at_size() -> str:
    """The control of ``committed.SHORT_CYCLES``, as it was planned."""
    label = "128 elements, each its own inverse: a group without a cycle longer than two"
    return _beside_addition(committed.SHORT_CYCLES, "z2^7", label)


def _beside_addition(folder: str, task: str, label: str) -> str:
    """Whether H1 max rises in the runs of a control, and whether that of addition rises more."""
    runs = committed.table(f"{folder}/runs.parquet")
    came, steps = int(runs.generalisation_step.notna().sum()), runs.generalisation_step.dropna()
    if came < 4:
        return f"Cannot be told: of {len(runs)} runs of {task} {came} generalise."
    ratios = {
        name: own.after / own.before
        for name, at in ((task, folder), ("addition", f"{committed.RUNS}/p113"))
        for own in [committed.windows_of(at, "h1_max")]
    }
    told = {name: committed.ratio_interval(own) for name, own in ratios.items()}
    words = {k: f"{mean:.2f} ({low:.2f} to {high:.2f})" for k, (mean, low, high) in told.items()}
    _, low, high = told[task]
    p = float(stats.ttest_ind(*np.log(list(ratios.values())), equal_var=False).pvalue)
    larger = max(told, key=lambda name: told[name][0])
    rows = committed.table(f"{folder}/controls.csv")
    (row,) = rows[rows.statistic == "h1_max"].itertuples()
    rises = "Yes" if low > 1 else "No, it falls" if high < 1 else "It cannot be told"
    chance = "" if p < 0.05 else ", which may be chance"
    return (
        f"{rises}. {label}. H1 max after over before (95 %): {words[task]}; of addition "
        f"{words['addition']}; {came} of {len(runs)} runs generalise.\n\n"
        f"They do at steps {span(steps, ',.0f')}. The larger rise is that of "
        f"{larger}{chance} (Welch: p = {p:.2g}). Of {task} it is above 95 % of "
        f"clouds of the same singular values in {row.above_covariance} of "
        f"{row.measured_covariance} runs."
    )


def another_kind_at_size() -> str:
    """The control of ``committed.OTHER_KIND``, as it was planned."""
    runs = committed.table(f"{committed.OTHER_KIND}/runs.parquet")
    own, steps = committed.windows_of(committed.OTHER_KIND, "h1_max"), runs.generalisation_step
    total = committed.windows_of(committed.OTHER_KIND, "h1_total")
    addition = committed.windows_of(f"{committed.RUNS}/p113", "h1_max")
    words = {
        name: f"{mean:.2f} ({low:.2f} to {high:.2f})"
        for name, one in (("max", own), ("total", total))
        for mean, low, high in [committed.ratio_interval(one.after / one.before)]
    }
    _, low, high = committed.ratio_interval(own.after / own.before)
    p = float(stats.ttest_ind(np.log(own.after), np.log(addition.after), equal_var=False).pvalue)
    rows = committed.table(f"{committed.OTHER_KIND}/controls.csv").set_index("statistic")
    row = rows.loc["h1_max"]
    rises = "Yes" if low > 1 else "No, it falls" if high < 1 else "No rise is seen"
    told = "another level" if p < 0.05 else "not told from it"
    return (
        f"{rises}. The label is the larger of a and b: no group, no cycle, no sum (p = 113). "
        f"H1 max of the last fifth of 20,000 steps over that of the untrained network (95 %): "
        f"{words['max']}, H1 total {words['total']}; {steps.notna().sum()} of {len(runs)} runs "
        f"generalise.\n\nThey do by step {steps.max():,.0f}, the first checkpoint, so what is "
        "before is the untrained network. H1 max is "
        f"{own.after.mean():.3f} then, of addition {addition.after.mean():.3f} ({told}, Welch: "
        f"p = {p:.1g}). It is above 95 % of clouds of the same singular values in "
        f"{row.above_covariance} of {row.measured_covariance} runs, and "
        f"{row.over_covariance:.2f} times their mean."
    )


def without_a_group() -> str:
    """Tasks without a cyclic group."""
    rows = _controls()
    parts = [
        f"{row.name_} {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        for row in rows.rename(columns={"name": "name_"}).itertuples()
        if row.generalised.split(" of ")[0] != "0"
    ]
    beyond = [
        f"{null} in {(rows[f'above_{null}'].sum())} of {rows[f'measured_{null}'].sum()}"
        for null in ("covariance", "frequency_power")
    ]
    verdict = "It cannot be told" if rows.corrected.min() >= 0.05 else "It does in some"
    return (
        f"{verdict} ({rows.n.max()} runs a task, 24 to 32 elements): after correction for "
        f"{len(rows)} settings the least p is {rows.corrected.min():.3f}.\n\n"
        f"H1 max after over before (95 %, uncorrected): {', '.join(parts)}. Rises are within "
        f"what random clouds have: above 95 % of those of the same singular values "
        f"({beyond[0].removeprefix('covariance ')} runs) and of the same power "
        f"({beyond[1].removeprefix('frequency_power ')}). Decides nothing at the study's size."
    )


def without_a_group_more() -> str:
    """All settings."""
    rows = [
        [row.name_, row.generalised, "–" if pd.isna(row.fallen) else percent(row.fallen),
         f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})", f"{row.p:.3f}",
         f"{row.corrected:.3f}", f"{row.above_covariance} of {row.measured_covariance}",
         f"{row.above_frequency_power} of {row.measured_frequency_power}"]
        for row in _controls().rename(columns={"name": "name_"}).itertuples()
    ]  # fmt: skip
    header = ["task", "generalised", "checkpoints back below 0.9", "after ÷ before (95 %)", "p",
              "BH", "above 95 % of the same singular values", "of the same power"]  # fmt: skip
    return (
        f"{markdown(header, rows)}\n\nz2^5 is a product of cyclic groups, without a cycle longer "
        "than two. S4 and permuted labels did not generalise and are no controls of "
        "generalisation; that S4's ratio is above 1 all the same says what a rise alone is worth."
    )


def tests_hold() -> str:
    """Levels of the tests."""
    rows = committed.table("rejection_rates/rejection_rates.csv")
    rate = (rows.rejected / rows.n_sweeps * 100).groupby(
        [rows.test, rows.scenario, rows.n_seeds]
    ).first()  # fmt: skip

    def of(test: str, scenario: str) -> str:
        own = [x for n in (5, 10, 20, 50) if (x := rate.get((test, scenario, n))) is not None]
        return f"{min(own):.0f} to {max(own):.0f} %"

    anywhere, middle, far = "unrelated, anywhere", "unrelated, middle half", "4 later, close"
    five = {key: rate[(*key, 5)] for key in ((t, s) for t in ("event time", "exchange")
            for s in (middle, "together", far))}  # fmt: skip
    most = rate[rate.index.isin([anywhere, middle], level="scenario")].groupby("test").max()
    named = {"event time": "event time", "exchange": "exchange"} | {
        f"surrogates: {name}": name for name in ("shift", "block", "phase")
    }
    words = {
        keeps: ", ".join(
            f"{name} {most[test]:.0f} %" for test, name in named.items()
            if (most[test] <= _KEPT) == keeps
        )
        for keeps in (True, False)
    }  # fmt: skip
    return (
        f"They call at most so many pairs of unrelated curves related (5 to 50 seeds, "
        f"{rows.n_sweeps.max()} simulated sweeps a cell): {words[True] or 'none'}. More than "
        f"{_KEPT:.0f} %: {words[False] or 'none'}.\n\n"
        f"Circular shifts pooled over seeds keep their level if steps may come anywhere "
        f"({of('surrogates: shift', anywhere)}), not if they keep to the middle half of training "
        f"({of('surrogates: shift', middle)}); blocks ({of('surrogates: block', anywhere)}; "
        f"{of('surrogates: block', middle)}) and phases ({of('surrogates: phase', anywhere)}; "
        f"{of('surrogates: phase', middle)}) in neither. Event time keeps it in both "
        f"({of('event time', anywhere)}; {of('event time', middle)}) and finds, of five seeds, "
        f"{five['event time', 'together']:.0f} % of steps within 1.5 checkpoints and "
        f"{five['event time', far]:.0f} % of steps 4 later; exchange keeps it too "
        f"({of('exchange', anywhere)}; {of('exchange', middle)}, the most with five seeds, where "
        "5,000 further sweeps put it down to chance, as its README says) and "
        f"finds {five['exchange', 'together']:.0f} and {five['exchange', far]:.0f} %."
    )
