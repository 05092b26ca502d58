"""The tests that compute on the accelerator where there is one, run on it.

Question: do training, evaluation and the lenses give the numbers on this device that they give on a
          CPU, to the tolerances that the tests have there?
Command:  python -m experiments.device_tests [--select EXPRESSION] [--output FILE]
Device:   the one that JAX computes on; needs pytest and hypothesis (extra test).
Expected: none fails. Exit code 1 if any does, 2 if pytest is missing.

These are the tests marked ``device``. Their programs are compiled as for use: what the usual tests
leave out to be quick, optimisation, is on. Warnings, which fail the usual tests, do not fail these.
"""

import importlib.util
import os
import pathlib
import signal
import sys
from typing import Any

from experiments.benchmarks import environment

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pytest")
_LONGEST_MESSAGE = 2000  # characters


class Record:
    """A plug-in of pytest's that keeps what each test came to."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keeps the worst of a test's three parts."""
        own = self.tests.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
        own["seconds"] = round(own["seconds"] + report.duration, 3)
        if report.outcome != "passed":
            own |= {"outcome": report.outcome, "message": report.longreprtext[-_LONGEST_MESSAGE:]}

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be collected is a failure too."""
        if report.failed:
            message = report.longreprtext[-_LONGEST_MESSAGE:]
            self.tests[report.nodeid] = {"outcome": "failed", "seconds": 0.0, "message": message}


def main() -> int:
    """Runs them; returns the exit code."""
    parser = environment.parser(__doc__)
    parser.add_argument("--select", default="", help="an expression of pytest's -k")
    options = parser.parse_args()
    for module in ("pytest", "hypothesis"):
        if importlib.util.find_spec(module) is None:
            print(f"{module} is not installed: pip install -e '.[test]'", file=sys.stderr)
            return 2
    import pytest

    os.environ.setdefault("XLA_FLAGS", "")  # see tests/conftest.py
    # Some tests start processes that use the device too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # Ended early, it says what has run until then.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    record = Record()
    chosen = ["-m", "device", "-W", "default", "-p", "no:cacheprovider"]
    chosen += ["--continue-on-collection-errors", f"--rootdir={ROOT}"]
    chosen += ["-k", options.select] if options.select else []
    # Only files that have any, since others may need what is not installed.
    files = [
        str(p) for p in sorted(ROOT.glob("tests/*/test_*.py")) if "mark.device" in p.read_text()
    ]
    code = int(pytest.main([*chosen, *files], plugins=[record]))
    outcomes = [own["outcome"] for own in record.tests.values()]
    counts = {name: outcomes.count(name) for name in ("passed", "failed", "skipped")}
    found = {"counts": counts, "exit_code": code, "tests": record.tests}
    environment.append(options.output, PACKAGES, benchmark="device_tests", **found)
    return min(code, 1)


if __name__ == "__main__":
    sys.exit(main())
