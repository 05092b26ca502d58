"""What other machines do is seen late, as on NFS: nothing is lost, and nothing taken for damage."""

import contextlib
import errno
import fcntl
import os
import shutil
from unittest import mock

import numpy as np
import orbax.checkpoint as ocp
import pytest

import grokjax
from grokjax import analyze, cli, merge, sweep
from grokjax.measuring import isolation
from grokjax.report import serving
from grokjax.running import audit, distributed
from grokjax.store import folders, locks, record, results
from grokjax.store.checkpoints import Reader
from grokjax.store.errors import AbsentError, LetGoError, StorageError, WorkdirError
from grokjax.store.results import METRICS, Results
from tests import synthetic
from tests.delays import Delayed
from tests.programs import call

pytestmark = pytest.mark.usefixtures("no_pages")

GRID = [
    *("--primes=11", "--train_fractions=0.5", "--models=mlp", "--seeds=1,2", "--batch_size=32"),
    *("--d_model=16", "--mlp_width=16", "--mlp_depth=1", "--checkpoint_every=10", "--steps=10"),
    "--diagnostics=none",
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Both parts of a job, finished."""
    folder = tmp_path_factory.mktemp("parts")
    for i in range(2):
        assert call(sweep.main, *GRID, f"--workdir={folder}", f"--shard={i}/2") == 0
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A work directory with checkpoints at 0, 100 to 400, and nothing measured."""
    folder = tmp_path_factory.mktemp("made") / "w"
    synthetic.add_checkpoints(folder, synthetic.make(folder, diagnostics=()))
    return folder


@pytest.fixture
def workdir(made, tmp_path):
    return shutil.copytree(made, tmp_path / "w")


@pytest.fixture
def disk(tmp_path, monkeypatch):
    return Delayed(tmp_path, monkeypatch)


def batch_of(workdir):
    (batch,) = (workdir / "checkpoints").iterdir()
    return batch


# --------------------------------------------------------------------------- the disk itself


def test_the_disk_is_seen_late(tmp_path, disk):
    for name in ("old", "gone"):
        (tmp_path / name).write_text(name)
    with disk.elsewhere():
        (tmp_path / "new").mkdir()
        (tmp_path / "gone").unlink()
        (tmp_path / "came").touch()
        assert sorted(os.listdir(tmp_path)) == ["came", "new", "old"]
    for listed in (os.listdir(tmp_path), [own.name for own in tmp_path.glob("*")]):
        assert sorted(listed) == ["gone", "old"]
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "gone").is_file()
    for name in ("gone", "came"):
        with pytest.raises(FileNotFoundError):
            (tmp_path / name).read_text()
    with disk.elsewhere():
        (tmp_path / "came").unlink()
        (tmp_path / "gone").touch()
    assert sorted(os.listdir(tmp_path)) == ["gone", "old"]
    (tmp_path / "mine").touch()
    assert sorted(os.listdir(tmp_path)) == ["gone", "mine", "new", "old"]


# --------------------------------------------------------------------------- who only reads


def test_rows_of_a_part_that_is_listed_and_gone_are_read_from_the_table(workdir, disk):
    told = Results(workdir, [])
    whole = told.read("metrics", METRICS)
    told.path("metrics").unlink()
    for _, rows in whole.groupby("step"):
        told.append("metrics", METRICS, rows.to_dict("records"))
    with disk.elsewhere():
        told.compact("metrics", METRICS)
    disk.refresh(workdir / "results")
    assert len(list(workdir.glob("results/.parts/metrics/*"))) == 5
    found = told.read("metrics", METRICS)
    assert sorted(results.places(found)) == sorted(results.places(whole))
    assert told.recover("metrics", METRICS) == []
    assert not (workdir / "results" / "damaged").exists()


def test_a_checkpoint_that_is_listed_and_let_go_is_no_damage(workdir, disk):
    reader, batch = Reader(workdir / "checkpoints"), batch_of(workdir)
    with disk.elsewhere():
        folders.let_go(workdir / "checkpoints", batch.name, 100)
    assert reader.steps(batch.name) == [0, 100, 200, 300, 400]
    with pytest.raises(AbsentError):
        reader.meta(batch.name, "params", 100)
    disk.refresh()
    assert reader.steps(batch.name) == [0, 200, 300, 400]
    with pytest.raises(LetGoError):
        reader.meta(batch.name, "params", 100)


def test_words_and_failures_that_are_listed_and_gone_are_not_there(workdir, disk):
    config = record.read_config(workdir)
    record.finish(workdir, config)
    isolation.write(workdir, {("persistence", "a", 10): {"all": "no"}})
    assert record.is_finished(workdir, config)
    with disk.elsewhere():
        (workdir / ".finished").unlink()
        isolation.write(workdir, {})
    assert (workdir / ".finished").exists()
    assert not record.is_finished(workdir, config)
    assert isolation.read(workdir) == {}


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (os, "open"),
        (results.pq, "read_metadata"),
        (results.pq, "read_table"),
        (results.pq, "read_schema"),
        (ocp.Checkpointer, "restore"),
    ],
)
def test_a_file_that_is_replaced_while_it_is_read_is_read_again(owner, name, workdir, monkeypatch):
    right, called = getattr(owner, name), []

    def once(*args, **named):
        called.append(args)
        if len(called) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return right(*args, **named)

    run_id, n_called = grokjax.load(workdir).runs["run_id"][0], 0
    for look in (lambda own: own.metrics, repr, lambda own: own.checkpoint(run_id, 100)):
        called.clear()
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, once)
            look(grokjax.load(workdir))
        n_called += len(called)
    assert n_called > 1


def test_a_page_whose_tables_cannot_be_read_now_stays(workdir, monkeypatch):
    content = serving.Content(workdir)
    content.renew()
    os.utime(workdir / "sweep.json", (0, 0))
    problem = StorageError(workdir, "Stale file handle", "read")
    monkeypatch.setattr(serving.payload, "build", mock.Mock(side_effect=problem))
    content.renew()
    assert "Stale file handle" in content._report["state.json"][0].decode()


# --------------------------------------------------------------------------- analyze --follow


class Trainer:
    """A trainer on another machine: what it does at each pause of the one that follows it."""

    def __init__(self, workdir, disk, patch, *acts):
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(locks.owning(workdir))
        self._disk, self._acts, self.n_naps = disk, iter(acts), 0
        patch.setattr(analyze.time, "sleep", self._nap)

    def _nap(self, seconds):
        self.n_naps += 1
        for act in next(self._acts, ()):
            with self._disk.elsewhere():
                act()

    def end(self):
        self._stack.close()


def followed(workdir, code=0):
    """The steps that an analysis that follows has measured."""
    flags = ("--follow", "--diagnostics=persistence", "--clouds=embedding")
    assert call(analyze.main, f"--workdir={workdir}", *flags) == code
    rows = grokjax.load(workdir).persistence
    assert np.isfinite(rows["h1_max"]).all()
    return sorted(set(rows["step"]))


def test_what_a_trainer_leaves_is_measured_though_it_is_seen_after_its_end(
    workdir, disk, monkeypatch, tmp_path, capsys
):
    params, aside = batch_of(workdir) / "params", tmp_path / "aside"
    aside.mkdir()
    for step in (300, 400):
        os.rename(params / str(step), aside / str(step))
    disk.refresh()

    def commit():
        for step in (300, 400):
            os.rename(aside / str(step), params / str(step))
        trainer.end()

    naps = [[], [commit], *[[]] * 20, [disk.refresh]]
    trainer = Trainer(workdir, disk, monkeypatch, *naps)
    assert followed(workdir) == [0, 100, 200, 300, 400]
    assert trainer.n_naps == len(naps)
    assert "10 of 10 run checkpoints" in capsys.readouterr().out


def test_a_checkpoint_of_which_only_the_name_is_seen_is_measured_later(
    workdir, disk, monkeypatch, tmp_path
):
    step, aside = batch_of(workdir) / "params" / "0", tmp_path / "aside"
    os.rename(step, aside)
    step.mkdir()
    with disk.elsewhere():
        shutil.copytree(aside, step, dirs_exist_ok=True)
    trainer = Trainer(workdir, disk, monkeypatch, [], [], [disk.refresh])
    with contextlib.closing(mock.Mock(close=trainer.end)):
        assert followed(workdir) == [0, 100, 200, 300, 400]
    assert trainer.n_naps == 3


def test_a_checkpoint_that_is_let_go_before_it_is_measured_is_told(
    workdir, disk, monkeypatch, capsys
):
    root, batch = workdir / "checkpoints", batch_of(workdir)
    with disk.elsewhere():
        folders.let_go(root, batch.name, 100)
    trainer = Trainer(workdir, disk, monkeypatch, [], [disk.refresh])
    with contextlib.closing(mock.Mock(close=trainer.end)):
        assert followed(workdir) == [0, 200, 300, 400]
    told = "8 of 10 run checkpoints are there and measured (2 were let go"
    assert told in capsys.readouterr().out


def test_a_checkpoint_whose_file_does_not_come_is_told_in_the_end(
    workdir, disk, monkeypatch, capsys
):
    monkeypatch.setattr(analyze, "_LAST_LOOKS", 3)
    (batch_of(workdir) / "params" / "200" / "params" / "_METADATA").unlink()
    trainer = Trainer(workdir, disk, monkeypatch)
    with contextlib.closing(mock.Mock(close=trainer.end)):
        assert followed(workdir, cli.EXIT_FAILED) == [0, 100]
    assert "at step 200 cannot be read" in capsys.readouterr().err
    assert trainer.n_naps == 3


def test_what_is_committed_while_the_rest_is_measured_is_measured_too(
    workdir, monkeypatch, tmp_path
):
    """On any disk: what comes between the measuring and the counting."""
    last, aside = batch_of(workdir) / "params" / "400", tmp_path / "aside"
    os.rename(last, aside)
    right = analyze.analyst_of.Analyst.measure_all

    def measure_all(analyst, progress):
        right(analyst, progress)
        if aside.exists():
            os.rename(aside, last)

    monkeypatch.setattr(analyze.analyst_of.Analyst, "measure_all", measure_all)
    monkeypatch.setattr(analyze.time, "sleep", lambda _: None)
    assert followed(workdir) == [0, 100, 200, 300, 400]


# --------------------------------------------------------------------------- who takes over


def test_a_sweep_that_another_machine_made_is_gone_on_with(parts, tmp_path, disk):
    workdir = tmp_path / "shard-000-of-002"
    workdir.mkdir()
    for name in locks.LOCKS:
        (workdir / name).touch()
    with disk.elsewhere():
        shutil.copytree(parts / "shard-000-of-002", workdir, dirs_exist_ok=True)
    assert not (workdir / "sweep.json").exists()
    assert call(sweep.main, *GRID, f"--workdir={tmp_path}", "--shard=0/2") == 0
    assert len(record.read_record(workdir)["starts"]) == 2
    assert audit.audit(workdir).findings == ()


def test_an_analysis_takes_what_a_sweep_elsewhere_left_as_it_is(workdir, disk, capsys):
    told = Results(workdir, [])
    rows = told.read("metrics", METRICS)
    told.append("metrics", METRICS, rows.to_dict("records"))
    aside = workdir.with_name("aside")
    os.rename(batch_of(workdir) / "params" / "400", aside)
    disk.refresh()
    with disk.elsewhere():
        told.compact("metrics", METRICS)
        os.rename(aside, batch_of(workdir) / "params" / "400")
    flags = ("--diagnostics=persistence", "--clouds=embedding")
    assert call(analyze.main, f"--workdir={workdir}", *flags) == 0
    assert "10 of 10 run checkpoints" in capsys.readouterr().out


def test_a_merge_has_what_came_since_this_machine_looked(workdir, disk, tmp_path):
    aside = workdir.with_name("aside")
    os.rename(batch_of(workdir) / "params" / "400", aside)
    disk.refresh()
    with disk.elsewhere():
        os.rename(aside, batch_of(workdir) / "params" / "400")
    assert call(merge.main, f"--workdir={tmp_path / 'all'}", f"--sources={workdir}") == 0
    reader = Reader(tmp_path / "all" / "checkpoints")
    assert reader.steps(batch_of(workdir).name) == [0, 100, 200, 300, 400]


def test_a_merge_of_what_has_gone_from_a_source_says_so(
    workdir, disk, tmp_path, monkeypatch, capsys
):
    """A source that cannot be written to is neither locked nor looked at anew."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with disk.elsewhere():
        shutil.rmtree(batch_of(workdir) / "optimizer" / "300")
    flags = f"--workdir={tmp_path / 'all'}", f"--sources={workdir}"
    assert call(merge.main, *flags) == cli.EXIT_USAGE
    assert "optimizer/300 cannot be read" in capsys.readouterr().err
    disk.refresh()
    assert call(merge.main, *flags) == 0
    name = batch_of(workdir).name
    assert Reader(tmp_path / "all" / "checkpoints").steps(name, "opt_state") == [400]


def test_a_part_that_is_not_listed_yet_is_joined(parts, tmp_path, monkeypatch, capsys):
    disk = Delayed(tmp_path, monkeypatch, only_lists=True)
    workdir = tmp_path / "w"
    shutil.copytree(parts / "shard-000-of-002", workdir / "shard-000-of-002")
    (workdir / ".lock").touch()
    disk.refresh()

    def nap(seconds):
        with disk.elsewhere():
            shutil.copytree(parts / "shard-001-of-002", workdir / "shard-001-of-002")

    monkeypatch.setattr(distributed.time, "sleep", nap)
    job = ("--num_processes=2", "--process_id=0")
    assert call(sweep.main, *GRID, f"--workdir={workdir}", *job) == 0
    assert "2 runs of 2 parts joined" in capsys.readouterr().out


def test_without_locks_a_mark_that_is_seen_late_stays(tmp_path, disk, monkeypatch):
    mark, right = tmp_path / ".lock.owner", locks._owner
    (tmp_path / ".lock").touch()
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=OSError(errno.ENOLCK, "none")))
    monkeypatch.setattr(locks, "_LOOKS_AGAIN", 0.0)
    with disk.elsewhere():
        mark.write_text("process 1 on elsewhere since noon\n")

    def owner(path):
        try:
            return right(path)
        finally:
            disk.refresh()

    monkeypatch.setattr(locks, "_owner", owner)
    with pytest.raises(WorkdirError, match="on elsewhere since noon"), locks.owning(tmp_path):
        pass
    assert "elsewhere" in mark.read_text()
