"""Runs all benchmarks, one after the other, and writes their page.

Command: python -m experiments.benchmarks [--only NAME…] [--folder FOLDER]; on 2 cores about fifty
minutes. Nothing else should run on the machine meanwhile.

Each benchmark is a process of its own and leaves one JSON line in FOLDER/<name>.json, with device,
versions and commit; the page, FOLDER/README.md, is written from all that are there. One that fails
is said at the end, in exit code 1 too, and leaves what was there.
"""

import argparse
import pathlib
import subprocess
import sys

from experiments.benchmarks import page

FOLDER = pathlib.Path(__file__).parent.parent / "results" / "benchmarks"


def run(name: str, folder: pathlib.Path) -> bool:
    """Runs one; whether it ended well."""
    print(f"== {name}", flush=True)
    fresh = folder / f"{name}.json.new"
    fresh.unlink(missing_ok=True)
    module = f"experiments.benchmarks.{name}"
    ended = subprocess.run([sys.executable, "-m", module, f"--output={fresh}"])
    if ended.returncode == 0:
        fresh.replace(folder / f"{name}.json")
    fresh.unlink(missing_ok=True)
    return ended.returncode == 0


def main() -> int:
    """Runs those asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=page.NAMES, default=page.NAMES)
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    failed = [name for name in options.only if not run(name, options.folder)]
    text = page.write(options.folder)
    print(text)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
