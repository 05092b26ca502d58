"""The folders of a batch's checkpoints: where steps lie, and how they go."""

import pathlib
import shutil

from grokjax.store import files

# By item.
_FOLDERS = {"params": "params", "opt_state": "optimizer", "let_go": "let_go",
            "remaking": "remaking"}  # fmt: skip
_LEAVING = "leaving"  # what is being removed


def folder(root: pathlib.Path, batch: str, item: str) -> pathlib.Path:
    """Where a batch's ``params``, ``opt_state`` or ``let_go`` lie."""
    return root.absolute() / batch / _FOLDERS[item]


def set_aside(root: pathlib.Path, batch: str, item: str, step: int) -> pathlib.Path:
    """Moves a damaged step to the batch's folder ``damaged``; returns where it went."""
    target = root.absolute() / batch / "damaged" / f"{item}-{step}"
    return files.move(folder(root, batch, item) / str(step), target)


def let_go(root: pathlib.Path, batch: str, step: int) -> None:
    """Removes the parameters of a step for good; their meta stays, and says that they were there.

    Killed at any moment, the step is either whole or let go.
    """
    source, target = (folder(root, batch, item) / str(step) for item in ("params", "let_go"))
    shutil.rmtree(target, ignore_errors=True)  # of parameters that came back, from a merge
    files.make(target.parent)
    flush(root, batch)
    files.rename(source, target)
    shutil.rmtree(target / "params", ignore_errors=True)


def drop_state(root: pathlib.Path, batch: str, step: int, item: str = "opt_state") -> None:
    """Removes an optimiser state for good; it is whole or not there."""
    leaving = root.absolute() / batch / _LEAVING
    flush(root, batch)
    files.rename(folder(root, batch, item) / str(step), leaving)
    shutil.rmtree(leaving)


def flush(root: pathlib.Path, batch: str) -> None:
    """Returns when the steps that are to be seen of a batch are durable; for what relies on it.

    A step is seen an instant before its name is flushed.
    """
    for where in (folder(root, batch, item) for item in ("params", "opt_state")):
        if where.is_dir():
            files.sync(where)


def clean(root: pathlib.Path) -> None:
    """Removes what a killed process was about to; for the one who owns the directory."""
    for leaving in (*root.glob("*/let_go/*/params"), *root.glob(f"*/{_LEAVING}")):
        shutil.rmtree(leaving)
