"""One owner of a work directory at a time."""

import contextlib
import fcntl
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import IO

from grokjax.settings.fields import InvalidSettingError
from grokjax.store.errors import WorkdirError
from grokjax.store.files import make

# Of training, of the diagnostics' tables.
LOCKS = LOCK, ANALYSIS_LOCK = ".lock", ".analysis.lock"


def _take(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
            except OSError as error:
                message = f"cannot be written: {error}"
                raise InvalidSettingError("workdir", workdir, message) from error
            if not _take(file, fcntl.LOCK_EX):
                time.sleep(0.2)  # who asks ``is_held`` has it for an instant
                if not _take(file, fcntl.LOCK_EX):
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise WorkdirError(f"{workdir} is in use by {holder}")
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
            file.flush()
        yield


def is_held(workdir: pathlib.Path) -> bool:
    """Whether a process trains in the work directory."""
    try:
        with open(workdir / LOCK, encoding="utf-8") as file:
            return not _take(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
