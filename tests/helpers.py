"""Small grids for tests."""

from grokjax.diagnostics import Options
from grokjax.settings import grid, registry
from grokjax.settings.config import Saving, SweepConfig, TrainConfig
from grokjax.settings.fields import RUN, fields_of
from grokjax.settings.registry import KINDS

# What a run of a test is where the test does not say.
USUAL = {
    "model": ["transformer"],
    "operation": ["add"],
    "optimizer": ["adamw"],
    "loss": ["cross_entropy"],
    "prime": [23],
    "train_fraction": [0.5],
    "weight_decay": [1.0],
    "batch_size": [64],
    "seed": [46],
    "d_model": [32],
    "d_ff": [32],
    "mlp_width": [32],
}


def make_axes(**axes):
    """Axes of a grid; values by column, those not given as in ``USUAL``, else at their default."""
    values = USUAL | axes

    def of(part):
        return {
            name: tuple(values.get(name, [field.default]))
            for name, field in fields_of(part).items()
        }

    unknown = set(axes) - set(grid.columns())
    assert not unknown, unknown
    parts = {kind.column: values[kind.column] for kind in KINDS} | {RUN: [RUN]}
    return {c: {name: of(registry.find(c, name)) for name in names} for c, names in parts.items()}


def make_runs(**axes):
    """Runs of a grid; see ``make_axes``."""
    return grid.expand(make_axes(**axes))


def make_config(*, steps=400, every=100, precision="float32", options=None, saving=None, **axes):
    """The configuration of a sweep; see ``make_axes``."""
    return SweepConfig(
        axes=make_axes(**axes),
        train=TrainConfig(steps=steps, checkpoint_every=every, precision=precision),
        options=options or Options(),
        saving=saving or Saving(),
    )


def field(flag):
    """The setting that a flag sets, of the first part that has it."""
    return next(own for own in registry.fields().values() if own.flag == flag)
