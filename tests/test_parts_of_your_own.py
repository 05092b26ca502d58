"""The README's parts of one's own: trained, killed, resumed, measured, reported, checked."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ("distance", "bilinear", "lion", "smoothed", "radius")
PLUGINS = f"--plugins={','.join(NAMES)}"
GRID = """
    --operations=distance,add --models=bilinear,mlp --optimizers=lion,adamw --losses=smoothed
    --smoothing=0,0.2 --diagnostics=persistence,radius --primes=11 --train_fractions=0.6
    --seeds=1 --steps=40 --checkpoint_every=10 --batch_size=32 --d_model=8 --mlp_width=8
""".split()


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A folder with the files that the README shows."""
    folder = tmp_path_factory.mktemp("own")
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert [name for name, _ in blocks] == list(NAMES)
    for name, code in blocks:
        assert len(code.strip().splitlines()) <= 30, name
        (folder / f"{name}.py").write_text(code)
    return folder


def start(modules, command, *arguments):
    environment = os.environ | {"PYTHONPATH": f"{modules}:{ROOT}"}
    return subprocess.Popen(
        [sys.executable, "-m", f"grokjax.{command}", *map(str, arguments)],
        env=environment, cwd=modules, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def run(modules, command, *arguments):
    process = start(modules, command, *arguments)
    printed = process.communicate(timeout=300)[0]
    return process.returncode, printed


@pytest.fixture(scope="module")
def swept(modules):
    """A sweep of all of them, killed after its first checkpoints and resumed."""
    workdir = modules / "w"
    process = start(modules, "sweep", PLUGINS, *GRID, f"--workdir={workdir}")
    while not list(workdir.glob("checkpoints/*/params/10")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    code, printed = run(modules, "sweep", PLUGINS, *GRID, f"--workdir={workdir}")
    assert code == 0, printed
    return workdir


def test_each_part_is_a_value_its_settings_are_axes_and_columns(swept):
    runs = pd.read_parquet(swept / "results" / "runs.parquet")
    assert set(runs["operation"]) == {"distance", "add"}
    assert set(runs["model"]) == {"bilinear", "mlp"}
    assert set(runs["optimizer"]) == {"lion", "adamw"}
    assert set(runs["smoothing"]) == {0.0, 0.2}
    assert (runs["status"] == "done").all()
    assert len(runs) == 16
    radius = pd.read_parquet(swept / "results" / "radius.parquet")
    assert len(radius) == 16 * 5
    assert radius["mean"].gt(0).all()


def test_the_other_commands_bring_them_too(modules, swept):
    for command in ("analyze", "report", "check"):
        code, printed = run(modules, command, PLUGINS, f"--workdir={swept}")
        assert code == 0, printed
    assert "nothing is wrong" in printed
    code = (
        f"import grokjax; s = grokjax.load({str(swept)!r}, plugins={NAMES!r}); "
        "print(len(s.radius), s.cloud(s.runs.run_id[0], 40, 'embedding').shape)"
    )
    environment = os.environ | {"PYTHONPATH": f"{modules}:{ROOT}"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert told.stdout.split() == ["80", "(11,", "8)"]


def test_one_that_is_not_named_or_has_changed_is_told_and_nothing_is_imported(modules, swept):
    code, printed = run(modules, "check", f"--workdir={swept}")
    assert code == 2
    assert "plug-in distance" in printed and "--plugins=distance" in printed
    file = modules / "lion.py"
    whole = file.read_text()
    file.write_text(whole + "# changed\n")
    try:
        code, printed = run(modules, "check", PLUGINS, f"--workdir={swept}")
    finally:
        file.write_text(whole)
    assert code == 2
    assert "plug-in lion" in printed and "changed" in printed


def test_what_is_no_plug_in_is_refused(modules):
    (modules / "taken.py").write_text((modules / "distance.py").read_text().replace(
        '{"distance"', '{"add"'))  # fmt: skip
    (modules / "nothing.py").write_text("X = 1\n")
    for name, words in (("absent", "cannot be imported"), ("nothing", "brings no part"),
                        ("taken", "'add' is there already")):  # fmt: skip
        code, printed = run(modules, "sweep", f"--plugins={name}", "--workdir=none")
        assert code == 2, printed
        assert f"--plugins={name}" in printed and words in printed
    assert not (modules / "none").exists()
