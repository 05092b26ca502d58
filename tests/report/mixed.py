"""A work directory of tasks with and without structure, of two widths and two optimisers."""

import pandas as pd

from grokjax.store import results
from tests import synthetic

OPERATIONS = ("add", "multiply", "s3", "z2xz4", "average", "digits")


def make(folder):
    """A run of each task, width and optimiser, with checkpoints; returns the configuration."""
    axes = {"model": ["mlp"], "operation": OPERATIONS, "d_model": [16, 24],
            "optimizer": ["adamw", "sgd"], "batch_size": [0], "seed": [46]}  # fmt: skip
    config = synthetic.make(folder, steps=100, every=100, **axes)
    synthetic.add_checkpoints(folder, config)
    # What has no embedding has no cloud of it.
    path = folder / "results" / "persistence.parquet"
    table = pd.read_parquet(path)
    results.write_parquet(path, table[~table["run_id"].str.contains("digits")])
    return config


def run_of(config, operation):
    """The first run of a task."""
    return next(run for run in config.runs if run.task.name == operation)
