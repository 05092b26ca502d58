"""Work directories of version 0.1: opened, checked, measured, resumed, merged.

tests/data/version_0_1/workdirs.tar.xz was made by that version (0.1.0 at ddf6230), and holds

``whole``
    --models=mlp,transformer --primes=7,5 --train_fractions=0.5 --seeds=1 --batch_size=8 --d_model=4
    --n_heads=2 --d_ff=4 --n_layers=1 --mlp_width=4 --mlp_depth=1 --loss_precision=float64
    --steps=10 --checkpoint_every=10 --diagnostics=persistence,fourier, without figures and page;
``after_30_steps.parquet``
    its metrics once that version had taken it to 30 steps;
``shards``
    both shards of --models=mlp --primes=5 --seeds=1,2 of width 2, not measured.
"""

import json
import pathlib
import tarfile

import numpy as np
import pandas as pd
import pytest

import grokjax
from grokjax import analyze, check, cli, merge, sweep
from grokjax.running import audit
from tests.programs import call, tables

pytestmark = pytest.mark.usefixtures("no_pages")

ARCHIVE = pathlib.Path(__file__).parent / "data/version_0_1/workdirs.tar.xz"
NET = """
--d_model=4 --n_heads=2 --d_ff=4 --n_layers=1 --mlp_width=4 --mlp_depth=1 --batch_size=8
--train_fractions=0.5 --checkpoint_every=10
""".split()
WHOLE = """
--models=mlp,transformer --primes=7,5 --seeds=1 --diagnostics=persistence,fourier
--loss_precision=float64 --steps=10
""".split()
SHARDS = """
--models=mlp --d_model=2 --mlp_width=2 --primes=5 --seeds=1,2 --diagnostics=none --steps=10
""".split()
ALLOWED = "--allow=steps,code,packages"


@pytest.fixture
def old(tmp_path):
    """The directories, made anew for each test."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def nothing_is_called_damage(folder):
    return not [*folder.rglob("damaged"), *folder.rglob("replaced")]


def test_it_opens_with_new_columns_at_their_defaults(old):
    loaded = grokjax.load(old / "whole")
    runs = loaded.runs
    assert list(runs["run_id"]) == [
        f"{model}-add-p{prime}-f0.5-c0.0-wd0.1-lr0.003-i1.0-s1"
        for model in ("mlp", "transformer")
        for prime in (7, 5)
    ]
    same = {
        "optimizer": "adamw", "loss": "cross_entropy", "loss_precision": "float64",
        "batch_size": 8, "beta2": 0.98, "warmup_steps": 10, "d_model": 4, "schedule": "constant",
    }  # fmt: skip
    for column, value in same.items():
        assert set(runs[column]) == {value}, column
    own = runs.groupby("model", sort=False)[["mlp_width", "d_ff", "layer_norm"]].first()
    assert own.loc["mlp", "mlp_width"] == own.loc["transformer", "d_ff"] == 4
    assert pd.isna(own.loc["mlp", "d_ff"]) and pd.isna(own.loc["transformer", "mlp_width"])
    assert own.loc["transformer", "layer_norm"] == "pre"
    assert list(runs["status"]) == ["done"] * 4
    assert len(loaded.metrics) == len(loaded.persistence) == 8
    # Tables as that version wrote them lack columns that came later.
    raw = pd.read_parquet(old / "whole/results/spectra.parquet")
    assert "irrep" not in raw and "beta2" not in pd.read_parquet(old / "whole/results/runs.parquet")
    assert list(loaded.spectra["irrep"]) == list(raw["frequency"].astype(str))
    assert set(loaded.spectra["degree"]) == {1}
    for run_id in runs["run_id"]:
        view = loaded.view(run_id, 10)
        right = (view.logits().argmax(1) == view.labels)[view.train_mask].mean()
        row = loaded.metrics.query("run_id == @run_id and step == 10").iloc[0]
        assert right == pytest.approx(row["train_accuracy"])


def test_it_is_as_it_should_be(old, capsys):
    assert call(check.main, f"--workdir={old / 'whole'}") == cli.EXIT_OK
    assert "4 runs, 8 run checkpoints read whole" in capsys.readouterr().out
    found = audit.audit(old / "whole")
    assert found.findings == found.unfinished == ()


def test_it_is_measured_again(old):
    whole = old / "whole"
    before = tables(whole)
    for name in ("persistence", "fourier"):
        (whole / f"results/{name}.parquet").unlink()
    assert call(analyze.main, f"--workdir={whole}") == 0
    after = tables(whole)
    assert before.keys() == after.keys()
    for name in ("persistence", "fourier"):
        known = list(before[name])
        pd.testing.assert_frame_equal(after[name][known], before[name], rtol=1e-4, atol=1e-5)
    new = set(after["fourier"]) - set(before["fourier"])
    assert new >= {"logit_frequencies", "logit_power_on_keys", "excluded_test_loss"}
    assert after["fourier"][sorted(new)].notna().all(axis=None)
    assert nothing_is_called_damage(whole)


def test_it_is_resumed(old, capsys):
    whole = old / "whole"
    arguments = [*NET, *WHOLE, "--steps=30", f"--workdir={whole}"]
    assert call(sweep.main, *arguments, "--allow=steps") == cli.EXIT_USAGE
    assert "--allow=code" in capsys.readouterr().err
    assert call(sweep.main, *arguments, ALLOWED) == 0
    output = capsys.readouterr().out
    assert output.count("resumed at step 10") == 2
    assert "kept as" not in output
    assert nothing_is_called_damage(whole)
    found, by_then = tables(whole)["metrics"], pd.read_parquet(old / "after_30_steps.parquet")
    keys = ["run_id", "step"]
    pd.testing.assert_frame_equal(found[keys], by_then[keys])
    np.testing.assert_allclose(found.iloc[:, 2:], by_then.iloc[:, 2:], rtol=1e-3, atol=1e-4)
    record = json.loads((whole / "sweep.json").read_text())
    assert record["format"] == 2 and record["changes"][0]["steps"] == [10, 30]
    # From here on it is a directory like any other, its runs under the names they had.
    assert call(sweep.main, *arguments) == 0
    assert audit.audit(whole).findings == ()
    assert len(grokjax.load(whole).spectra.query("step == 30")) > 0


def test_shards_are_merged_and_resumed(old):
    folder = old / "shards"
    loaded = [grokjax.load(path).runs["run_id"] for path in sorted(folder.glob("shard-*"))]
    assert [len(run_ids) for run_ids in loaded] == [1, 1]
    assert call(merge.main, f"--workdir={folder}") == 0
    assert set(grokjax.load(folder).runs["run_id"]) == {*loaded[0], *loaded[1]}
    # It can grow by what run ids tell in this version.
    arguments = [*NET, *SHARDS, "--steps=20", f"--workdir={folder}", "--beta2=0.98,0.9"]
    assert call(sweep.main, *arguments, ALLOWED + ",beta2") == 0
    runs, metrics = grokjax.load(folder).runs, grokjax.load(folder).metrics
    assert {*loaded[0], *loaded[1]} == set(runs.query("beta2 == 0.98")["run_id"])
    assert runs.query("beta2 == 0.9")["run_id"].str.endswith("-s1-beta2=0.9").tolist() == [
        True,
        False,
    ]
    assert list(metrics["step"]) == [0, 10, 20] * 4
    assert audit.audit(folder).findings == ()
    assert nothing_is_called_damage(folder)


def test_a_shard_is_resumed_as_that_shard(old):
    folder = old / "shards"
    arguments = [*NET, *SHARDS, "--steps=20", f"--workdir={folder}", "--shard=1/2"]
    before = set(grokjax.load(folder / "shard-001-of-002").runs["run_id"])
    assert call(sweep.main, *arguments, ALLOWED) == 0
    loaded = grokjax.load(folder / "shard-001-of-002")
    assert set(loaded.runs["run_id"]) == before
    assert list(loaded.metrics["step"]) == [0, 10, 20]


def test_what_its_run_ids_do_not_tell_is_no_axis_of_it(old, capsys):
    arguments = [*NET, *WHOLE, f"--workdir={old / 'whole'}", "--d_model=4,8"]
    assert call(sweep.main, *arguments, ALLOWED + ",d_model") == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert "was made by a version whose run ids say nothing of" in error
    assert "d_model" in error


def test_what_this_version_lacks_is_named_and_is_no_damage(old, capsys):
    """Version 0.1 had architectures of images, whose runs had primes."""
    path = old / "whole/sweep.json"
    path.write_text(path.read_text().replace('"mlp"', '"digits_mlp"'))
    assert call(check.main, f"--workdir={old / 'whole'}") == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert "asks for what this version does not have" in error
    assert "--models=digits_mlp: each must be one of transformer, mlp" in error
