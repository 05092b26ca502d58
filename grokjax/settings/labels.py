"""The settings of a grid and what they are called in tables, figures and on the page."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from grokjax.settings import grid, registry

COLUMNS = {
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "novel_accuracy": "accuracy on novel pairs",
    "train_loss": "train loss",
    "test_loss": "test loss",
    "weight_norm": "weight norm",
    "h0_max": "H0 max",
    "h0_total": "H0 total",
    "h1_max": "H1 max",
    "h1_second": "H1 second longest",
    "h1_total": "H1 total",
    "h1_count": "H1 bars",
    "lid_mean": "local dimension",
    "restricted_accuracy": "restricted accuracy",
    "excluded_accuracy": "excluded accuracy",
    "restricted_loss": "restricted loss",
    "excluded_loss": "excluded loss",
    "concentration": "Fourier concentration",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The runs of a grid that differ in their seed alone."""

    values: Mapping[str, Any]  # column → value, of the columns that ``settings`` names
    panel: str  # what shares a panel of a figure: the model and what is learned, in words
    line: str  # what tells this setting from others of its panel, in words; empty if nothing does
    run_ids: tuple[str, ...]  # in the grid's order

    @property
    def name(self) -> str:
        """Panel and line together."""
        return ", ".join(filter(None, (self.panel, self.line)))


def columns() -> list[str]:
    """The columns of a table of runs that are settings, the seed left out."""
    return [name for name in grid.columns() if name != "seed"]


def _always(runs: pd.DataFrame) -> list[str]:
    """Settings that are shown also where all runs have the same: what is learned, by what."""
    own = [name for name, field in registry.fields().items() if field.always]
    there = [name for name in own if name in runs and runs[name].notna().any()]
    whole = bool(there) and runs[there].notna().any(axis=1).all()
    return ["model", *([] if whole else ["operation"]), *there]


def panel_columns(runs: pd.DataFrame) -> list[str]:
    """The columns whose values share a panel: the model and what is learned."""
    return list(dict.fromkeys([*_always(runs), "operation"]))


def settings(runs: pd.DataFrame) -> list[str]:
    """The columns that tell the grid's settings apart, with the model and what is learned."""
    always = _always(runs)
    return [
        name for name in columns() if name in runs and (name in always or runs[name].nunique() > 1)
    ]


def group(runs: pd.DataFrame) -> list[Setting]:
    """The settings of a table of runs, in the order in which they first occur."""
    by = settings(runs)
    found: dict[tuple[Any, ...], list[str]] = {}
    for row in runs[[*by, "run_id"]].itertuples(index=False, name=None):
        key = tuple(None if pd.isna(value) else value for value in row[:-1])
        found.setdefault(key, []).append(row[-1])
    in_panel = panel_columns(runs)
    result = []
    for key, run_ids in found.items():
        values = dict(zip(by, key, strict=True))
        words = {k: in_words(k, value) for k, value in values.items() if value is not None}
        panel = ", ".join(text for name, text in words.items() if name in in_panel)
        line = ", ".join(text for name, text in words.items() if name not in in_panel)
        result.append(Setting(values=values, panel=panel, line=line, run_ids=tuple(run_ids)))
    return result


def in_words(column: str, value: Any) -> str:
    """A setting's value as a person would say it, such as ``α = 0.3``."""
    if column in grid.COLUMNS:
        return registry.find(column, value).title(value)
    return registry.fields()[column].in_words(value)
