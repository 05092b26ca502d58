"""JAX's persistent compilation cache: what was compiled once starts at once ever after.

Each entry is one compiled program under a hash of the program, its compiler options and versions.
Several processes may use a folder at once, and any of it may be deleted at any time: an entry that
is missing or cannot be read is compiled again.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax

OFF = "off"


def use_cache(setting: str = "") -> str:
    """Keeps every program compiled from now on, and takes those that are there.

    To be called before anything is compiled. The setting is a folder, ``off``, or nothing for
    ``grokjax/compilation`` in the user's cache folder (XDG base directories); with nothing, the
    environment variables JAX has for this (JAX_COMPILATION_CACHE_DIR,
    JAX_ENABLE_COMPILATION_CACHE) come first.

    Returns:
        Why there is no cache although there should be one, else nothing.
    """
    if setting == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return ""
    told = jax.config.values
    said = told["jax_compilation_cache_dir"] or not told["jax_enable_compilation_cache"]
    if said and not setting:
        return ""
    try:
        chosen = pathlib.Path(setting)
        if not setting:
            base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
            # The specification wants relative paths ignored.
            base = base if base.is_absolute() else pathlib.Path.home() / ".cache"
            chosen = base / "grokjax" / "compilation"
        folder = chosen / _machine()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass  # raises where nothing can be written
        _forget_old(folder)
    except (OSError, RuntimeError) as error:
        return f"no compilation cache, so every start compiles anew ({error})"
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # A full disk, or an entry half written by another process, costs a compilation and no more.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
    return ""


def recalled(key: object, make: Callable[[], Any]) -> Any:
    """What was made under this key in the cache's folder, else what ``make`` makes, JSON-able.

    The key is all that decides it but device and versions. Without a cache it is made each time.
    """
    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder or not jax.config.values["jax_enable_compilation_cache"]:
        return make()
    device = jax.local_devices()[0]
    where = device.device_kind, len(jax.local_devices()), jax.__version__, version("grokjax")
    name = hashlib.sha256(repr((key, where)).encode()).hexdigest()
    path = pathlib.Path(folder) / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    found = make()
    with contextlib.suppress(OSError):
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(found), encoding="utf-8")
        os.replace(temporary, path)
    return found


def _machine() -> str:
    """A short name for what programs for the CPU are compiled for and JAX's hash leaves out.

    Machines of several kinds may share a home: instructions that another lacks would kill the
    process, and work is divided over the cores of the machine that compiled it.
    """
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = ("flags", "Features")  # x86, ARM
    features = next((line for line in lines if line.startswith(names)), platform.processor())
    cores = len(os.sched_getaffinity(0))
    return hashlib.sha256(f"{platform.machine()} {cores} {features}".encode()).hexdigest()[:12]


def _forget_old(folder: pathlib.Path) -> None:
    """Removes entries older than three months: mostly those of versions no longer in use."""
    oldest = time.time() - 90 * 86_400
    for path in [*folder.glob("*-cache"), *folder.glob("*.json")]:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if path.stat().st_mtime < oldest:
                path.unlink()
