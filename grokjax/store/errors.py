"""What can be wrong with a work directory, and what disks do to any library."""

import contextlib
import errno
import os
import pathlib
import re
from collections.abc import Iterator

# What anything but a file of ours may raise on its way through a reader and our types.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
              RecursionError)  # fmt: skip


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


class AbsentError(CheckpointError):
    """What is listed of a checkpoint is not there: any more, or, from another machine, not yet."""


class LetGoError(AbsentError):
    """The parameters of a checkpoint were there, and were let go as ``--keep`` says."""

    def __str__(self) -> str:
        text = "parameters of batch {} at step {} were let go once they were measured (--keep)"
        return text.format(self.batch, self.step)


class OtherConfigurationError(WorkdirError):
    """A checkpoint is whole, and of another configuration than the one asked for."""


class StorageError(RuntimeError):
    """The disk does not do its work; the message says why, what is safe, and what to do."""

    def __init__(self, workdir: pathlib.Path, problem: str, verb: str = "written"):
        super().__init__(
            f"{workdir} cannot be {verb}: {problem}. Everything committed before is safe; mend "
            "that and run the same command again, which resumes from there"
        )


_STORAGE_ERRNOS = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO,
    errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOLCK, errno.ETIMEDOUT
)  # fmt: skip
# What an error of the C++ library below Orbax begins with: a code, of which these say that a file
# is not what was written. Of the system's error it leaves the text, at the end of the sentence.
_STATUS = re.compile(r"([A-Z]+(?:_[A-Z]+)+|[A-Z]{5,}): ")
_DAMAGE = {"DATA_LOSS", "OUT_OF_RANGE", "NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def storage_problem(error: BaseException) -> str | None:
    """What the disk did, if that is what an error of any library comes from, else None."""
    for seen in _chain(error):
        if isinstance(seen, OSError) and seen.errno in _STORAGE_ERRNOS:
            return os.strerror(seen.errno)
        told = str(seen).partition(" [tensorstore_spec=")[0]
        for number in _STORAGE_ERRNOS if _STATUS.match(told) else ():
            if f": {os.strerror(number)}" in told:
                return os.strerror(number)
    return None


def reading_problem(error: BaseException) -> str | None:
    """What kept a file from being read, if that is not the file itself, else None."""
    absent = errno.ENOENT, errno.ENOTDIR, errno.EISDIR, None
    for seen in _chain(error):
        status = _STATUS.match(str(seen))
        if isinstance(seen, OSError) and seen.errno not in absent:
            return str(seen)
        if isinstance(seen, MemoryError) or (status and status[1] not in _DAMAGE):
            return repr(seen)
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
