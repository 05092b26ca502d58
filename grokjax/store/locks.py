"""One owner of a work directory at a time."""

import contextlib
import fcntl
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from grokjax.settings.fields import InvalidSettingError
from grokjax.store.errors import WorkdirError

# Of training, of the diagnostics' tables.
LOCKS = LOCK, ANALYSIS_LOCK = ".lock", ".analysis.lock"


@contextlib.contextmanager
def owning(workdir: pathlib.Path, lock: str = LOCK) -> Iterator[None]:
    """Holds the work directory until this process ends; ``WorkdirError`` names another holder."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / lock, "a+", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidSettingError("workdir", workdir, f"cannot be written: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise WorkdirError(f"{workdir} is in use by {holder}") from None
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        yield
