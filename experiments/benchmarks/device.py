"""The device that JAX computes on: kind, memory, driver, and what it reaches in plain work.

Question: is the accelerator of this machine in use, and is it the one that was asked for?
Command: python -m experiments.benchmarks.device [--output FILE]; a minute or less.

Ends with exit code 1 where the machine has an accelerator that JAX does not see. Rates are those of
`experiments.benchmarks.floor`: large float32 products, and an addition to a large array.
"""

import csv
import os
import pathlib
import shutil
import subprocess
from typing import Any

from experiments.benchmarks import environment

PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu", "torch", "numpy")
# Of nvidia-smi.
_FIELDS = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")


def nvidia() -> list[dict[str, str]]:
    """What nvidia-smi says of every GPU; empty without one."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return []
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        return []
    rows = csv.reader(asked.stdout.splitlines(), skipinitialspace=True)
    return [dict(zip(_FIELDS, row, strict=True)) for row in rows]


def unseen(platform: str, gpus: list[dict[str, str]]) -> str:
    """What this machine has and JAX does not see; empty if there is nothing of that kind."""
    if platform != "cpu" or os.environ.get("JAX_PLATFORMS") == "cpu":
        return ""
    if gpus:
        return f"{gpus[0]['name']}, driver {gpus[0]['driver_version']}"
    tpus = sorted(pathlib.Path("/dev").glob("accel*"))
    return f"a TPU at {tpus[0]}" if tpus else ""


def measure() -> dict[str, Any]:
    """The device, and its rates."""
    import jax

    from experiments.benchmarks import floor

    devices, gpus = jax.local_devices(), nvidia()
    first = devices[0]
    if missed := unseen(first.platform, gpus):
        raise SystemExit(
            f"this machine has {missed}, but JAX computes on the CPU: install the extra cuda, "
            "cuda12 (drivers before 580) or tpu, or say JAX_PLATFORMS=cpu"
        )
    memory = first.memory_stats() or {}
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "devices": len(devices),
        "bytes_limit": memory.get("bytes_limit"),
        "runtime": first.client.platform_version,
        "nvidia": gpus,
        "cores": len(os.sched_getaffinity(0)),
        "host_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "matrix_flops_per_second": floor.matrix_rate(),
        "copied_bytes_per_second": floor.copy_rate(),
    }


def show(found: dict[str, Any]) -> None:
    """Prints it."""
    memory = found["bytes_limit"]
    print(f"{found['devices']} × {found['kind']} ({found['platform']})", end="")
    print(f", {memory / 2**30:.1f} GiB for JAX" if memory else "")
    for gpu in found["nvidia"]:
        print(f"  nvidia-smi: {', '.join(f'{k} {v}' for k, v in gpu.items())}")
    print(f"  runtime: {' '.join(found['runtime'].split())}")
    print(f"  host: {found['cores']} cores, {found['host_bytes'] / 2**30:.0f} GiB")
    print(
        f"  {found['matrix_flops_per_second'] / 1e12:,.2f} TFLOP/s in large float32 products, "
        f"{found['copied_bytes_per_second'] / 1e9:,.0f} GB/s copied"
    )


def main() -> None:
    """Look, print, and append a JSON line where asked."""
    options = environment.parser(__doc__).parse_args()
    found = measure()
    show(found)
    environment.append(options.output, PACKAGES, benchmark="device", **found)


if __name__ == "__main__":
    main()
