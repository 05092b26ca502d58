"""Checkpoints of batches of runs, through Orbax and nothing else.

A work directory holds one folder a batch::

    W/checkpoints/<batch>/params/<step>/      parameters at every checkpoint, kept for good
    W/checkpoints/<batch>/optimizer/<step>/   optimiser state, the latest two only

Every step carries ``meta``: the run ids, in the order of the leading axis, and the hash of the
configuration. The hash is compared before any array is read, because Orbax restores arrays of
another shape without complaint. Orbax commits a step by renaming its finished folder, so a step
is either whole or invisible.
"""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from grokjax.grid import digest

_KEPT_OPTIMISER_STATES = 2

# Orbax warns at every opening that a reader does not write, which is the point of it.
logging.getLogger("absl").addFilter(
    lambda record: "read only" not in record.getMessage() and "read_only" not in record.getMessage()
)


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or of another configuration; the message says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """The identity of a batch: its runs in order and what they were trained with."""

    run_ids: tuple[str, ...]
    config_hash: str

    @property
    def name(self) -> str:
        """Folder name: a hash of the runs it holds."""
        return digest(*self.run_ids)[:16]


def _manager(folder: pathlib.Path, item: str, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        folder,
        item_names=(item, "meta"),
        options=ocp.CheckpointManagerOptions(**options),
    )


def _leaves(tree: Any) -> dict[str, Any]:
    """A pytree as a flat dictionary: Orbax keeps no tuples, and needs no names to restore."""
    return {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


class Writer:
    """Writes one batch's checkpoints in the background; a context manager.

    Leaving the context waits for what is under way. Saving a step that is already there is a
    no-op: after a stop between the two kinds of state, the same step comes again, bit for bit.
    """

    def __init__(self, root: pathlib.Path, batch: Batch):
        folder = root.absolute() / batch.name
        self._meta = {"run_ids": list(batch.run_ids), "config_hash": batch.config_hash}
        self._params = _manager(folder / "params", "params")
        self._optimizer = _manager(
            folder / "optimizer", "opt_state", max_to_keep=_KEPT_OPTIMISER_STATES
        )

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._params.close()
        self._optimizer.close()

    def save(self, step: int, params: Any, opt_state: Any) -> None:
        """Starts writing the state at ``step``; returns once the arrays have been copied."""
        for manager, item, tree in (
            (self._optimizer, "opt_state", _leaves(opt_state)),
            (self._params, "params", params),
        ):
            if step not in manager.all_steps():
                arguments = {
                    item: ocp.args.PyTreeSave(tree),
                    "meta": ocp.args.JsonSave(self._meta),
                }
                manager.save(step, args=ocp.args.Composite(**arguments))

    def wait(self) -> None:
        """Returns when everything saved so far is committed; raises if writing failed."""
        self._optimizer.wait_until_finished()
        self._params.wait_until_finished()


class Reader:
    """Reads committed checkpoints of all batches under one folder; safe beside a writer."""

    def __init__(self, root: pathlib.Path):
        self._root = root.absolute()
        self._managers: dict[tuple[str, str], ocp.CheckpointManager] = {}
        self._batches: dict[str, Batch] = {}  # what a folder holds never changes

    def _open(self, batch: str, item: str) -> ocp.CheckpointManager | None:
        folder = self._root / batch / ("params" if item == "params" else "optimizer")
        if (batch, item) not in self._managers:
            if not folder.is_dir():
                return None
            self._managers[batch, item] = _manager(folder, item, read_only=True)
        return self._managers[batch, item]

    def batches(self) -> dict[str, Batch]:
        """Folder name → identity, of every batch with at least one committed checkpoint."""
        if not self._root.is_dir():
            return {}
        for folder in sorted(self._root.iterdir()):
            steps = [] if folder.name in self._batches else self.steps(folder.name)
            if steps:
                meta = self._meta(folder.name, "params", steps[0])
                self._batches[folder.name] = Batch(
                    run_ids=tuple(meta["run_ids"]), config_hash=meta["config_hash"]
                )
        return dict(self._batches)

    def steps(self, batch: str, item: str = "params") -> list[int]:
        """Committed steps of a batch, ascending; ``item`` is params or opt_state."""
        manager = self._open(batch, item)
        if manager is None:
            return []
        manager.reload()
        return sorted(manager.all_steps())

    def resumable_step(self, batch: str) -> int | None:
        """The latest step at which both parameters and optimiser state are committed."""
        both = set(self.steps(batch)) & set(self.steps(batch, "opt_state"))
        return max(both, default=None)

    def params(self, batch: Batch, step: int, template: Any) -> Any:
        """Parameters of a batch at a step, as NumPy arrays shaped like ``template``.

        Raises:
            CheckpointError: if the step is not there, of another configuration, or unreadable.
        """
        return self._restore(batch, "params", step, template)

    def opt_state(self, batch: Batch, step: int, template: Any) -> Any:
        """Optimiser state of a batch at a step; see ``params``."""
        flat = self._restore(batch, "opt_state", step, _leaves(template))
        return jax.tree.unflatten(jax.tree.structure(template), [flat[k] for k in sorted(flat)])

    def _meta(self, batch: str, item: str, step: int) -> dict[str, Any]:
        manager = self._open(batch, item)
        try:
            if manager is None:
                raise FileNotFoundError(self._root / batch)
            restored = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            meta = restored["meta"]
            if not isinstance(meta, dict) or not {"run_ids", "config_hash"} <= meta.keys():
                raise ValueError("its meta lacks run_ids or config_hash")
            return meta
        except Exception as error:
            raise CheckpointError(f"{self._where(batch, item, step)}: {error}") from error

    def _where(self, batch: str, item: str, step: int) -> str:
        return f"checkpoint {item} of batch {batch} at step {step} cannot be read"

    def _restore(self, batch: Batch, item: str, step: int, template: Any) -> Any:
        meta = self._meta(batch.name, item, step)
        where = self._where(batch.name, item, step)
        if meta["config_hash"] != batch.config_hash:
            raise CheckpointError(
                f"{where}: it was written under another configuration "
                f"({meta['config_hash'][:12]}, wanted {batch.config_hash[:12]})"
            )
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
        manager = self._open(batch.name, item)
        assert manager is not None
        try:
            arguments = ocp.args.PyTreeRestore(
                item=jax.tree.map(lambda _: 0, template),
                restore_args=restore_args,
                partial_restore=True,
            )
            tree = manager.restore(step, args=ocp.args.Composite(**{item: arguments}))[item]
        except Exception as error:
            raise CheckpointError(f"{where}: {error}") from error
        for path, leaf in jax.tree_util.tree_leaves_with_path(template):
            found = tree
            for key in path:
                found = found[key.key]
            if found.shape != leaf.shape or found.dtype != leaf.dtype:
                raise CheckpointError(
                    f"{where}: {jax.tree_util.keystr(path)} is {found.dtype}{found.shape}, "
                    f"expected {leaf.dtype}{leaf.shape}"
                )
        return tree
