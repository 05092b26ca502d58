import pathlib
import runpy
import sys

from tests import synthetic

TOUR = pathlib.Path(__file__).parents[2] / "experiments" / "tour.py"


def test_the_tour_runs_as_a_script(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "w"
    config = synthetic.make(folder, label_permutation=(0.0, 1.0))
    synthetic.add_checkpoints(folder, config)
    monkeypatch.setattr(sys, "argv", [str(TOUR), str(folder)])
    found = runpy.run_path(str(TOUR), run_name="__main__")
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "tour-birth.svg",
        "tour-h1_max.svg",
    }
    assert found["run_id"] == found["grown"]["run_id"].iloc[0]
    assert found["frequency"] == 3  # of the circle that the checkpoints close into
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if " H1: " in line}
    first, second = ({name: float(words[i].strip(",")) for name, words in lines.items()}
                     for i in (4, 6))  # fmt: skip
    assert first["circle"] > 10 * second["circle"]
    assert first["torus"] < 1.5 * second["torus"]
    assert second["torus"] > 2 * first["blob"]
    assert "random clouds" in shown


def test_it_needs_nothing_that_generalised_or_was_measured(tmp_path, monkeypatch):
    folder = tmp_path / "w"
    config = synthetic.make(folder, label_permutation=(1.0,), diagnostics=())
    synthetic.add_checkpoints(folder, config)
    monkeypatch.setattr(sys, "argv", [str(TOUR), str(folder)])
    runpy.run_path(str(TOUR), run_name="__main__")
    assert [path.name for path in (folder / "figures").iterdir()] == ["tour-birth.svg"]


def test_its_cells_are_marked():
    lines = TOUR.read_text().splitlines()
    marks = [line for line in lines if line.startswith("# %%")]
    assert set(marks) == {"# %%", "# %% [markdown]"}
    assert marks.count("# %%") >= marks.count("# %% [markdown]") >= 5
