"""A small work directory with checkpoints, for tests that leave its tables as they are."""

import pytest

from tests import synthetic


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two settings of two seeds, with checkpoints; the last run diverges."""
    folder = tmp_path_factory.mktemp("grid") / "w"
    config = synthetic.make(folder, label_permutation=(0.0, 1.0), diverged=[3])
    synthetic.add_checkpoints(folder, config, diverged=[3])
    return folder
