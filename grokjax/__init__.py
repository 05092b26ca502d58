"""grokjax: many small grokking networks trained as one program, and the shape of what they learn.

``grokjax.load(workdir)`` opens the results of a sweep; ``grokjax.diagnostics``,
``grokjax.statistics`` and ``grokjax.clouds`` work on anyone's arrays.
"""

import importlib
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grokjax.measuring.loading import Sweep

_MODULES = {"figures": "grokjax.report.figures"} | {
    name: f"grokjax.{name}" for name in ("clouds", "diagnostics", "statistics")
}


def load(workdir: "str | os.PathLike[str]", plugins: Sequence[str] = ()) -> "Sweep":
    """Opens a work directory, made with ``plugins`` as ``--plugins`` names them; see ``Sweep``."""
    # Imported here, so that importing a diagnostic alone costs nothing else.
    from grokjax.measuring.loading import Sweep

    return Sweep(workdir, plugins)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'grokjax' has no attribute '{name}'")
