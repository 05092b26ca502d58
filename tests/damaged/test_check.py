"""Damage done to a finished sweep: found by the audit and named."""

import json
import os
import shutil

import pandas as pd
import pytest

from grokjax import analyze, check, cli, sweep
from grokjax.running import audit
from grokjax.store import results
from grokjax.store.errors import WorkdirError
from tests.damaged.damage import GRID, arrays, findings, largest, lose, steps_folder
from tests.programs import call, tables

# Orbax leaves callbacks behind, to be run in an event loop that is closed, when a read fails.
pytestmark = [
    pytest.mark.usefixtures("no_pages"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


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
