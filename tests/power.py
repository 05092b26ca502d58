"""Power cuts, replayed: what a program asked of the disk, and what a disk may hold after each cut.

``strace`` tells every call below a folder, of Orbax's and Parquet's C++ as well. A disk has of it
what was flushed: of a file what was written before an fsync of it began, of a folder the names that
were in it. Of the rest it has anything: whole, in another order, in part, or not at all. A rename
is one thing, there or not. This is what is called an abstract persistence model (Pillai et al.,
All file systems are not created equal, OSDI 2014), and the weakest that is in use.
"""

import dataclasses
import errno
import hashlib
import itertools
import os
import pathlib
import random
import re
import shutil
import subprocess

CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,rename,renameat,renameat2,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,ftruncate,truncate,"
    "fallocate,fsync,fdatasync,sendfile,copy_file_range"
)
_LINE = re.compile(r"(?:(\d+) +)?(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: .*)?$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPENED = re.compile(r"^(\d+)<([^>]*)>")
_TORN = 512  # a disk writes whole sectors


def problem():
    """Why calls cannot be recorded here, or empty."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    try:
        subprocess.run(["strace", "-f", "-o/dev/null", "-eopenat", "true"], check=True)
    except subprocess.CalledProcessError:
        return "strace may not look at processes here"
    return ""


def record(command, trace, allowed=0, **options):
    """Runs a command, all its calls written to a file."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
    watching = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "1000000000"]
    done = subprocess.run([*watching, f"-etrace={CALLS}", f"-o{trace}", *command], **options)
    assert done.returncode == allowed, done.stdout


def _unhex(text):
    return bytes.fromhex(text.replace("\\x", ""))


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that succeeded: its begin and end as places in the file, its name and arguments."""

    begun: int
    ended: int
    name: str
    strings: tuple[bytes, ...]
    opened: tuple[int, str] | None  # what its first argument is, number and path
    base: str  # the directory that a relative path is from
    result: int
    arguments: str


def calls(trace):
    """The calls in the order in which they ended."""
    waiting = {}
    with open(trace, encoding="latin1") as lines:
        for place, line in enumerate(lines):
            line, begun = line.rstrip("\n"), place
            task = line.split(" ", 1)[0]
            if line.endswith("<unfinished ...>"):
                waiting[task] = place, line.removesuffix("<unfinished ...>").rstrip()
                continue
            if resumed := re.match(r"\d+ +<\.\.\. \w+ resumed>(.*)$", line):
                begun, first = waiting.pop(task)
                line = first + resumed[1]
            found = _LINE.match(line)
            if found is None or int(found[4]) < 0:
                continue
            name, arguments = found[2], found[3]
            strings = tuple(_unhex(text) for text in _STRING.findall(arguments))
            paths = re.sub(
                r"<((?:\\x[0-9a-f]{2})+)>", lambda m: f"<{_unhex(m[1]).decode()}>", arguments
            )
            opened = _OPENED.match(paths)
            base = re.match(r"[^<,]*<([^>]*)>", paths)
            plain = _STRING.sub('""', paths)
            yield Call(
                begun, place, name, strings,
                (int(opened[1]), opened[2]) if opened else None,
                base[1] if base else "", int(found[4]), plain,
            )  # fmt: skip


class Node:
    """A file or folder as it is, and as much of it as is on the disk."""

    def __init__(self, is_folder):
        self.is_folder = is_folder
        self.names = {} if is_folder else None  # as programs see it
        self.flushed_names = {} if is_folder else None
        self.content, self.flushed = bytearray(), b""
        self.writes = []  # (place of the end, offset or None where it was cut, bytes or length)


class Disk:
    """A folder's nodes while a program's calls are replayed."""

    def __init__(self, folder):
        self.folder = folder
        self.root = Node(True)
        self.changes = []  # of names, not flushed: (place, ((folder, name, node or None), …))
        self.files = {}  # number → [node, offset, appends]
        self.said = b""  # on standard output

    def hold(self, origin):
        """Takes what lies in a folder as flushed."""
        for path in sorted(origin.rglob("*")):
            parent = self._at(path.parent.relative_to(origin).parts)
            node = parent.names[path.name] = parent.flushed_names[path.name] = Node(path.is_dir())
            if not node.is_folder:
                node.content = bytearray(path.read_bytes())
                node.flushed = bytes(node.content)

    def _at(self, parts):
        node = self.root
        for name in parts:
            node = node.names[name]
        return node

    def _parts(self, call, text):
        path = pathlib.Path(os.path.normpath(os.path.join(call.base or "/", os.fsdecode(text))))
        try:
            return path.relative_to(self.folder).parts
        except ValueError:
            return None

    def _change(self, place, *changes):
        for folder, name, node in changes:
            if node is None:
                del folder.names[name]
            else:
                folder.names[name] = node
        self.changes.append((place, changes))

    def _write(self, place, node, offset, data):
        node.content[len(node.content) : offset] = bytes(max(0, offset - len(node.content)))
        node.content[offset : offset + len(data)] = data
        node.writes.append((place, offset, data))

    def _cut(self, place, node, length):
        node.content[length:] = bytes(max(0, length - len(node.content)))
        node.writes.append((place, None, length))

    def _flush(self, node, begun):
        """Everything of it that ended before the flush began is on the disk now."""
        if node.is_folder:
            kept = []
            for place, changes in self.changes:
                if place < begun and any(folder is node for folder, _, _ in changes):
                    for folder, name, there in changes:
                        put(folder.flushed_names, name, there)
                else:
                    kept.append((place, changes))
            self.changes = kept
            return
        done = [write for write in node.writes if write[0] < begun]
        node.flushed = applied(node.flushed, done)
        node.writes = node.writes[len(done) :]

    def holds(self, call):
        """Whether a flush is of something below the folder."""
        return self._parts(call, os.fsencode(call.opened[1])) is not None

    def replay(self, call):
        """One call."""
        name, place = call.name, call.ended
        if name in ("fsync", "fdatasync"):
            if self.holds(call):
                below = self._parts(call, os.fsencode(call.opened[1]))
                held = self.files.get(call.opened[0])
                self._flush(held[0] if held else self._at(below), call.begun)
        elif name == "write" and call.opened and call.opened[0] == 1:
            self.said += call.strings[0]
        elif name in ("open", "openat", "creat"):
            self._open(place, call)
        elif name in ("write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek", "ftruncate"):
            self._on_file(place, call)
        elif name in ("mkdir", "mkdirat"):
            self._name(place, call, Node(True))
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            origin, target = (self._parts(call, text) for text in call.strings)
            if origin is not None or target is not None:
                node, parent = self._at(origin), self._at(target[:-1])
                gone = [(self._at(origin[:-1]), origin[-1], None)] if "rename" in name else []
                self._change(place, *gone, (parent, target[-1], node))
        elif name in ("unlink", "unlinkat", "rmdir"):
            self._name(place, call, None)
        elif call.strings or call.opened:
            where = call.strings[0] if call.strings else os.fsencode(call.opened[1])
            assert self._parts(call, where) is None, f"{name} is not replayed"

    def _name(self, place, call, node):
        parts = self._parts(call, call.strings[-1])
        if parts:
            self._change(place, (self._at(parts[:-1]), parts[-1], node))

    def _open(self, place, call):
        parts = self._parts(call, call.strings[0])
        if parts is None:
            self.files.pop(call.result, None)
            return
        if parts and "O_CREAT" in call.arguments and parts[-1] not in self._at(parts[:-1]).names:
            self._name(place, call, Node(False))
        node = self._at(parts)
        if "O_TRUNC" in call.arguments and node.content:
            self._cut(place, node, 0)
        assert "O_SYNC" not in call.arguments
        self.files[call.result] = [node, 0, "O_APPEND" in call.arguments]

    def _on_file(self, place, call):
        if call.opened is None or call.opened[0] not in self.files:
            return
        if self._parts(call, os.fsencode(call.opened[1])) is None:
            return
        file = self.files[call.opened[0]]
        if call.name == "lseek":
            file[1] = call.result
        elif call.name == "ftruncate":
            self._cut(place, file[0], int(call.arguments.rpartition(", ")[2]))
        else:
            data = b"".join(call.strings)[: call.result]
            placed = call.name.startswith("p")
            numbers = call.arguments.split(", ")
            at = int(numbers[-1]) if placed else len(file[0].content) if file[2] else file[1]
            self._write(place, file[0], at, data)
            file[1] = file[1] if placed else at + len(data)


def put(names, name, node):
    """Gives a name to a node, or takes it away."""
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def applied(content, writes):
    """A file's bytes with writes made."""
    content = bytearray(content)
    for _, offset, data in writes:
        if offset is None:
            content[data:] = bytes(max(0, data - len(content)))
        else:
            content[len(content) : offset] = bytes(max(0, offset - len(content)))
            content[offset : offset + len(data)] = data
    return bytes(content)


# --------------------------------------------------------------------------- what a disk may hold


def nothing(disk, source):
    """Only what was flushed."""
    return _after(disk, [], lambda node: node.flushed)


def everything(disk, source):
    """All of it, as after a SIGKILL."""
    return _after(disk, disk.changes, lambda node: bytes(node.content))


def names_alone(disk, source):
    """All names, and of files their length: what a journal of names leaves."""

    def content(node):
        lost = [(p, o, d if o is None else bytes(len(d))) for p, o, d in node.writes]
        return applied(node.flushed, lost)

    return _after(disk, disk.changes, content)


def empty_files(disk, source):
    """All names, and nothing in what was not flushed."""
    return _after(disk, disk.changes, lambda node: node.flushed)


def some(disk, source):
    """Any part of it, in any order: some names, some writes, some of these torn."""
    changes = [change for change in disk.changes if source.random() < 0.5]
    return _after(disk, changes, lambda node: _partly(node, source))


def earlier(disk, source):
    """All names up to a moment before, and any part of the writes."""
    at = source.randrange(len(disk.changes) + 1)
    return _after(disk, disk.changes[:at], lambda node: _partly(node, source))


WAYS = (nothing, everything, names_alone, empty_files, some, earlier)


def _partly(node, source):
    how = source.randrange(4)
    if how < 2:
        return node.flushed if how else bytes(node.content)
    kept = []
    for place, offset, data in node.writes:
        if source.random() < 0.5:
            continue
        if offset is not None and source.random() < 0.3:  # torn
            cut = _TORN * source.randrange(len(data) // _TORN + 1)
            data = data[:cut] or data[: source.randrange(len(data) + 1)]
        kept.append((place, offset, data))
    return applied(node.flushed, kept)


def _after(disk, changes, content):
    """Path → bytes, or None of a folder, after a cut that spared some changes of names."""
    names = {}  # of folders that have changed
    for _, parts in changes:
        for folder, name, node in parts:
            put(names.setdefault(id(folder), dict(folder.flushed_names)), name, node)
    found, stack = {}, [("", disk.root)]
    while stack:
        path, node = stack.pop()
        for name, below in names.get(id(node), node.flushed_names).items():
            there = f"{path}/{name}" if path else name
            found[there] = None if below.is_folder else content(below)
            if below.is_folder:
                stack.append((there, below))
    return found


def lay_out(state, folder, pool=None):
    """Makes a folder of a state; its files are links to those of a pool, if there is one."""
    folder.mkdir(parents=True)
    for path, content in sorted(state.items()):
        target = folder / path
        if content is None:
            target.mkdir()
        elif pool is None:
            target.write_bytes(content)
        else:
            kept = pool / hashlib.sha256(content).hexdigest()
            if not kept.exists():
                kept.write_bytes(content)
            try:
                os.link(kept, target)
            except OSError as error:
                assert error.errno == errno.EMLINK
                target.write_bytes(content)


def cuts(trace, folder, before=None):
    """The disk at every moment of a program at which a cut matters, with a name for it.

    That is before each flush, when most is at stake, and at the end. What is sure before one is
    what was sure after the one before.
    """
    disk = Disk(folder)
    if before is not None:
        disk.hold(before)
    count = itertools.count(1)
    for call in calls(trace):
        if call.name in ("fsync", "fdatasync") and disk.holds(call):
            yield f"flush {next(count)}", disk
        disk.replay(call)
    yield "end", disk


def key(state):
    """States with the same key are the same but for what is in what its name calls temporary."""
    digest = hashlib.sha256()
    for path, content in sorted(state.items()):
        if path.endswith(".tmp"):
            content = b""
        elif ".orbax-checkpoint-tmp" in path.rpartition("/")[0]:
            continue
        digest.update(f"{path}\0{content is None}{len(content or b'')}\0".encode())
        digest.update(content or b"")
    return digest.digest()


def chosen(names, wanted, seed):
    """Some of the cuts, at random, and the last; all if 0 are wanted."""
    if not wanted or wanted >= len(names):
        return set(names)
    return {*random.Random(seed).sample(names, wanted - 1), names[-1]}
