"""The flagfiles of the experiments: each makes a grid, the one it says."""

import pathlib

import pytest

from grokjax import cli, sweep
from grokjax.measuring import views
from grokjax.settings import flags as ours
from tests.programs import call

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"
define = sweep.define  # of the command below
found = []


def configure(values):
    """Makes a configuration and nothing else."""
    config = ours.sweep_config_from(values, found.append)
    views.validate(config.options, config.grid)
    found.append(config)
    return cli.EXIT_OK


def grid_of(name):
    """Runs of a flagfile, and what was said of them."""
    found.clear()
    assert call(configure, f"--flagfile={EXPERIMENTS / name}") == cli.EXIT_OK
    return found[-1].grid, found[:-1]


@pytest.mark.parametrize(
    ("name", "n_runs"),
    [
        ("quick.flags", 12),
        ("transformer_grid.flags", 45),
        ("mlp_grid.flags", 45),
        ("transformer_permutation.flags", 30),
        ("mlp_permutation.flags", 25),
        ("mnist.flags", 20),
        ("ablation.flags", 48),
        ("head_to_head.flags", 80),
        ("cause.flags", 120),
    ],
)
def test_each_makes_its_grid(name, n_runs):
    runs, said = grid_of(name)
    assert len(runs) == n_runs
    assert said == [
        "no --mnist_dir: scikit-learn's 8x8 digits stand in for MNIST",
    ] * (name == "mnist.flags")
    # What the study leaves at its defaults says nothing in run ids.
    settings = {run.run_id.partition(f"-s{run.seed}")[2] for run in runs}
    assert (settings == {""}) == name.startswith(("transformer", "mlp"))


def test_mnist_is_learned_as_omnigrok_does():
    for run in grid_of("mnist.flags")[0]:
        expected = {
            "model": "mlp", "operation": "digits", "optimizer": "adamw", "loss": "squared_error",
            "mlp_width": 200, "mlp_depth": 2, "activation": "relu", "biases": True,
            "learning_rate": 0.001, "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999,
            "epsilon": 1e-8, "warmup_steps": 0, "schedule": "constant", "batch_size": 200,
            "label_permutation": 0.0,
        }  # fmt: skip
        assert expected.items() <= run.values.items()
        assert (run.task.n_train, run.task.n_outputs) == (1000, 10)
