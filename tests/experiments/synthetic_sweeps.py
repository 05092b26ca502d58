"""The five sweeps behind the artefacts, complete at small scale, without training."""

import numpy as np
import pandas as pd

from experiments.sweeps import TRAININGS
from grokjax.store import results
from tests import synthetic

# As sweeps.TRAININGS has them at small scale: runs are known by their ids.
SMALL = {"weight_decay": (1.0,), "d_model": (96,), "n_heads": (4,), "d_ff": (128,),
         "n_layers": (2,), "mlp_width": (256,), "mlp_depth": (3,), "batch_size": (128,),
         "seed": (46, 47, 48)}  # fmt: skip
GRID = {"prime": (29, 31, 37), **SMALL}
ABLATION = {"prime": (31,), "train_fraction": (0.5,), **SMALL}
DIGITS = {"learning_rate": (0.001,), "weight_decay": (0.01,), "activation": ("relu",),
          "mlp_width": (200,), "mlp_depth": (2,), "warmup_steps": (0,), "beta2": (0.999,),
          "epsilon": (1e-8,), "d_model": (128,), 
          "loss": ("squared_error",), "batch_size": (200,), "seed": (46, 47)}  # fmt: skip
AXES = {
    "transformer_grid": {"train_fraction": (0.4, 0.45, 0.5), **GRID},
    "mlp_grid": {"model": ("mlp",), "train_fraction": (0.45, 0.5, 0.55), **GRID},
    "transformer_permutation": {"label_permutation": (0.01, 0.02, 0.05, 0.1, 0.2),
                                **ABLATION},
    "mlp_permutation": {"model": ("mlp",), "label_permutation": (0.1, 0.2, 0.5, 1.0),
                        **ABLATION},
    "mnist": {"model": ("mlp",), "operation": ("digits",), "init_scale": (1.0, 2.0, 4.0, 8.0),
              **DIGITS},
}  # fmt: skip
CLOUDS = {
    "transformer_grid": ("embedding", "layer1", "layer2"),
    "mlp_grid": ("embedding", "hidden1", "hidden2", "hidden3"),
    "transformer_permutation": ("embedding", "layer1", "layer2"),
    "mlp_permutation": ("embedding", "hidden1", "hidden2", "hidden3"),
    "mnist": ("hidden1",),
}


def make(root, name):
    """One sweep's work directory; returns its configuration."""
    folder = TRAININGS[name].workdir(root, "small")
    config = synthetic.make(folder, steps=800, every=100, clouds=("all",), **AXES[name])
    path = folder / "results" / "persistence.parquet"
    one = pd.read_parquet(path)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(len(one), 2))
    one["h0_max"] += noise[:, 0] - one["h1_max"]
    one["h0_total"] += noise[:, 1]
    frames = [one.assign(cloud=cloud) for cloud in CLOUDS[name]]
    # Parts are in the table already; the table is written as a sweep would.
    settings = results.Results(folder, []).settings("persistence")
    results.write_parquet(path, pd.concat(frames, ignore_index=True), settings)
    if name == "transformer_grid":
        synthetic.add_checkpoints(folder, config)
        _other_lenses(folder, config)
    return config


def _other_lenses(folder, config):
    metrics = pd.read_parquet(folder / "results" / "metrics.parquet")
    keys = metrics[["run_id", "step"]]
    born = (metrics["test_accuracy"] - 0.05) / 0.95
    dimension = keys.assign(cloud="layer2_both", n_points=800, n_neighbors=20,
                            lid_mean=20 - 14 * born, lid_std=1.0, lid_global=9.0,
                            normalisation="none", empirical="from_one")  # fmt: skip
    fourier = keys.assign(key_frequencies="3", explained=born, restricted_loss=1.0,
                          excluded_loss=1.0, restricted_accuracy=born,
                          excluded_accuracy=1 - born, concentration=born,
                          effective_frequencies=3.0, gini=born, circularity=born)  # fmt: skip
    spectra = pd.concat(
        [keys.assign(matrix="embedding", frequency=k, power=1.0 + (k == 3) * 9 * born)
         for k in range(6)]
    )  # fmt: skip
    for name, frame in (("dimension", dimension), ("fourier", fourier), ("spectra", spectra)):
        results.write_parquet(folder / "results" / f"{name}.parquet", frame)


def make_all(root):
    """All five."""
    for name in AXES:
        make(root, name)
