"""Parts from outside the package: those of the texts, and what is refused."""

import importlib
import importlib.metadata
import json
import pathlib
import re
import shutil
import signal
import sys

import numpy as np
import pandas as pd
import pytest

import grokjax
from grokjax import analyze, check, cli, diagnostics, merge, sweep
from grokjax.report import __main__ as report
from grokjax.report import drawing
from grokjax.settings import plugins, registry
from grokjax.store.errors import WorkdirError
from tests.programs import assert_same_tables, call, ended, started, tables

pytestmark = pytest.mark.usefixtures("no_pages")

ROOT = pathlib.Path(__file__).parent.parent
TEXT = "".join((ROOT / name).read_text() for name in ("grokjax/PARTS.md", "README.md"))
MODULES = {
    name: code for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, re.DOTALL)
}
COMMANDS = [line.replace("\\\n", "") for line in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)]
SMALL = """
--primes=5,7 --train_fractions=0.5 --batch_size=8 --seeds=1 --steps=20 --checkpoint_every=10
--learning_rates=0.003 --models=mlp --d_model=8 --mlp_width=8 --mlp_depth=1
--diagnostics=persistence --clouds=embedding
""".split()
STOP = ("--max_seconds=0.001", "--grace_seconds=100")  # after the first checkpoint


WRITE_REPORT = drawing.write


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """The modules of the text on a path of their own, known to nobody before and after a test."""
    folder = tmp_path / "modules"
    folder.mkdir()
    for name, code in MODULES.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    yield folder
    forget()


def forget():
    """What a new process is: no plug-in is loaded."""
    plugins._loaded.clear()
    diagnostics._added.clear()
    registry._load.cache_clear()
    for name in (*MODULES, "mine"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def flags_of(name):
    """What a module's command of the text says, but for what makes the tests small."""
    (command,) = [line for line in COMMANDS if f"--plugins={name} " in line]
    assert command.startswith("python -m grokjax.")
    own = {flag.split("=")[0] for flag in SMALL} - {"--models", "--clouds"} | {"--workdir"}
    return [flag for flag in command.split()[3:] if flag.split("=")[0] not in own]


def test_the_text_has_one_of_each_kind_in_at_most_30_lines():
    assert list(MODULES) == ["powers", "bilinear", "lion", "smoothed", "radius"]
    assert len(COMMANDS) == len(MODULES)
    for code in MODULES.values():
        lines = code.rstrip().splitlines()
        assert len(lines) <= 30
        assert max(map(len, lines)) <= 100
        compile(code, "text", "exec")


@pytest.mark.parametrize(
    "name",  # all together, in the next test, stand for the others
    [
        "bilinear",
        *(pytest.param(n, marks=pytest.mark.thorough) for n in ("powers", "lion", "smoothed")),
    ],
)
def test_a_part_through_training_stop_resume_analysis_report_and_check(
    name, tmp_path, capsys, monkeypatch
):
    where = [f"--workdir={tmp_path / 'w'}", f"--plugins={name}"]
    flags = [*SMALL, *flags_of(name), *where]
    assert call(sweep.main, *flags, *STOP) == cli.EXIT_STOPPED
    assert call(sweep.main, *flags) == cli.EXIT_OK
    assert "resumed at step" in capsys.readouterr().out
    before = tables(tmp_path / "w")
    (tmp_path / "w/results/persistence.parquet").unlink()
    assert call(analyze.main, *where) == cli.EXIT_OK
    assert_same_tables(tables(tmp_path / "w"), before)
    monkeypatch.setattr(drawing, "write", WRITE_REPORT)
    assert call(report.main, *where) == cli.EXIT_OK
    assert (tmp_path / "w/report/index.html").exists() and list((tmp_path / "w/figures").iterdir())
    assert call(check.main, *where) == cli.EXIT_OK
    assert "nothing is wrong" in capsys.readouterr().out
    loaded = grokjax.load(tmp_path / "w", plugins=[name])
    assert set(loaded.runs["status"]) == {"done"}
    assert {len(loaded.steps(run_id)) for run_id in loaded.runs["run_id"]} == {3}
    assert np.isfinite(loaded.metrics["train_loss"]).all()
    SEEN[name](loaded)


def powers(loaded):
    view = loaded.view(loaded.runs["run_id"][0], 20)
    assert view.structure is None
    assert view.labels.reshape(5, 5)[2].tolist() == [1, 2, 4, 3, 1]
    assert loaded.runs["run_id"][1] == "mlp-powers-p7-f0.5-c0.0-wd0.1-lr0.003-i1.0-s1" + (
        "-d_model=8-mlp_width=8-mlp_depth=1-batch_size=8"
    )


def bilinear(loaded):
    assert list(loaded.runs["rank"]) == [32, 32, 64, 64]
    assert loaded.runs["d_model"].isna().all()
    assert set(loaded.persistence["cloud"]) == {"embedding", "product"}
    run_id = loaded.runs["run_id"][3]
    params, view = loaded.checkpoint(run_id, 20), loaded.view(run_id, 20)
    assert params["second"]["embedding"].shape == (7, 64)
    state = params["embed"]["embedding"][2] * params["second"]["embedding"][3]
    expected = state @ params["unembed"]["kernel"] + params["unembed"]["bias"]
    np.testing.assert_allclose(view.logits()[2 * 7 + 3], expected, rtol=1e-4, atol=1e-5)


def lion(loaded):
    runs = loaded.runs
    assert list(runs["optimizer"]) == ["adamw", "lion"] * 2
    assert runs["lion_decay"].isna().tolist() == [True, False] * 2
    # Every number moves by the learning rate a step at most, beside the decay.
    first, last = (loaded.checkpoint(runs["run_id"][1], step) for step in (0, 20))
    moved = last["unembed"]["bias"] - first["unembed"]["bias"]
    assert 0 < np.abs(moved).max() <= 20 * 0.003 * 1.1


def smoothed(loaded):
    runs = loaded.runs
    assert list(runs["loss"]) == ["cross_entropy", "smoothed", "smoothed"] * 2
    assert runs["smoothing"].tolist()[1:3] == [0.05, 0.2]
    assert runs["run_id"][2].endswith("-loss=smoothed-smoothing=0.2-batch_size=8")
    batches = json.loads((loaded.workdir / "sweep.json").read_text())["batches"]
    assert [len(batch) for batch in batches] == [2, 4]  # its setting is traced
    run_id = runs["run_id"][2]
    view = loaded.view(run_id, 20)
    logits = view.logits().astype(float)
    log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    own = np.take_along_axis(log_share, view.labels[:, None], 1)[:, 0]
    expected = -(0.8 * own + 0.2 * log_share.mean(1))[view.train_mask].mean()
    row = loaded.metrics.query("run_id == @run_id and step == 20").iloc[0]
    assert row["train_loss"] == pytest.approx(expected, rel=1e-4)


SEEN = {"powers": powers, "bilinear": bilinear, "lion": lion, "smoothed": smoothed}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep without plug-ins."""
    workdir = tmp_path_factory.mktemp("finished") / "w"
    assert call(sweep.main, *SMALL, f"--workdir={workdir}") == cli.EXIT_OK
    return workdir


@pytest.mark.parametrize("way", ["plug-in", "file in the package"])
def test_a_diagnostic_touches_no_other_table(way, finished, modules, tmp_path, monkeypatch):
    where = [f"--workdir={shutil.copytree(finished, tmp_path / 'w')}"]
    before = {p.name: p.read_bytes() for p in (tmp_path / "w/results").glob("*.parquet")}
    named = []
    if way == "plug-in":
        where.append("--plugins=radius")
        named = ["radius"]
    else:
        monkeypatch.setattr(diagnostics, "__path__", [*diagnostics.__path__, str(modules / "own")])
        (modules / "own").mkdir()
        shutil.move(modules / "radius.py", modules / "own")
    assert call(analyze.main, *where, "--diagnostics=radius") == cli.EXIT_OK
    loaded = grokjax.load(tmp_path / "w", plugins=named)
    radius = loaded.radius
    assert len(radius) == 2 * 3
    embedding = loaded.checkpoint(radius["run_id"][4], int(radius["step"][4]))["embed"]["embedding"]
    norms = np.linalg.norm(embedding, axis=1)
    assert radius["mean"][4] == pytest.approx(norms.mean(), rel=1e-5)
    assert radius["spread"][4] == pytest.approx(norms.std(), rel=1e-5)
    for name, content in before.items():
        assert (tmp_path / "w/results" / name).read_bytes() == content
    for main in (report.main, check.main):
        assert call(main, *where) == cli.EXIT_OK
    monkeypatch.delitem(sys.modules, "grokjax.diagnostics.radius", raising=False)


# --------------------------------------------------------------------------- all of them at once

ALL = [
    *SMALL,
    "--plugins=powers,bilinear,lion,smoothed,radius",
    "--operations=add,powers",
    "--primes=7",
    "--models=mlp,bilinear",
    "--optimizers=lion",
    "--rank=8",
    "--losses=smoothed",
    "--diagnostics=persistence,radius",
]


@pytest.mark.thorough
def test_all_together_killed_sharded_merged_and_measured_on_a_cluster(modules, tmp_path):
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    where = {"PYTHONPATH": str(modules), "signals": "SIGKILL batch 1 step 10 "}
    assert ended(started(*ALL, f"--workdir={whole}", **where))[0] == -signal.SIGKILL
    assert call(sweep.main, *ALL, f"--workdir={whole}") == cli.EXIT_OK
    for i in range(2):
        own = [f"--workdir={shards}", f"--shard={i}/2"]
        assert call(sweep.main, *ALL, *own) == cli.EXIT_OK
    named = next(flag for flag in ALL if flag.startswith("--plugins"))
    assert call(merge.main, f"--workdir={shards}", named) == cli.EXIT_OK
    assert {"persistence", "radius"} <= tables(whole).keys()
    assert_same_tables(tables(shards), tables(whole))
    for name in ("radius", "persistence"):
        (shards / f"results/{name}.parquet").unlink()
    flags = [f"--workdir={shards}", named, "--scheduler=local"]
    assert call(analyze.main, *flags) == cli.EXIT_OK
    assert_same_tables(tables(shards), tables(whole))
    assert call(check.main, f"--workdir={shards}", named) == cli.EXIT_OK


# --------------------------------------------------------------------------- refusals


@pytest.fixture
def made(modules, tmp_path):
    """A directory that was made with plug-ins; they are not loaded any more."""
    flags = [*SMALL, "--plugins=powers", "--operations=powers", f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *flags, *STOP) == cli.EXIT_STOPPED
    forget()
    return tmp_path / "w"


MAINS = {"sweep": sweep, "analyze": analyze, "report": report, "check": check, "merge": merge}


@pytest.mark.parametrize("command", MAINS)
def test_a_directory_imports_nothing_by_itself(command, made, capsys):
    flags = [*SMALL] if command == "sweep" else []
    flags += [f"--sources={made}"] if command == "merge" else []
    flags += [f"--workdir={made.parent / 'new' if command == 'merge' else made}"]
    assert call(MAINS[command].main, *flags) == cli.EXIT_USAGE
    error = capsys.readouterr().err
    assert f"{made} was made with the plug-in powers, which has to be named: --plugins=p" in error
    assert "powers" not in sys.modules
    with pytest.raises(WorkdirError, match="which has to be named"):
        grokjax.load(made)
    assert "powers" not in sys.modules


def test_merged_shards_name_the_plug_ins_of_all_of_them(modules, tmp_path, capsys):
    workdir, named = tmp_path / "w", "--plugins=radius"
    for i, own in enumerate([[], [named]]):
        flags = [*SMALL, f"--workdir={workdir}", f"--shard={i}/2", *own]
        assert call(sweep.main, *flags) == cli.EXIT_OK
        forget()
    assert call(merge.main, f"--workdir={workdir}", named) == cli.EXIT_OK
    record = json.loads((workdir / "sweep.json").read_text())
    assert record["plugins"] == plugins.loaded() != {}
    first = workdir / "shard-000-of-002/sweep.json"
    other = json.loads(first.read_text()) | {"plugins": {"radius": "of another source"}}
    first.write_text(json.dumps(other))
    assert call(merge.main, f"--workdir={workdir}", named) == cli.EXIT_USAGE
    told = "shard-000-of-002 was made with another version of the plug-in radius"
    assert told in capsys.readouterr().err


def test_a_changed_plug_in_is_refused_and_an_unchanged_one_is_not(made, modules, capsys):
    assert call(check.main, f"--workdir={made}", "--plugins=powers") == cli.EXIT_OK
    forget()
    (modules / "powers.py").write_text(MODULES["powers"] + "# a remark\n")
    for main in (check.main, analyze.main):
        assert call(main, f"--workdir={made}", "--plugins=powers") == cli.EXIT_USAGE
        error = capsys.readouterr().err
        told = "was made with another version of the plug-in powers: its source has changed"
        assert told in error


LOSS = """
import dataclasses
from grokjax.settings.fields import Part, field
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mine(Part):
    column = "loss"
"""
TAKEN = {
    "operation": (
        "from grokjax.tasks.modular import Modular\nPARTS = {'add': type('M', (Modular,), {})}",
        "--plugins=mine: its operation 'add' is there already, in grokjax.tasks.modular",
    ),
    "setting of another kind": (
        f"{LOSS}    momentum: int = field(1, help='')\nPARTS = {{'mine': Mine}}",
        "--plugins=mine: its setting 'momentum' is there already, as something else",
    ),
    "flag of the budget": (
        f"{LOSS}    steps: int = field(1, help='')\nPARTS = {{'mine': Mine}}",
        "--plugins=mine: its setting 'steps' is there already, as something else",
    ),
    "column of runs": (
        f"{LOSS}    status: str = field('', help='')\nPARTS = {{'mine': Mine}}",
        "--plugins=mine: its setting 'status' is there already, as something else",
    ),
    "nothing": ("X = 1", "--plugins=mine: brings no part and is no diagnostic"),
    "an error": ("1 / 0", "--plugins=mine: cannot be imported: ZeroDivisionError("),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_name_that_is_taken_is_refused(case, modules, tmp_path, capsys):
    code, words = TAKEN[case]
    (modules / "mine.py").write_text(code + "\n")
    flags = [*SMALL, "--plugins=mine", f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *flags) == cli.EXIT_USAGE
    assert words in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_diagnostic_of_a_taken_name_is_refused(modules, tmp_path, capsys):
    (modules / "mine").mkdir()
    (modules / "mine/__init__.py").write_text("")
    shutil.copy(modules / "radius.py", modules / "mine/persistence.py")
    flags = [*SMALL, "--plugins=mine.persistence", f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *flags) == cli.EXIT_USAGE
    assert "the diagnostic 'persistence' is there already" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


# --------------------------------------------------------------------------- how they are named


def test_an_entry_point_is_found_by_its_name(tmp_path, monkeypatch, capsys):
    found = importlib.metadata.entry_points

    def offered(**asked):
        if asked != {"group": "grokjax.plugins"}:
            return found(**asked)
        point = importlib.metadata.EntryPoint("exponents", "powers", "grokjax.plugins")
        return importlib.metadata.EntryPoints([point])

    monkeypatch.setattr(importlib.metadata, "entry_points", offered)
    where = [f"--workdir={tmp_path / 'w'}"]
    flags = [*SMALL, "--operations=powers", *where]
    assert call(sweep.main, *flags, *STOP) == cli.EXIT_USAGE  # nobody has named it
    assert "--operations=powers: each must be one of" in capsys.readouterr().err
    assert call(sweep.main, *flags, *STOP, "--plugins=exponents") == cli.EXIT_STOPPED
    record = json.loads((tmp_path / "w/sweep.json").read_text())
    assert list(record["plugins"]) == ["exponents"]
    forget()
    assert call(check.main, *where, "--plugins=exponents") == cli.EXIT_OK


def test_a_flagfile_names_them_too(tmp_path):
    path = tmp_path / "own.flags"
    path.write_text("--plugins=powers\n--operations=powers\n")
    flags = [*SMALL, f"--flagfile={path}", f"--workdir={tmp_path / 'w'}"]
    assert call(sweep.main, *flags, *STOP) == cli.EXIT_STOPPED
    assert list(plugins.loaded()) == ["powers"]
    runs = pd.read_parquet(tmp_path / "w/results/runs.parquet")
    assert set(runs["operation"]) == {"powers"}


def test_a_plug_in_sets_no_default(modules, tmp_path):
    """Else the same command would mean another sweep, and old run ids other runs."""
    (modules / "mine.py").write_text(MODULES["lion"] + 'DEFAULT = "lion"\n')
    plugins.load(["mine"])
    assert registry.default("optimizer") == "adamw"
    assert registry.names("optimizer")[0] == "adamw"
    assert "lion" in registry.names("optimizer")
