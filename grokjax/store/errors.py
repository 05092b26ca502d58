"""What can be wrong with a work directory, and what disks do to any library."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator


class WorkdirError(RuntimeError):
    """A work directory is missing, damaged or in use; the message says what to do."""


class DamagedTableError(RuntimeError):
    """A table or part is not the Parquet file it should be; the message names it."""


class CheckpointError(RuntimeError):
    """A checkpoint, of ``item`` params or opt_state, is missing or damaged."""

    def __init__(self, batch: str, item: str, step: int, reason: object):
        super().__init__(batch, item, step, str(reason))  # which a cluster's worker sends, pickled
        self.batch, self.item, self.step = batch, item, step

    def __str__(self) -> str:
        return "checkpoint {1} of batch {0} at step {2} cannot be read: {3}".format(*self.args)


class OtherConfigurationError(WorkdirError):
    """A checkpoint is whole, and of another configuration than the one asked for."""


class StorageError(RuntimeError):
    """The disk takes no more; the message says why, what is safe, and what to do."""

    def __init__(self, workdir: pathlib.Path, problem: str):
        super().__init__(
            f"{workdir} cannot be written: {problem}. Everything committed before is safe; mend "
            "that and run the same command again, which resumes from there"
        )


_STORAGE_ERRNOS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO
)  # fmt: skip


def storage_problem(error: BaseException) -> str | None:
    """What the disk did, if that is what an error of any library comes from, else None."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _STORAGE_ERRNOS:
            return os.strerror(seen.errno)
        for number in _STORAGE_ERRNOS:  # libraries in C++ leave no more than the text
            if os.strerror(number) in str(seen):
                return os.strerror(number)
        seen = seen.__cause__ or seen.__context__
    return None


@contextlib.contextmanager
def storage_errors(workdir: pathlib.Path) -> Iterator[None]:
    """Turns what a full or read-only disk does to any library into a ``StorageError``."""
    try:
        yield
    except Exception as error:
        problem = storage_problem(error)
        if problem is None or isinstance(error, StorageError):
            raise
        raise StorageError(workdir, problem) from error
