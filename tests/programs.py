"""Commands called in this process, sweeps in one of their own, and the tables that they leave."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from absl import flags

from grokjax import cli


def call(main, *arguments):
    """Runs a command's ``main`` in this process; returns its exit code."""
    flags.FLAGS.unparse_flags()
    for name in list(flags.FLAGS):
        flags.FLAGS[name].unparse()
    with pytest.raises(SystemExit) as caught:
        cli.run(main, sys.modules[main.__module__].define, ["grokjax", *map(str, arguments)])
    return caught.value.code or 0


def started(*arguments, signals="", **more):
    """A sweep in a process of its own, what it says in a pipe; see ``sweep_without_pages``.

    ``signals`` are what it sends itself, and after which line.
    """
    environment = {"PYTHONUNBUFFERED": "1", "GROKJAX_TESTS_SIGNAL": signals} | more
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sweep_without_pages", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )


def ended(process):
    """The exit code of a process, and what it said."""
    output, _ = process.communicate()
    return process.returncode, output


def tables(workdir):
    """Every table of a work directory, by name."""
    return {
        path.stem: pd.read_parquet(path) for path in sorted((workdir / "results").glob("*.parquet"))
    }


def assert_same_tables(ours, theirs):
    """Asserts that tables are equal to the bit."""
    assert ours.keys() == theirs.keys()
    for name, frame in theirs.items():
        pd.testing.assert_frame_equal(ours[name], frame, check_exact=True, obj=name)


def assert_alike(ours, theirs):
    """Asserts the same runs, rows and statuses, and numbers to float tolerance."""
    assert ours.keys() == theirs.keys()
    pd.testing.assert_frame_equal(ours["runs"], theirs["runs"], check_exact=True)
    for name, frame in theirs.items():
        keys = [column for column in ("run_id", "step", "cloud") if column in frame]
        pd.testing.assert_frame_equal(ours[name][keys], frame[keys], check_exact=True)
        pd.testing.assert_frame_equal(ours[name], frame, rtol=1e-3, atol=1e-4)
