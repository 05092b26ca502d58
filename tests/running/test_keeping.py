"""Parameters let go once measured: which stay, when they go, and that everybody knows it."""

import dataclasses
import shutil

import numpy as np
import pytest

import grokjax
from grokjax import analyze, check, cli, merge, sweep
from grokjax.diagnostics import persistence
from grokjax.measuring.analyst import Analyst
from grokjax.report import drawing
from grokjax.report.page import payload
from grokjax.running import audit
from grokjax.running.keeping import Keeper
from grokjax.settings.config import Saving
from grokjax.settings.fields import InvalidSettingError
from grokjax.store import folders, record
from grokjax.store.checkpoints import Reader
from grokjax.store.results import METRICS, places
from tests.programs import assert_same_tables, call, tables

GRID = [
    *("--primes=11", "--train_fractions=0.5", "--models=mlp", "--seeds=1,2", "--batch_size=32"),
    *("--d_model=16", "--mlp_width=16", "--mlp_depth=1", "--steps=60", "--checkpoint_every=10"),
    *("--diagnostics=persistence,fourier", "--state_minutes=0"),
]
EVERY = list(range(0, 61, 10))


@pytest.fixture(autouse=True, scope="module")
def _no_pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        yield


def swept(folder, *flags):
    return call(sweep.main, *GRID, f"--workdir={folder}", *flags)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep that keeps everything."""
    folder = tmp_path_factory.mktemp("whole") / "w"
    assert swept(folder) == 0
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """One that keeps the last parameters alone."""
    folder = tmp_path_factory.mktemp("few") / "w"
    assert swept(folder, "--keep=last") == 0
    return folder


def there(folder):
    """Steps whose parameters are there, were let go, and that have an optimiser state."""
    reader = Reader(folder / "checkpoints")
    (name,) = reader.batches()
    return reader.steps(name), reader.gone(name), reader.steps(name, "opt_state")


def test_which_stay_is_read_off_the_flag():
    def stays(keep):
        return sorted(Saving(keep=keep).stays(EVERY))

    assert stays("all") == stays("every:1") == EVERY
    assert stays("every:4") == [0, 40, 60]
    assert stays("every:99") == [0, 60]
    assert stays("last") == stays("measured") == [60]
    for wrong in ("", "some", "every:", "every:0", "every:-1", "every:1.5", "last,all"):
        with pytest.raises(InvalidSettingError, match=r"--keep=.*all, measured, last or every:N"):
            Saving(keep=wrong)
    with pytest.raises(InvalidSettingError, match="--state_minutes"):
        Saving(state_minutes=-1.0)


KEPT = {
    "all": (EVERY, [50, 60]),
    "every:4": ([0, 40, 50, 60], [50, 60]),
    "measured": ([50, 60], [50, 60]),
    "last": ([60], [60]),
}


@pytest.mark.parametrize("keep", KEPT)
def test_what_is_measured_goes_and_the_tables_are_the_same(keep, whole, few, tmp_path, capsys):
    folder = {"all": whole, "last": few}.get(keep, tmp_path / "w")
    for _ in range(2):  # the second time there is nothing to do
        assert swept(folder, f"--keep={keep}") == 0
        kept, states = KEPT[keep]
        assert there(folder) == (kept, [step for step in EVERY if step not in kept], states)
        assert "resumed" not in capsys.readouterr().out
    assert_same_tables(tables(folder), tables(whole))
    found = audit.audit(folder)
    assert found.findings == found.unfinished == ()
    assert (found.n_checkpoints, found.n_gone) == (2 * len(kept), 2 * (7 - len(kept)))
    reader = grokjax.load(folder)
    run_id = reader.runs["run_id"][1]
    assert reader.steps(run_id) == kept
    ours, theirs = (
        own.checkpoint(run_id, 60)["embed"]["embedding"] for own in (reader, grokjax.load(whole))
    )
    assert np.array_equal(ours, theirs)
    if keep != "all":
        with pytest.raises(KeyError, match=rf"at step 10 were let go .*--keep={keep}.*60\]"):
            reader.checkpoint(run_id, 10)
    with pytest.raises(KeyError, match="has no checkpoint at step 15"):
        reader.checkpoint(run_id, 15)
    notes = payload.build(reader)["notes"]
    assert any(f"--keep={keep}" in note for note in notes) == (keep != "all")


def test_nothing_goes_before_its_rows_are_on_the_disk(whole, tmp_path, monkeypatch):
    right, went = folders.let_go, []

    def watched(root, batch, step):
        found = grokjax.load(root.parent)
        for table in (found.metrics, found.persistence, found.fourier):
            assert (table["step"] == step).sum() == 2
        assert step < max(Reader(root).steps(batch, "opt_state"))
        went.append(step)
        right(root, batch, step)

    monkeypatch.setattr(folders, "let_go", watched)
    assert swept(tmp_path / "w", "--keep=last") == 0
    assert went == EVERY[:-1]


@pytest.mark.parametrize(("states", "kept"), [([50], [50, 60]), ([], EVERY)])
def test_what_resuming_needs_stays(states, kept, whole, tmp_path):
    """The last optimiser state, and all that comes after it."""
    folder = shutil.copytree(whole, tmp_path / "w")
    for step in {50, 60}.difference(states):
        shutil.rmtree(next(folder.glob(f"checkpoints/*/optimizer/{step}")))
    config = dataclasses.replace(record.read_config(folder), saving=Saving(keep="last"))
    analyst = Analyst(folder, config)
    analyst.prepare()
    known = set(places(analyst.results.read("metrics", METRICS)))
    Keeper(analyst, config, [config.runs]).let_go(known)
    assert there(folder) == (kept, [step for step in EVERY if step not in kept], states)


def test_what_a_diagnostic_failed_on_stays(whole, tmp_path, monkeypatch):
    right, folder = persistence.measure, tmp_path / "w"

    def wrong(views, options):
        if any(view.step == 20 for view in views):
            raise ValueError("no")
        return right(views, options)

    with monkeypatch.context() as patch:
        patch.setattr(persistence, "measure", wrong)
        assert swept(folder, "--keep=last") == cli.EXIT_FAILED
    assert there(folder)[0] == [20, 60]
    assert swept(folder, "--keep=last") == 0
    assert there(folder)[0] == [60]
    assert_same_tables(tables(folder), tables(whole))


def test_it_may_change_from_start_to_start(whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "w")
    assert swept(folder, "--keep=every:3") == 0
    assert "--keep=every:3 from now on, all before" in capsys.readouterr().out
    assert there(folder)[0] == [0, 30, 50, 60]
    assert swept(folder, "--steps=80", "--allow=steps") == 0
    assert there(folder)[:2] == ([0, 30, 50, 60, 70, 80], [10, 20, 40])
    assert audit.audit(folder).findings == ()
    whole = shutil.copytree(whole, tmp_path / "whole")
    assert swept(whole, "--steps=80", "--allow=steps") == 0
    assert_same_tables(tables(folder), tables(whole))


def test_what_is_lost_is_trained_again_and_what_was_let_go_is_not(few, tmp_path, capsys):
    folder = shutil.copytree(few, tmp_path / "w")
    shutil.rmtree(next(folder.glob("checkpoints/*/let_go/30")))
    assert call(check.main, f"--workdir={folder}") == cli.EXIT_FAILED
    assert "step 30 is missing" in capsys.readouterr().err
    assert swept(folder, "--keep=last") == 0
    assert "checkpoints 30 are missing" in capsys.readouterr().out
    assert there(folder)[:2] == ([60], EVERY[:-1])


def test_another_measurement_says_what_is_no_longer_there(few, tmp_path, capsys):
    folder = shutil.copytree(few, tmp_path / "w")
    again = ["--cloud_normalisation=none", f"--workdir={folder}"]
    assert call(analyze.main, *again, "--diagnostics=persistence,fourier") == 0
    output = capsys.readouterr().out
    text = "persistence: 12 run checkpoints at steps 0, 10, 20, 30, 40, 50 are not measured"
    assert text in output
    assert "fourier: 12" not in output  # which does not depend on it
    assert "2 of 14 run checkpoints are there and measured (12 were let go, --keep=last)" in output
    assert call(check.main, f"--workdir={folder}") == cli.EXIT_FAILED
    output = capsys.readouterr()
    assert "persistence: 12 checkpoints have no rows, and their parameters were let" in output.err
    assert "12 run checkpoints measured and let go" in output.out


def test_parts_that_kept_differently_are_joined(whole, few, tmp_path, capsys):
    target, less = tmp_path / "joined", tmp_path / "less"
    assert call(merge.main, f"--workdir={target}", f"--sources={few},{whole}") == 0
    assert there(target)[:2] == (EVERY, [])
    assert call(merge.main, f"--workdir={less}", f"--sources={few}") == 0
    assert there(less) == there(few)
    for folder in (target, less):
        assert_same_tables(tables(folder), tables(whole))
        assert audit.audit(folder).findings == ()
    meta = next(less.glob("checkpoints/*/let_go/10/meta/metadata"))
    meta.unlink()  # a link
    meta.write_text((less / meta.parents[2] / "20/meta/metadata").read_text())
    arguments = [f"--workdir={tmp_path / 'other'}", f"--sources={less},{whole}"]
    assert call(merge.main, *arguments) == cli.EXIT_USAGE
    assert "another checkpoint of run" in capsys.readouterr().err


def test_killed_as_it_lets_go_it_goes_on(few, whole, tmp_path, monkeypatch):
    folder, remove = shutil.copytree(whole, tmp_path / "w"), shutil.rmtree

    def all_but_arrays(path, **options):
        if path.name != "params":
            remove(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(folders.shutil, "rmtree", all_but_arrays)
        assert swept(folder, "--keep=last") == 0
    assert list(folder.glob("checkpoints/*/let_go/*/params"))
    shutil.copytree(
        next(whole.glob("checkpoints/*/optimizer/50")),
        next(folder.glob("checkpoints/*")) / "leaving",
    )
    assert swept(folder, "--keep=last") == 0
    assert not list(folder.glob("checkpoints/*/let_go/*/params"))
    assert not list(folder.glob("checkpoints/*/leaving"))
    assert there(folder) == there(few)
