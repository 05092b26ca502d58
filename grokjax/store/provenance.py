"""With what, where and when a process runs."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "orbax-checkpoint", "giotto-ph",
             "redzed-tda", "pandas", "pyarrow")  # fmt: skip


def provenance() -> dict[str, Any]:
    """With what, where and when this process runs."""
    import jax  # here, because reading a record needs none

    devices = jax.local_devices()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
        "grokjax": importlib.metadata.version("grokjax"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in devices],
        "process": f"{jax.process_index()} of {jax.process_count()}",
    }


def commit() -> str | None:
    """The git commit of this checkout, ``+changes`` behind it if files differ; None outside."""
    here = pathlib.Path(__file__).parent
    run = {"cwd": here, "capture_output": True, "text": True, "timeout": 20}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], **run)  # type: ignore[call-overload]
        changes = subprocess.run(  # type: ignore[call-overload]
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
