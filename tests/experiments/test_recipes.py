"""Recipes: every flagfile is a sweep that can be, and says where it comes from."""

import pathlib

import pytest
from absl import flags

from grokjax import diagnostics, sweep
from grokjax.measuring import views
from grokjax.settings import flags as ours
from grokjax.settings import plugins

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.flags"))


@pytest.fixture(autouse=True)
def _no_plug_in_stays():
    yield
    plugins._loaded.clear()
    diagnostics._added.clear()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_sweep_with_its_source_time_and_expectation(name):
    path = FOLDER / f"{name}.flags"
    words = path.read_text()
    for part in ("arXiv", "# Claim:", "# Command:", "# Device:", "# Expected:"):
        assert part in words
    flags.FLAGS.unparse_flags()
    for flag in list(flags.FLAGS):
        flags.FLAGS[flag].unparse()
    argv = ["sweep", f"--flagfile={path}"]
    ours.load_plugins(flags.FLAGS.read_flags_from_files(argv))
    ours.define_plugins_flag()
    sweep.define()
    flags.FLAGS(argv)
    said = []
    config = ours.sweep_config_from(flags.FLAGS, said.append)
    views.validate(config.options, config.grid)
    assert said == []
    assert len(config.grid) >= 3


def test_there_is_one_for_each_publication():
    assert RECIPES == ["chughtai", "gromov", "nanda", "power", "prieto", "zhong"]
