"""Time and size of the report of a large sweep.

Claim: the page of 1,000 runs with 121 checkpoints each is built in under 2 minutes on 2 cores,
takes less than 25 MB, and shows its first view within 3 s in Chromium (where that is installed).
So does the page of the 1,050 runs of the phase diagram in launch/README.md, where a filter by a
setting or a cell, taken back too, another grouping and another summary take less than 0.3 s until
they are on the screen, in every view of many runs.
Command: python -m experiments.benchmarks.report [--checkpoints] [--output FILE]; four minutes.
Expected: under a minute, half of it for the figures; about 13 MB, with checkpoints 20 MB.

The work directories are made up: curves of a grid of two models, written through the real tables,
and those of the phase diagram. With ``--checkpoints`` the first is of one model and twice the
seeds, and both have a small embedding at every checkpoint.
"""

import pathlib
import shutil
import statistics
import tempfile
import time
from typing import Any

import numpy as np

from experiments.benchmarks import environment
from grokjax.report import drawing
from grokjax.settings.grid import Run
from tests import synthetic

GRID = {
    "prime": (59, 97, 113, 149, 197),
    "train_fraction": (0.2, 0.25, 0.3, 0.35, 0.4),
    "weight_decay": (0.1, 0.3, 1.0, 3.0),
}
PHASES = {  # launch/README.md
    "prime": (59, 97, 113),
    "train_fraction": (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8),
    "weight_decay": (0.01, 0.03, 0.1, 0.3, 1.0),
    "seed": tuple(range(7)),
}
MOST_SECONDS, MOST_BYTES, MOST_SECONDS_TO_SEE, MOST_SECONDS_TO_FILTER = 120, 25_000_000, 3.0, 0.3
FILTERED_VIEWS = (
    "phase", "phase?value=persistence/embedding/h1_max&when=ratio", "overview", "curves",
    "curves?summary=median-runs&panel=-1", "curves?group=setting&panel=-1", "run", "runs",
)  # fmt: skip
CELL = "prime=97 train_fraction=0.5 weight_decay=0.1"
# What holds for every view, changed in turns; the last changes lead back to the first.
CHANGES = (
    *({"filter": words} for words in ("train_fraction>0.3", "", "prime=97", "", CELL, "")),
    *({"group": column} for column in ("prime", "seed", "setting", "train_fraction")),
    *({"summary": name} for name in ("median", "mean-runs", "median-runs", "mean")),
)


def when(run: Run) -> float:
    """A plausible share of 20,000 steps after which a run generalises: earlier with more of all."""
    values = run.values
    fraction, decay = values["train_fraction"], values["weight_decay"]
    spread = np.exp(0.25 * np.random.default_rng(int(1e6 * fraction) + run.seed).normal())
    return 0.08 * (0.45 / fraction) ** 3 * (0.3 / decay) ** 0.5 * float(spread)


def first_view(page: pathlib.Path, n_times: int = 3) -> tuple[float, float]:
    """Median seconds from asking Chromium for the page to the overview with all its figures.

    Returns:
        Seconds on the clock and of the processor, which do not count what else the machine does.
    """
    from experiments import screenshots

    clock, processor = [], []
    with screenshots.chromium() as driver:
        driver.execute_cdp_cmd("Performance.enable", {})

        def spent() -> float:
            metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            return next(own["value"] for own in metrics if own["name"] == "ProcessTime")

        for _ in range(n_times):
            driver.get("about:blank")
            before, begun = spent(), time.perf_counter()
            driver.get(page.as_uri())
            screenshots.wait_until_drawn(driver)
            clock.append(time.perf_counter() - begun)
            processor.append(spent() - before)
    return statistics.median(clock), statistics.median(processor)


def filtering(page: pathlib.Path, n_times: int = 5) -> dict[str, float]:
    """Seconds until a change of filter, group or summary is painted: the slowest one's median.

    Of views that an address opens with a group or a summary of their own, filters alone.
    """
    from experiments import screenshots

    # The second frame begins when the first one has been painted.
    script = """const [what, done] = arguments, begun = performance.now();
      const end = () => done((performance.now() - begun) / 1000);
      change(what);
      requestAnimationFrame(() => requestAnimationFrame(end));"""
    found = {}
    with screenshots.chromium() as driver:
        for view in FILTERED_VIEWS:
            driver.get("about:blank")
            driver.get(f"{page.as_uri()}#{view}")
            screenshots.wait_until_drawn(driver)
            own = "group=" in view or "summary=" in view
            changes = [change for change in CHANGES if "filter" in change or not own]
            took = [
                [driver.execute_async_script(script, change) for change in changes]
                for _ in range(n_times)
            ]
            found[view] = max(map(statistics.median, zip(*took, strict=True)))
    return found


def measured(folder: pathlib.Path, browser: bool) -> dict[str, Any]:
    """Builds the report; seconds, bytes, and where there is a browser seconds to the first view."""
    begun = time.perf_counter()
    page = drawing.write(folder)
    found: dict[str, Any] = {"seconds": time.perf_counter() - begun, "bytes": page.stat().st_size}
    seen, used = first_view(page) if browser else (None, None)
    return found | {"first_view": seen, "first_view_processor": used}


def holds(found: dict[str, Any]) -> bool:
    """Whether the claim does."""
    met = found["seconds"] < MOST_SECONDS and found["bytes"] < MOST_BYTES
    return met and (found["first_view"] is None or found["first_view"] < MOST_SECONDS_TO_SEE)


def say(what: str, found: dict[str, Any]) -> None:
    """Prints what was measured."""
    print(f"{what}: {found['seconds']:.0f} s, {found['bytes'] / 1e6:.1f} MB, first view ", end="")
    if found["first_view"] is None:
        print("not measured: there is no chromedriver")
    else:
        used = found["first_view_processor"]
        print(f"in {found['first_view']:.1f} s ({used:.1f} s of processor time)")


def main() -> None:
    """Makes the directories, builds the reports, prints times and sizes."""
    parser = environment.parser(__doc__)
    parser.add_argument("--checkpoints", action="store_true")
    arguments = parser.parse_args()
    models = ("transformer",) if arguments.checkpoints else ("transformer", "mlp")
    large = GRID | {"model": models, "seed": tuple(range(46, 46 + 10 // len(models)))}
    browser, ended = shutil.which("chromedriver") is not None, (3, 77)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "large"
        config = synthetic.make(folder, steps=60_000, every=500, diverged=ended, **large)
        if arguments.checkpoints:
            synthetic.add_checkpoints(folder, config, diverged=ended)
        found = measured(folder, browser)
        say(f"{len(config.runs):,} runs × {len(config.train.checkpoint_steps)} checkpoints", found)
        folder = pathlib.Path(name) / "phases"
        config = synthetic.make(
            folder, steps=20_000, every=500, diverged=ended, when=when, **PHASES
        )
        if arguments.checkpoints:
            synthetic.add_checkpoints(folder, config, diverged=ended)
        phases = measured(folder, browser)
        say(f"the phase diagram's {len(config.runs):,} runs", phases)
        filters = filtering(folder / "report" / "index.html") if browser else {}
    for view, seconds in filters.items():
        print(f"the slowest filter, group or summary in #{view}: {seconds:.2f} s")
    met = holds(found) and holds(phases)
    met = met and all(seconds < MOST_SECONDS_TO_FILTER for seconds in filters.values())
    print(f"the claim {'holds' if met else 'DOES NOT HOLD'} here")
    environment.append(
        arguments.output,
        ("matplotlib", "plotly", "pandas"),
        benchmark="report",
        **found,
        phases=phases | {"filters": filters},
        met=met,
    )


if __name__ == "__main__":
    main()
