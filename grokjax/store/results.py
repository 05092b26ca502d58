"""The tables of a work directory: Parquet, whole at every moment, one row a key.

A measurement of one checkpoint of a batch is committed as a *part*: a small Parquet file, renamed
into its place, and removed once it is in ``W/results/<table>.parquet``. What is done can
be read off the rows; a part that is in the table too is recognised by its units and counts once.
"""

import json
import pathlib
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from grokjax import diagnostics
from grokjax.diagnostics import Table
from grokjax.settings.grid import digest
from grokjax.store.errors import UNREADABLE, DamagedTableError, StorageError, reading_problem
from grokjax.store.files import is_left, looking_again, most_memory, move, replacing

_METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "novel_accuracy",
            "weight_norm")  # fmt: skip
METRICS = Table(columns=dict.fromkeys(_METRICS, "float64"), empty=("novel_accuracy",))
_SETTINGS = b"grokjax.settings"


def known_tables() -> dict[str, Table]:
    """Name → table, of all diagnostics that exist."""
    names = diagnostics.names()
    return {key: own for name in names for key, own in diagnostics.get(name).TABLES.items()}


def dtypes(table: Table) -> dict[str, str]:
    """Column → pandas dtype, of all columns of a table."""
    return {"run_id": "str", "step": "int64", **table.columns}


def empty(table: Table) -> pd.DataFrame:
    """A table without rows."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in dtypes(table).items()})


def keys(table: Table) -> list[str]:
    """The columns that name a unit, run and step first."""
    return list(dict.fromkeys(["run_id", "step", *table.unit]))


def places(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """Run and step of each row."""
    return list(frame[["run_id", "step"]].itertuples(index=False, name=None))


def write_parquet(path: pathlib.Path, frame: pd.DataFrame, settings: Any = None) -> None:
    """Writes a table whole or not at all; ``settings`` (JSON-able) go into its metadata."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), _SETTINGS: json.dumps(settings).encode()}
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, write_page_checksum=True)


@looking_again
def read_parquet(path: pathlib.Path) -> pd.DataFrame:
    """Reads a table.

    Raises ``DamagedTableError`` if it is not whole, or not as it was written, ``StorageError`` if
    the disk or the process is at fault.
    """
    try:
        schema = _schema(path)
        texts = [field.name for field in schema if str(field.type) in ("string", "large_string")]
        table = pq.read_table(path, page_checksum_verification=True, read_dictionary=texts)
        _check_texts(table, texts)
        return table.cast(schema).to_pandas()
    except (pa.ArrowException, *UNREADABLE) as error:
        if problem := reading_problem(error):
            raise StorageError(path, problem, "read") from error
        raise DamagedTableError(
            f"{path} cannot be read ({error}); run the sweep's command again: it keeps the file "
            "aside and measures anew, from the checkpoints, what it held"
        ) from error


def _schema(path: pathlib.Path) -> pa.Schema:
    """A table's columns; raises ``ValueError`` if it says that it is larger than memory."""
    if not stat.S_ISREG(path.stat().st_mode):  # one look: it may go at any moment
        raise ValueError(f"{path} is no file")
    found = pq.read_metadata(path)
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    n_rows = max(found.num_rows, sum(group.num_rows for group in groups))
    n_bytes = max(8 * n_rows * found.num_columns, sum(group.total_byte_size for group in groups))
    if n_bytes > most_memory():
        raise ValueError(f"it says that it holds {n_rows:,} rows, {n_bytes:,} bytes")
    return found.schema.to_arrow_schema()


def _check_texts(table: pa.Table, names: Sequence[str]) -> None:
    """Raises ``ValueError`` if texts, each there once so far, take more than that."""
    chunks = (chunk for name in names for chunk in table[name].chunks)
    n_bytes = sum(
        len(chunk) * max(map(len, chunk.dictionary.to_pylist()), default=0) for chunk in chunks
    )
    if n_bytes > most_memory():
        raise ValueError(f"its texts take up to {n_bytes:,} bytes")


def _read(path: pathlib.Path, table: Table) -> pd.DataFrame:
    """A file of a table, with columns that came after it was written at their default."""
    frame, expected = read_parquet(path), list(dtypes(table))
    for column, default in table.later.items():
        if column not in frame:
            values = default(frame) if callable(default) else default
            frame.insert(min(expected.index(column), frame.shape[1]), column, values)
    if (found := list(frame.columns)) != expected:
        raise DamagedTableError(f"{path} has the columns {found}, expected {expected}")
    return frame


class Results:
    """The tables under ``W/results`` of a grid, for one writer at a time per table."""

    def __init__(self, workdir: pathlib.Path, run_ids: Sequence[str]):
        self._folder = workdir / "results"
        self._order = {run_id: i for i, run_id in enumerate(run_ids)}

    def path(self, table: str) -> pathlib.Path:
        """Where the table lies."""
        return self._folder / f"{table}.parquet"

    def _parts(self, table: str) -> list[pathlib.Path]:
        return sorted((self._folder / ".parts" / table).glob("*.parquet"))

    def clean(self) -> None:
        """Removes what a killed writer left half-written."""
        for litter in self._folder.rglob(".*.tmp"):
            if is_left(litter):
                litter.unlink(missing_ok=True)

    def recover(self, name: str, table: Table) -> list[str]:
        """Moves damaged files of a table to ``results/damaged``; returns what is worth telling."""
        messages = []
        for path in [self.path(name), *self._parts(name)]:
            try:
                _read(path, table)
            except DamagedTableError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue
                kept = move(path, self._folder / "damaged" / f"{name}-{path.stem}.parquet")
                messages.append(f"{error}; it is kept as {kept}")
        return messages

    def append(self, name: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Commits rows of whole units; they are there, or not, after a crash."""
        if not rows:
            return
        columns = dtypes(table)
        for row in rows:
            if row.keys() != columns.keys():
                own = f"a row of table '{name}' has columns {sorted(row)}"
                raise ValueError(f"{own}, expected {sorted(columns)}")
        frame = pd.DataFrame(rows, columns=list(columns)).astype(columns)
        units = frame[list(table.unit)].drop_duplicates()
        part = f"{int(frame['step'].iloc[0]):09d}-{digest(units.values.tolist())[:16]}.parquet"
        write_parquet(self._folder / ".parts" / name / part, frame)

    def read(self, name: str, table: Table) -> pd.DataFrame:
        """Everything committed, table and parts, each unit once, in the grid's order."""
        frames, seen = [], pd.MultiIndex.from_arrays([[] for _ in table.unit])
        # A part that has gone since it was listed is in the table: that is read last.
        for path in [*self._parts(name), self.path(name)]:
            try:
                frame = _read(path, table)
            except DamagedTableError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                continue
            units = pd.MultiIndex.from_frame(frame[list(table.unit)])
            frames.append(frame[~units.isin(seen)])
            seen = seen.append(units.unique())
        if not frames:
            return empty(table)
        return self.arranged(pd.concat(frames, ignore_index=True).astype(dtypes(table)), table)

    def arranged(self, frame: pd.DataFrame, table: Table) -> pd.DataFrame:
        """The rows in the order of the grid, then by step and unit."""

        def place(column: pd.Series) -> pd.Series:
            return column.map(self._order) if column.name == "run_id" else column

        return frame.sort_values(keys(table), key=place, kind="stable", ignore_index=True)

    def compact(self, name: str, table: Table, settings: Any = None) -> None:
        """Writes the table anew if parts have come, then removes those parts."""
        parts = self._parts(name)
        if not parts and self.path(name).exists():
            return
        write_parquet(self.path(name), self.read(name, table), settings)
        for part in parts:
            part.unlink(missing_ok=True)

    @looking_again
    def settings(self, name: str) -> Any:
        """What the table was measured with; None if it is not there."""
        path = self.path(name)
        try:
            return json.loads((pq.read_schema(path).metadata or {}).get(_SETTINGS, b"null"))
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedTableError(f"{path} cannot be read ({error})") from error

    def set_aside(self, name: str, table: Table) -> pathlib.Path | None:
        """Moves a table out of the way, keeping it; returns where it went, None if none was."""
        if self._parts(name):
            self.compact(name, table, self.settings(name))
        path = self.path(name)
        if not path.exists():
            return None
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return move(path, self._folder / "replaced" / f"{name}-{stamp}.parquet")
