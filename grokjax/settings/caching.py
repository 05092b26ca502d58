"""Remembering what functions return, within so many bytes."""

import collections
import dataclasses
import functools
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def n_bytes(value: Any) -> int:
    """Bytes of the arrays in a value: of dataclasses, mappings, tuples and lists."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if dataclasses.is_dataclass(value):
        return sum(n_bytes(getattr(value, own.name)) for own in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return sum(map(n_bytes, value.values()))
    return sum(map(n_bytes, value)) if isinstance(value, tuple | list) else 0


def bounded(most: int) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """As ``functools.lru_cache``: of arrays of more than ``most`` bytes only the last result stays.

    Two threads that ask for the same at the same time both compute it.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        found: collections.OrderedDict[Hashable, tuple[_Result, int]] = collections.OrderedDict()
        lock = threading.Lock()

        @functools.wraps(function)
        def remembered(*key: Hashable) -> _Result:
            with lock:
                if key in found:
                    found.move_to_end(key)
                    return found[key][0]
            result = function(*key)
            with lock:
                found[key] = result, n_bytes(result)
                while len(found) > 1 and sum(size for _, size in found.values()) > most:
                    found.popitem(last=False)
            return result

        return remembered

    return decorate
