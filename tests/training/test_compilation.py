"""The compilation cache: where it is, when it is used, what happens when it cannot be."""

import collections
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from grokjax.training import compilation

# A start: compiles a small program, prints cache events and what came out.
START = """
import collections, json, sys
import jax
from grokjax.training import compilation
from tests.helpers import make_runs
from tests.training.batches import Batch

events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.split("/")[-1]]))
problem = compilation.use_cache(sys.argv[1])
batch = Batch(make_runs(model=["mlp"], prime=[11], batch_size=[16]))
losses = batch.train(3)
bits = [loss.hex() for loss in losses[0].tolist()]
print(json.dumps({"events": events, "losses": bits, "problem": problem}))
"""


def begin(setting, **environment):
    """Begins a process that starts as above."""
    command = [sys.executable, "-W", "error", "-c", START, str(setting)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        | environment,
    )


def end(process):
    """What it printed."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors == ""
    return collections.defaultdict(int, json.loads(output)["events"]), json.loads(output)


def test_a_second_start_compiles_nothing_and_gives_the_same_numbers(tmp_path):
    # The first two at once, as the shards of a sweep are.
    at_once = [begin("", XDG_CACHE_HOME=str(tmp_path)) for _ in range(2)]
    (first, one), (_, other) = map(end, at_once)
    assert first["cache_misses"] + first["cache_hits"] == first["compile_requests_use_cache"] > 0
    (folder,) = (tmp_path / "grokjax" / "compilation").iterdir()
    kept = sorted(folder.glob("*-cache"))
    torn = next(path for path in kept if "train_run" in path.name)
    torn.write_bytes(torn.read_bytes()[:1000])
    assert len(kept) == first["compile_requests_use_cache"]
    second, again = end(begin("", XDG_CACHE_HOME=str(tmp_path)))
    assert second["cache_hits"] == len(kept) - 1  # all but the torn one, without a word
    assert sorted(folder.glob("*-cache")) == kept
    assert one["losses"] == other["losses"] == again["losses"]


@pytest.fixture
def settings(monkeypatch):
    """JAX's settings as they are without any of ours, put back afterwards."""
    names = [
        "jax_enable_compilation_cache",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_the_users(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert compilation.use_cache() == ""
    folder = pathlib.Path(settings.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / ".cache" / "grokjax" / "compilation"
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700  # programs that others can change would be run
    assert settings.jax_persistent_cache_min_compile_time_secs == 0


def test_a_place_can_be_named_and_the_cache_turned_off(settings, tmp_path):
    assert compilation.use_cache(str(tmp_path / "here")) == ""
    assert settings.jax_compilation_cache_dir.startswith(str(tmp_path / "here"))
    assert compilation.use_cache("off") == ""
    assert not settings.jax_enable_compilation_cache
    assert compilation.use_cache() == ""  # off it stays, until a folder is named
    assert not settings.jax_enable_compilation_cache


def test_what_jax_was_told_comes_first(settings, tmp_path):
    settings.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    assert compilation.use_cache() == ""
    assert settings.jax_compilation_cache_dir == str(tmp_path / "jax")


def test_a_folder_that_cannot_be_written_is_a_note(settings, tmp_path):
    (tmp_path / "file").write_text("")
    note = compilation.use_cache(str(tmp_path / "file" / "cache"))
    assert note.startswith("no compilation cache, so every start compiles anew (")
    assert settings.jax_compilation_cache_dir is None


def test_old_entries_go(settings, tmp_path):
    compilation.use_cache(str(tmp_path))
    folder = pathlib.Path(settings.jax_compilation_cache_dir)
    old, new = folder / "old-cache", folder / "new-cache"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    compilation.use_cache(str(tmp_path))
    assert not old.exists()
    assert new.exists()
