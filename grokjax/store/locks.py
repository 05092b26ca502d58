"""One owner of a work directory at a time."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import IO

from grokjax.settings.fields import InvalidSettingError
from grokjax.store.errors import WorkdirError
from grokjax.store.files import is_gone, make, read_if_there, see_anew

# Of training, of the diagnostics' tables.
LOCKS = LOCK, ANALYSIS_LOCK = ".lock", ".analysis.lock"
_OWNER = ".owner"  # behind a lock's name, where the file system has no locks
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_LOOKS_AGAIN = 0.2  # seconds


def _take(file: IO[str], kind: int) -> bool | None:
    """Whether the lock is had; None where the file system has none."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _own(stack: contextlib.ExitStack, lock: pathlib.Path, file: IO[str]) -> str:
    """Holds a lock for as long as the stack is open; returns who else has it, or empty."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    told = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
    had = _take(file, fcntl.LOCK_EX)
    if had is False:
        time.sleep(_LOOKS_AGAIN)  # who asks ``is_held`` has it for an instant
        had = _take(file, fcntl.LOCK_EX)
    if had is None:
        return _mark(stack, lock.with_name(lock.name + _OWNER), told)
    if not had:
        file.seek(0)
        return file.read().strip() or "another process"
    file.truncate(0)
    file.write(told)
    file.flush()
    return ""


def _mark(stack: contextlib.ExitStack, mark: pathlib.Path, told: str) -> str:
    """As ``_own``, by a file that one process can make; a killed one on this machine has none."""
    if _owner(mark) is None:
        mark.unlink(missing_ok=True)
    ours = False
    with contextlib.suppress(FileExistsError), open(mark, "x", encoding="utf-8") as file:
        ours = bool(file.write(told))
    time.sleep(_LOOKS_AGAIN)  # another may have taken away what it found, which was ours by then
    if (owner := _owner(mark)) != told or not ours:
        way = "its file system has no locks, and if that has ended, delete"
        return f"{(owner or 'another process').strip()}; {way} {mark}"
    stack.callback(mark.unlink, missing_ok=True)
    return ""


def _owner(mark: pathlib.Path) -> str | None:
    """Who made a mark, empty if it is not there; None if that process was here and has gone."""
    words = (told := read_if_there(mark)).split()
    return None if len(words) > 3 and is_gone(words[1], words[3]) else told


@contextlib.contextmanager
def owning(workdir: pathlib.Path, *locks: str) -> Iterator[None]:
    """Holds locks of a work directory, that of training if none is named, for a block.

    ``WorkdirError`` names another holder.
    """
    with contextlib.ExitStack() as stack:
        for lock in locks or [LOCK]:
            try:
                make(workdir)
                file = stack.enter_context(open(workdir / lock, "a+", encoding="utf-8"))
                holder = _own(stack, workdir / lock, file)
            except OSError as error:
                message = f"cannot be written: {error}"
                raise InvalidSettingError("workdir", workdir, message) from error
            if holder:
                raise WorkdirError(f"{workdir} is in use by {holder}")
        see_anew(workdir)
        yield


def is_held(workdir: pathlib.Path) -> bool:
    """Whether a process trains in the work directory."""
    try:
        with open(workdir / LOCK, encoding="utf-8") as file:
            had = _take(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    return bool(_owner(workdir / (LOCK + _OWNER))) if had is None else not had


def is_lock(name: str) -> bool:
    """Whether a file of a work directory is nothing but a lock."""
    return name.removesuffix(_OWNER) in LOCKS
