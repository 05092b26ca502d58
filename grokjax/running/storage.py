"""The disk that a sweep needs, from the shapes of what it writes."""

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from grokjax import diagnostics
from grokjax.diagnostics import Table
from grokjax.measuring.views import choose, measures, tables_of
from grokjax.settings.config import SweepConfig
from grokjax.settings.fields import check
from grokjax.settings.grid import Run, alike
from grokjax.store.record import Batches
from grokjax.store.results import METRICS
from grokjax.training import work

# What Orbax leaves of a byte of trained weights, and its other files of a checkpoint.
_COMPRESSED, _A_CHECKPOINT, _A_META = 0.93, 15_000, 4_000
# Parquet: bytes of a float, of a value of any other kind, of a file and each of its columns.
_A_FLOAT, _A_VALUE, _A_TABLE, _A_COLUMN = 6.5, 0.5, 1_500, 300
_RUNS, _A_RUN = 23_000, 12  # the table of runs, and a row of it

Parts = Mapping[pathlib.Path, tuple[SweepConfig, Batches]]  # of a sweep, by work directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes of a finished sweep."""

    checkpoints: float
    states: float
    tables: float

    @property
    def total(self) -> float:
        """All but the page."""
        return self.checkpoints + self.states + self.tables


def disk(
    config: SweepConfig,
    batches: Batches,
    rows: Mapping[str, float] | None = None,
    seconds: Sequence[float] = (),
) -> Disk:
    """What a finished sweep holds.

    ``rows`` are the tables' rows of a run's checkpoint for each element of its task, guessed where
    they are not given, and ``seconds`` the batches' times, on which it depends how many optimiser
    states they leave: at most two.
    """
    steps, saving = config.train.checkpoint_steps, config.saving
    parameters = states = 0.0
    for i, batch in enumerate(batches):
        took = seconds[i] if seconds else math.inf
        own = [0.0, 0.0]  # bytes of parameters and of optimiser state
        for run, number in _alike(batch):
            for k, part in enumerate(work.state_of(run, config.train)):
                own[k] += _COMPRESSED * number * work.n_bytes(part)
        lists = sum(len(run.run_id) for run in batch)
        short = saving.keep == "last" or took < 60 * saving.state_minutes
        n_states = 1 if short else 2
        n_kept = len(saving.stays(steps).union(steps[-n_states:]))
        parameters += n_kept * (own[0] + lists + _A_CHECKPOINT)
        parameters += (len(steps) - n_kept) * (lists + _A_META)
        states += n_states * (own[1] + lists + _A_CHECKPOINT)
    return Disk(checkpoints=parameters, states=states, tables=_tables(config, rows or {}))


def _tables(config: SweepConfig, rows: Mapping[str, float]) -> float:
    """Bytes of all tables."""
    steps, options = config.train.checkpoint_steps, config.options
    total = _bytes_of(METRICS, len(config.runs) * len(steps)) + _RUNS + _A_RUN * len(config.runs)
    alike = _alike(config.runs)
    for diagnostic, tables in tables_of(options).items():
        n_steps = len(diagnostics.steps(diagnostic, steps, options))
        own = [pair for pair in alike if measures(diagnostic, pair[0], options)]
        for name, table in tables.items():
            n_rows = sum(n * _rows(name, table, run, config, rows) for run, n in own)
            total += _bytes_of(table, n_steps * n_rows)
    return total


def _alike(runs: Sequence[Run]) -> list[tuple[Run, int]]:
    """One run of each size and shape, and how many there are."""
    groups = alike(runs, lambda run: (run.model, run.task, run.optimizer))
    return [(own[0], len(own)) for own in groups]


def _rows(
    name: str, table: Table, run: Run, config: SweepConfig, rows: Mapping[str, float]
) -> float:
    """Rows of a run at a checkpoint."""
    n_clouds = len(choose(config.options.clouds, run)) if "cloud" in table.unit else 1
    return rows.get(name, n_clouds) * (1 if table.within == () else run.task.n_elements)


def _bytes_of(table: Table, n_rows: float) -> float:
    n_columns = len(table.columns) + 2
    floats = sum(kind.startswith("float") for kind in table.columns.values())
    row = _A_FLOAT * floats + _A_VALUE * (n_columns - floats)
    return n_rows * row + _A_TABLE + _A_COLUMN * n_columns


def there(folder: pathlib.Path) -> int:
    """Bytes of the files below a folder, which another process may be changing."""
    found = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # gone since its folder was listed
                found += os.stat(os.path.join(root, name)).st_size
    return found


def free(folder: pathlib.Path) -> float:
    """Bytes that the disk of a folder, there or not, has left; without end if it does not say."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = shutil.disk_usage(nearest)
    return disk.free if disk.total else math.inf


def needed(
    parts: Parts, rows: Mapping[str, float] | None = None, seconds: Sequence[float] = ()
) -> Disk:
    """The disk of all parts of a sweep; see ``disk``."""
    found, left = Disk(checkpoints=0, states=0, tables=0), iter(seconds)
    for config, batches in parts.values():
        own = disk(config, batches, rows, list(itertools.islice(left, len(batches))))
        found = Disk(
            checkpoints=found.checkpoints + own.checkpoints,
            states=found.states + own.states,
            tables=found.tables + own.tables,
        )
    return found


def check_disk(parts: Parts, times: float = 1) -> None:
    """Raises ``InvalidSettingError`` if the disk has not what the rest of a sweep needs.

    Beside these parts of it others come to the same disk, so many times as much with them.
    """
    folder, total = next(iter(parts)), needed(parts).total
    rest, left = times * (total - sum(map(there, parts))), free(folder)
    message = (
        f"the sweep needs {rest:,.0f} bytes ({size(rest)}) and its disk has {left:,} free "
        f"({size(left)}); keep fewer parameters (--keep=last), make fewer checkpoints, take "
        "another disk, or start all the same: --allow=disk"
    )
    check(rest <= left, "workdir", folder, message)


def size(n_bytes: float) -> str:
    """Bytes as a person says them."""
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while n_bytes >= 999.5 and units[1:]:
        n_bytes, units = n_bytes / 1000, units[1:]
    return f"{n_bytes:.3g} {units[0]}"
