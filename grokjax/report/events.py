"""The curves of runs as TensorBoard event files, ``W/tensorboard/<run_id>``; needs tensorboardX."""

import importlib.util
import pathlib
from typing import IO

import numpy as np
import pandas as pd

from grokjax.measuring.loading import Sweep
from grokjax.report.page import curves
from grokjax.store import files, record

_NAME = "events.out.tfevents.grokjax"


class EventFiles:
    """Writes the event files of a work directory, once or over and over.

    The first time every file is written anew, whole or not at all; later on what has come since
    is added, for TensorBoard follows a file that grows but not one that is replaced. Scalars are
    all quantities of the page, named like ``persistence/embedding/h1_max``; values that are not
    finite are left out. Every event has the time at which the sweep was first started, since when
    a checkpoint was reached is not recorded.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder / "tensorboard"
        self._written: dict[str, dict[str, int]] = {}  # run id → quantity → steps written

    def update(self, sweep: Sweep) -> None:
        """Writes what is not written yet."""
        run_ids = [run.run_id for run in sweep.config.runs]
        steps = sweep.config.train.checkpoint_steps
        found = list(curves.quantities(sweep, run_ids, steps))
        starts = record.read_record(sweep.workdir)["starts"]
        begun = pd.Timestamp(starts[0]["time"]).timestamp() if starts else 0.0
        for i, run_id in enumerate(run_ids):
            path = self._folder / run_id / _NAME
            last = dict(self._written.get(run_id, {}))
            by_step: dict[int, dict[str, float]] = {}
            for quantity in found:
                for step, value in zip(steps, quantity.values[i].tolist(), strict=True):
                    if np.isfinite(value) and step > last.get(quantity.key, -1):
                        by_step.setdefault(step, {})[quantity.key] = value
                        last[quantity.key] = step
            if run_id not in self._written:
                with files.replacing(path) as temporary, open(temporary, "wb") as file:
                    _records(file, by_step, begun, header=True)
            elif by_step:
                with open(path, "ab") as file:
                    _records(file, by_step, begun, header=False)
            self._written[run_id] = last


def _records(
    file: IO[bytes], by_step: dict[int, dict[str, float]], begun: float, header: bool
) -> None:
    """Adds events to a file: one a step, with all its scalars."""
    # By name, because an extra need not be there for a type check.
    event_pb2, summary_pb2, record_writer = (
        importlib.import_module(f"tensorboardX.{name}")
        for name in ("proto.event_pb2", "proto.summary_pb2", "record_writer")
    )
    # Without its __init__, which would truncate a file that is there.
    records = record_writer.RecordWriter.__new__(record_writer.RecordWriter)
    records._writer = file
    if header:
        first = event_pb2.Event(wall_time=begun, file_version="brain.Event:2")
        records.write(first.SerializeToString())
    for step, values in sorted(by_step.items()):
        summary = summary_pb2.Summary()
        for key, value in values.items():
            summary.value.add(tag=key, simple_value=value)
        event = event_pb2.Event(wall_time=begun, step=step, summary=summary)
        records.write(event.SerializeToString())
