"""The sweep that tests damage, and where its files are."""

import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp

from grokjax.running import audit

GRID = [
    *("--primes=11", "--train_fractions=0.5", "--seeds=1,2", "--batch_size=32"),
    *("--d_model=16", "--n_heads=2", "--d_ff=16", "--n_layers=1"),
    *("--steps=40", "--checkpoint_every=10", "--diagnostics=persistence,fourier"),
    *("--save_diagrams", "--clouds=embedding,layer1", "--cloud_points=20", "--state_minutes=0"),
]


def findings(folder):
    return "\n".join(audit.audit(folder).findings)


def steps_folder(folder, item):
    (found,) = folder.glob(f"checkpoints/*/{item}")
    return found


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def arrays(folder, item):
    """Bytes of all arrays of a checkpoint, by Orbax alone; None if it cannot read them."""
    with ocp.PyTreeCheckpointer() as reader:
        try:
            leaves = jax.tree.leaves(reader.restore(folder / item))
        except Exception:
            return None
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def lose(copy, *steps):
    for step in steps:
        shutil.rmtree(steps_folder(copy, "params") / str(step))
