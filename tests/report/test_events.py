import struct

import numpy as np
import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

import grokjax
from grokjax.report.events import EventFiles
from grokjax.store.results import METRICS, Results
from tests import synthetic


def masked(data):
    """The checksum of the record format: CRC-32C, rotated right by 15 bits plus a constant."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read(path):
    """The events of a file, with lengths and checksums checked."""
    data, events = path.read_bytes(), []
    while data:
        header, check = data[:8], data[8:12]
        (length,) = struct.unpack("<Q", header)
        body, tail = data[12 : 12 + length], data[12 + length : 16 + length]
        assert struct.unpack("<I", check)[0] == masked(header)
        assert struct.unpack("<I", tail)[0] == masked(body)
        events.append(Event.FromString(body))
        data = data[16 + length :]
    return events


def scalars(path):
    """Tag → step → value."""
    found = {}
    for event in read(path):
        for value in event.summary.value:
            assert event.step not in found.setdefault(value.tag, {}), "written twice"
            found[value.tag][event.step] = value.simple_value
    return found


def test_event_files_hold_every_finite_value_once(tmp_path):
    config = synthetic.make(tmp_path / "w", diverged=[1])
    sweep = grokjax.load(tmp_path / "w")
    EventFiles(tmp_path / "w").update(sweep)
    for run in config.runs:
        (path,) = (tmp_path / "w" / "tensorboard" / run.run_id).iterdir()
        assert "tfevents" in path.name
        first, *rest = read(path)
        assert first.file_version == "brain.Event:2"
        assert {event.wall_time for event in rest} == {first.wall_time} != {0.0}
        found = scalars(path)
        for table, prefix in ((sweep.metrics, "metrics"),
                              (sweep.persistence, "persistence/embedding")):  # fmt: skip
            own = table[table["run_id"] == run.run_id].set_index("step")
            for column in ("train_loss", "h1_max", "h1_count"):
                if column in own:
                    finite = own[column][np.isfinite(own[column])]
                    assert found[f"{prefix}/{column}"] == pytest.approx(dict(finite), rel=1e-6)


def test_what_comes_later_is_added_and_a_new_start_writes_anew(tmp_path):
    config = synthetic.make(tmp_path / "w", reached=200)
    files = EventFiles(tmp_path / "w")
    files.update(grokjax.load(tmp_path / "w"))
    run_id = config.runs[0].run_id
    (path,) = (tmp_path / "w" / "tensorboard" / run_id).iterdir()
    early = path.read_bytes()
    files.update(grokjax.load(tmp_path / "w"))
    assert path.read_bytes() == early
    row = {"run_id": run_id, "step": 300, **dict.fromkeys(METRICS.columns, 0.5)}
    results = Results(tmp_path / "w", [run.run_id for run in config.runs])
    results.append("metrics", METRICS, [row])
    files.update(grokjax.load(tmp_path / "w"))
    assert path.read_bytes().startswith(early)
    found = scalars(path)
    assert list(found["metrics/test_accuracy"]) == [0, 100, 200, 300]
    assert list(found["persistence/embedding/h1_max"]) == [0, 100, 200]
    EventFiles(tmp_path / "w").update(grokjax.load(tmp_path / "w"))
    assert scalars(path) == found
