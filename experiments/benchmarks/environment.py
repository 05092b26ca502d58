"""What goes with a benchmark's numbers: machine, versions, commit; and where they are kept."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from grokjax.store import record


def environment(packages: Sequence[str]) -> dict[str, Any]:
    """Machine, load, versions of the packages, commit and time.

    Called when all is measured: it may be the first to touch an accelerator.
    """
    cpu = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "device": f"{cpu}, {os.cpu_count()} cores",
        "accelerators": _accelerators() if "jax" in packages else [],
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in packages},
        "commit": record.commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _accelerators() -> list[str]:
    import jax

    return [device.device_kind for device in jax.devices() if device.platform != "cpu"]


def parser(doc: str | None, repeats: int | None = None) -> argparse.ArgumentParser:
    """The flags that all benchmarks have; ``repeats``: default of the flag of those that repeat."""
    parsed = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if repeats is not None:
        parsed.add_argument("--repeats", type=int, default=repeats)
    parsed.add_argument("--output", type=Path, help="file to append one JSON line to")
    return parsed


def append(output: Path | None, packages: Sequence[str], **found: Any) -> None:
    """Appends a record and its `environment` to a file as one JSON line, if there is a file."""
    if output is not None:
        with output.open("a") as file:
            file.write(json.dumps(found | environment(packages)) + "\n")
