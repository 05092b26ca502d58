"""A newcomer's first hour, command after command, as README has it."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import grokjax
from grokjax import analyze, check, diagnostics, sweep
from grokjax.report import __main__ as report
from grokjax.report import drawing
from grokjax.settings import plugins
from tests.programs import call

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
# What --primes=31 alone is, but for the time: a narrow network, one seed, few steps.
SMALL = ["--train_fractions=0.5", "--seeds=46", "--d_model=12", "--d_ff=16", "--n_layers=1",
         "--steps=4"]  # fmt: skip


@pytest.fixture
def radius(tmp_path, monkeypatch):
    """README's diagnostic, in the folder in which commands are started."""
    (code,) = re.findall(r"```python\n# radius\.py\n(.*?)```", README, re.DOTALL)
    (tmp_path / "radius.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    plugins._loaded.clear()
    diagnostics._added.clear()
    sys.modules.pop("radius", None)


def told(capsys):
    """The lines of a command about what adapts."""
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("--")]


def api_says_what_tables_say(loaded):
    part = loaded.where(prime=37)
    assert len(part.runs) == 1 and "1 of 2 (1 done)" in repr(part)
    for row in part.with_runs("persistence").iloc[[0, -1]].to_dict("records"):
        assert (row["prime"], row["d_model"], row["n_points"]) == (37, 12, 37)
        assert row["cloud"] == "embedding"
        points = loaded.cloud(row["run_id"], row["step"])
        np.testing.assert_allclose((points**2).sum(1).mean(), 1, rtol=1e-5)
        summary = diagnostics.persistence.summarize(loaded.diagram(row["run_id"], row["step"]))
        assert summary.h1_max == row["h1_max"]
    small = loaded.dimension.query("cloud == 'embedding'")
    assert len(small) == 2 * 5 and small["lid_mean"].isna().all()
    assert loaded.dimension.query("cloud != 'embedding'")["lid_mean"].notna().all()


def test_from_help_to_a_diagnostic_of_ones_own(tmp_path, capsys, monkeypatch, radius):
    where = f"--workdir={tmp_path / 'w'}"
    # What is there to ask?
    shown = subprocess.run(
        [sys.executable, "-m", "grokjax.sweep", "--help"], capture_output=True, text=True
    )
    assert shown.returncode == 0
    assert "--primes: moduli n, prime or not (default: 113,149,197)" in shown.stdout
    # What would it cost?
    assert call(sweep.main, "--primes=31", *SMALL, where, "--plan") == 0
    plan = capsys.readouterr().out
    assert "1 run of 4 steps, 5 checkpoints" in plan and "\ntime: " in plan
    assert not (tmp_path / "w").exists()
    # A sweep, by the front door's own spelling; what is not asked for adapts.
    assert call(sweep.main, "--primes=31", *SMALL, where) == 0
    assert told(capsys) == [
        "--checkpoint_every=1: 500 does not divide --steps=4",
        "--batch_size=256: 512 is more than the 480 training examples of transformer-add-p31-f0.5-"
        "c0.0-wd0.1-lr0.003-i1.0-s46-d_model=12-d_ff=16-n_layers=1",
        "--lid_neighbors=64: too many for the local dimension of embedding (31 points), "
        "which is null",
    ]
    # More of it; its page is drawn below.
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        assert call(sweep.main, "--primes=31,37", *SMALL, where, "--allow=primes") == 0
    # Another look at the same checkpoints.
    first = grokjax.load(tmp_path / "w").persistence
    assert call(analyze.main, where, "--cloud_normalisation=rms") == 0
    loaded = grokjax.load(tmp_path / "w")
    again = loaded.persistence
    pd.testing.assert_frame_equal(again[["run_id", "step"]], first[["run_id", "step"]])
    assert not np.isclose(again["h1_max"], first["h1_max"]).any()
    # The page says what the tables say.
    assert call(report.main, where) == 0
    page = (tmp_path / "w/report/index.html").read_text()
    assert "--cloud_normalisation=rms" in page and "--cloud_normalisation=unit" not in page
    assert "Local dimension is null for the cloud embedding where it has 31, 37 points" in page
    # So does the API.
    api_says_what_tables_say(loaded)
    # A question of one's own.
    assert call(analyze.main, where, "--plugins=radius", "--diagnostics=radius") == 0
    loaded = grokjax.load(tmp_path / "w", plugins=["radius"])
    run_id = loaded.runs["run_id"][1]
    length = np.linalg.norm(loaded.checkpoint(run_id, 4)["embed"]["embedding"], axis=1)
    assert loaded.radius.iloc[-1].to_dict() == {
        "run_id": run_id,
        "step": 4,
        "mean": pytest.approx(length.mean()),
        "spread": pytest.approx(length.std()),
    }
    assert call(check.main, where) == 0
    assert "nothing is wrong" in capsys.readouterr().out
