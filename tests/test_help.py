"""Help: what a command does, three examples, its flags; and nothing heavy is loaded for it."""

import os
import pathlib
import re
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


def test_flags_of_a_sweep_come_in_groups():
    ours = [sys.executable, "-m", "grokjax.sweep", "--help"]
    shown = subprocess.run(ours, cwd=ROOT, capture_output=True, text=True).stdout
    groups = re.split(r"\n\n(\w+)(?: \(.*\))?:\n", shown)
    assert groups[1::2] == ["grid", "network", "training", "measuring", "running"]
    flags = {
        name: re.findall(r"^  --(\w+): ", text, re.M)
        for name, text in zip(groups[1::2], groups[2::2], strict=True)
    }
    assert {"models", "losses", "primes", "seeds", "batch_size"} <= set(flags["grid"])
    assert {"d_model", "mlp_depth"} <= set(flags["network"])
    assert {"weight_decays", "loss_precision", "steps"} <= set(flags["training"])
    assert {"diagnostics", "lid_neighbors"} <= set(flags["measuring"])
    assert {"workdir", "shard", "plugins"} <= set(flags["running"])
