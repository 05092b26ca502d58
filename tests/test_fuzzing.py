"""Readers of what comes from elsewhere, fed with damaged and made-up input: only clear errors.

500 inputs each by default; ``pytest tests/test_fuzzing.py --fuzz=100000`` for more, and
``--fuzz_seed=1`` for others.
"""

import gzip
import json
import pathlib
import random
import resource
import shutil
import struct

import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorstore

from grokjax import cli, merge, sweep
from grokjax.settings import flags as ours
from grokjax.store import errors, record, results
from grokjax.store.checkpoints import Reader, RunBatch, Writer
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


def tell(what, n_inputs, refused):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what}: {n_inputs:,} inputs, {refused:,} refused, at most {peak:,} MiB in this process")


define = sweep.define  # of the command below


def configure(values):
    """Makes a configuration and nothing else."""
    ours.sweep_config_from(values, lambda text: None)
    return 0


@pytest.fixture
def n_inputs(request):
    return request.config.getoption("--fuzz")


@pytest.fixture
def source(request):
    """Draws inputs."""
    return random.Random(f"{request.node.name}/{request.config.getoption('--fuzz_seed')}")


def test_idx_files(tmp_path, n_inputs, source):
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
    tell("idx files", n_inputs, refused)
    assert 0.3 * n_inputs < refused < n_inputs


def test_flagfiles(tmp_path, n_inputs, source, capsys):
    """A flagfile makes a configuration or ends in exit code 2 with a message, never otherwise."""
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
    tell("flagfiles", n_inputs, refused)
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


def test_sweep_json(tmp_path, n_inputs, source):
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
    tell("sweep json", n_inputs, refused)
    assert 0.3 * n_inputs < refused < n_inputs


# --------------------------------------------------------------------------- tables

PARQUET = [b"PAR1", b"\x15\x04", b"\xff\xff\xff\xff\x0f", b"\x00" * 40, b"\x16\xfe\xff\xff\xff\x0f"]


def a_table(n_rows=40):
    texts = [f"run-{i % 3}" for i in range(n_rows)]
    return pd.DataFrame({"run_id": texts, "step": range(n_rows), "value": [1.5] * n_rows})


def test_tables(tmp_path, n_inputs, source):
    """A table is read, all columns of one length, or named as damaged."""
    path = tmp_path / "t.parquet"
    results.write_parquet(path, a_table())
    whole = path.read_bytes()
    refused = 0
    for _ in range(n_inputs):
        path.write_bytes(damaged(whole, PARQUET, source))
        try:
            found = results.read_parquet(path)
        except errors.DamagedTableError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert len(found) <= 1000
    tell("tables", n_inputs, refused)
    assert 0.3 * n_inputs < refused <= n_inputs


@pytest.mark.parametrize("told", [b"{}", b"[]", b'{"columns": 3}', b'{"columns": [{}]}', b"{"])
def test_a_table_with_a_wrong_word_for_pandas_is_damaged(told, tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.Table.from_pandas(a_table()).replace_schema_metadata({"pandas": told})
    pq.write_table(table, path)
    with pytest.raises(errors.DamagedTableError, match="cannot be read"):
        results.read_parquet(path)


def test_a_table_that_says_it_is_giant_takes_no_memory(tmp_path, monkeypatch):
    """A few kB: of texts of a million letters, each there once; of numbers, all the same."""
    texts, numbers = tmp_path / "texts.parquet", tmp_path / "numbers.parquet"
    text = pa.array(["x" * 10**6]).dictionary_encode().dictionary
    places = pa.array(np.zeros(50_000, np.int32))
    repeated = pa.DictionaryArray.from_arrays(places, text)
    pq.write_table(pa.table({"run_id": repeated}), texts, store_schema=False)
    pq.write_table(pa.table({"value": np.zeros(5 * 10**6)}), numbers)
    assert texts.stat().st_size + numbers.stat().st_size < 200_000
    monkeypatch.setattr(results, "most_memory", lambda: 30 * 2**20)
    for path in (texts, numbers):
        with pytest.raises(errors.DamagedTableError, match=r"texts take up to|says that it holds"):
            results.read_parquet(path)


# --------------------------------------------------------------------------- checkpoints

BATCH = RunBatch(run_ids=("a", "b"), config_hash="h")
PARAMS = {"embed": {"embedding": np.ones((2, 5, 3), np.float32)}}
TEMPLATE = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), PARAMS)
CHECKPOINT = [b"{", b"[" * 5000, b"1e999", b'"', b"\xff", b"../../x", b"zarr", b'"shape":[9999999]']


def a_checkpoint(root):
    with Writer(root, BATCH) as writer:
        writer.save(0, PARAMS, None)
    return root / BATCH.name / "params" / "0"


def damage_one(folder, words, source, below="*"):
    """Damages one file of a folder; returns it, and what it was."""
    path = source.choice(sorted(p for p in folder.rglob(below) if p.is_file()))
    whole = path.read_bytes()
    path.unlink()  # it may be linked to another
    path.write_bytes(damaged(whole, words, source))
    return path, whole


def test_checkpoints(tmp_path, n_inputs, source):
    """Parameters come back as they were, or their checkpoint is named as damaged."""
    step = a_checkpoint(tmp_path)
    refused, n_inputs = 0, max(100, n_inputs // 5) if n_inputs < 10_000 else n_inputs
    for _ in range(n_inputs):
        path, whole = damage_one(step, CHECKPOINT, source)
        try:
            found = Reader(tmp_path).params(BATCH, 0, TEMPLATE)
        except errors.CheckpointError as error:
            assert "step 0 cannot be read" in str(error)
            refused += 1
        except errors.OtherConfigurationError:
            assert path.name == "metadata"
        else:
            np.testing.assert_array_equal(found["embed"]["embedding"], 1)
        path.write_bytes(whole)
    tell("checkpoints", n_inputs, refused)
    assert 0.1 * n_inputs < refused < n_inputs


@pytest.mark.parametrize("what", ["shape", "chunks"])
def test_a_checkpoint_that_says_it_is_giant_takes_no_memory(what, tmp_path):
    """A kilobyte that declares 120 TB; without a look at that before, the process is killed."""
    arrays = a_checkpoint(tmp_path) / "params"
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{arrays}/"}).result()
    (key,) = (key for key in store.list().result() if key.endswith(b".zarray"))
    told = json.loads(store.read(key).result().value)
    store.write(key, json.dumps(told | {what: [2, 5 * 10**6, 3 * 10**6]}).encode()).result()
    with pytest.raises(errors.CheckpointError, match="say that they take 120,000,000,000,000 by"):
        Reader(tmp_path).params(BATCH, 0, TEMPLATE)
    with pytest.raises(errors.CheckpointError, match="say that they take 120,000,000,000,000 by"):
        Reader(tmp_path).verify(BATCH, "params", 0)


# --------------------------------------------------------------------------- sources of a merge


def test_sources_of_a_merge(tmp_path, n_inputs, source, capsys):
    """Joined, or refused with a message that names the source; never half."""
    folder, target = tmp_path / "from", tmp_path / "to"
    config = synthetic.make(folder, seed=[46], steps=100, diagnostics=())
    synthetic.add_checkpoints(folder, config)
    refused, n_inputs = 0, n_inputs // 60 if n_inputs < 10_000 else n_inputs
    for _ in range(n_inputs):
        path, whole = damage_one(folder, CHECKPOINT + PARQUET, source)
        code = call(merge.main, f"--workdir={target}", f"--sources={folder}")
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert code in (cli.EXIT_OK, cli.EXIT_FAILED, cli.EXIT_USAGE), path
        if code:
            assert message.startswith(("grokjax.", "missing", "not finished")), (path, message)
            refused += 1
        path.write_bytes(whole)
        shutil.rmtree(target, ignore_errors=True)
    tell("sources of a merge", n_inputs, refused)
    assert refused < n_inputs
