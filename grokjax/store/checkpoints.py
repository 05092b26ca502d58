"""Checkpoints of batches of runs, through Orbax and nothing else.

A work directory holds one folder a batch::

    W/checkpoints/<batch>/params/<step>/      parameters
    W/checkpoints/<batch>/optimizer/<step>/   optimiser state, the latest two only
    W/checkpoints/<batch>/let_go/<step>/      what was said of parameters that --keep let go
    W/checkpoints/<batch>/remaking/<step>/    both, on the way to checkpoints that were lost

Every step carries ``meta``: the run ids, in the order of the leading axis, the hash of the
configuration, compared before any array is read, because Orbax restores arrays of another shape
without complaint, by which versions it was made, and a checksum of every array. A step is either
whole or invisible; one damaged later is moved to ``W/checkpoints/<batch>/damaged/``, to be remade.
"""

import contextlib
import dataclasses
import datetime
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint._src.multihost import multihost

from grokjax.settings.grid import Run, digest
from grokjax.store import files, folders
from grokjax.store.errors import (
    AbsentError,
    CheckpointError,
    LetGoError,
    OtherConfigurationError,
    StorageError,
    reading_problem,
)

KEPT_OPTIMISER_STATES = 2
_META = {"checksums": dict, "config_hash": str, "run_ids": list}  # what is said of a step


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunBatch:
    """The identity of a batch: its runs in order and what they were trained with."""

    run_ids: tuple[str, ...]
    config_hash: str  # empty, and not compared, where the version that made it hashed otherwise

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "RunBatch":
        """The identity of runs trained together.

        Their ids tell every setting that is not at its default, so a setting that is new changes
        nothing. A change of steps or precision, which are not in them, is held against sweep.json.
        """
        run_ids = tuple(run.run_id for run in runs)
        return cls(run_ids=run_ids, config_hash="" if runs[0].unnamed else digest(*run_ids))

    @property
    def name(self) -> str:
        """Folder name: a hash of the runs it holds."""
        return digest(*self.run_ids)[:16]


def belong_to_one_process() -> None:
    """Makes every checkpoint this process's alone, in a job whose processes JAX has joined.

    Orbax takes each for one of arrays that all share: it waits for all processes at each, and
    process 0 alone writes NumPy arrays. It has no setting for it (``active_processes`` is not
    enough).
    """
    answers: dict[str, Callable[..., object]] = {
        "process_index": lambda: 0,
        "process_count": lambda: 1,
        "should_skip_process_sync": lambda *_, **__: True,
        "is_jax_distributed_client_initialized": lambda: False,
    }
    for name, answer in answers.items():
        getattr(multihost, name)  # a name that is gone is an error
        setattr(multihost, name, answer)


class _Flushed(ocp.path.atomicity.AtomicRenameTemporaryPath):  # type: ignore[misc]
    """A step that is flushed, all of it, before it has the name that says that it is whole."""

    _final_path: Any

    async def finalize(self) -> None:
        """Orbax's own, which flushes neither its files nor names, leads to a name in between."""
        whole, begun = self._final_path, self._tmp_path
        if "-tmp" in whole.parent.name:  # an item of the step
            return await super().finalize()
        self._final_path = begun.with_name(f"{begun.name}-whole")
        await super().finalize()
        files.sync_tree(pathlib.Path(self._final_path))
        files.rename(pathlib.Path(self._final_path), pathlib.Path(whole))
        self._final_path = whole


class _Step(ocp.path.step.Metadata):  # type: ignore[misc]
    """A step of no time: Orbax reads that of every step it lists, of files that may be damaged."""

    commit_timestamp = datetime.datetime.min


class _Names(ocp.path.step.NameFormat):  # type: ignore[misc]
    """The names of steps, whole ones: their numbers."""

    def build_name(self, step: int) -> str:
        return str(step)

    def find_all(self, base_path: Any) -> Iterator[_Step]:
        return (_Step(step, base_path / str(step)) for step in _steps(base_path))

    def find_step(self, base_path: Any, step: int) -> _Step:
        if step not in _steps(base_path):
            raise ValueError(f"there is no step {step}")
        return _Step(step, base_path / str(step))


def _steps(where: Any) -> list[int]:
    """Ascending; none of a folder that is not there."""
    names = os.listdir(where) if where.is_dir() else ()
    return sorted(int(name) for name in names if name.isdecimal())


def _manager(root: pathlib.Path, batch: str, item: str, kept: int = 0) -> ocp.CheckpointManager:
    files.make(where := folders.folder(root, batch, item))
    own = {"temporary_path_class": _Flushed, "step_name_format": _Names()}
    own |= {"max_to_keep": kept or None, "cleanup_tmp_directories": True}
    settings = ocp.CheckpointManagerOptions(**own)
    return ocp.CheckpointManager(where, item_names=(item, "meta"), options=settings)


def checksums(tree: Any) -> dict[str, str]:
    """Path of a leaf → CRC-32 of its array's bytes."""
    return {
        jax.tree_util.keystr(path): f"{zlib.crc32(np.asarray(leaf).tobytes()):08x}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _check_size(where: pathlib.Path) -> None:
    """Raises ``ValueError`` if arrays say that they, or chunks of them, take more than memory."""
    told = ocp.PyTreeCheckpointHandler().metadata(where)
    total = 0
    for leaf in jax.tree.leaves(told.tree):
        shapes = leaf.shape, getattr(leaf.storage, "chunk_shape", None) or ()
        total += max(math.prod(shape) * np.dtype(leaf.dtype).itemsize for shape in shapes)
    if total > files.most_memory():
        raise ValueError(f"its arrays say that they take {total:,} bytes")


def _leaves(tree: Any) -> dict[str, Any]:
    """A pytree as a flat dictionary: Orbax keeps no tuples, and needs no names to restore."""
    return {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


class Writer:
    """Writes one batch's checkpoints in the background; leaving its context waits for them.

    A step that is there already is not written again, and has to be the same bit for bit, unless
    other versions made it than those that this is ``made_by``.
    """

    def __init__(self, root: pathlib.Path, batch: RunBatch, made_by: str = ""):
        self._root, self._batch, self._made_by = root, batch, made_by
        self._reader = Reader(root)
        self._remaking: ocp.CheckpointManager | None = None
        self._params = _manager(root, batch.name, "params")
        self._optimizer = _manager(root, batch.name, "opt_state", KEPT_OPTIMISER_STATES)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.closing(self._optimizer), contextlib.closing(self._params):
            if self._remaking is not None:
                self._remaking.close()

    def save(self, step: int, params: Any, opt_state: Any | None) -> None:
        """Starts writing the state at ``step``, NumPy arrays; returns once they are copied.

        The optimiser's is None where it is not to be written, and is not where a later one is
        there. Raises ``CheckpointError`` if the step is or was there with other parameters.
        """
        self._save_state(self._optimizer, "opt_state", step, opt_state)
        self._save_params(step, params)

    def remake(self, step: int, params: Any, opt_state: Any | None) -> None:
        """As ``save``, a step before the latest, where no optimiser state belongs."""
        if opt_state is not None:
            if self._remaking is None:
                self._remaking = _manager(self._root, self._batch.name, "remaking", 1)
            self._save_state(self._remaking, "remaking", step, (params, opt_state))
        self._save_params(step, params)

    def _save_state(self, manager: ocp.CheckpointManager, item: str, step: int, tree: Any) -> None:
        latest = manager.latest_step()
        if tree is not None and (latest is None or step > latest):
            self._write(manager, item, step, _leaves(tree))

    def _save_params(self, step: int, params: Any) -> None:
        if step in self._reader.gone(self._batch.name):
            self._require_same(step, params, "let_go")
        elif step in self._params.all_steps():
            self._require_same(step, params, "params")
        else:
            self._write(self._params, "params", step, params)

    def _write(self, manager: ocp.CheckpointManager, item: str, step: int, tree: Any) -> None:
        meta = {
            "run_ids": list(self._batch.run_ids),
            "config_hash": self._batch.config_hash,
            "made_by": self._made_by,
            "checksums": checksums(tree),
        }
        arguments = {item: ocp.args.PyTreeSave(tree), "meta": ocp.args.JsonSave(meta)}
        # By force, because Orbax would silently leave out a step before the latest.
        manager.save(step, args=ocp.args.Composite(**arguments), force=True)

    def _require_same(self, step: int, params: Any, item: str) -> None:
        self._params.wait_until_finished()  # it may be this step that is under way
        meta = self._reader.meta(self._batch.name, item, step)
        same_versions = meta.get("made_by", "") == self._made_by
        if same_versions and meta["checksums"] != checksums(params):
            reason = (
                "trained again, it comes out otherwise than it was written; resume where it was "
                "trained (device, versions), or start anew with another --workdir"
            )
            raise CheckpointError(self._batch.name, item, step, reason)

    def wait(self) -> None:
        """Returns when everything saved so far is committed; raises if writing failed."""
        for manager in filter(None, (self._optimizer, self._params, self._remaking)):
            manager.wait_until_finished()


class Reader:
    """Reads committed checkpoints of all batches under one folder; safe beside a writer."""

    def __init__(self, root: pathlib.Path):
        self._root = root.absolute()
        # Batches whose first checkpoint does not say whose it is, and why.
        self.unreadable: dict[str, CheckpointError] = {}
        self._orbax = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
        self._batches: dict[str, RunBatch] = {}  # what a folder holds never changes

    @files.looking_again
    def _restore(self, batch: str, item: str, step: int, name: str, arguments: Any) -> Any:
        """The arrays or the meta of a step.

        Raises ``CheckpointError`` where it is not what was written, ``StorageError`` where the disk
        or the process is at fault.
        """
        where = folders.folder(self._root, batch, item) / str(step)
        try:
            if name == "meta":
                files.read_text(where / "meta" / "metadata")
            else:
                _check_size(where / item)
            return self._orbax.restore(where, args=ocp.args.Composite(**{name: arguments}))[name]
        except Exception as error:
            if problem := reading_problem(error):
                raise StorageError(self._root.parent, problem, "read") from error
            kind = AbsentError if isinstance(error, FileNotFoundError) else CheckpointError
            gone = item == "params" and step in self.gone(batch)
            raise (LetGoError if gone else kind)(batch, item, step, error) from error

    def batches(self) -> dict[str, RunBatch]:
        """Folder name → identity, of every batch with a checkpoint, unless it is ``unreadable``."""
        self.unreadable = {}
        for name in sorted(os.listdir(self._root)) if self._root.is_dir() else ():
            for step in [] if name in self._batches else self.steps(name):
                try:
                    meta = self.meta(name, "params", step)
                except LetGoError:
                    continue  # by a sweep that goes on meanwhile
                except CheckpointError as error:
                    self.unreadable[name] = error
                    break
                ids, config_hash = tuple(meta["run_ids"]), meta["config_hash"]
                self._batches[name] = RunBatch(run_ids=ids, config_hash=config_hash)
                break
        return dict(self._batches)

    def steps(self, batch: str, item: str = "params") -> list[int]:
        """Committed steps of a batch, ascending; ``item`` is params or opt_state."""
        return _steps(folders.folder(self._root, batch, item))

    def gone(self, batch: str) -> list[int]:
        """Steps whose parameters were let go, ascending."""
        return sorted({*self.steps(batch, "let_go")} - {*self.steps(batch)})

    def made_by(self, batch: str, step: int) -> str:
        """The versions that made a step's parameters, there or let go; empty where untold."""
        item = "let_go" if step in self.gone(batch) else "params"
        return str(self.meta(batch, item, step).get("made_by", ""))

    def resumable_steps(self, batch: str) -> list[int]:
        """Steps at which both parameters and optimiser state are committed, ascending."""
        return sorted(set(self.steps(batch)) & set(self.steps(batch, "opt_state")))

    def params(self, batch: RunBatch, step: int, template: Any) -> Any:
        """Parameters of a batch at a step, as NumPy arrays shaped like ``template``.

        Raises ``CheckpointError`` if they cannot be read, ``OtherConfigurationError`` if they can.
        """
        return self._read(batch, "params", step, template)

    def opt_state(self, batch: RunBatch, step: int, template: Any) -> Any:
        """Optimiser state of a batch at a step; see ``params``."""
        return self._unflattened(batch, "opt_state", step, template)

    def remaking(self, batch: RunBatch, step: int, template: Any) -> Any:
        """Parameters and optimiser state on the way to lost checkpoints; see ``params``."""
        return self._unflattened(batch, "remaking", step, template)

    def _unflattened(self, batch: RunBatch, item: str, step: int, template: Any) -> Any:
        flat = self._read(batch, item, step, _leaves(template))
        return jax.tree.unflatten(jax.tree.structure(template), [flat[k] for k in sorted(flat)])

    def meta(self, batch: str, item: str, step: int) -> dict[str, Any]:
        """What is said of a checkpoint: run_ids, config_hash, checksums; raises as ``params``."""
        meta = self._restore(batch, item, step, "meta", ocp.args.JsonRestore())
        told = meta if isinstance(meta, dict) else {}
        lacking = [name for name, kind in _META.items() if not isinstance(told.get(name), kind)]
        if lacking or not all(isinstance(run_id, str) for run_id in told["run_ids"]):
            reason = f"its meta lacks {', '.join(lacking) or 'names of runs'}"
            raise CheckpointError(batch, item, step, reason)
        return told

    def verify(self, batch: RunBatch, item: str, step: int) -> None:
        """Holds all arrays of a checkpoint against their checksums; raises as ``params``."""
        meta = self.meta(batch.name, item, step)
        tree = self._restore(batch.name, item, step, item, ocp.args.PyTreeRestore())
        if checksums(tree) != meta["checksums"]:
            reason = "its arrays do not have the checksums they were written with"
            raise CheckpointError(batch.name, item, step, reason)

    def _read(self, batch: RunBatch, item: str, step: int, template: Any) -> Any:
        meta = self.meta(batch.name, item, step)
        hashes = {meta["config_hash"], batch.config_hash} - {""}
        if len(hashes) > 1:
            raise OtherConfigurationError(
                f"checkpoint {item} of batch {batch.name} at step {step} is whole, but of another "
                f"configuration ({meta['config_hash'][:12]}, wanted {batch.config_hash[:12]})"
            )
        arguments = ocp.args.PyTreeRestore(
            item=jax.tree.map(lambda _: 0, template),
            restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template),
            partial_restore=True,
        )
        tree = self._restore(batch.name, item, step, item, arguments)
        expected = jax.tree_util.tree_leaves_with_path(template)
        for (path, leaf), found in zip(expected, jax.tree.leaves(tree), strict=True):
            if found.shape != leaf.shape or found.dtype != leaf.dtype:
                kinds = f"is {found.dtype}{found.shape}, expected {leaf.dtype}{leaf.shape}"
                reason = f"{jax.tree_util.keystr(path)} {kinds}"
                raise CheckpointError(batch.name, item, step, reason)
        for name, value in checksums(tree).items():
            if meta["checksums"].get(name) != value:
                reason = f"{name} does not have the checksum it was written with"
                raise CheckpointError(batch.name, item, step, reason)
        return tree
