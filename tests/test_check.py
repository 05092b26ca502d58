"""Damage done to a finished sweep: found by the audit, made good by the sweep's command."""

import json
import os
import shutil
import socket

import jax
import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest

import grokjax
from grokjax import analyze, check, cli, merge, sweep
from grokjax.report.page import payload
from grokjax.running import audit
from grokjax.store import record, results
from grokjax.store.errors import WorkdirError
from grokjax.training.trainer import BatchTrainer
from tests.programs import assert_same_tables, call, tables

GRID = [
    *("--primes=11", "--train_fractions=0.5", "--seeds=1,2", "--batch_size=32"),
    *("--d_model=16", "--n_heads=2", "--d_ff=16", "--n_layers=1"),
    *("--steps=40", "--checkpoint_every=10", "--diagnostics=persistence,fourier"),
    *("--save_diagrams", "--clouds=embedding,layer1", "--cloud_points=20", "--state_minutes=0"),
]

# Orbax leaves callbacks behind, to be run in an event loop that is closed, when a read fails.
pytestmark = [
    pytest.mark.usefixtures("no_pages"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep."""
    folder = tmp_path_factory.mktemp("finished") / "w"
    assert call(sweep.main, *GRID, f"--workdir={folder}") == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(finished, tmp_path / "w")


def findings(folder):
    return "\n".join(audit.audit(folder).findings)


def steps_folder(folder, item):
    (found,) = folder.glob(f"checkpoints/*/{item}")
    return found


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_a_finished_sweep_is_as_it_should_be(finished, capsys):
    found = audit.audit(finished)
    assert found.findings == found.unfinished == ()
    assert (found.n_runs, found.n_checkpoints) == (2, 10)
    assert found.n_rows["persistence"] == 20
    assert call(check.main, f"--workdir={finished}") == cli.EXIT_OK
    assert "nothing is wrong" in capsys.readouterr().out


SHARES = (0, 0.01, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.999)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["table", "part", "sweep.json"])
def test_truncated_files_are_found_by_name(kind, share, copy):
    """At ten offsets of a file of each kind."""
    if kind == "table":
        victim, named = copy / "results/persistence.parquet", "persistence.parquet"
    elif kind == "part":
        victim = copy / "results/.parts/metrics/000000040-x.parquet"
        victim.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(copy / "results/metrics.parquet", victim)
        named = "000000040-x.parquet"
    else:
        victim, named = copy / "sweep.json", "sweep.json is damaged"
    os.truncate(victim, int(victim.stat().st_size * share))
    if kind == "sweep.json":
        with pytest.raises(WorkdirError, match=r"is damaged.*cp .*\.sweep\.json\.copy"):
            audit.audit(copy)
    else:
        assert named in findings(copy)


def arrays(folder, item):
    """Bytes of all arrays of a checkpoint, by Orbax alone; None if it cannot read them."""
    with ocp.PyTreeCheckpointer() as reader:
        try:
            leaves = jax.tree.leaves(reader.restore(folder / item))
        except Exception:
            return None
    return [np.asarray(leaf).tobytes() for leaf in leaves]


@pytest.mark.parametrize(
    "kind, change",
    [
        ("params", "a bit flipped"),
        ("optimizer", "truncated"),
        pytest.param("params", "truncated", marks=pytest.mark.thorough),
        pytest.param("optimizer", "a bit flipped", marks=pytest.mark.thorough),
    ],
)
def test_damaged_checkpoints_are_found_by_name(kind, change, copy, request):
    """At offsets of the largest file, ten with --thorough; which of them matter Orbax decides.

    Some bytes of its files are of nodes that later ones took the place of, how many depends on the
    timing of its threads. So damage must be named, or all arrays read as they were written.
    """
    item = "params" if kind == "params" else "opt_state"
    folder = steps_folder(copy, kind) / "40"
    victim = largest(folder)
    whole, written = victim.read_bytes(), arrays(folder, item)
    assert written is not None
    named = 0
    shares = SHARES if request.config.getoption("--thorough") else SHARES[1::2]
    for share in shares:
        at = int(len(whole) * share)
        changed = whole[:at]
        if change == "a bit flipped":
            changed += bytes([whole[at] ^ 4]) + whole[at + 1 :]
        victim.write_bytes(changed)
        found = findings(copy)
        if item in found:
            assert "step 40" in found
            named += 1
        else:
            assert arrays(folder, item) == written, share
        victim.write_bytes(whole)
    assert findings(copy) == ""
    assert named >= len(shares) // 2


DAMAGES = {
    "a missing checkpoint, missing runs, litter": lambda w: (
        shutil.rmtree(steps_folder(w, "params") / "10"),
        (w / "results/runs.parquet").unlink(),
        (w / f"results/.metrics.parquet.999999999-1@{socket.gethostname()}.tmp").write_text("x"),
    ),
    "a batch that does not say whose it is": lambda w: shutil.rmtree(
        steps_folder(w, "params") / "0" / "meta"
    ),
    "a truncated table, a second table, a missing one": lambda w: (
        os.truncate(w / "results/persistence.parquet", 999),
        os.truncate(w / "results/spectra.parquet", 0),
        (w / "results/diagrams.parquet").unlink(),
    ),
    "truncated metrics": lambda w: os.truncate(w / "results/metrics.parquet", 400),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_command_makes_good_what_was_damaged(damage, copy, finished, capsys):
    DAMAGES[damage](copy)
    assert call(sweep.main, *GRID, f"--workdir={copy}") == 0
    assert_same_tables(tables(copy), tables(finished))
    assert audit.audit(copy).findings == ()
    assert not list(copy.glob("results/.*.tmp"))
    output = capsys.readouterr().out
    if "truncated" in damage or "say" in damage:
        assert "is kept as" in output


def test_a_truncated_checkpoint_is_made_anew_after_a_repair(copy, finished, capsys):
    os.truncate(largest(steps_folder(copy, "params") / "20"), 9)
    assert call(check.main, f"--workdir={copy}", "--repair") == cli.EXIT_FAILED
    assert "is kept as" in capsys.readouterr().err
    assert call(sweep.main, *GRID, f"--workdir={copy}") == 0
    assert "checkpoints 20 are missing; training from step 0" in capsys.readouterr().out
    assert_same_tables(tables(copy), tables(finished))
    assert call(check.main, f"--workdir={copy}") == cli.EXIT_OK


def test_a_damaged_checkpoint_met_in_measuring_is_made_anew(copy, finished, capsys):
    os.truncate(largest(steps_folder(copy, "params") / "20"), 9)
    (copy / "results/fourier.parquet").unlink()
    assert call(sweep.main, *GRID, f"--workdir={copy}") == 0
    assert "at step 20 cannot be read" in capsys.readouterr().out
    assert_same_tables(tables(copy), tables(finished))
    assert audit.audit(copy).findings == ()


def test_lost_states_of_the_optimiser_cost_nothing(copy, finished):
    for step in ("30", "40"):
        os.truncate(largest(steps_folder(copy, "optimizer") / step), 9)
    longer = [*GRID, "--steps=50", "--allow=steps", f"--workdir={copy}"]
    assert call(sweep.main, *longer) == 0
    found = tables(copy)["metrics"]
    pd.testing.assert_frame_equal(
        found[found["step"] <= 40].reset_index(drop=True),
        tables(finished)["metrics"],
        check_exact=True,
    )
    assert set(found["step"]) == {0, 10, 20, 30, 40, 50}
    (change,) = json.loads((copy / "sweep.json").read_text())["changes"]
    assert change["steps"] == [40, 50]


def test_a_superseded_state_that_is_half_gone_is_no_damage(copy):
    folder = steps_folder(copy, "optimizer")
    oldest, *others = sorted(folder.iterdir(), key=lambda path: int(path.name))
    assert others
    half = folder / str(int(oldest.name) - 10)
    (half / "opt_state").mkdir(parents=True)
    shutil.copy(oldest / "_CHECKPOINT_METADATA", half)
    assert findings(copy) == ""
    shutil.rmtree(oldest / "opt_state")
    assert f"opt_state of batch {folder.parent.name} at step {oldest.name}" in findings(copy)


def lose(copy, *steps):
    for step in steps:
        shutil.rmtree(steps_folder(copy, "params") / str(step))


LONGER = [*GRID, "--steps=60", "--allow=steps"]


@pytest.fixture(scope="module")
def longer(finished, tmp_path_factory):
    """The sweep with twenty steps more."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("longer") / "w")
    assert call(sweep.main, *LONGER, f"--workdir={folder}") == 0
    return folder


def test_training_goes_on_before_lost_checkpoints_are_made_again(copy, longer, capsys):
    lose(copy, 10, 20)
    assert call(sweep.main, *LONGER, f"--workdir={copy}") == 0
    output = capsys.readouterr().out
    said = "resumed at step 40; checkpoints 10, 20 are missing and will be made again"
    assert said in output
    again = output.index("missing; training from step 0 to make them again")
    assert output.index("step 60 |") < again
    assert_same_tables(tables(copy), tables(longer))
    found = audit.audit(copy)
    assert (found.findings, found.remarks) == ((), ())


def test_making_good_goes_on_where_it_was_stopped(copy, finished, monkeypatch, capsys):
    """However often: it gains a checkpoint a start, and never begins anew."""
    lose(copy, 10, 20, 30)
    starts, right = [], BatchTrainer._train_to

    def train_to(self, step, states):
        starts.append(step)
        # As by SIGTERM, once a checkpoint is made.
        self._stop.request("preempted")
        return right(self, step, states)

    monkeypatch.setattr(BatchTrainer, "_train_to", train_to)
    for code in [cli.EXIT_STOPPED] * 3 + [cli.EXIT_OK]:
        assert call(sweep.main, *GRID, "--state_minutes=9", f"--workdir={copy}") == code
    assert starts == [10, 20, 30]
    output = capsys.readouterr().out
    assert all(f"training from step {step} to make them again" in output for step in (0, 10, 20))
    assert_same_tables(tables(copy), tables(finished))
    assert audit.audit(copy).findings == ()
    assert not list(copy.glob("checkpoints/*/remaking/[0-9]*"))


def test_what_other_versions_made_again_is_known(copy, finished, monkeypatch, capsys):
    """After an allowed change numbers may differ; what is there stays, what is new is marked."""
    kept = {step: arrays(steps_folder(copy, "params") / str(step), "params") for step in (20, 40)}
    lose(copy, 10, 30)
    right, train_to = record.provenance, BatchTrainer._train_to

    def other(self, step, states):
        states = train_to(self, step, states)
        return [state._replace(params=jax.tree.map(lambda x: x * 1.5, state.params))
                for state in states]  # fmt: skip

    monkeypatch.setattr(record, "provenance", lambda: right() | {"sources": "0123abc"})
    monkeypatch.setattr(BatchTrainer, "_train_to", other)
    assert call(sweep.main, *GRID, "--allow=code", f"--workdir={copy}") == 0
    (remark,) = audit.audit(copy).remarks
    assert "checkpoints 10, 30 of 2 run(s)" in remark
    assert "sources 0123abc" in remark
    for step, before in kept.items():
        assert arrays(steps_folder(copy, "params") / str(step), "params") == before
    assert call(check.main, f"--workdir={copy}") == 0
    assert f"note: {remark}" in capsys.readouterr().out
    assert payload.provenance(grokjax.load(copy))["remarks"] == [remark]
    merged = copy.parent / "merged"
    assert call(merge.main, "--mixed_code", f"--sources={copy}", f"--workdir={merged}") == 0
    assert audit.audit(merged).remarks == (remark,)


def test_training_again_must_come_out_the_same(copy, capsys):
    """Where it does not, on another device say, nothing is mixed."""
    (folder,) = (copy / "checkpoints").iterdir()
    other = copy.parent / "other"
    arguments = [*GRID, "--batch_size=16", f"--workdir={other}"]
    assert call(sweep.main, *arguments) == 0
    (theirs,) = (other / "checkpoints").iterdir()
    for step in ("10", "20"):
        meta = folder / "params" / step / "meta" / "metadata"
        content = json.loads(meta.read_text())
        stranger = json.loads((theirs / "params" / step / "meta" / "metadata").read_text())
        meta.write_text(json.dumps(content | {"checksums": stranger["checksums"]}))
    shutil.rmtree(folder / "params" / "30")
    assert call(sweep.main, *GRID, f"--workdir={copy}") == cli.EXIT_FAILED
    assert "trained again, it comes out otherwise" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [("0", "10", "20", "30", "40"), ("40",), ("10",)])
def test_another_configuration_is_never_damage(steps, copy, capsys):
    """A whole checkpoint of another configuration stops any command, and stays where it is."""
    for kind in ("params", "optimizer"):
        for path in steps_folder(copy, kind).glob("*/meta/metadata"):
            if path.parents[1].name in steps:
                meta = json.loads(path.read_text())
                path.write_text(json.dumps(meta | {"config_hash": "0123456789abcdef"}))
    (copy / "results/fourier.parquet").unlink()
    before = {path for path in copy.glob("checkpoints/*/params/**/*") if path.is_file()}
    longer = [*GRID, "--steps=50", "--allow=steps"]
    for main, *flags in [(sweep.main, *longer), (check.main,), (check.main, "--repair")]:
        assert call(main, *flags, f"--workdir={copy}") == cli.EXIT_USAGE
        assert "is whole, but of another configuration (" in capsys.readouterr().err
    assert all(path.exists() for path in before)
    assert not list(copy.rglob("damaged"))
    assert set(tables(copy)["runs"]["status"]) <= {"done", "running"}


def test_the_audit_names_duplicates_gaps_and_strays(copy):
    path = copy / "results/persistence.parquet"
    frame = pd.read_parquet(path)
    run_id = frame["run_id"].iloc[0]

    def audited(changed):
        results.write_parquet(path, changed)
        return findings(copy)

    assert "2 rows are there more than once" in audited(pd.concat([frame, frame.iloc[:2]]))
    gap = frame[(frame["run_id"] != run_id) | (frame["step"] != 20)]
    assert f"1 checkpoints are missing between others, such as {run_id} at step 20" in audited(gap)
    assert "lack some of their clouds" in audited(frame.iloc[1:])
    stray = pd.concat([frame, frame.iloc[:1].assign(step=25)])
    assert "rows of 1 checkpoints that are not there" in audited(stray)
    nan = frame.assign(h1_max=frame["h1_max"].where(frame.index != 3))
    assert "1 rows are not finite though the network is" in audited(nan)
    assert audited(frame) == ""


def test_tables_of_later_analyses_are_held_against_their_own_settings(copy, capsys):
    """Those that the sweep did not ask for, and those measured again with other clouds."""
    other = ["--diagnostics=persistence,ranks", "--clouds=embedding", f"--workdir={copy}"]
    assert call(analyze.main, *other) == 0
    found = audit.audit(copy)
    assert (found.findings, found.unfinished) == ((), ())
    assert found.n_rows["ranks"] > 0
    assert found.n_rows["persistence"] == 2 * 5
    for table in ("ranks", "persistence"):
        path = copy / f"results/{table}.parquet"
        settings = results.Results(copy, []).settings(table)
        whole = pd.read_parquet(path)
        results.write_parquet(path, whole[whole["step"] != 20], settings)
        assert f"{table}: 2 checkpoints are missing between others" in findings(copy)
        results.write_parquet(path, whole, settings)
    (copy / "results/ranks.parquet").write_bytes(b"nonsense")
    assert "ranks.parquet cannot be read" in findings(copy)


def test_metrics_that_came_before_their_checkpoint_are_unfinished(copy, capsys):
    """As a SIGKILL leaves them: the next checkpoint alone, which the same command makes."""
    lose(copy, 40)
    for name in tables(copy).keys() - {"metrics", "runs"}:
        path = copy / f"results/{name}.parquet"
        frame, settings = pd.read_parquet(path), results.Results(copy, []).settings(name)
        results.write_parquet(path, frame[frame["step"] < 40], settings)
    found = audit.audit(copy)
    assert found.findings == ()
    assert any("2 run checkpoints have metrics whose param" in text for text in found.unfinished)
    assert call(check.main, f"--workdir={copy}") == cli.EXIT_OK
    assert call(sweep.main, *GRID, f"--workdir={copy}") == 0
    found = audit.audit(copy)
    assert (found.findings, found.unfinished) == ((), ())
    # What is further ahead no process leaves.
    lose(copy, 40, 30)
    assert "metrics: rows of 2 checkpoints that are not there" in findings(copy)


def test_the_command_says_what_is_wrong_and_exits_with_1(copy, capsys):
    shutil.rmtree(steps_folder(copy, "params") / "40")
    shutil.rmtree(steps_folder(copy, "params") / "20")
    assert call(check.main, f"--workdir={copy}") == cli.EXIT_FAILED
    output = capsys.readouterr()
    assert "step 20 is missing" in output.err
    assert "unfinished: 2 runs not trained to the end" in output.out


def test_a_damaged_record_says_where_its_copy_is(copy, capsys):
    os.truncate(copy / "sweep.json", 100)
    assert call(sweep.main, *GRID, f"--workdir={copy}") == cli.EXIT_USAGE
    assert f"cp {copy}/.sweep.json.copy {copy}/sweep.json" in capsys.readouterr().err
    shutil.copy(copy / ".sweep.json.copy", copy / "sweep.json")
    assert audit.audit(copy).findings == ()
    (copy / "sweep.json").unlink()
    assert call(sweep.main, *GRID, f"--workdir={copy}") == cli.EXIT_USAGE
    assert ".sweep.json.copy" in capsys.readouterr().err
