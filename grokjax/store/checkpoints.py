"""Checkpoints of batches of runs, through Orbax and nothing else.

A work directory holds one folder a batch::

    W/checkpoints/<batch>/params/<step>/      parameters at every checkpoint, kept for good
    W/checkpoints/<batch>/optimizer/<step>/   optimiser state, the latest two only

Every step carries ``meta``: the run ids, in the order of the leading axis, the hash of the
configuration and a checksum of every array. The hash is compared before any array is read, because
Orbax restores arrays of another shape without complaint; the checksum afterwards. Orbax commits a
step by renaming its finished folder, so a step is either whole or invisible; one that was damaged
later is moved to ``W/checkpoints/<batch>/damaged/`` by whoever makes it anew.
"""

import dataclasses
import logging
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint._src.multihost import multihost

from grokjax.settings.grid import Run, digest
from grokjax.store.errors import CheckpointError, OtherConfigurationError

_KEPT_OPTIMISER_STATES = 2

# Orbax warns at every opening that a reader does not write, which is the point of it.
logging.getLogger("absl").addFilter(
    lambda record: "read only" not in record.getMessage() and "read_only" not in record.getMessage()
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunBatch:
    """The identity of a batch: its runs in order and what they were trained with.

    Attributes:
        run_ids: its runs.
        config_hash: of all that their parameters depend on; empty where a version that made it
            hashed otherwise, and it is not compared.
    """

    run_ids: tuple[str, ...]
    config_hash: str

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "RunBatch":
        """The identity of runs trained together.

        Their ids tell every setting that is not at its default, so a setting that is new changes
        nothing. Neither steps nor precision are in them: sweep.json holds both, and a change of
        either is refused, or allowed by name and recorded, there.
        """
        run_ids = tuple(run.run_id for run in runs)
        return cls(run_ids=run_ids, config_hash="" if runs[0].unnamed else digest(*run_ids))

    @property
    def name(self) -> str:
        """Folder name: a hash of the runs it holds."""
        return digest(*self.run_ids)[:16]


def _let_each_process_write_its_own() -> None:
    """Makes Orbax treat this process as the only one.

    Among several processes Orbax takes every checkpoint for one of arrays that they share: it
    waits for all of them at each, and process 0 alone writes NumPy arrays. Here a batch belongs to
    one process. Orbax has no setting for that: ``active_processes`` leaves some waits as they are,
    and NumPy arrays to process 0.
    """
    multihost.process_index = lambda: 0
    multihost.process_count = lambda: 1
    multihost.should_skip_process_sync = lambda *_, **__: True
    multihost.is_jax_distributed_client_initialized = lambda: False


def _manager(folder: pathlib.Path, item: str, **options: Any) -> ocp.CheckpointManager:
    if jax.process_count() > 1:
        _let_each_process_write_its_own()
    return ocp.CheckpointManager(
        folder,
        item_names=(item, "meta"),
        options=ocp.CheckpointManagerOptions(**options),
    )


def _folder(root: pathlib.Path, batch: str, item: str) -> pathlib.Path:
    return root.absolute() / batch / ("params" if item == "params" else "optimizer")


def checksums(tree: Any) -> dict[str, str]:
    """Path of a leaf → CRC-32 of its array's bytes."""
    return {
        jax.tree_util.keystr(path): f"{zlib.crc32(np.asarray(leaf).tobytes()):08x}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def set_aside(root: pathlib.Path, batch: str, item: str, step: int) -> pathlib.Path:
    """Moves a damaged step to the batch's folder ``damaged``; returns where it went."""
    source = _folder(root, batch, item) / str(step)
    target = root.absolute() / batch / "damaged" / f"{item}-{step}"
    target.parent.mkdir(parents=True, exist_ok=True)
    count = 1
    while target.exists():
        count += 1
        target = target.with_name(f"{item}-{step}-{count}")
    os.replace(source, target)
    return target


def _leaves(tree: Any) -> dict[str, Any]:
    """A pytree as a flat dictionary: Orbax keeps no tuples, and needs no names to restore."""
    return {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


class Writer:
    """Writes one batch's checkpoints in the background; a context manager.

    Leaving the context waits for what is under way. A step that is there already is not written
    again: what comes again, after a stop between the two kinds of state or to make good a damaged
    step, has to be the same bit for bit.
    """

    def __init__(self, root: pathlib.Path, batch: RunBatch):
        folder = root.absolute() / batch.name
        self._batch = batch
        self._reader = Reader(root)
        self._params = _manager(folder / "params", "params", cleanup_tmp_directories=True)
        self._optimizer = _manager(
            folder / "optimizer",
            "opt_state",
            max_to_keep=_KEPT_OPTIMISER_STATES,
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._params.close()
        finally:
            self._optimizer.close()

    def save(self, step: int, params: Any, opt_state: Any | None) -> None:
        """Starts writing the state at ``step``; returns once the arrays have been copied.

        Args:
            step: the step.
            params: parameters, NumPy arrays.
            opt_state: optimiser state; None where a lost step in the middle is made good. Not
                written either where a later one is there.

        Raises:
            CheckpointError: if the step is there with other parameters.
        """
        latest = self._optimizer.latest_step()
        if opt_state is not None and (latest is None or step > latest):
            self._write(self._optimizer, "opt_state", step, _leaves(opt_state))
        if step in self._params.all_steps():
            self._require_same(step, params)
        else:
            self._write(self._params, "params", step, params)

    def _write(self, manager: ocp.CheckpointManager, item: str, step: int, tree: Any) -> None:
        meta = {
            "run_ids": list(self._batch.run_ids),
            "config_hash": self._batch.config_hash,
            "checksums": checksums(tree),
        }
        arguments = {item: ocp.args.PyTreeSave(tree), "meta": ocp.args.JsonSave(meta)}
        # By force, because Orbax would silently leave out a step before the latest.
        manager.save(step, args=ocp.args.Composite(**arguments), force=True)

    def _require_same(self, step: int, params: Any) -> None:
        self._params.wait_until_finished()  # it may be this step that is under way
        meta = self._reader.meta(self._batch.name, "params", step)
        if meta["checksums"] != checksums(params):
            raise CheckpointError(
                self._batch.name,
                "params",
                step,
                "trained again, it comes out otherwise than it was written; resume where it was "
                "trained (device, versions), or start anew with another --workdir",
            )

    def wait(self) -> None:
        """Returns when everything saved so far is committed; raises if writing failed."""
        self._optimizer.wait_until_finished()
        self._params.wait_until_finished()


class Reader:
    """Reads committed checkpoints of all batches under one folder; safe beside a writer.

    Attributes:
        unreadable: batches that ``batches`` could not identify, and why.
    """

    def __init__(self, root: pathlib.Path):
        self._root = root.absolute()
        self.unreadable: dict[str, CheckpointError] = {}
        self._managers: dict[tuple[str, str], ocp.CheckpointManager] = {}
        self._batches: dict[str, RunBatch] = {}  # what a folder holds never changes

    def _open(self, batch: str, item: str) -> ocp.CheckpointManager | None:
        if (batch, item) not in self._managers:
            folder = _folder(self._root, batch, item)
            if not folder.is_dir():
                return None
            self._managers[batch, item] = _manager(folder, item, read_only=True)
        return self._managers[batch, item]

    def batches(self) -> dict[str, RunBatch]:
        """Folder name → identity, of every batch with at least one committed checkpoint.

        A batch whose first checkpoint does not say whose it is goes to ``unreadable`` instead.
        """
        self.unreadable = {}
        for folder in sorted(self._root.iterdir()) if self._root.is_dir() else ():
            steps = [] if folder.name in self._batches else self.steps(folder.name)
            if steps:
                try:
                    meta = self.meta(folder.name, "params", steps[0])
                except CheckpointError as error:
                    self.unreadable[folder.name] = error
                    continue
                self._batches[folder.name] = RunBatch(
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

    def resumable_steps(self, batch: str) -> list[int]:
        """Steps at which both parameters and optimiser state are committed, ascending."""
        return sorted(set(self.steps(batch)) & set(self.steps(batch, "opt_state")))

    def params(self, batch: RunBatch, step: int, template: Any) -> Any:
        """Parameters of a batch at a step, as NumPy arrays shaped like ``template``.

        Raises:
            CheckpointError: if the step is not there, of another configuration, or unreadable.
        """
        return self._restore(batch, "params", step, template)

    def opt_state(self, batch: RunBatch, step: int, template: Any) -> Any:
        """Optimiser state of a batch at a step; see ``params``."""
        flat = self._restore(batch, "opt_state", step, _leaves(template))
        return jax.tree.unflatten(jax.tree.structure(template), [flat[k] for k in sorted(flat)])

    def meta(self, batch: str, item: str, step: int) -> dict[str, Any]:
        """What is said of a checkpoint: run_ids, config_hash, checksums; raises as ``params``."""
        manager = self._open(batch, item)
        try:
            if manager is None:
                raise FileNotFoundError(self._root / batch)
            restored = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            meta = restored["meta"]
            lacking = {"run_ids", "config_hash", "checksums"} - set(meta)
            if lacking:
                raise ValueError(f"its meta lacks {', '.join(sorted(lacking))}")
            return meta
        except Exception as error:
            raise CheckpointError(batch, item, step, error) from error

    def verify(self, batch: RunBatch, item: str, step: int) -> None:
        """Reads all arrays of a checkpoint and holds them against their checksums.

        Raises:
            CheckpointError: as ``params``.
        """
        meta = self.meta(batch.name, item, step)
        manager = self._open(batch.name, item)
        assert manager is not None
        try:
            arguments = ocp.args.Composite(**{item: ocp.args.PyTreeRestore()})
            found = checksums(manager.restore(step, args=arguments)[item])
        except Exception as error:
            raise CheckpointError(batch.name, item, step, error) from error
        if found != meta["checksums"]:
            reason = "its arrays do not have the checksums they were written with"
            raise CheckpointError(batch.name, item, step, reason)

    def _restore(self, batch: RunBatch, item: str, step: int, template: Any) -> Any:
        meta = self.meta(batch.name, item, step)

        def unreadable(reason: object) -> CheckpointError:
            return CheckpointError(batch.name, item, step, reason)

        hashes = {meta["config_hash"], batch.config_hash} - {""}
        if len(hashes) > 1:
            raise OtherConfigurationError(
                f"checkpoint {item} of batch {batch.name} at step {step} is whole, but of another "
                f"configuration ({meta['config_hash'][:12]}, wanted {batch.config_hash[:12]})"
            )
        manager = self._open(batch.name, item)
        assert manager is not None
        try:
            tree = _read_arrays(manager, item, step, template)
        except Exception as error:
            raise unreadable(error) from error
        for path, leaf in jax.tree_util.tree_leaves_with_path(template):
            found = tree
            for key in path:
                found = found[key.key]
            if found.shape != leaf.shape or found.dtype != leaf.dtype:
                raise unreadable(
                    f"{jax.tree_util.keystr(path)} is {found.dtype}{found.shape}, "
                    f"expected {leaf.dtype}{leaf.shape}"
                )
        for name, value in checksums(tree).items():
            if meta["checksums"].get(name) != value:
                raise unreadable(f"{name} does not have the checksum it was written with")
        return tree


def _read_arrays(manager: ocp.CheckpointManager, item: str, step: int, template: Any) -> Any:
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    arguments = ocp.args.PyTreeRestore(
        item=jax.tree.map(lambda _: 0, template),
        restore_args=restore_args,
        partial_restore=True,
    )
    return manager.restore(step, args=ocp.args.Composite(**{item: arguments}))[item]
