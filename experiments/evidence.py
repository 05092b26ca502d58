"""Runs pooled from several folders: what is there of a sweep, wherever it was trained.

A folder is a work directory, also one that is still at work, or tables alone
(``runs.parquet``, ``metrics.parquet`` …). A run that several folders have is read from the one in
which it came furthest, the first of equals.
"""

import argparse
import functools
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

import grokjax
from grokjax.measuring.loading import Sweep
from grokjax.report import summaries
from grokjax.store import results
from grokjax.store.errors import WorkdirError

# What the study's clouds are measured with, as the tables' metadata say it.
_NORMALISATION = {"persistence": "unit", "surrogates": "unit"}


class Folder:
    """Tables of one folder.

    Raises:
        WorkdirError: if there are none.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.sweep: Sweep | None = None
        if (path / "sweep.json").exists():
            self.sweep = grokjax.load(path)
        elif not (path / "runs.parquet").exists():
            raise WorkdirError(f"{path} holds neither a sweep nor runs.parquet")

    def files(self) -> list[pathlib.Path]:
        """Its tables, for a hash of what was read."""
        return sorted((self.path / "results" if self.sweep else self.path).glob("*.parquet"))

    def names(self) -> list[str]:
        """Names of its tables."""
        if self.sweep is None:
            return [path.stem for path in self.files()]
        return ["runs", "metrics", *self.sweep.tables()]

    def table(self, name: str) -> pd.DataFrame:
        """A table of it.

        Raises:
            ValueError: if its clouds were normalised otherwise than the study's.
        """
        frame: pd.DataFrame
        if self.sweep is not None and name == "runs":  # written only now and then
            frame = summaries.table_of_runs(self.sweep)
        elif self.sweep is not None:
            frame = getattr(self.sweep, name)
        else:
            frame = results.read_parquet(self.path / f"{name}.parquet")
        wanted = _NORMALISATION.get(name)
        found = self._normalisation(name) if wanted else None
        if found not in (None, wanted):
            raise ValueError(f"{self.path}: clouds of {name} are normalised by {found}")
        return frame

    def _normalisation(self, name: str) -> str | None:
        path = next((path for path in self.files() if path.stem == name), None)
        metadata = pq.read_schema(path).metadata or {} if path else {}
        settings = json.loads(metadata.get(b"grokjax.settings", b"null")) or {}
        return settings.get("cloud_normalisation")


class Pool:
    """Tables of chosen runs, from the folders that have them.

    Args:
        folders: in which to look.
        chosen: whether a run of this id is wanted; default: all are.
    """

    def __init__(
        self, folders: Sequence[Folder], chosen: Callable[[str], bool] = lambda run_id: True
    ):
        self.folders = list(folders)
        self._tables: dict[str, pd.DataFrame] = {}
        self._home: dict[str, Folder] = {}
        furthest: dict[str, int] = {}
        for folder in self.folders:
            last = folder.table("metrics").groupby("run_id", sort=False)["step"].max()
            for run_id, step in last.items():
                if chosen(str(run_id)) and step > furthest.get(str(run_id), -1):
                    self._home[str(run_id)], furthest[str(run_id)] = folder, int(step)
        self.horizons = furthest

    def __bool__(self) -> bool:
        return bool(self._home)

    def tables(self) -> list[str]:
        """Names of the tables that any folder of these runs has."""
        return list(dict.fromkeys(name for folder in self._homes for name in folder.names()))

    def table(self, name: str) -> pd.DataFrame:
        """A table, read once; not to be written to.

        Raises:
            AttributeError: if no folder has it.
        """
        if name not in self._tables:
            frames = []
            for folder in self._homes:
                if name in folder.names():
                    frame = folder.table(name)
                    here = [self._home.get(run_id) is folder for run_id in frame["run_id"]]
                    frames.append(frame[here])
            if not frames:
                raise AttributeError(f"{', '.join(map(str, self.paths))}: no table '{name}'")
            self._tables[name] = pd.concat(frames, ignore_index=True)
        return self._tables[name]

    def finished(self) -> pd.DataFrame:
        """The table of runs without those that diverged or failed."""
        runs = self.table("runs")
        return runs[~runs["status"].isin(("diverged", "failed"))].reset_index(drop=True)

    def files(self) -> list[pathlib.Path]:
        """The tables that these runs are read from."""
        return [path for folder in self._homes for path in folder.files()]

    def sweep_of(self, run_id: str) -> Sweep:
        """The sweep that trained a run, for its checkpoints.

        Raises:
            WorkdirError: where there are tables alone.
        """
        folder = self._home[run_id]
        if folder.sweep is None:
            raise WorkdirError(f"{folder.path} has tables alone, and no checkpoints")
        return folder.sweep

    @functools.cached_property
    def steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints of all runs."""
        return tuple(sorted(set(self.table("metrics")["step"])))

    @property
    def every(self) -> int:
        """Steps between checkpoints."""
        return int(np.diff(self.steps).min()) if len(self.steps) > 1 else 0

    @property
    def paths(self) -> list[pathlib.Path]:
        """Of the folders that these runs are read from."""
        return [folder.path for folder in self._homes]

    @property
    def _homes(self) -> list[Folder]:
        return [folder for folder in self.folders if folder in self._home.values()]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Flags of a command that reads runs and writes into a folder; see ``pool``."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--workdirs", required=True, help="folders with runs (comma list)")
    made.add_argument("--out", type=pathlib.Path, required=True, help="folder for what is made")
    return made


def pool(workdirs: str) -> Pool:
    """The runs of a comma list of folders."""
    return Pool([Folder(pathlib.Path(name)) for name in workdirs.split(",")])


def asked(doc: str | None, argv: Sequence[str] | None) -> tuple[Pool, pathlib.Path, str]:
    """The runs, the folder for what is made and the cloud that a command line names."""
    flags = parser(doc)
    flags.add_argument("--cloud", default="embedding", help="default: %(default)s")
    found = flags.parse_args(argv)
    return pool(found.workdirs), found.out, found.cloud
