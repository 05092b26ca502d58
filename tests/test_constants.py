"""Constants of the study, and of the definitions that are used, each by its name."""

import importlib
import inspect
import pkgutil

import pytest

from grokjax import diagnostics, statistics
from grokjax.diagnostics import Options
from grokjax.settings import registry
from grokjax.settings.config import TrainConfig

# arXiv 2605.06352: networks, optimiser, budget, data; in brackets where it says nothing.
STUDY = {
    "d_model": 128, "n_heads": 4, "n_layers": 2, "d_ff": 256, "activation": "gelu",
    "layer_norm": "pre", "causal": False, "equals_token": False, "attention_rate": 1.0,
    "biases": True, "separate_embeddings": False, "mlp_width": 512, "mlp_depth": 3,
    "mlp_inputs": "concatenate", "prime": 113, "train_fraction": 0.3, "label_permutation": 0.0,
    "learning_rate": 3e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-6,
    "warmup_steps": 10, "schedule": "constant", "batch_size": 512, "seed": 46,
    "init_scale": 1.0, "orthogonal_gradient": False,  # neither is in the study
    "momentum": 0.95,  # of Muon and SGD
    "initialisation": "pytorch", "loss_precision": "float32",  # (its framework's)
    "topology_weight": 0.0, "topology_term": "h1_max", "topology_every": 10,
}  # fmt: skip

# What is measured: 64 neighbours of 2,000 states are the study's, unit rows are ours.
MEASURED = {
    "clouds": ("embedding",), "cloud_points": 256, "cloud_selection": "random",
    "cloud_normalisation": "unit", "lid_points": 2000, "lid_neighbors": 64,
    "lid_empirical": "from_one", "ph_engine": "redzed", "ph_verify": 0.01, "surrogates": 99,
    "surrogate_every": 10, "ablation_waves": 3, "ablation_draws": 20, "ablation_every": 10,
    "coordinate_classes": 2, "hole_surrogates": 19, "hole_every": 10, "diagram_range": 2.0,
    "diagram_grid": 50, "landscape_levels": 3, "image_pixels": 20, "image_bandwidth": 0.1,
    "hessian_every": 10, "hessian_examples": 4096, "symmetricity_triples": 1000,
}  # fmt: skip

DRAWS = {"n_surrogates": 999, "seed": 0}
BAND = {"method": "shift", **DRAWS, "quantiles": (0.025, 0.975)}
POWER = {"power": 0.8, "alpha": 0.05}
# Defaults that are numbers, of public functions; None and functions are left out.
DEFAULTS = {
    "association.spearman_surrogate": {"method": "shift", **DRAWS},
    "association.pooled_surrogate": {"method": "shift", **DRAWS},
    "association.pooled_exchange": DRAWS,
    "crosscorrelation.ccf_surrogate_band": BAND,
    "crosscorrelation.pooled_ccf": BAND,
    "effects.bootstrap_interval": {"n_resamples": 9999, "confidence": 0.95, "seed": 0},
    "effects.before_after": {"after_share": 0.2},  # the last fifth of training
    "effects.ratio_over_seeds": {"seed": 0, "n_resamples": 9999, "confidence": 0.95},
    "effects.smallest_detectable_effect": POWER,
    "effects.smallest_detectable_fold": POWER,
    "effects.memorisation_step": {"threshold": 0.99},
    "effects.generalisation_step": {"threshold": 0.9},
    "effects.threshold_sensitivity": {"thresholds": (0.5, 0.8, 0.9, 0.95, 0.99)},
    "events.event_time_test": {"n_permutations": 9999, "seed": 0},
    "events.lead_test": {"confidence": 0.95},
    "events.survival": {"confidence": 0.95},
    "events.falling_back": {"threshold": 0.9},
    "verdicts.difference_from": {"confidence": 0.95},
    "verdicts.equivalence": {"level": 0.05},
    "verdicts.seeds_needed": {"difference": 0.0, "power": 0.8, "level": 0.05},
    "verdicts.draws_needed": {"level": 0.05, "tails": 2},
    "verdicts.findings_needed": {"level": 0.05},
    "_diagrams.distance": {"metric": "bottleneck"},
    "_diagrams.require_same": {"engines": ("redzed", "giotto")},
    "_diagrams.landscapes": {"n_levels": 3},
    "_diagrams.image": {"n_pixels": 20, "bandwidth": 0.1},
    "ablation.random_subspaces": {"seed": 0},
    "ablation.compare": {"n": 20, "seed": 0},
    "coordinates.circular": {"n_classes": 1, "method": "tapered"},
    "coordinates.wave": {"n_permutations": 999, "seed": 0},
    "dimension.twonn_pointwise": {"n_neighbors": 64, "empirical": "from_one"},
    "dimension.twonn_global": {"empirical": "from_one"},
    "fourier.concentration": {"n_top": 6},
    "fourier.circularity": {"n_components": 4},  # arXiv 2306.17844
    "fourier.restricted_and_excluded": {"each": False},
    "holes.name_of": {"level": 0.05},
    "holes.compare": {"n": 19, "seed": (0,), "engine": "redzed", "n_threads": 1},
    "holes.n_long": {"level": 0.05},
    "holes.standing_out": {"level": 0.05},
    "homology_dimension.estimate": {"seed": 0},
    "persistence.diagrams": {"max_dimension": 1, "engine": "redzed", "n_threads": 1},
    "persistence.many": {"engine": "redzed", "n_threads": 1, "max_dimension": 1},
    "persistence.verify": {"n_threads": 1},
    "sharpness.largest_eigenvalue": {"seed": 0},
    "surrogates.draw": {"seed": 0},
    "surrogates.compare": {
        "nulls": ("frequency_power", "phase", "circulant", "covariance", "isotropic"),
        "n": 99, "seed": (0,), "engine": "redzed", "n_threads": 1,
    },
    "weights.named": {"above": ""},
}  # fmt: skip


def test_settings_of_a_run_are_the_studys():
    assert {name: field.default for name, field in registry.fields().items()} == STUDY


def test_the_grid_of_a_sweep_that_names_none_is_the_studys():
    grids = {name: field.grid for name, field in registry.fields().items() if len(field.grid) > 1}
    assert grids == {
        "prime": (113, 149, 197),
        "train_fraction": (0.2, 0.25, 0.3),
        "seed": (46, 47, 48, 49, 50),
    }


def test_the_budget_is_the_studys():
    config = TrainConfig()
    assert (config.steps, config.checkpoint_every) == (60_000, 500)
    assert config.precision == "float32"


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured(name):
    assert getattr(Options(), name) == MEASURED[name]


def defaults():
    """Defaults of every public function of the two rooms that compute numbers."""
    for package in (statistics, diagnostics):
        for found in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            for name, function in inspect.getmembers(module, inspect.isfunction):
                if function.__module__ == module.__name__ and not name.startswith("_"):
                    own = {
                        key: parameter.default
                        for key, parameter in inspect.signature(function).parameters.items()
                        if isinstance(parameter.default, (int, float, str, tuple))
                    }
                    if own:
                        yield f"{found.name}.{name}", own


def test_defaults_of_functions():
    assert dict(defaults()) == DEFAULTS
