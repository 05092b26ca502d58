"""Slow and odd disks: no locks or links, folders that cannot be flushed, moved, full, odd names."""

import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

import grokjax
from grokjax import cli, merge, sweep
from grokjax.running import audit
from grokjax.store import files, locks
from grokjax.store.errors import DamagedTableError, WorkdirError
from tests import synthetic
from tests.programs import assert_same_tables, call, tables

pytestmark = pytest.mark.usefixtures("no_pages")

GRID = [
    *("--primes=11", "--train_fractions=0.5", "--models=mlp", "--seeds=1,2", "--batch_size=32"),
    *("--d_model=16", "--mlp_width=16", "--mlp_depth=1", "--checkpoint_every=10", "--steps=20"),
    *("--diagnostics=persistence", "--clouds=embedding"),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A sweep on a disk as others."""
    folder = tmp_path_factory.mktemp("reference") / "w"
    assert call(sweep.main, *GRID, f"--workdir={folder}") == 0
    return folder


def refuse(number):
    def never(*_, **__):
        raise OSError(number, os.strerror(number))

    return never


# --------------------------------------------------------------------------- locks


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def no_locks(request, monkeypatch):
    """A file system without locks."""
    monkeypatch.setattr(fcntl, "flock", refuse(request.param))
    monkeypatch.setattr(locks, "_LOOKS_AGAIN", 0.0)


def test_without_locks_there_is_one_owner_all_the_same(no_locks, tmp_path):
    mark = tmp_path / ".lock.owner"
    with locks.owning(tmp_path):
        assert locks.is_held(tmp_path)
        with (
            pytest.raises(WorkdirError, match=rf"process {os.getpid()} on .*, delete {mark}$"),
            locks.owning(tmp_path),
        ):
            pass
        with locks.owning(tmp_path, locks.ANALYSIS_LOCK):
            pass
        assert locks.is_held(tmp_path)
    assert not mark.exists()
    assert not locks.is_held(tmp_path)


def test_without_locks_what_a_killed_process_left_is_taken_and_another_machine_s_is_not(
    no_locks, tmp_path
):
    mark = tmp_path / ".lock.owner"
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / ".lock").touch()
    mark.write_text(f"process {dead.pid} on {socket.gethostname()} since noon\n")
    assert not locks.is_held(tmp_path)
    with locks.owning(tmp_path):
        assert str(os.getpid()) in mark.read_text()
    mark.write_text(f"process {dead.pid} on elsewhere since noon\n")
    assert locks.is_held(tmp_path)
    with pytest.raises(WorkdirError, match="on elsewhere since noon"), locks.owning(tmp_path):
        pass
    assert "elsewhere" in mark.read_text()


def test_without_locks_the_later_of_two_at_once_gives_way(no_locks, tmp_path, monkeypatch):
    """Both found the mark of a killed process; one took away what the other had made."""
    mark = tmp_path / ".lock.owner"
    monkeypatch.setattr(
        locks.time, "sleep", lambda _: mark.write_text("process 1 on elsewhere since noon\n")
    )
    with pytest.raises(WorkdirError, match="on elsewhere"), locks.owning(tmp_path):
        pass


def test_a_sweep_and_a_merge_without_locks_links_and_flushed_folders(
    reference, tmp_path, monkeypatch
):
    """As on network and foreign file systems."""
    flush = os.fsync

    def files_alone(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            refuse(errno.EINVAL)()
        flush(descriptor)

    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOTSUP))
    monkeypatch.setattr(locks, "_LOOKS_AGAIN", 0.0)
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    monkeypatch.setattr(shutil, "copystat", refuse(errno.EPERM))
    monkeypatch.setattr(os, "fsync", files_alone)
    for i in range(2):
        assert call(sweep.main, *GRID, f"--workdir={tmp_path / 'w'}", f"--shard={i}/2") == 0
    assert call(merge.main, f"--workdir={tmp_path / 'w'}") == 0
    found = audit.audit(tmp_path / "w")
    assert (found.findings, found.unfinished) == ((), ())
    assert_same_tables(tables(tmp_path / "w"), tables(reference))


def test_a_disk_that_cannot_flush_a_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        files.write_text(tmp_path / "x", "text")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- places and times


def test_a_moved_folder_with_odd_names_and_times_goes_on(reference, tmp_path):
    first, second = tmp_path / "a b", tmp_path / "é 日本 $HOME%41=,#" / "‮w"
    assert call(sweep.main, *GRID, "--steps=10", f"--workdir={first}") == 0
    second.parent.mkdir()
    shutil.move(first, second)
    for i, path in enumerate(sorted(second.rglob("*"))):
        os.utime(path, ((4e9, 4e9), (0, 0))[i % 2])  # in the year 2096, and in 1970
    assert call(sweep.main, *GRID, "--allow=steps", f"--workdir={second}") == 0
    found = audit.audit(second)
    assert (found.findings, found.unfinished) == ((), ())
    assert_same_tables(tables(second), tables(reference))


@pytest.mark.parametrize(
    "jump",
    [
        pytest.param(lambda n: -1000 * n, id="back"),
        pytest.param(lambda n: (0, 1e8)[n % 2], id="forth", marks=pytest.mark.thorough),
    ],
)
def test_a_clock_that_jumps_loses_nothing(jump, reference, tmp_path, monkeypatch):
    """Backwards it changes nothing. Forward Orbax gives up waiting, and the next start goes on."""
    right, looks = time.time, iter(range(10**9))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + jump(next(looks)))
        code = call(sweep.main, *GRID, f"--workdir={tmp_path / 'w'}")
    assert code == 0 or (code == cli.EXIT_FAILED and jump(1) > 0)
    assert next(looks) > 3
    if code:
        assert call(sweep.main, *GRID, f"--workdir={tmp_path / 'w'}") == 0
    assert_same_tables(tables(tmp_path / "w"), tables(reference))
    assert audit.audit(tmp_path / "w").findings == ()


@pytest.mark.thorough
@pytest.mark.parametrize("n_files", [8, 30, 60, 90])
def test_a_disk_without_room_for_names(n_files, tmp_path):
    """A real one, which has space and no room for another file."""
    mounted = f"mount -t tmpfs -o nr_inodes={n_files} none {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounted], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = [sys.executable, "-m", "tests.sweep_without_pages", *GRID]
    words = " ".join([*command, f"--workdir={tmp_path / 'w'}"])
    again = f"mount -o remount,nr_inodes=9999 {tmp_path} && {words}"
    both = f"{mounted} && {{ {words}; echo code $?; {again}; }}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", both], capture_output=True, text=True)
    assert f"code {cli.EXIT_FAILED}" in done.stdout or f"code {cli.EXIT_USAGE}" in done.stdout
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------- what comes from others


def test_a_link_that_leads_out_of_a_source_is_refused(tmp_path, capsys):
    source, secret = tmp_path / "source", tmp_path / "secret"
    synthetic.add_checkpoints(source, synthetic.make(source))
    secret.write_text("mine")
    assert call(merge.main, f"--workdir={tmp_path / 'w'}", f"--sources={source}") == 0
    (meta, *_) = source.glob("checkpoints/*/params/*/meta/metadata")
    whole = meta.read_bytes()
    more, up = source / "results" / "more", "../../../../../../secret"
    for place, target in [(meta, secret), (more, tmp_path), (meta, up)]:
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        shutil.rmtree(tmp_path / "w", ignore_errors=True)
        capsys.readouterr()
        code = call(merge.main, f"--workdir={tmp_path / 'w'}", f"--sources={source}")
        assert code == cli.EXIT_USAGE
        assert f"{place} leads out of {source}" in capsys.readouterr().err
        assert not (tmp_path / "w" / "sweep.json").exists()
        place.unlink()
        meta.write_bytes(whole)


def test_a_plug_in_that_a_foreign_record_names_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "wickedness.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    synthetic.make(tmp_path / "w")
    path = tmp_path / "w" / "sweep.json"
    text = path.read_text().replace('"plugins": {}', '"plugins": {"wickedness": "0"}')
    assert "wickedness" in text
    path.write_text(text)
    with pytest.raises(WorkdirError, match="--plugins=wickedness"):
        grokjax.load(tmp_path / "w")
    assert "wickedness" not in sys.modules


@pytest.mark.parametrize("size", [256 * 2**20 + 1, 2**40])
def test_a_record_too_large_to_be_one_is_not_read(size, tmp_path):
    synthetic.make(tmp_path)
    os.truncate(tmp_path / "sweep.json", size)
    with pytest.raises(WorkdirError, match="no regular file of at most 268,435,456 bytes"):
        grokjax.load(tmp_path)


def test_a_pipe_for_a_record_or_a_table_is_not_waited_for(tmp_path):
    synthetic.make(tmp_path)
    table = tmp_path / "results" / "metrics.parquet"
    table.unlink()
    os.mkfifo(table)
    with pytest.raises(DamagedTableError, match="is no file"):
        _ = grokjax.load(tmp_path).metrics
    (tmp_path / "sweep.json").unlink()
    os.mkfifo(tmp_path / "sweep.json")
    with pytest.raises(WorkdirError, match="no regular file"):
        grokjax.load(tmp_path)
