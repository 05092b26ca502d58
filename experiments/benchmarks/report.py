"""Time and size of the report of a large sweep.

Claim: the page of 1,000 runs with 121 checkpoints each is built in under 2 minutes on 2 cores and
takes less than 25 MB.
Command: python -m experiments.benchmarks.report [--checkpoints] [--output FILE]; two minutes.
Expected: under a minute, half of it for the figures; about 13 MB, with checkpoints 20 MB.

The work directory is made up: curves of a grid of two models, written through the real tables.
With ``--checkpoints`` of one model and twice the seeds, and a small embedding at every checkpoint.
"""

import argparse
import pathlib
import tempfile
import time

from experiments.benchmarks.environment import append, environment
from grokjax import reporting
from tests import synthetic

GRID = {
    "prime": (59, 97, 113, 149, 197),
    "train_fraction": (0.2, 0.25, 0.3, 0.35, 0.4),
    "weight_decay": (0.1, 0.3, 1.0, 3.0),
}
MOST_SECONDS, MOST_BYTES = 120, 25_000_000


def main() -> None:
    """Makes the directory, builds the report, prints time and size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoints", action="store_true")
    parser.add_argument("--output", type=pathlib.Path)
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
        size = reporting.write(folder).stat().st_size
        seconds = time.perf_counter() - begun
    n_checkpoints = len(config.train.checkpoint_steps)
    print(f"{len(config.runs):,} runs × {n_checkpoints} checkpoints: {seconds:.0f} s, ", end="")
    print(f"{size / 1e6:.1f} MB")
    met = seconds < MOST_SECONDS and size < MOST_BYTES
    print(f"the claim {'holds' if met else 'DOES NOT HOLD'} here")
    record = {"benchmark": "report", "seconds": seconds, "bytes": size, "met": met}
    append(arguments.output, record | environment(("matplotlib", "plotly", "pandas")))


if __name__ == "__main__":
    main()
