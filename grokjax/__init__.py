"""grokjax: many small grokking networks trained as one program, and the shape of what they learn.

``grokjax.load(workdir)`` opens the results of a sweep; ``grokjax.diagnostics``,
``grokjax.statistics`` and ``grokjax.clouds`` work on anyone's arrays.
"""

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grokjax.loading import Sweep

_MODULES = ("clouds", "diagnostics", "figures", "grid", "statistics")


def load(workdir: "str | os.PathLike[str]") -> "Sweep":
    """Opens a work directory for reading; see ``grokjax.loading.Sweep``."""
    # Imported here, so that importing a diagnostic alone starts neither JAX nor Orbax.
    from grokjax.loading import Sweep

    return Sweep(workdir)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"grokjax.{name}")
    raise AttributeError(f"module 'grokjax' has no attribute '{name}'")
