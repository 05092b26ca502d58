"""Checkpoints: what goes in comes out, and what does not fit is refused by name."""

import json
import pickle
import shutil

import jax
import numpy as np
import pytest

from grokjax.settings.fields import InvalidSettingError
from grokjax.store import files, folders
from grokjax.store.checkpoints import Reader, RunBatch, Writer
from grokjax.store.errors import CheckpointError, OtherConfigurationError, WorkdirError
from tests.helpers import make_runs

BATCH = RunBatch(run_ids=("a", "b"), config_hash="h1")


def state(step):
    rng = np.random.default_rng(step)
    params = {"embed": {"embedding": rng.normal(size=(2, 5, 3)).astype(np.float32)},
              "blocks": {"0": {"w": rng.normal(size=(2, 4)).astype(np.float32)}}}  # fmt: skip
    return params, (np.full(2, step, np.int32), params)


def template(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


@pytest.fixture
def root(tmp_path):
    with Writer(tmp_path, BATCH) as writer:
        for step in (0, 10, 20, 30):
            writer.save(step, *state(step))
        writer.save(30, *state(30))  # a step that is there already
    return tmp_path


def test_parameters_stay_at_every_step_and_optimiser_states_at_the_latest_two(root):
    reader = Reader(root)
    assert reader.batches() == {BATCH.name: BATCH}
    assert reader.steps(BATCH.name) == [0, 10, 20, 30]
    assert reader.steps(BATCH.name, "opt_state") == [20, 30]
    assert reader.resumable_steps(BATCH.name) == [20, 30]


def test_arrays_come_back_bit_for_bit(root):
    reader = Reader(root)
    for step in (0, 20, 30):
        params, opt_state = state(step)
        found = reader.params(BATCH, step, template(params))
        assert jax.tree.all(jax.tree.map(np.array_equal, found, params))
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
        if step >= 20:
            found = reader.opt_state(BATCH, step, template(opt_state))
            assert jax.tree.structure(found) == jax.tree.structure(opt_state)
            assert jax.tree.all(jax.tree.map(np.array_equal, found, opt_state))


@pytest.mark.parametrize("time", [b"1" * 26, b'"noon"', b"null"], ids=["far", "text", "none"])
def test_when_a_step_was_written_is_asked_of_nobody(root, time):
    """Orbax reads it of every step as it looks for steps, and raises what nobody expects."""
    for told in root.glob("*/*/20/_CHECKPOINT_METADATA"):
        named, value = told.read_bytes().split(b'"commit_timestamp_nsecs": ')
        told.write_bytes(named + b'"commit_timestamp_nsecs": ' + time + value[value.index(b",") :])
    reader = Reader(root)
    assert reader.resumable_steps(BATCH.name) == [20, 30]
    assert jax.tree.all(
        jax.tree.map(np.array_equal, reader.params(BATCH, 20, template(state(20)[0])), state(20)[0])
    )
    with Writer(root, BATCH) as writer:
        writer.save(20, *state(20))
        writer.save(40, *state(40))
    assert reader.resumable_steps(BATCH.name) == [30, 40]
    assert reader.steps(BATCH.name) == [0, 10, 20, 30, 40]


def test_another_configuration_is_refused_and_is_no_damage(root):
    other = RunBatch(run_ids=BATCH.run_ids, config_hash="h2")
    with pytest.raises(OtherConfigurationError, match=r"step 0 is whole, but of another .*\(h1, w"):
        Reader(root).params(other, 0, template(state(0)[0]))
    with pytest.raises(OtherConfigurationError, match="opt_state of batch"):
        Reader(root).opt_state(other, 30, template(state(30)[1]))
    # What is damage is set aside by whoever catches it; this must not be taken for it.
    assert issubclass(OtherConfigurationError, WorkdirError)
    assert not issubclass(OtherConfigurationError, CheckpointError)


def test_a_version_that_hashed_otherwise_is_not_compared(root):
    params, _ = state(10)
    old = RunBatch(run_ids=BATCH.run_ids, config_hash="")
    found = Reader(root).params(old, 10, template(params))
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))


def test_the_identity_of_a_batch_is_that_of_its_runs_ids():
    runs = make_runs(seed=[1, 2])
    batch = RunBatch.of(runs)
    assert batch.run_ids == tuple(run.run_id for run in runs)
    for other in (make_runs(seed=[1, 3]), make_runs(seed=[1, 2], beta2=[0.99]), runs[::-1]):
        assert RunBatch.of(other).config_hash != batch.config_hash
        assert RunBatch.of(other).name != batch.name
    assert RunBatch.of(make_runs(seed=[1, 2])) == batch


def test_what_is_set_aside_is_kept_however_often(root):
    kept = [folders.set_aside(root, BATCH.name, "params", 10)]
    with Writer(root, BATCH) as writer:
        writer.save(10, state(10)[0], None)
    kept.append(folders.set_aside(root, BATCH.name, "params", 10))
    assert [path.name for path in kept] == ["params-10", "params-10-2"]
    assert all(list(path.iterdir()) for path in kept)
    assert Reader(root).steps(BATCH.name) == [0, 20, 30]


def test_what_comes_again_must_be_the_same(root):
    with Writer(root, BATCH) as writer:
        writer.save(20, *state(20))
        with pytest.raises(CheckpointError, match="trained again, it comes out otherwise"):
            writer.save(20, *state(21))


def test_a_changed_array_is_found_by_its_checksum(root):
    """The numbers of another step under this one's meta, all files whole."""
    folder = root / BATCH.name / "params"
    shutil.rmtree(folder / "10" / "params")
    shutil.copytree(folder / "20" / "params", folder / "10" / "params")
    with pytest.raises(CheckpointError, match="does not have the checksum it was written with"):
        Reader(root).params(BATCH, 10, template(state(0)[0]))
    with pytest.raises(CheckpointError, match="do not have the checksums"):
        Reader(root).verify(BATCH, "params", 10)
    Reader(root).verify(BATCH, "params", 20)


def test_another_shape_is_refused(root):
    params = state(0)[0]
    params["blocks"]["0"]["w"] = np.zeros((2, 7), np.float32)
    with pytest.raises(CheckpointError, match=r"blocks.*float32\(2, 4\).*\(2, 7\)"):
        Reader(root).params(BATCH, 0, template(params))


def test_a_missing_step_and_a_damaged_one_are_named(root):
    with pytest.raises(CheckpointError, match="step 5 cannot be read"):
        Reader(root).params(BATCH, 5, template(state(0)[0]))
    folder = root / BATCH.name / "params" / "10"
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="step 10 cannot be read"):
        Reader(root).params(BATCH, 10, template(state(0)[0]))


@pytest.mark.parametrize(
    "change",
    [lambda meta: 3, lambda meta: [], lambda meta: None, lambda meta: meta | {"run_ids": [{}]},
     lambda meta: meta | {"config_hash": 3}, lambda meta: meta | {"checksums": ["a"]},
     lambda meta: {key: meta[key] for key in ("run_ids", "checksums")}],
)  # fmt: skip
def test_what_is_said_of_a_step_has_to_be_what_it_should(change, root):
    (told,) = root.glob("*/params/20/meta/metadata")
    told.write_text(json.dumps(change(json.loads(told.read_text()))))
    with pytest.raises(CheckpointError, match=r"cannot be read: (its meta lacks|.*JSON)"):
        Reader(root).params(BATCH, 20, template(state(20)[0]))


def test_a_half_written_step_is_invisible(root):
    (root / BATCH.name / "params" / "40.orbax-checkpoint-tmp").mkdir()
    assert Reader(root).steps(BATCH.name) == [0, 10, 20, 30]


def test_a_reader_sees_what_is_written_after_it_was_opened(root):
    reader = Reader(root)
    assert reader.steps(BATCH.name)[-1] == 30
    with Writer(root, BATCH) as writer:
        writer.save(40, *state(40))
    assert reader.steps(BATCH.name)[-1] == 40
    assert reader.resumable_steps(BATCH.name)[-1] == 40
    assert Reader(root / "nothing").batches() == {}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CheckpointError("b", "params", 5, OSError("gone")), "params of batch b at step 5 cannot"),
        (InvalidSettingError("primes", 1, "must be more"), "--primes=1: must be more"),
    ],
)
def test_errors_come_whole_from_another_process(error, words):
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert words in str(error) == str(there)
    assert vars(there) == vars(error)


def test_a_step_is_flushed_before_it_has_its_name_and_the_name_with_it(tmp_path, monkeypatch):
    flushed, named, rename = [], [], files.rename

    def checked(source, target):
        below = {path for path in source.rglob("*")} | {source}
        assert len(below) > 10
        assert below <= set(flushed)
        rename(source, target)
        assert target.parent in flushed[-2:]
        named.append(target.name)

    monkeypatch.setattr(files, "sync", flushed.append)
    monkeypatch.setattr(files, "rename", checked)
    with Writer(tmp_path, BATCH) as writer:
        writer.save(0, *state(0))
    assert named == ["0", "0"]
    for folder in (tmp_path / BATCH.name / "params").parents:
        assert folder in flushed or folder in tmp_path.parents
