"""How often every test rejects: under its null, and under two alternatives, at 5 to 50 seeds.

Question: does each test keep its level of 5 %, and what does it find with so many seeds?
Command: python -m experiments.rejection_rates [--folder F] [--processes N]; 2 CPU cores, no other
work, about 10 minutes. Cells that the CSV file in the folder holds already are not done again.
Found, with what it means: experiments/results/rejection_rates/README.md.

A cell is a kind of sweep and a number of seeds: 500 sweeps are simulated and given to every test
that it is meant for. Sweeps are made of curves, of steps of generalisation, or of one value a seed;
`SCENARIOS` says how in words, and they are in the table.
"""

import argparse
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import signal

from experiments import html_page, sweeps
from experiments.benchmarks.environment import environment
from grokjax import statistics

Floats = NDArray[np.float64]

LEVEL, N_SWEEPS, N_SEEDS, N_DRAWS = 0.05, 500, (5, 10, 20, 50), 199
N_CHECKPOINTS, EVERY = 61, 500
MARGIN = 1.0
SURROGATES = tuple(f"surrogates: {method}" for method in statistics.SURROGATE_METHODS)
TOGETHER = (*SURROGATES, "exchange", "event time")
WORDS = (statistics.AGREE, statistics.DIFFER, statistics.CANNOT_TELL)
VERDICTS = tuple(f"verdict: {word}" for word in WORDS)
TESTS = (*TOGETHER, "lead", "log-rank", *VERDICTS)
MEANING = "## What it means\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """A kind of sweep.

    Attributes:
        words: how it is made.
        null: tests that are to reject it in 5 % of cases at most. All other tests of the same data
            are to reject.
        make: of a generator and a number of seeds, the data.
        judge: of the data, which test rejects.
    """

    words: str
    null: tuple[str, ...]
    make: Callable[[np.random.Generator, int], Any]
    judge: Callable[[Any], Mapping[str, bool]]


# --------------------------------------------------------------------------- curves


def curves(rng: np.random.Generator, at: Floats, width: float, noise: float) -> Floats:
    """(k,) checkpoints of the steps → (k, 61): logistic steps from 0 to 1 in AR(1) noise."""
    innovations = rng.normal(size=(len(at), N_CHECKPOINTS)) * np.sqrt(1 - 0.9**2)
    innovations[:, 0] /= np.sqrt(1 - 0.9**2)  # stationary from the first
    steps = 1 / (1 + np.exp(-(np.arange(N_CHECKPOINTS) - at[:, None]) / width))
    return steps + noise * signal.lfilter([1.0], [1.0, -0.9], innovations, axis=1)


def two_curves(
    rng: np.random.Generator,
    k: int,
    *,
    within: tuple[float, float],
    lag: float | None = None,
    jitter: float = 0.0,
    widths: tuple[float, float] = (1.0, 1.0),
    noises: tuple[float, float] = (0.05, 0.1),
) -> tuple[Floats, Floats]:
    """Accuracy and a statistic of k runs; without a lag the second steps on its own."""
    first, second = rng.uniform(*within, (2, k))
    if lag is not None:
        second = first + lag + rng.uniform(-jitter, jitter, k)
    return curves(rng, first, widths[0], noises[0]), curves(rng, second, widths[1], noises[1])


def judge_curves(data: tuple[Floats, Floats]) -> dict[str, bool]:
    """All tests of two curves a run."""
    xs, ys = data
    p_values = {
        name: statistics.pooled_surrogate(xs, ys, method, N_DRAWS).p_value
        for name, method in zip(SURROGATES, statistics.SURROGATE_METHODS, strict=True)
    }
    p_values["exchange"] = statistics.pooled_exchange(xs, ys, N_DRAWS).p_value
    steps = EVERY * np.arange(N_CHECKPOINTS)
    events = [[statistics.half_rise_step(steps, curve) for curve in own] for own in (xs, ys)]
    p_values["event time"] = statistics.event_time_test(*events, 999).p_value
    p_values["lead"] = statistics.lead_test(*events).p_value
    return {name: p_value <= LEVEL for name, p_value in p_values.items()}


def _of_curves(words: str, null: tuple[str, ...], **settings: Any) -> Scenario:
    make = functools.partial(two_curves, **settings)
    return Scenario(words=words, null=null, make=make, judge=judge_curves)


# --------------------------------------------------------------------------- steps and values


def two_groups(rng: np.random.Generator, k: int, *, later: float) -> tuple[Floats, Floats]:
    """Steps of generalisation of two groups of k runs, NaN beyond 20,000."""
    x, y = 14_000 * rng.lognormal(0.0, 0.4, (2, k)) * [[1.0], [later]]
    return np.where(x > 20_000, np.nan, x), np.where(y > 20_000, np.nan, y)


def judge_groups(data: tuple[Floats, Floats]) -> dict[str, bool]:
    """The log-rank test; nothing is rejected where no run gets there."""
    return {"log-rank": statistics.logrank(*data, 20_000).p_value <= LEVEL}


def _of_groups(words: str, null: tuple[str, ...], later: float) -> Scenario:
    make = functools.partial(two_groups, later=later)
    return Scenario(words=words, null=null, make=make, judge=judge_groups)


def judge_values(values: Floats) -> dict[str, bool]:
    """The three words beside a target of 0 and the margin."""
    found = statistics.equivalence(values, 0.0, MARGIN)
    return {name: found == word for name, word in zip(VERDICTS, WORDS, strict=True)}


def normal_values(rng: np.random.Generator, k: int, *, mean: float, sd: float) -> Floats:
    """A normal value a seed."""
    return rng.normal(mean, sd, k)


def _of_values(words: str, wanted: str, mean: float, sd: float) -> Scenario:
    make = functools.partial(normal_values, mean=mean, sd=sd)
    null = tuple(name for name, word in zip(VERDICTS[:2], WORDS, strict=False) if word != wanted)
    return Scenario(words=words, null=null, make=make, judge=judge_values)


SCENARIOS = {
    "unrelated, anywhere": _of_curves(
        "both steps anywhere in training, each on its own", (*TOGETHER, "lead"), within=(0, 60)
    ),
    "unrelated, middle half": _of_curves(
        "both steps between checkpoints 15 and 45, each on its own",
        (*TOGETHER, "lead"),
        within=(15, 45),
    ),
    "together": _of_curves(
        "first step between 15 and 45, second at most 1.5 checkpoints before or after",
        ("lead",),
        within=(15, 45),
        lag=0,
        jitter=1.5,
    ),
    "1 later": _of_curves(
        "as together, but the second 1 checkpoint later: 0.5 before to 2.5 after",
        (),
        within=(15, 45),
        lag=1,
        jitter=1.5,
    ),
    "4 later, close": _of_curves(
        "first step, of width 0.5, between 22 and 38; second 3.5 to 4.5 checkpoints later, noise "
        "of SD 0.2",
        (),
        within=(22, 38),
        lag=4,
        jitter=0.5,
        widths=(0.5, 1.0),
        noises=(0.05, 0.2),
    ),
    "same steps": _of_groups("both groups alike", ("log-rank",), 1.0),
    "a quarter later": _of_groups("steps of the second group 1.25 times as late", (), 1.25),
    "half later": _of_groups("steps of the second group 1.5 times as late", (), 1.5),
    "equality": _of_values("mean on the target, SD 1 margin", statistics.AGREE, 0.0, 1.0),
    "edge": _of_values("mean a margin from the target, SD 1 margin", "", 1.0, 1.0),
    "difference": _of_values("mean 3 margins from it, SD 1 margin", statistics.DIFFER, 3.0, 1.0),
    "noise": _of_values("mean on the target, SD 10 margins", statistics.CANNOT_TELL, 0.0, 10.0),
}


# --------------------------------------------------------------------------- table


def cell(name: str, k: int, n_sweeps: int = N_SWEEPS) -> pd.DataFrame:
    """A row a test: how many of the sweeps of a scenario with k seeds it rejects."""
    scenario, place = SCENARIOS[name], list(SCENARIOS).index(name)
    counts: dict[str, int] = {}
    for sweep in range(n_sweeps):
        data = scenario.make(np.random.default_rng([place, k, sweep]), k)
        for test, rejects in scenario.judge(data).items():
            counts[test] = counts.get(test, 0) + rejects
    rows = {"test": list(counts), "scenario": name, "n_seeds": k, "n_sweeps": n_sweeps}
    frame = pd.DataFrame(rows | {"rejected": list(counts.values())})
    frame["is_null"] = frame["test"].isin(scenario.null)
    return frame


def measure(path: pathlib.Path, processes: int) -> pd.DataFrame:
    """Does the cells that the CSV file does not hold yet, each written as it is done."""
    there = pd.read_csv(path) if path.exists() else pd.DataFrame({"scenario": [], "n_seeds": []})
    held = set(zip(there["scenario"], there["n_seeds"], strict=True))
    # The longest first, so that none is waited for alone.
    missing = [(name, k) for k in N_SEEDS[::-1] for name in SCENARIOS if (name, k) not in held]
    with ProcessPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(cell, *one) for one in missing]):
            there = pd.concat([there, done.result()]) if len(there) else done.result()
            there.to_csv(path, index=False)
            print(f"{len(there)} rows", flush=True)
    places = {name: place for place, name in enumerate((*TESTS, *SCENARIOS))}
    there = there.sort_values("n_seeds").sort_values(
        ["test", "scenario"], key=lambda column: column.map(places), kind="stable"
    )
    there.to_csv(path, index=False)
    return there


def page(frame: pd.DataFrame) -> str:
    """The table as Markdown, a row a test and kind of sweep: per cent rejected.

    Bold: a level of 5 % that is not kept, by more than two standard errors.
    """
    rows = []
    for (test, scenario), own in frame.groupby(["test", "scenario"], sort=False):
        is_null = bool(own["is_null"].iloc[0])
        neither = test == VERDICTS[-1] and scenario != "noise"
        should = "no" if is_null else "–" if neither else "yes"
        row = {"test": test, "sweeps": scenario, "should it": should}
        for k, n, rejected in zip(own["n_seeds"], own["n_sweeps"], own["rejected"], strict=True):
            most = LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / n)
            text = f"{100 * rejected / n:.1f}"
            row[f"{k} seeds"] = f"**{text}**" if is_null and rejected / n > most else text
        rows.append(row)
    return html_page.markdown(pd.DataFrame(rows))


def write(path: pathlib.Path, frame: pd.DataFrame, seconds: float) -> None:
    """Writes the table and how it was made; what follows ``MEANING`` in the file is kept."""
    where = environment(("numpy", "scipy"))
    versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    made = "\n".join(f"- *{name}*: {scenario.words}." for name, scenario in SCENARIOS.items())
    meaning = path.read_text().partition(MEANING)[2] if path.exists() else ""
    path.write_text(
        f"""# How often every test rejects

`python -m experiments.rejection_rates` at commit {str(where["commit"])[:7]}, {where["time"][:10]},
on {where["device"]} (load {where["load_average"]:.1f}), Python {where["python"]}, {versions}:
{seconds / 60:.0f} min for the cells that were not there yet.

Per cent of {N_SWEEPS} simulated sweeps with p ≤ {LEVEL} ({N_DRAWS} surrogates), or with that
verdict; the standard error is 1.0 at 5 % and 2.2 at 50 %. Bold: more than 5 % by over two standard
errors where nothing is to be rejected.

{page(frame)}

Curves are {N_CHECKPOINTS} checkpoints, a logistic step from 0 to 1 of width 1 checkpoint (the rise
from 0.12 to 0.88 takes 4) in AR(1) noise of coefficient 0.9, of SD 0.05 in the first and 0.1 in the
second. Steps of generalisation are log-normal, median 14,000 and σ 0.4, horizon 20,000 (19 % never
come). Values are normal, one a seed.

{made}

{MEANING}{meaning}"""
    )


def main() -> None:
    """Simulates what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = sweeps.FOLDER / "results" / "rejection_rates"
    parser.add_argument("--folder", type=pathlib.Path, default=default)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    frame = measure(options.folder / "rejection_rates.csv", options.processes)
    write(options.folder / "README.md", frame, time.monotonic() - begun)
    print(page(frame))


if __name__ == "__main__":
    main()
