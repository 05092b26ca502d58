"""The settings of a grid and what they are called in tables, figures and on the page."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from grokjax.grid import IMAGE_SETS

SETTING = (
    "model",
    "operation",
    "prime",
    "train_fraction",
    "label_permutation",
    "weight_decay",
    "learning_rate",
    "init_scale",
)
_PANEL = ("model", "operation", "prime")

_NAMES = {
    "mlp": "MLP",
    "mnist_mlp": "MLP",
    "digits_mlp": "MLP",
    "mnist": "MNIST",
    "digits": "scikit-learn's 8×8 digits in MNIST's stead",
}

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
    """The runs of a grid that differ in their seed alone.

    Attributes:
        values: column → value, of the columns that ``settings`` names.
        panel: what shares a panel of a figure: model and prime, in words.
        line: what tells this setting from others of its panel, in words; empty if nothing does.
        run_ids: its runs, in the grid's order.
    """

    values: Mapping[str, Any]
    panel: str
    line: str
    run_ids: tuple[str, ...]

    @property
    def name(self) -> str:
        """Panel and line together."""
        return ", ".join(filter(None, (self.panel, self.line)))


def settings(runs: pd.DataFrame) -> list[str]:
    """The columns that tell the grid's settings apart, prime and model always among them."""
    images = runs["operation"].isin(IMAGE_SETS).any()
    always = ("model", "operation", "prime") if images else ("model", "prime")
    return [name for name in SETTING if name in always or runs[name].nunique() > 1]


def group(runs: pd.DataFrame) -> list[Setting]:
    """The settings of a table of runs, in the order in which they first occur."""
    columns = settings(runs)
    found: dict[tuple[Any, ...], list[str]] = {}
    for row in runs[[*columns, "run_id"]].itertuples(index=False, name=None):
        found.setdefault(row[:-1], []).append(row[-1])
    result = []
    for key, run_ids in found.items():
        values = dict(zip(columns, key, strict=True))
        words = {name: in_words(name, value) for name, value in values.items()}
        if values.get("operation") in IMAGE_SETS:
            del words["prime"]  # the number of classes
        result.append(
            Setting(
                values=values,
                panel=", ".join(text for name, text in words.items() if name in _PANEL),
                line=", ".join(text for name, text in words.items() if name not in _PANEL),
                run_ids=tuple(run_ids),
            )
        )
    return result


def in_words(column: str, value: Any) -> str:
    """A setting's value as a person would say it, such as ``α = 0.3``."""
    if column == "label_permutation":
        return f"{100 * value:g} % of labels permuted" if value else "true labels"
    if column in ("model", "operation"):
        return _NAMES.get(value, str(value))
    symbol = {
        "prime": "p = {}",
        "train_fraction": "α = {:g}",
        "weight_decay": "weight decay {:g}",
        "learning_rate": "lr {:g}",
        "init_scale": "init × {:g}",
    }[column]
    return symbol.format(value)
