"""A batch in training, for tests of training."""

import jax
import numpy as np

from grokjax.models import network
from grokjax.models.network import Sizes
from grokjax.settings.config import TrainConfig
from grokjax.training import data, evaluation, mapped
from grokjax.training.step import Program


class Batch:
    """A batch in training: state, data, and a step counter."""

    def __init__(self, runs, steps=100, precision="float32"):
        config = TrainConfig(steps=steps, checkpoint_every=steps, precision=precision)
        self.runs, self.program = runs, Program.of(runs, config)
        self.mesh = mapped.runs_mesh(len(runs))
        self.data = mapped.place(self.mesh, data.stack(runs))
        self.state = mapped.init(self.program, self.mesh)(self.data)
        self.step = 0

    def train(self, n_steps):
        """Losses (R, n_steps) of the next steps."""
        chunk = mapped.train_chunk(self.program, self.mesh, n_steps)
        self.state, losses = chunk(self.state, self.data, np.int32(self.step))
        self.step += n_steps
        return np.asarray(losses)

    def own(self, index):
        """One run's part of the data."""
        return jax.tree.map(lambda leaf: leaf[index], self.data)

    def params(self, index):
        """One run's parameters without padding."""
        task = self.runs[index].task
        real = Sizes(task.n_elements, task.n_outputs)
        params = jax.device_get(self.state.params)
        return network.row(self.program.model.config, params, index, real)

    def metrics(self):
        """Columns of metrics."""
        sums = mapped.evaluate(self.program, self.mesh)(self.state.params, self.data)
        return evaluation.metrics(jax.device_get(sums))


def assert_same_parameters(ours, theirs, tolerance):
    """Asserts that two runs' parameters agree, each array relative to its length."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b) + 1e-7, str(path)
