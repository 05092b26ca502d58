"""A diagnostic that raises on one cloud: found, recorded, told, and the rest unharmed."""

import dataclasses
import json
import operator
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from grokjax import diagnostics
from grokjax.diagnostics import Options, RunView
from grokjax.diagnostics.persistence import EngineMismatch
from grokjax.store import files
from grokjax.store.errors import DamagedTableError

Rows = dict[str, list[dict[str, Any]]]
Unit = tuple[str, str, int]  # diagnostic, id of a run, step
# Of each unit the clouds that could not be measured, and why; "all" if it fails with any cloud.
Failures = dict[Unit, dict[str, str]]

_FILE = "results/failures.jsonl"
_BEFORE = "results/failures.json"  # of earlier versions


def sentences(failures: Mapping[Unit, Mapping[str, str]]) -> list[str]:
    """What a person reads of failures."""
    return [
        f"{name} failed on cloud {cloud} of {run_id} at step {step:,}: {error}"
        for (name, run_id, step), errors in failures.items()
        for cloud, error in errors.items()
    ]


def measure(name: str, views: Sequence[RunView], options: Options) -> tuple[Rows, Failures]:
    """Runs a diagnostic; where it raises, view by view and cloud by cloud, keeping what succeeds.

    ``EngineMismatch`` is raised all the same, since that puts all numbers in doubt.
    """
    diagnostic = diagnostics.get(name)
    try:
        for view in views:
            if isinstance(error := view.reduced.get(name), Exception):
                raise error
        return dict(diagnostic.measure(views, options)), {}
    except EngineMismatch:
        raise
    except Exception as error:
        view, *others = views
        alone: list[RunView] = list(views) if others else []
        if not others and len(view.cloud_names) > 1:
            alone = [dataclasses.replace(view, cloud_names=(cloud,)) for cloud in view.cloud_names]
        parts = [measure(name, [one], options) for one in alone]
        failures: Failures = {}
        for _, found in parts:
            for where, errors in found.items():
                failures.setdefault(where, {}).update(errors)
        joined: Rows = {key: [] for key in diagnostic.TABLES}
        if not others and sum(map(len, failures.values())) == len(parts):
            cloud = view.cloud_names[0] if len(view.cloud_names) == 1 else "all"
            return joined, {(name, view.run_id, view.step): {cloud: repr(error)}}
    for key, table in diagnostic.TABLES.items():
        unit = operator.itemgetter(*table.unit)
        for rows, _ in parts:
            # A unit that came more than once is taken from the first that has it.
            seen = {unit(row) for row in joined[key]}
            joined[key] += [row for row in rows[key] if unit(row) not in seen]
    return joined, failures


def read(workdir: pathlib.Path) -> Failures:
    """The failures on record; raises ``DamagedTableError`` if that is not what was written."""
    found: Failures = {}
    path, before = workdir / _FILE, workdir / _BEFORE
    try:
        for told in json.loads(files.read_if_there(before) or "[]"):
            unit = told["diagnostic"], told["run_id"], told["step"]
            found.setdefault(unit, {})[told["cloud"]] = told["error"]
        # A last line without an end was being written when the process was killed; no rows came.
        for line in files.read_if_there(path).split("\n")[:-1]:
            name, run_id, step, errors = json.loads(line)
            found[name, run_id, step] = dict(errors)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DamagedTableError(
            f"{path} cannot be read ({error!r}); delete it and run "
            "python -m grokjax.check, which names what is missing in the tables"
        ) from error
    return {unit: errors for unit, errors in found.items() if errors}


def write(workdir: pathlib.Path, failures: Failures) -> None:
    """Puts failures on record, instead of those that were; no file while there are none."""
    if failures:
        files.write_text(workdir / _FILE, _lines(failures))
    else:
        (workdir / _FILE).unlink(missing_ok=True)
    (workdir / _BEFORE).unlink(missing_ok=True)


def append(workdir: pathlib.Path, failures: Failures) -> None:
    """Puts on record how units came out, durably, instead of how they did before."""
    path = workdir / _FILE
    if not failures:
        return
    if not path.exists():
        return files.write_text(path, _lines(failures))
    with open(path, "a", encoding="utf-8") as file:
        file.write(_lines(failures))
        file.flush()
        os.fsync(file.fileno())


def _lines(failures: Failures) -> str:
    return "".join(json.dumps([*unit, errors]) + "\n" for unit, errors in failures.items())
