"""A disk that other machines write to: what they do is seen late, as by a client of NFS.

Of each folder such a client remembers which names are in it and which are not. Until it asks
again, a file that another machine made is not there, and one that another removed is listed and
has its attributes, but cannot be opened. It asks again when it changes the folder itself, and
after a while: here, when a test says so. A name that is looked up may be fresher than the list.
Python's own calls are patched; C++ libraries, which are told names by ours, see the disk as it is.
"""

import builtins
import contextlib
import errno
import functools
import glob
import io
import os

_CHANGES = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "link", "utime")


class _Entry:
    """What ``os.scandir`` tells of a name that is not there any more."""

    def __init__(self, folder, name, attributes):
        self.name, self.path, self._attributes = name, os.path.join(folder, name), attributes

    def __fspath__(self):
        return self.path

    def stat(self, *, follow_symlinks=True):
        return self._attributes

    def is_dir(self, *, follow_symlinks=True):
        return os.path.stat.S_ISDIR(self._attributes.st_mode)

    def is_file(self, *, follow_symlinks=True):
        return os.path.stat.S_ISREG(self._attributes.st_mode)

    def is_symlink(self):
        return False


class Delayed:
    """What this process sees of the folders below ``root``, for as long as ``patch`` lasts.

    With ``only_lists`` names that are looked up are as they are.
    """

    def __init__(self, root, patch, only_lists=False):
        self._root, self._only_lists = str(root), only_lists
        self._here = True
        # Folder → name → None where it is not seen yet, attributes where it is seen still.
        self._late = {}
        own = {"stat", "lstat", "listdir", "scandir", "open", *_CHANGES}
        self._real = {name: getattr(os, name) for name in own}
        for kind in vars(glob).values():  # where later versions of Python keep their own
            if getattr(kind, "scandir", None) is os.scandir:
                patch.setattr(kind, "scandir", staticmethod(self._scandir))
        for name in ("stat", "lstat"):
            patch.setattr(os, name, functools.partial(self._attributes, name))
        for name in ("listdir", "scandir", "open"):
            patch.setattr(os, name, getattr(self, f"_{name}"))
        for name in _CHANGES:
            patch.setattr(os, name, functools.partial(self._change, name))
        self._real["open file"] = open
        for module in (builtins, io):
            patch.setattr(module, "open", self._open_file)

    @contextlib.contextmanager
    def elsewhere(self):
        """What is done in the block is done by another machine, which sees everything."""
        before, self._here = self._tree(), False
        try:
            yield
        finally:
            after, self._here = self._tree(), True
        for folder in before.keys() & after.keys():
            was, now, late = before[folder], after[folder], self._late.setdefault(folder, {})
            for name in now.keys() - was.keys():
                late[name] = late.get(name)
                if late[name] is not None:  # it is seen still, from before it was removed
                    del late[name]
            for name in was.keys() - now.keys():
                if name in late:  # it came and went
                    del late[name]
                else:
                    late[name] = was[name]

    def refresh(self, *folders):
        """Looks again at folders, at all if none is named."""
        for folder in map(str, folders or [*self._late]):
            self._late.pop(folder, None)

    def _tree(self):
        found, left = {}, [self._root]
        while left:
            folder = left.pop()
            with self._real["scandir"](folder) as entries:
                found[folder] = {own.name: own.stat(follow_symlinks=False) for own in entries}
            left += [
                os.path.join(folder, name)
                for name, own in found[folder].items()
                if os.path.stat.S_ISDIR(own.st_mode)
            ]
        return found

    def _known(self, path):
        """What is remembered of a path: attributes, or nothing; raises if that it is not there."""
        if not self._here or not isinstance(path, str | os.PathLike) or self._only_lists:
            return None
        path, known = os.path.abspath(path), None
        while path.startswith(self._root + os.sep):
            folder, name = os.path.split(path)
            if name in (late := self._late.get(folder, {})):
                if late[name] is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
                known = known or late[name]
            path = folder
        return known

    def _attributes(self, call, path, **options):
        known = self._known(path)
        return known or self._real[call](path, **options)

    def _listdir(self, path="."):
        self._known(path)
        late = self._late.get(os.path.abspath(path), {}) if self._here else {}
        names = [name for name in self._real["listdir"](path) if name not in late]
        return [*names, *(name for name, own in late.items() if own is not None)]

    def _scandir(self, path="."):
        if isinstance(path, int):
            return self._real["scandir"](path)
        self._known(path)
        late = self._late.get(os.path.abspath(path), {}) if self._here else {}
        with self._real["scandir"](path) as entries:
            found = [own for own in entries if own.name not in late]
        folder = os.fspath(path)
        return _Scan(found + [_Entry(folder, *own) for own in late.items() if own[1] is not None])

    def _is_there(self, path):
        with contextlib.suppress(FileNotFoundError):
            self._attributes("stat", path)
            return True
        return False

    def _open(self, path, flags, *args, **options):
        if flags & os.O_CREAT and not self._is_there(path):
            return self._change("open", path, flags, *args, **options)
        self._known(path)
        return self._real["open"](path, flags, *args, **options)

    def _open_file(self, path, mode="r", *args, **options):
        if set(mode) & set("wxa") and not self._is_there(path):
            return self._change("open file", path, mode, *args, **options)
        if not isinstance(path, int):
            self._known(path)
        return self._real["open file"](path, mode, *args, **options)

    def _change(self, call, *args, **options):
        """A change by this machine: from then on it sees the folders as they are."""
        paths = [path for path in args[:2] if isinstance(path, str | os.PathLike)]
        if call in ("unlink", "remove", "rmdir", "rename", "replace"):
            self._known(args[0])
        try:
            return self._real[call](*args, **options)
        finally:
            for path in map(os.path.abspath, paths if self._here else ()):
                self.refresh(path if call == "utime" else os.path.dirname(path))


class _Scan:
    """An iterator and context, as ``os.scandir`` gives it."""

    def __init__(self, entries):
        self._entries = iter(entries)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        """There is nothing to close."""
