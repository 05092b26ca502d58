"""Work directories without training: made-up curves through the real tables."""

import jax
import numpy as np

from grokjax import models
from grokjax.measuring import analyst
from grokjax.running import pipeline
from grokjax.store import workdir
from grokjax.measuring.analyst import settings_of
from grokjax.store.checkpoints import Batch, Writer
from grokjax.diagnostics import Options
from grokjax.settings.grid import ModelConfig, TrainConfig
from grokjax.models import Model
from grokjax.store.results import METRICS, Results
from grokjax.store.workdir import SweepConfig

AXES = {
    "model": ("transformer",),
    "operation": ("add",),
    "prime": (11,),
    "train_fraction": (0.5,),
    "label_permutation": (0.0,),
    "weight_decay": (1.0,),
    "learning_rate": (0.003,),
    "init_scale": (1.0,),
    "seed": (46, 47),
}

_SHAPE = {"d_model": 16, "n_heads": 2, "d_ff": 16, "n_layers": 1, "mlp_width": 16, "mlp_depth": 1}


def make(folder, *, steps=400, every=100, diagnostics=("persistence",), diverged=(), reached=None,
         clouds=("embedding",), **axes):  # fmt: skip
    """A work directory of a grid, its runs grokking in the middle; returns its configuration.

    Args:
        folder: where.
        steps: of every run.
        every: steps between checkpoints.
        diagnostics: what has tables; persistence, or nothing.
        diverged: places in the grid of runs that are NaN from the third checkpoint on.
        clouds: those of the options; rows are of the embedding.
        reached: the step to which the sweep has come; default: the last.
        axes: RunSpec field → values, instead of those of ``AXES``.
    """
    axes = AXES | axes
    config = SweepConfig(
        axes=axes,
        models={name: ModelConfig(model=name, **_SHAPE) for name in axes["model"]},
        train=TrainConfig(steps=steps, checkpoint_every=every),
        options=Options(diagnostics=diagnostics, clouds=clouds),
    )
    config.validate()
    workdir.prepare(folder, config, {}, runs_per_batch=len(config.runs))
    results = Results(folder, [run.run_id for run in config.runs])
    tables = analyst.tables_of(config.options).get("persistence", {})
    random = np.random.default_rng(0)
    at = random.uniform(0.3, 0.7, len(config.runs)) * steps
    for step in config.train.checkpoint_steps:
        if reached is not None and step > reached:
            break
        born = 1 / (1 + np.exp(-(step - at) / (0.03 * steps)))
        # Runs whose labels are all permuted never generalise.
        born *= [run.label_permutation < 1 for run in config.runs]
        nan = np.zeros(len(config.runs))
        nan[list(diverged)] = np.nan if step >= 2 * every else 0
        results.append("metrics", METRICS, _metrics(config.runs, step, every, born, nan))
        for name, table in tables.items():
            results.append(name, table, _persistence(config.runs, step, born, nan))
    results.merge("metrics", METRICS)
    for name, table in tables.items():
        results.merge(name, table, settings_of("persistence", config.options))
    results.write_runs(
        pipeline.runs_table(config.runs, results.read("metrics", METRICS), config.train.steps)
    )
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


def _persistence(runs, step, born, nan):
    return [
        {
            "run_id": run.run_id,
            "step": step,
            "cloud": "embedding",
            "n_points": run.prime,
            "h0_max": 1.4 + nan[i],
            "h0_total": 1.3 * run.prime - born[i] + nan[i],
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
    """Checkpoints at every step: embeddings that turn from noise into a circle."""
    runs = config.runs
    random = np.random.default_rng(1)
    template = Model(
        config=config.models[runs[0].model], n_tokens=max(run.prime for run in runs)
    ).template()
    zeros = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), models.stacked(template, len(runs))
    )
    noise = random.normal(size=zeros["embed"]["embedding"].shape)
    circle = np.zeros_like(noise)
    for i, run in enumerate(runs):
        angle = 2 * np.pi * 3 * np.arange(run.prime) / run.prime
        circle[i, : run.prime, :2] = 4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    batch = Batch(run_ids=tuple(run.run_id for run in runs), config_hash="made up")
    steps = config.train.checkpoint_steps
    with Writer(folder / "checkpoints", batch) as writer:
        for step in steps:
            share = step / steps[-1]
            embedding = ((1 - share) * noise + share * circle).astype(np.float32)
            embedding[list(diverged)] *= np.nan if step >= steps[2] else 1
            writer.save(step, zeros | {"embed": {"embedding": embedding}}, [np.zeros(1)])
