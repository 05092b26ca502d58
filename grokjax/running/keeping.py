"""Letting go of parameters once they are measured, as ``--keep`` says."""

from collections.abc import Sequence, Set

from grokjax.measuring.analyst import Analyst
from grokjax.settings.config import SweepConfig
from grokjax.settings.grid import Run
from grokjax.store import folders
from grokjax.store.checkpoints import Reader, RunBatch


class Keeper:
    """Lets go of a sweep's parameters; for the one who trains and measures it.

    Never those that resuming needs: those with an optimiser state and all after the last of them.
    """

    def __init__(self, analyst: Analyst, config: SweepConfig, batches: Sequence[Sequence[Run]]):
        self._analyst, self._last = analyst, config.train.steps
        self._root = analyst.workdir / "checkpoints"
        self._reader = Reader(self._root)
        self._all = config.saving.keep == "all"
        self._one_state = config.saving.keep == "last"
        self._stays = config.saving.stays(config.train.checkpoint_steps)
        self._batches = [RunBatch.of(batch) for batch in batches]
        folders.clean(self._root)

    def let_go(self, known: Set[tuple[str, int]]) -> None:
        """Lets go of what may go; ``known`` are run and step of all committed metrics.

        The diagnostics' rows of it are committed: that is when nothing is pending any more.
        """
        failed = {unit[1:] for unit in list(self._analyst.failures)}  # another thread adds to them

        def is_measured(batch: RunBatch, step: int) -> bool:
            own = {(run_id, step) for run_id in batch.run_ids}
            return own <= known and not own & failed and not self._analyst.pending(batch, step)

        for batch in () if self._all else self._batches:
            states = self._reader.steps(batch.name, "opt_state")
            if self._one_state and self._last in states[1:] and is_measured(batch, self._last):
                for step in states[:-1]:
                    folders.drop_state(self._root, batch.name, step)
                states = states[-1:]
            for step in self._reader.steps(batch.name):
                may = step < max(states, default=0) and step not in self._stays.union(states)
                if may and is_measured(batch, step):
                    folders.let_go(self._root, batch.name, step)
