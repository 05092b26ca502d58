"""Readers of what comes from elsewhere, fed with damaged and made-up input: only clear errors.

500 inputs each by default; ``pytest tests/test_fuzzing.py --fuzz=100000`` for more.
"""

import gzip
import json
import pathlib
import random
import struct

import numpy as np
import pytest

from grokjax import cli, sweep
from grokjax.settings import flags as ours
from grokjax.store import errors, record
from grokjax.tasks.datasets import DatasetError, read_idx
from tests import synthetic
from tests.programs import call

FLAGS = pathlib.Path("experiments/quick.flags").read_bytes()
WORDS = [
    b"--primes=", b"--seeds=0:9", b"--seeds=0:99999999999", b"--steps=-1", b"--flagfile=", b"=",
    b",",
    b"--nosave_diagrams", b"--undefok=x", b"--train_fractions=nan", b"1e999", b"\xff\xfe", b"\0",
    b"--flagfile=/dev/null\n", b"--helpfull=", b"--batch_size=full\n", b"--operations=s3,z2^3\n",
    b"--optimizers=", b"--plugins=x", b"--d_model=16,", b"--biases=true,false\n", b"\n", b"#", b":",
    b"--primes=3,5,7\n", b"-", b"'",
]  # fmt: skip
JSON_VALUES = [
    None, True, -1, 0, 1.5, 1e308, float("nan"), 10**40, "", "x", [], [[]], {}, {"a": {}}, [None],
    "\ud800", [1e308] * 3, "__import__('os')",
]  # fmt: skip


def damaged(content, words, source):
    """Bytes with a few pieces changed, cut, doubled or replaced by words."""
    content = bytearray(content)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(content) + 1)
        to = min(len(content), at + source.choice([1, 1, 4, 40, 4000]))
        how = source.randrange(5)
        if how == 0:
            content[at:to] = source.randbytes(source.randint(0, 4))
        elif how == 1:
            del content[at:to]
        elif how == 2:
            content[at:at] = content[at:to]
        elif how == 3:
            content[at:at] = source.choice(words)
        else:
            del content[at:]
    return bytes(content)


define = sweep.define  # of the command below


def configure(values):
    """Makes a configuration and nothing else."""
    ours.sweep_config_from(values, lambda text: None)
    return 0


@pytest.fixture
def n_inputs(request):
    return request.config.getoption("--fuzz")


def test_idx_files(tmp_path, n_inputs):
    source = random.Random(1)
    shape = (5, 2, 3)
    whole = struct.pack(">BBBB3I", 0, 0, 8, 3, *shape) + bytes(range(30))
    words = [b"\0\0\x08\x03", b"\xff\xff\xff\xff", b"\x1f\x8b", gzip.compress(whole)[:15]]
    path = tmp_path / "images"
    refused = 0
    for _ in range(n_inputs):
        original = source.choice([whole, gzip.compress(whole, mtime=0)])
        path.write_bytes(damaged(original, words, source))
        try:
            found = read_idx(path, shape, source.choice([0, 2, 5]))
        except DatasetError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert found.dtype == np.uint8
            assert found.shape[1:] == shape[1:]
    assert 0.3 * n_inputs < refused < n_inputs


def test_flagfiles(tmp_path, n_inputs, capsys):
    """A flagfile makes a configuration or ends in exit code 2 with a message, never otherwise."""
    source = random.Random(2)
    path = tmp_path / "x.flags"

    refused = 0
    for _ in range(n_inputs):
        content = damaged(FLAGS, WORDS, source)
        if b"help" in content.replace(b"--helpfull=", b""):
            continue
        path.write_bytes(content)
        code = call(configure, f"--flagfile={path}")
        message = capsys.readouterr().err
        assert code in (0, cli.EXIT_USAGE), content
        if code:
            refused += 1
            assert message.startswith("grokjax."), content
            assert "Traceback" not in message
    assert 0.2 * n_inputs < refused < n_inputs


def replaced(value, source):
    """A JSON value with one thing in it replaced, removed or added."""
    if isinstance(value, dict) and value and source.random() < 0.8:
        key = source.choice(list(value))
        how = source.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key if how < 0.9 else "new": replaced(value[key], source)}
    if isinstance(value, list) and value and source.random() < 0.7:
        at = source.randrange(len(value))
        return [*value[:at], replaced(value[at], source), *value[at + source.randrange(2) + 1 :]]
    return source.choice(JSON_VALUES)


def test_sweep_json(tmp_path, n_inputs):
    source = random.Random(3)
    folder = tmp_path / "w"
    synthetic.make(folder)
    path = folder / "sweep.json"
    whole = path.read_bytes()
    told = json.loads(whole)
    refused = 0
    for _ in range(n_inputs):
        if source.random() < 0.5:
            path.write_bytes(damaged(whole, [b"{", b"[" * 5000, b"1e999", b'"', b"\xff"], source))
        else:
            path.write_text(json.dumps(replaced(told, source)), encoding="utf-8")
        try:
            found = record.read_config(folder)
        except errors.WorkdirError as error:
            assert str(folder) in str(error)
            refused += 1
        else:
            assert len(found.runs) >= 1
    assert 0.3 * n_inputs < refused < n_inputs
