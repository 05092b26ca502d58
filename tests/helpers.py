"""Small grids for tests."""

from grokjax import tasks
from grokjax.settings import grid


def make_runs(**axes):
    """Runs of a grid; axes by RunSpec field, those not given as in the defaults below."""
    values = {
        "model": ["transformer"],
        "operation": ["add"],
        "prime": [23],
        "train_fraction": [0.5],
        "label_permutation": [0.0],
        "weight_decay": [1.0],
        "learning_rate": [3e-3],
        "init_scale": [1.0],
        "seed": [46],
    } | axes
    return grid.expand(values)


def axis(flag):
    """The grid axis of that flag."""
    return next(axis for axis in grid.axes(tasks.OPERATIONS) if axis.flag == flag)


SMALL = {"d_model": 32, "n_heads": 4, "d_ff": 32, "n_layers": 2, "mlp_width": 32, "mlp_depth": 3}
