"""Help: what a command does, three examples, its flags; and nothing heavy is loaded for it."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
HEAVY = ("jax", "flax", "optax", "orbax", "pandas", "matplotlib", "plotly", "redzed_tda")


@pytest.mark.parametrize("command", ["sweep", "analyze", "check", "merge", "report"])
def test_help_has_examples_and_flags_and_loads_little(command):
    ours = [sys.executable, "-X", "importtime", "-m", f"grokjax.{command}", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(ours, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0
    first, _, *lines = run.stdout.splitlines()
    assert first.startswith(f"``python -m grokjax.{command}``: ")
    assert sum(f"python -m grokjax.{command} --" in line for line in lines) == 3
    assert "  --workdir: " in run.stdout
    assert "absl" not in run.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "grokjax" in loaded
    assert not loaded & set(HEAVY)
