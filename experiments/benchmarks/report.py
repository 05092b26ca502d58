"""Time and size of the report of a large sweep.

Claim: the page of 1,000 runs with 121 checkpoints each is built in under 2 minutes on 2 cores,
takes less than 25 MB, and shows its first view within 3 s in Chromium (where that is installed).
Command: python -m experiments.benchmarks.report [--checkpoints] [--output FILE]; two minutes.
Expected: under a minute, half of it for the figures; about 13 MB, with checkpoints 20 MB.

The work directory is made up: curves of a grid of two models, written through the real tables.
With ``--checkpoints`` of one model and twice the seeds, and a small embedding at every checkpoint.
"""

import pathlib
import shutil
import statistics
import tempfile
import time

from experiments.benchmarks import environment
from grokjax.report import drawing
from tests import synthetic

GRID = {
    "prime": (59, 97, 113, 149, 197),
    "train_fraction": (0.2, 0.25, 0.3, 0.35, 0.4),
    "weight_decay": (0.1, 0.3, 1.0, 3.0),
}
MOST_SECONDS, MOST_BYTES, MOST_SECONDS_TO_SEE = 120, 25_000_000, 3.0


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


def main() -> None:
    """Makes the directory, builds the report, prints time and size."""
    parser = environment.parser(__doc__)
    parser.add_argument("--checkpoints", action="store_true")
    arguments = parser.parse_args()
    models = ("transformer",) if arguments.checkpoints else ("transformer", "mlp")
    seeds = range(46, 46 + 10 // len(models))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "w"
        config = synthetic.make(
            folder,
            steps=60_000,
            every=500,
            model=models,
            seed=tuple(seeds),
            diverged=(3, 77),
            **GRID,
        )
        if arguments.checkpoints:
            synthetic.add_checkpoints(folder, config, diverged=(3, 77))
        begun = time.perf_counter()
        page = drawing.write(folder)
        seconds = time.perf_counter() - begun
        size = page.stat().st_size
        seen, used = first_view(page) if shutil.which("chromedriver") else (None, None)
    n_checkpoints = len(config.train.checkpoint_steps)
    print(f"{len(config.runs):,} runs × {n_checkpoints} checkpoints: {seconds:.0f} s, ", end="")
    print(f"{size / 1e6:.1f} MB, first view ", end="")
    if seen is None:
        print("not measured: there is no chromedriver")
    else:
        print(f"in {seen:.1f} s ({used:.1f} s of processor time)")
    met = seconds < MOST_SECONDS and size < MOST_BYTES
    met = met and (seen is None or seen < MOST_SECONDS_TO_SEE)
    print(f"the claim {'holds' if met else 'DOES NOT HOLD'} here")
    environment.append(
        arguments.output,
        ("matplotlib", "plotly", "pandas"),
        benchmark="report",
        seconds=seconds,
        bytes=size,
        first_view=seen,
        first_view_processor=used,
        met=met,
    )


if __name__ == "__main__":
    main()
