"""Every artefact, from complete work directories to files; what is made again and what is not."""

import runpy
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import grokjax
from experiments import (
    artefact,
    claims,
    comparison,
    contrasts,
    correlations,
    discoveries,
    paper,
    registry,
    staleness,
    sweeps,
)
from experiments.comparison import NO_CLAIM, SAME
from grokjax import statistics
from grokjax.report import figures
from tests import synthetic
from tests.experiments import synthetic_sweeps

SAVE = figures.save


def _save_few_pdfs(figure, path, suffix):
    """One artefact's PDF stands for all: they take the longest."""
    if suffix == "pdf" and "figure1-" not in path.name:
        path.write_bytes(b"")
    else:
        SAVE(figure, path, suffix)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root with all five sweeps and everything made from them."""
    root = tmp_path_factory.mktemp("root")
    synthetic_sweeps.make_all(root)
    with pytest.MonkeyPatch.context() as patch:
        few = dict.fromkeys(correlations.N_SURROGATES, 19)
        patch.setattr(correlations, "N_SURROGATES", few)
        patch.setattr(figures, "save", _save_few_pdfs)
        # Nothing may be trained: everything is there.
        patch.setattr(subprocess, "run", None)
        paper.main([f"--workdir={root}", "--scale=small"])
    return root


def test_all_sixteen_and_the_page_are_there_and_say_small(made):
    for name in registry.ARTEFACTS:
        assert (made / f"{name}-small.csv").stat().st_size > 0
    for i in range(1, 15):
        assert "SMALL SCALE" in (made / f"figure{i}-small.svg").read_text()
        assert (made / f"figure{i}-small.pdf").exists()
    assert (made / "figure1-small.pdf").read_bytes().startswith(b"%PDF")
    page = (made / "comparison-small.html").read_text()
    assert "SMALL SCALE" in page
    assert page.count("data:image/svg+xml") == 14
    assert "25 %" in page  # where the pooled shift test is too hopeful
    assert "reproduced" not in page
    for name in sweeps.TRAININGS:  # before and after, and steps by threshold
        assert page.count(f"<h3>{name}</h3>") == 2
    assert "8×8 digits" in (made / "figure6-small.svg").read_text()


def test_a_second_call_does_nothing_and_says_so(made, capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    paper.main([f"--workdir={made}", "--scale=small"])
    assert "nothing was done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}


def test_what_is_lost_is_made_again(made, capsys):
    (made / "figure3-small.svg").unlink()
    registry.main("experiments.figure3", [f"--workdir={made}", "--scale=small"])
    assert (made / "figure3-small.svg").exists()
    registry.main("experiments.figure3", [f"--workdir={made}", "--scale=small"])
    assert "figure3-small: nothing to do" in capsys.readouterr().out


# Statistics and diagnostics by name, and a file of the study's numbers.
@pytest.mark.parametrize(
    "source",
    ["statistics/verdicts.py", "settings/labels.py", "diagnostics/persistence.py", "clouds.py"],
)
def test_a_change_of_code_that_it_rests_on_makes_an_artefact_stale(
    made, monkeypatch, tmp_path, source
):
    tables = artefact.load("transformer_grid", made, "small").pool.files()
    copy = shutil.copytree(grokjax.__path__[0], tmp_path / "grokjax")
    monkeypatch.setattr(grokjax, "__path__", [str(copy)])
    stamp = made / ".figure3-small.json"
    assert artefact.fresh(stamp, artefact.inputs(tables, "experiments.registry"))
    with open(copy / source, "a") as file:
        file.write("# changed\n")
    assert not artefact.fresh(stamp, artefact.inputs(tables, "experiments.registry"))


def test_code_that_it_does_not_rest_on_does_not(made, monkeypatch, tmp_path):
    tables = artefact.load("transformer_grid", made, "small").pool.files()
    copy = shutil.copytree(grokjax.__path__[0], tmp_path / "grokjax")
    monkeypatch.setattr(grokjax, "__path__", [str(copy)])
    with open(copy / "report" / "serving.py", "a") as file:
        file.write("# changed\n")
    stamp = made / ".figure3-small.json"
    assert artefact.fresh(stamp, artefact.inputs(tables, "experiments.registry"))


def test_code_behind_a_module_is_read_off_its_imports():
    def names(module):
        return {"/".join(path.parts[-3:]) for path in staleness.behind(module)}

    few = names("experiments.html_page")
    assert len(few) == 2
    every = names("experiments.registry")
    for path in ("grokjax/statistics/verdicts.py", "grokjax/diagnostics/persistence.py",
                 "grokjax/settings/labels.py", "models/architectures/mlp.py"):  # fmt: skip
        assert path in every
    assert not any("comparison" in path for path in every)
    with pytest.raises(ValueError, match=r"no module experiments\.nothing"):
        staleness.behind("experiments.nothing")


def test_the_comparison_has_every_row_and_directions_only(made):
    frame = pd.read_csv(made / "comparison-small.csv")
    assert len(frame) == 161
    assert not set(frame["verdict"]) & {"agree", "differ", "cannot tell", "not run"}
    by_what = frame.set_index("what")["verdict"]
    # Made so that the embedding's H1 max steps up with accuracy, H0 max and dimension down.
    assert by_what["h1_max (transformer, p = 197, α = all, embedding, generalised)"] == SAME
    assert by_what["lid_mean (transformer, p = 197, α = all, layer2_both, memorisation)"] == SAME
    # The study's MLP has −0.49 ± 0.45 over five seeds: its own cannot tell that from 0.
    assert by_what["ρ of H0 max, embedding, 0 % permuted"].tolist() == [SAME, NO_CLAIM]
    assert by_what["ρ of H0 max, hidden3, 0 % permuted"] == SAME
    assert by_what["ρ of H0 max, layer1, 20 % permuted"] == NO_CLAIM


def test_cells_are_what_the_statistics_say(made):
    frame = pd.read_csv(made / "table1-small.csv")
    assert len(frame) == 60
    assert set(frame["n_seeds"]) == {3}
    cell = frame.iloc[0]
    seeds = [float(rho) for rho in cell["per_seed"].split()]
    assert cell["ours_mean"] == pytest.approx(np.mean(seeds), abs=0.005)
    for column in correlations.TESTS.values():
        assert frame[column].dropna().between(0, 1).all()


def test_all_tests_are_one_family(made):
    tables = {name: pd.read_csv(made / f"{name}-small.csv") for name in ("table1", "table2")}
    contexts = comparison.contexts_of(made, "small")
    frame = discoveries.family(contexts, tables)
    assert set(frame["test"]) == {"shift", "exchange", "event", "change", "first"}
    assert {"table1", "table2", "fig3", "fig12", "fig14"} <= set(frame["source"])
    every = statistics.benjamini_yekutieli(frame["p_value"].to_numpy())
    np.testing.assert_array_equal(frame["p_by"], every)
    assert (frame["p_value"] <= frame["p_bh"] + 1e-12).all()
    assert (frame["p_bh"] <= frame["p_by"] + 1e-12).all()
    fates = discoveries.fates(frame)
    assert fates["tests"].sum() == len(frame)
    own = fates.query("source == 'table1' and test == 'shift'").iloc[0]
    assert own["bold"] == tables["table1"]["printed_bold"].sum()
    assert f"{len(frame)} tests" in discoveries.floors(frame)
    assert "<h2>False discoveries: one family</h2>" in (made / "comparison-small.html").read_text()


def test_a_lone_finding_can_survive_either_correction():
    size = 3 * (60 + 80) + 12 + 12 + 16  # three a cell, changes, lines of Figures 12 and 14
    harmonic = (1 / np.arange(1, size + 1)).sum()
    assert 2 / (1 + correlations.N_SURROGATES["shift"]) <= 0.05 / size / harmonic


@pytest.fixture
def commands(monkeypatch):
    """What would be run, each of which is stopped."""
    found = []

    other = subprocess.run

    def run(command, **options):
        if "grokjax.sweep" not in command:
            return other(command, **options)
        found.append(command)
        return subprocess.CompletedProcess(command, 75)

    monkeypatch.setattr(subprocess, "run", run)
    return found


def _run(training, root, *extra):
    with pytest.raises(SystemExit) as caught:
        sweeps.ensure(sweeps.TRAININGS[training], root, "small", extra)
    assert caught.value.code == 75


def test_incomplete_sweeps_are_run(tmp_path, commands):
    _run("mnist", tmp_path, "--mnist_dir=m")
    (command,) = commands
    assert command[:3] == [sys.executable, "-m", "grokjax.sweep"]
    assert command[3].endswith("experiments/mnist.flags")
    assert command[-2:] == ["--mnist_dir=m", f"--workdir={tmp_path / 'mnist-small'}"]
    assert "--steps=8000" in command


def test_shared_runs_are_trained_once_in_the_directory_of_the_grid(tmp_path, commands):
    _run("transformer_permutation", tmp_path)
    (first,) = commands
    assert first[-1] == f"--workdir={tmp_path / 'transformer_grid-small'}"
    assert "--primes=31" in first
    # What is there of the grid: that part. Then the others' turn has come.
    part = {**synthetic_sweeps.AXES["transformer_grid"], "prime": (31,), "train_fraction": (0.5,)}
    synthetic.make(tmp_path / "transformer_grid-small", steps=800, every=100, **part)
    _run("transformer_permutation", tmp_path)
    assert commands[1][-1] == f"--workdir={tmp_path / 'transformer_permutation-small'}"
    assert "--label_permutations=0.01,0.02,0.05,0.1,0.2" in commands[1]
    _run("transformer_grid", tmp_path)
    assert "--primes=31" not in commands[2]
    assert "--allow=primes,train_fractions" in commands[2]


@pytest.mark.parametrize("scale", sweeps.SCALES)
def test_a_sweep_and_what_it_shares_have_no_run_in_common(scale):
    for training in sweeps.TRAININGS.values():
        if training.shared is not None:
            other = sweeps.TRAININGS[training.shared.name]
            own = training.ids(scale, training.rest)
            shared = other.ids(scale, training.shared.part[scale])
            assert not own & other.ids(scale)
            assert shared < other.ids(scale)
            assert training.ids(scale) == own | shared


def test_a_missing_row_is_noticed(tmp_path):
    synthetic_sweeps.make(tmp_path, "mnist")
    training = sweeps.TRAININGS["mnist"]
    folder, wanted = training.workdir(tmp_path, "small"), training.ids("small")
    assert sweeps.missing(folder, wanted) == ""
    path = folder / "results" / "persistence.parquet"
    table = pd.read_parquet(path)
    table.iloc[1:].to_parquet(path)
    assert sweeps.missing(folder, wanted) == "1 rows of persistence"
    assert sweeps.missing(folder, wanted | {"another"}) == "1 runs not begun"


def test_all_sixteen_are_in_the_order_of_the_study():
    numbered = [f"figure{i}" for i in range(1, 15)]
    assert list(registry.ARTEFACTS) == [*numbered, "table1", "table2"]
    assert {one.training for one in registry.ARTEFACTS.values()} == set(sweeps.TRAININGS)
    flagfiles = {path.stem for path in sweeps.FOLDER.glob("*.flags")} - {"quick"}
    flagfiles -= {"ablation", "cause", "fifty_seeds", "head_to_head", "phase"}  # of our questions
    assert flagfiles == set(sweeps.TRAININGS)


@pytest.mark.parametrize("name", registry.ARTEFACTS)
def test_every_name_is_a_command_that_says_what_it_claims(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(f"experiments.{name}", run_name="__main__")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert [text.count(f"\n{word}:") for word in ("Claim", "Command", "Device", "Expected")] == [
        1
    ] * 4
    one = registry.ARTEFACTS[name]
    assert f"\n{one.label}: " in text
    assert f"python -m experiments.{name} --workdir=" in text
    assert f"the sweep {one.training} " in text


def test_modules_of_commands_hold_nothing_of_their_own():
    found = [
        path for kind in ("figure", "table") for path in sweeps.FOLDER.glob(f"{kind}[0-9]*.py")
    ]
    assert {path.stem for path in found} == set(registry.ARTEFACTS)
    assert len({path.read_text() for path in found}) == 1


def test_numbers_to_expect_are_those_of_the_study():
    text = registry.describe(registry.ARTEFACTS["figure4"])
    assert "0.29 to 0.35: h1_max (mlp, p = 197, α = all, embedding, generalised)" in text
    assert "20: h1_total (mlp, p = 197, α = all, embedding, memorisation)" in text
    assert "(mlp, p = 149" not in text
    every = "".join(map(registry.describe, registry.ARTEFACTS.values()))
    for claim in claims.reference().to_dict("records"):
        assert every.count(claims.in_words(claim)) == 1


def test_before_and_after_say_what_so_many_seeds_could_have_seen(made):
    one = artefact.load("transformer_grid", made, "small")
    frame = contrasts.contrasts(one)
    assert len(frame) == 9 * (3 * 2 + 1)  # settings; clouds and quantities
    row = frame.query("cloud == 'embedding' and quantity == 'H1 max'").iloc[0]
    runs = one.runs(prime=29, train_fraction=0.4)
    before, after = claims.windows(one, runs, "persistence", "h1_max", "embedding")
    logs = np.log(after / before)
    assert row["n"] == 3
    assert row["ratio"] == pytest.approx(np.exp(logs.mean()))
    assert row["ratio"] > 1
    assert row["low"] <= row["ratio"] <= row["high"]
    # Of two degrees of freedom: Student's t holds 95 % within 4.303.
    half = 4.303 * logs.std(ddof=1) / 3**0.5
    assert np.log(row["high"]) == pytest.approx(logs.mean() + half, rel=1e-3)
    assert row["smallest"] > 1
    assert (frame.query("cloud == 'layer2_both'")["ratio"] < 1).all()


def test_steps_by_threshold(made):
    one = artefact.load("transformer_grid", made, "small")
    frame = contrasts.generalisation_steps(one)
    runs = one.runs(prime=29, train_fraction=0.4)
    assert frame["n"].tolist() == [3] * 9
    assert frame["step_0.9"].iloc[0] == runs["generalisation_step"].median()
    steps = frame[[f"step_{level:g}" for level in contrasts.THRESHOLDS]].to_numpy()
    assert (np.diff(steps, axis=1) >= 0).all()
    assert (np.diff(steps, axis=1) > 0).any()
