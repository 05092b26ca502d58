"""What a work directory holds, in words."""

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq

from grokjax import diagnostics
from grokjax.settings import labels, registry
from grokjax.store.files import looking_again

if TYPE_CHECKING:
    from grokjax.measuring.loading import Sweep

_MOST_VALUES = 8  # of one setting, and as many tables' settings a line has room for


def as_text(sweep: "Sweep") -> str:
    """Lines of what a sweep is, what is there and what is missing."""
    rows = [*_rows(sweep)]
    width = max(len(name) for name, _ in rows)
    return "\n".join([f"Sweep {sweep.workdir}", *(f"  {k:{width}}  {v}" for k, v in rows)])


def as_html(sweep: "Sweep") -> str:
    """The same as a table, for notebooks."""
    cells = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(text)}</td></tr>'
        for name, text in _rows(sweep)
    )
    return f"<table><caption>Sweep {html.escape(str(sweep.workdir))}</caption>{cells}</table>"


def _rows(sweep: "Sweep") -> Iterator[tuple[str, str]]:
    runs, train = sweep.runs, sweep.config.train
    statuses = [f"{n:,} {status}" for status, n in runs["status"].value_counts().items()]
    grown = int(runs["generalisation_step"].notna().sum())
    total = "" if len(runs) == len(sweep.config.grid) else f" of {len(sweep.config.grid):,}"
    yield "runs", f"{len(runs):,}{total} ({', '.join(statuses)}); {grown:,} generalised"
    for name in dict.fromkeys(["model", "operation", *labels.settings(runs), "seed"]):
        yield name, _values(name, runs[name])
    every, count = train.checkpoint_every, len(train.checkpoint_steps)
    yield "steps", f"{train.steps:,}, {count:,} checkpoints, every {every:,} steps"
    missing = [text for text in statuses if not text.endswith(" done")]
    for name in ("metrics", *sweep.tables()):
        keys = _keys(sweep, name)
        own = sweep.results.settings(name) or {}
        settings = ", ".join(f"{k}={_text(v)}" for k, v in own.items())
        yield f".{name}", f"{len(keys):,} rows" + (f"; {settings}" if settings else "")
        there, wanted = len(keys.drop_duplicates()), _wanted(sweep, name, keys["run_id"].nunique())
        if there < wanted:
            missing.append(f"{name} of {wanted - there:,} of {wanted:,} run checkpoints")
    for name in sweep.config.options.diagnostics:
        first = next(iter(diagnostics.get(name).TABLES))
        missing += [] if first in sweep.tables() else [f"table {first}"]
    if not any((sweep.workdir / "checkpoints").glob("*/params/*")):
        missing.append("checkpoints, and so .checkpoint, .cloud and .diagram")
    yield "missing", "; ".join(missing) or "nothing"


@looking_again
def _keys(sweep: "Sweep", name: str) -> pd.DataFrame:
    """Run and step of every row, parts that are not in the table's file yet left out."""
    frame = pq.read_table(sweep.results.path(name), columns=["run_id", "step"]).to_pandas()
    return frame[frame["run_id"].isin([run.run_id for run in sweep.config.runs])]


def _wanted(sweep: "Sweep", name: str, n_runs: int) -> int:
    """How many run checkpoints a table is to have, by the runs that it has any of."""
    steps = sweep.config.train.checkpoint_steps
    if name == "metrics":
        return len(steps) * len(sweep.config.runs)
    for diagnostic in diagnostics.names():
        tables = diagnostics.get(diagnostic).TABLES
        if name in tables and tables[name].only_where is None:
            return len(diagnostics.steps(diagnostic, steps, sweep.options(name))) * n_runs
    return 0


def _values(name: str, column: "pd.Series[Any]") -> str:
    field = registry.fields().get(name)
    own = [str(v) if field is None else field.text(v) for v in dict.fromkeys(column.dropna())]
    if len(own) > _MOST_VALUES:
        own = [*own[:3], "…", f"{own[-1]} ({len(own):,} values)"]
    return ", ".join(own) or "–"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
