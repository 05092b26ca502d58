"""Sweeps on 8, 4 and 2 of this process's devices, for ``test_devices.py``: FOLDER FLAG…

Prints a line of JSON: the exit codes, the collectives of the step on 8 devices, sizes of meshes.
"""

import json
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from grokjax import sweep
from grokjax.report import drawing
from grokjax.training import mapped
from tests.helpers import make_runs
from tests.programs import call
from tests.training.batches import Batch

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
STOPPED_AT_ONCE = ("--max_seconds=0.001", "--grace_seconds=100")


def sweep_on(n_devices, folder, *flags):
    """Exit code of a sweep on the first so many devices."""
    mapped.runs_mesh = lambda _: Mesh(np.array(jax.devices()[:n_devices]), ("runs",))
    return call(sweep.main, *flags, f"--workdir={folder}")


def collectives():
    """Words of the compiled step on all devices that would be communication."""
    mapped.runs_mesh = lambda _: Mesh(np.array(jax.devices()), ("runs",))
    batch = Batch(make_runs(model=["mlp"], seed=list(range(11))))  # padded to 16
    chunk = mapped.train_chunk(batch.program, batch.mesh, 2)
    text = chunk.lower(batch.state, batch.data, jnp.int32(0)).compile().as_text()
    assert f"num_partitions={len(jax.devices())}" in text
    return [word for word in COLLECTIVES if word in text]


def main(folder, *flags):
    """See above."""
    drawing.write = lambda *_: "none"
    meshes = [mapped.runs_mesh(n_runs).size for n_runs in (1, 3, 8, 9, 20, 64)]
    codes = [sweep_on(8, folder / "eight", *flags)]
    codes.append(sweep_on(4, folder / "four", *flags, *STOPPED_AT_ONCE))
    shutil.copytree(folder / "four", folder / "two")
    codes.append(sweep_on(2, folder / "two", *flags))
    print(json.dumps({"codes": codes, "collectives": collectives(), "meshes": meshes}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
