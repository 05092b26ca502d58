"""The sweeps behind the study's figures and tables: which flagfile, how small, run once.

A sweep has a flagfile of its name in this folder and, below the root that ``--workdir`` names, a
work directory of that name, which every artefact that reads it shares. Small scale is the same
sweep made small enough for two CPU cores by later flags; it has directories of its own.
"""

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

import grokjax
from grokjax.measuring import views
from grokjax.measuring.loading import Sweep
from grokjax.store.errors import WorkdirError

FOLDER = pathlib.Path(__file__).parent
SCALES = ("paper", "small")

_SMALL = (
    "--weight_decays=1.0 --d_model=96 --d_ff=128 --mlp_width=256 --batch_size=128 "
    "--checkpoint_every=60 --lid_points=800 --lid_neighbors=20"
)
_SMALL_TRANSFORMER, _SMALL_MLP = f"{_SMALL} --steps=2400", f"{_SMALL} --steps=3600"


def at_scale(name: str, scale: str) -> str:
    """The name of a file or folder of results at a scale."""
    return name if scale == "paper" else f"{name}-{scale}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A sweep that artefacts share.

    Attributes:
        name: of its flagfile and of its work directory.
        small: flags that, after the flagfile's, make it small.
        primes: prime of the study → prime at small scale; empty if the task has none.
        fractions: the same of train fractions.
    """

    name: str
    small: str
    primes: Mapping[int, int] = dataclasses.field(default_factory=dict)
    fractions: Mapping[float, float] = dataclasses.field(default_factory=dict)

    def workdir(self, root: pathlib.Path, scale: str) -> pathlib.Path:
        """Where its results lie."""
        return root / at_scale(self.name, scale)

    def flags(self, root: pathlib.Path, scale: str, extra: Sequence[str] = ()) -> list[str]:
        """What ``python -m grokjax.sweep`` is called with."""
        small = self.small.split() if scale == "small" else ()
        flagfile = FOLDER / f"{self.name}.flags"
        return [f"--flagfile={flagfile}", *small, *extra, f"--workdir={self.workdir(root, scale)}"]


_PRIMES = {113: 29, 149: 31, 197: 37}
_FRACTIONS = {0.2: 0.4, 0.25: 0.45, 0.3: 0.5}
_SMALL_GRID = "--primes=29,31,37 --train_fractions=0.4,0.45,0.5 --seeds=46:48"
_SMALL_ABLATION = "--primes=31 --train_fractions=0.5 --seeds=46:49"

TRAININGS = {
    training.name: training
    for training in (
        Training(
            name="transformer_grid",
            small=f"{_SMALL_TRANSFORMER} {_SMALL_GRID}",
            primes=_PRIMES,
            fractions=_FRACTIONS,
        ),
        Training(
            name="mlp_grid",
            small=f"{_SMALL_MLP} {_SMALL_GRID} --train_fractions=0.45,0.5,0.55",
            primes=_PRIMES,
            fractions={0.2: 0.45, 0.25: 0.5, 0.3: 0.55},
        ),
        Training(
            name="transformer_permutation",
            small=f"{_SMALL_TRANSFORMER} {_SMALL_ABLATION}",
            primes={197: 31},
            fractions={0.3: 0.5},
        ),
        Training(
            name="mlp_permutation",
            small=f"{_SMALL_MLP} {_SMALL_ABLATION}",
            primes={197: 31},
            fractions={0.2: 0.5},
        ),
        Training(name="mnist", small="--steps=8000 --checkpoint_every=200 --seeds=46:48"),
    )
}


def missing(folder: pathlib.Path) -> str:
    """What a sweep's work directory lacks, in words; empty if it is complete.

    Runs that diverged are complete: their tables hold NaN, and training them again changes
    nothing.
    """
    try:
        sweep: Sweep = grokjax.load(folder)
    except WorkdirError:
        return "not begun"
    if not (folder / "results" / "runs.parquet").exists():
        return "no table of runs"
    unfinished = int((~sweep.runs["status"].isin(("done", "diverged"))).sum())
    if unfinished:
        return f"{unfinished} runs not finished"
    steps, runs = sweep.config.train.checkpoint_steps, sweep.config.runs
    expected = {(run.run_id, step) for run in runs for step in steps}
    tables = views.tables_of(sweep.config.options)
    for name in ("metrics", *(table for own in tables.values() for table in own)):
        if name not in ("metrics", *sweep.tables()):
            return f"no table of {name}"
        keys = getattr(sweep, name)[["run_id", "step"]].itertuples(index=False, name=None)
        absent = len(expected - set(keys))
        if absent:
            return f"{absent} rows of {name}"
    return ""


def ensure(training: Training, root: pathlib.Path, scale: str, extra: Sequence[str] = ()) -> bool:
    """Runs or resumes a sweep unless it is complete; returns whether there was anything to do.

    Raises:
        SystemExit: with the sweep's exit code if it fails or is stopped; the same command goes on
            from there.
    """
    lacks = missing(training.workdir(root, scale))
    if not lacks:
        print(f"{training.name}: complete", flush=True)
        return False
    command = [sys.executable, "-m", "grokjax.sweep", *training.flags(root, scale, extra)]
    print(f"{training.name}: {lacks}; running\n  {' '.join(command)}", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)
    return True
