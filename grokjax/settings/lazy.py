"""Libraries that are loaded when first used.

Settings and tables are read without JAX, which takes a second to import. A part's module holds its
settings and its program side by side; it names JAX, and our modules that need it, through here.
"""

import importlib
import types
from typing import Any


class _Lazy(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def lazy(name: str) -> Any:
    """A stand-in for the module of that name, which is imported at the first look into it."""
    return _Lazy(name)
