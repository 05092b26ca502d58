"""Work directories without training: made-up curves through the real tables."""

import jax
import numpy as np

from grokjax.diagnostics import Options
from grokjax.measuring import views
from grokjax.models import network
from grokjax.models.network import Model
from grokjax.settings import grid
from grokjax.store import record
from grokjax.store import runs as runs_table
from grokjax.store.checkpoints import RunBatch, Writer
from grokjax.store.results import METRICS, Results, write_parquet
from grokjax.training import data
from tests.helpers import make_config

AXES = {
    "prime": [11],
    "seed": [46, 47],
    "d_model": [16],
    "n_heads": [2],
    "d_ff": [16],
    "n_layers": [1],
    "mlp_width": [16],
    "mlp_depth": [1],
    "batch_size": [32],
}


def make(folder, *, steps=400, every=100, diagnostics=("persistence",), diverged=(), reached=None,
         clouds=("embedding",), when=None, **axes):  # fmt: skip
    """A work directory of a grid, its runs grokking in the middle; returns its configuration.

    Args:
        folder: where.
        steps: of every run.
        every: steps between checkpoints.
        diagnostics: what has tables; persistence, or nothing.
        diverged: places in the grid of runs that are NaN from the third checkpoint on.
        clouds: those of the options; rows are of the embedding.
        when: run → share of the steps at which its accuracy and loop rise; default: at random.
        reached: the step to which the sweep has come; default: the last.
        axes: column → values, instead of those of ``AXES``.
    """
    config = make_config(
        steps=steps,
        every=every,
        options=Options(diagnostics=diagnostics, clouds=clouds),
        **AXES | axes,
    )
    views.validate(config.options, config.runs)
    record.prepare(folder, config, {}, lambda runs: grid.plan_batches(runs, len(runs)))
    results = Results(folder, [run.run_id for run in config.runs])
    tables = views.tables_of(config.options).get("persistence", {})
    random = np.random.default_rng(0)
    at = random.uniform(0.3, 0.7, len(config.runs)) * steps
    if when is not None:
        at = np.array([when(run) for run in config.runs]) * steps
    for step in config.train.checkpoint_steps:
        if reached is not None and step > reached:
            break
        born = 1 / (1 + np.exp(-(step - at) / (0.03 * steps)))
        # Runs whose labels are all permuted never generalise.
        born *= [run.task.label_permutation < 1 for run in config.runs]
        nan = np.zeros(len(config.runs))
        nan[list(diverged)] = np.nan if step >= 2 * every else 0
        results.append("metrics", METRICS, _metrics(config.runs, step, every, born, nan))
        for name, table in tables.items():
            results.append(name, table, _persistence(config.runs, step, born, nan))
    results.compact("metrics", METRICS)
    for name, table in tables.items():
        results.compact(name, table, views.settings_of("persistence", config.options))
    metrics = results.read("metrics", METRICS)
    frame = runs_table.table(config.runs, metrics, config.train.steps)
    write_parquet(results.path("runs"), frame)
    return config


def _metrics(runs, step, every, born, nan):
    return [
        {
            "run_id": run.run_id,
            "step": step,
            "train_loss": 4 / (1 + step) + nan[i],
            "train_accuracy": (1.0 if step >= every else 0.1) + nan[i],
            "test_loss": 4 - 3.9 * born[i] + nan[i],
            "test_accuracy": 0.05 + 0.95 * born[i] + nan[i],
            "novel_accuracy": 0.03 + 0.97 * born[i] + nan[i],
            "weight_norm": 50 - 20 * born[i] + nan[i],
        }
        for i, run in enumerate(runs)
    ]


def points(run):
    return run.task.n_elements or run.task.n_outputs


def _persistence(runs, step, born, nan):
    return [
        {
            "run_id": run.run_id,
            "step": step,
            "cloud": "embedding",
            "n_points": points(run),
            "h0_max": 1.4 + nan[i],
            "h0_total": 1.3 * points(run) - born[i] + nan[i],
            "h0_entropy": 3.0 + nan[i],
            "h1_max": 0.08 + 0.15 * born[i] + 0.001 * run.seed + nan[i],
            "h1_second": 0.07 + 0.05 * born[i] + nan[i],
            "h1_gap": 0.01 + 0.1 * born[i] + nan[i],
            "h1_total": 2 + 3 * born[i] + nan[i],
            "h1_count": 30,
            "h1_entropy": 2.0 + nan[i],
            "connectivity": 1.4 + nan[i],
            "engine": "redzed",
        }
        for i, run in enumerate(runs)
    ]


def add_checkpoints(folder, config, diverged=()):
    """Checkpoints at every step: embeddings that turn from noise into a circle.

    Args:
        folder: where.
        config: the sweep.
        diverged: places in the grid of runs that are NaN from the third checkpoint on.
    """
    ended = {config.runs[place].run_id for place in diverged}
    for batch in grid.plan_batches(config.runs, len(config.runs)):
        _add_batch(folder, config.train.checkpoint_steps, batch, ended)


def _add_batch(folder, steps, runs, ended):
    random = np.random.default_rng(1)
    template = Model(config=runs[0].static.model, sizes=data.sizes(runs)).template()
    zeros = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), network.stacked(template, len(runs))
    )
    has_embedding = runs[0].task.n_elements > 0
    shape = zeros["embed"]["embedding"].shape if has_embedding else (len(runs), 1, 2)
    noise = random.normal(size=shape)
    circle = np.zeros_like(noise)
    for i, run in enumerate(runs):
        angle = 2 * np.pi * 3 * np.arange(run.task.n_elements) / run.task.n_elements
        circle[i, : run.task.n_elements, :2] = 4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    batch = RunBatch(run_ids=tuple(run.run_id for run in runs), config_hash="made up")
    with Writer(folder / "checkpoints", batch) as writer:
        for step in steps:
            share = step / steps[-1]
            embedding = ((1 - share) * noise + share * circle).astype(np.float32)
            if step >= steps[min(2, len(steps) - 1)]:
                embedding[[run.run_id in ended for run in runs]] *= np.nan
            own = {"embed": {"embedding": embedding}} if has_embedding else {}
            writer.save(step, zeros | own, [np.zeros(1)])
