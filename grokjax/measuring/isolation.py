"""A diagnostic that raises on one cloud: found, recorded, told, and the rest unharmed."""

import dataclasses
import json
import operator
import pathlib
from collections.abc import Sequence
from typing import Any

from grokjax import diagnostics
from grokjax.diagnostics import Options, RunView
from grokjax.diagnostics.persistence import EngineMismatch
from grokjax.store import results
from grokjax.store.errors import DamagedTableError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A cloud of a run at a checkpoint that a diagnostic could not measure."""

    diagnostic: str
    run_id: str
    step: int
    cloud: str  # "all" where the diagnostic failed whatever the cloud
    error: str

    def __str__(self) -> str:
        place = f"cloud {self.cloud} of {self.run_id} at step {self.step:,}"
        return f"{self.diagnostic} failed on {place}: {self.error}"


_FILE = "results/failures.json"
Rows = dict[str, list[dict[str, Any]]]


def measure(name: str, views: Sequence[RunView], options: Options) -> tuple[Rows, list[Failure]]:
    """Runs a diagnostic; where it raises, view by view and cloud by cloud, keeping what succeeds.

    ``EngineMismatch`` is raised all the same, since that puts all numbers in doubt.
    """
    diagnostic = diagnostics.get(name)
    try:
        for view in views:
            if isinstance(error := view.reduced.get(name), Exception):
                raise error
        return dict(diagnostic.measure(views, options)), []
    except EngineMismatch:
        raise
    except Exception as error:
        view, *others = views
        alone: list[RunView] = list(views) if others else []
        if not others and len(view.cloud_names) > 1:
            alone = [dataclasses.replace(view, cloud_names=(cloud,)) for cloud in view.cloud_names]
        parts = [measure(name, [one], options) for one in alone]
        failures = [failure for _, found in parts for failure in found]
        joined: Rows = {key: [] for key in diagnostic.TABLES}
        if not others and len(failures) == len(parts):
            cloud = view.cloud_names[0] if len(view.cloud_names) == 1 else "all"
            what = {"diagnostic": name, "run_id": view.run_id, "cloud": cloud, "error": repr(error)}
            return joined, [Failure(step=view.step, **what)]
    for key, table in diagnostic.TABLES.items():
        unit = operator.itemgetter(*table.unit)
        for rows, _ in parts:
            # A unit that came more than once is taken from the first that has it.
            seen = {unit(row) for row in joined[key]}
            joined[key] += [row for row in rows[key] if unit(row) not in seen]
    return joined, failures


def read(workdir: pathlib.Path) -> list[Failure]:
    """The failures on record; raises ``DamagedTableError`` if that is not what ``write`` wrote."""
    path = workdir / _FILE
    if not path.exists():
        return []
    try:
        return [Failure(**fields) for fields in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise DamagedTableError(
            f"{path} cannot be read ({error!r}); delete it and run "
            "python -m grokjax.check, which names what is missing in the tables"
        ) from error


def write(workdir: pathlib.Path, failures: Sequence[Failure]) -> None:
    """Puts failures on record, instead of those that were; no file while there are none."""
    fields = [dataclasses.asdict(failure) for failure in failures]
    if fields:
        results.write_text(workdir / _FILE, json.dumps(fields, indent=1) + "\n")
    else:
        (workdir / _FILE).unlink(missing_ok=True)
