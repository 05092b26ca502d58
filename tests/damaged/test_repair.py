"""Damage done to a finished sweep, made good by the sweep's command."""

import json
import os
import shutil
import socket

import jax
import pandas as pd
import pytest

import grokjax
from grokjax import check, cli, merge, sweep
from grokjax.report.page import payload
from grokjax.running import audit
from grokjax.store import record
from grokjax.training.trainer import BatchTrainer
from tests.damaged.damage import GRID, arrays, largest, lose, steps_folder
from tests.programs import assert_same_tables, call, tables

# Orbax leaves callbacks behind, to be run in an event loop that is closed, when a read fails.
pytestmark = [
    pytest.mark.usefixtures("no_pages"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


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
