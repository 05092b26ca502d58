"""Which runs, at which checkpoints, the page shows in detail: what there is room and time for."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from grokjax.report.page import BYTES_A_VALUE
from grokjax.report.snapshots import telling_order, thin
from grokjax.settings.labels import Setting

MOST_STEPS = 61
# A checkpoint file takes about a tenth of a second to open.
_MOST_FILES = 1200
_FEWEST_STEPS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run that could be shown."""

    run_id: str
    points: int  # of its embedding
    steps: Sequence[int]  # its checkpoints, ascending
    marks: Sequence[int]  # steps not to leave out
    batch: str  # what shares its checkpoint files

    def cost(self, n_steps: int) -> float:
        """Bytes on the page, about: two planes, a coordinate, a spectrum, as many bars as usual."""
        return BYTES_A_VALUE * 9 * self.points * min(n_steps, len(self.steps)) + 2000


def in_turn(groups: Sequence[Iterable[Any]]) -> list[Any]:
    """The first of every group, then the second of every one that has it, and so on."""
    return [own for turn in itertools.zip_longest(*groups) for own in turn if own is not None]


def choose(
    settings: Sequence[Setting],
    runs: pd.DataFrame,
    candidate: Callable[[str], Candidate | None],
    n_bytes: int,
    wanted: Sequence[str] = (),
) -> dict[str, list[int]]:
    """Run id → steps to show: the wanted runs, then one of every setting, then others.

    Where there is no room for one of every setting, fewer steps are tried before fewer runs. A run
    of which nothing can be shown is no candidate: None.
    """
    by_id = runs.set_index("run_id", drop=False)
    ranked = in_turn([telling_order(by_id.loc[list(own.run_ids)]) for own in settings])
    names = dict.fromkeys([*wanted, *ranked])
    known = [found for run_id in names if (found := candidate(run_id)) is not None]
    n_first = len(set(wanted)) + len(settings)
    n_steps = MOST_STEPS
    while True:
        chosen = _fill(known, n_steps, n_bytes)
        if len(chosen) >= min(n_first, len(known)) or n_steps <= _FEWEST_STEPS:
            return {own.run_id: thin(own.steps, n_steps, own.marks) for own in chosen}
        n_steps = n_steps // 2 + 1


def _fill(known: Sequence[Candidate], n_steps: int, n_bytes: int) -> list[Candidate]:
    chosen: list[Candidate] = []
    batches: set[str] = set()
    left = float(n_bytes)
    for own in known:
        files = len(batches | {own.batch}) * n_steps
        if own.cost(n_steps) <= left and files <= _MOST_FILES:
            chosen.append(own)
            batches.add(own.batch)
            left -= own.cost(n_steps)
    return chosen
