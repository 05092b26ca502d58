"""Caches within so many bytes."""

import dataclasses

import numpy as np
import pytest

from grokjax.settings.caching import bounded, n_bytes
from grokjax.tasks import finite_groups, modular


@dataclasses.dataclass
class Pair:
    first: object
    second: object


def test_bytes_are_those_of_all_arrays():
    tens = np.zeros(10, np.int8)
    assert n_bytes(Pair(tens, (np.zeros((2, 3)), {"a": [tens, tens]}))) == 10 + 48 + 20
    assert n_bytes(("words", 7, None)) == 0


def test_what_was_used_last_stays_within_so_many_bytes():
    made = []

    @bounded(100)
    def zeros(n):
        made.append(n)
        return np.zeros(n, np.int8)

    for n in (40, 50, 40, 30, 40, 30, 50):
        assert len(zeros(n)) == n
    # The third does not fit beside both; 50, used longest ago, went, and then 40.
    assert made == [40, 50, 30, 50]
    zeros(1000)
    assert zeros(1000) is zeros(1000)  # the last stays, whatever its size
    assert made == [40, 50, 30, 50, 1000]
    zeros(30)
    assert made[-1] == 30


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (finite_groups.find, [f"z{n}" for n in range(1400, 1420)]),
        (lambda n: modular._truth("add", n), range(1400, 1420)),
    ],
)
def test_many_tasks_take_no_more_than_their_caches(make, values):
    """Twenty tables of 8 MB, of which the first are gone by the end."""
    first = make(values[0])
    assert make(values[0]) is first
    for value in values:
        last = make(value)
    assert make(values[-1]) is last
    assert make(values[0]) is not first
