"""Files and folders of a work directory: whole or not there, and flushed before they are relied on.

A name is durable when its folder is flushed, and so for every folder above.
"""

import contextlib
import errno
import functools
import itertools
import os
import pathlib
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from grokjax.store.errors import WorkdirError, storage_problem

_SILENT_SECONDS = 3600  # a table takes seconds to write
_MOST_BYTES = 256 * 2**20  # of a record: a million runs take a third of it
_making = threading.Lock()
_Call = TypeVar("_Call", bound=Callable[..., Any])


def looking_again(read: _Call) -> _Call:
    """``read``, once more where another machine put another file in the place of the one read."""

    @functools.wraps(read)
    def look(*args: Any, **named: Any) -> Any:
        try:
            return read(*args, **named)
        except Exception as error:
            if storage_problem(error) != os.strerror(errno.ESTALE):
                raise
        return read(*args, **named)

    return look  # type: ignore[return-value]


def sync(path: pathlib.Path) -> None:
    """Flushes a file or folder to the disk, where its file system can do that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of folders, on some
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: pathlib.Path) -> None:
    """Flushes a folder with everything below it."""
    for below, _, files in os.walk(folder, topdown=False):
        for name in (*files, ""):
            sync(pathlib.Path(below, name))


def make(folder: pathlib.Path) -> None:
    """Makes a folder, and those above it, durably."""
    with _making:  # another thread's folder is not there before its name is flushed
        above = itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents))
        for path in reversed(list(above)):
            path.mkdir(exist_ok=True)
            sync(path.parent)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary path beside ``path`` that takes its place, durably, if the block succeeds."""
    make(path.parent)
    writer = f"{os.getpid()}-{threading.get_ident()}@{socket.gethostname()}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        yield temporary
        sync(temporary)
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_left(temporary: pathlib.Path) -> bool:
    """Whether nobody writes to the file any more: a process that is gone, or a machine silent."""
    writer = re.search(r"\.(\d+)-\d+@([^/]+)\.tmp$", temporary.name)
    if writer and writer[2] == socket.gethostname():
        return is_gone(writer[1], writer[2])
    with contextlib.suppress(FileNotFoundError):
        return time.time() - temporary.stat().st_mtime > _SILENT_SECONDS
    return False


def is_gone(process: str, host: str) -> bool:
    """Whether a process ran on this machine and has ended."""
    return host == socket.gethostname() and not pathlib.Path("/proc", process).exists()


@looking_again
def read_text(path: pathlib.Path) -> str:
    """A file that is regular and of no more than a record's size; else ``ValueError``."""
    with open(path, encoding="utf-8", opener=_without_waiting) as file:
        found = os.stat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            raise ValueError(f"no regular file of at most {_MOST_BYTES:,} bytes")
        return file.read()


def read_if_there(path: pathlib.Path) -> str:
    """As ``read_text``; empty if there is no such file."""
    with contextlib.suppress(FileNotFoundError):
        return read_text(path)
    return ""


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for whoever writes to a pipe


def see_anew(workdir: pathlib.Path) -> None:
    """Has this machine see what others did: NFS looks again at a folder that one has changed."""
    for folder in itertools.chain([workdir], *map(workdir.glob, ("*/", "*/*/", "*/*/*/"))):
        with contextlib.suppress(OSError):
            if folder.resolve().is_relative_to(workdir.resolve()):
                os.utime(folder)


def check_inside(folder: pathlib.Path) -> None:
    """Raises ``WorkdirError`` if a link in somebody's folder leads out of it."""
    root = folder.resolve()
    for below, names, others in os.walk(folder):
        for path in (pathlib.Path(below, name) for name in (*names, *others)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise WorkdirError(f"{path} leads out of {folder}; put there what it leads to")


def most_memory() -> int:
    """Bytes that what a file holds may take: all there are, for what is free comes and goes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def move(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Moves a file or folder durably, numbered if the name is taken; returns where it went."""
    free, count = target, 1
    while free.exists():
        count += 1
        free = target.with_stem(f"{target.stem}-{count}")
    make(free.parent)
    rename(source, free)
    return free


def rename(source: pathlib.Path, target: pathlib.Path) -> None:
    """Gives a file or folder another name, durably."""
    os.replace(source, target)
    for folder in dict.fromkeys([target.parent, source.parent]):
        sync(folder)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a small text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
