"""The sweeps behind the study's figures and tables: which flagfile, how small, run once.

A sweep has a flagfile of its name in this folder and, below the root that ``--workdir`` names, a
work directory of that name, which every artefact that reads it shares. Runs that two sweeps have in
common are trained in the directory of one of them, and read from there (`Shared`). Small scale is
the same sweep made small enough for two CPU cores by later flags; it has directories of its own.
"""

import dataclasses
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

import grokjax
from grokjax import diagnostics
from grokjax.measuring import views
from grokjax.measuring.loading import Sweep
from grokjax.settings import grid, registry
from grokjax.settings.config import TrainConfig
from grokjax.settings.registry import KINDS
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
class Shared:
    """Runs of a sweep that are trained in another one's directory.

    Attributes:
        name: of the other sweep.
        part: scale → flags that make the other sweep these runs alone.
        rest: flags that make this sweep all others alone.
    """

    name: str
    part: Mapping[str, str]
    rest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A sweep that artefacts share.

    Attributes:
        name: of its flagfile and of its work directory.
        small: flags that, after the flagfile's, make it small.
        primes: prime of the study → prime at small scale; empty if the task has none.
        fractions: the same of train fractions.
        shared: what it has in common with another sweep, and leaves to that.
    """

    name: str
    small: str
    primes: Mapping[int, int] = dataclasses.field(default_factory=dict)
    fractions: Mapping[float, float] = dataclasses.field(default_factory=dict)
    shared: Shared | None = None

    def workdir(self, root: pathlib.Path, scale: str) -> pathlib.Path:
        """Where its results lie."""
        return root / at_scale(self.name, scale)

    def flags(self, root: pathlib.Path, scale: str, extra: Sequence[str] = ()) -> list[str]:
        """What ``python -m grokjax.sweep`` is called with."""
        small = self.small.split() if scale == "small" else ()
        flagfile = FOLDER / f"{self.name}.flags"
        return [f"--flagfile={flagfile}", *small, *extra, f"--workdir={self.workdir(root, scale)}"]

    def given(self, scale: str, part: str = "") -> dict[str, str]:
        """Flag → value as its flagfile, the flags of the scale and then ``part`` say it."""
        written = (FOLDER / f"{self.name}.flags").read_text(encoding="utf-8").splitlines()
        small = self.small.split() if scale == "small" else []
        found = [line[2:].partition("=") for line in (*written, *small, *part.split())
                 if line.startswith("--")]  # fmt: skip
        return {flag: value for flag, _, value in found}

    def steps(self, scale: str) -> int:
        """How long its runs train."""
        return int(self.given(scale).get("steps", TrainConfig().steps))

    @property
    def rest(self) -> str:
        """Flags that leave out what it shares."""
        return self.shared.rest if self.shared else ""

    def levels(self, scale: str) -> list[float]:
        """Shares of permuted labels, in order."""
        return sorted(map(float, self.given(scale).get("label_permutations", "0").split(",")))

    def ids(self, scale: str, part: str = "") -> frozenset[str]:
        """Ids of the runs that it is about; with ``part``, more flags, of those of them."""
        given = self.given(scale, part)
        chosen = {kind: given.get(kind.flag, registry.default(kind.column)) for kind in KINDS}
        axes = {
            kind.column: {name: grid.axes_of(kind.column, name, given) for name in names.split(",")}
            for kind, names in chosen.items()
        }
        runs = grid.expand({**axes, grid.RUN: {grid.RUN: grid.axes_of(grid.RUN, grid.RUN, given)}})
        return frozenset(run.run_id for run in runs)


def meant(run_id: str) -> str:
    """The id that a run has where the study's images are there, and no others stand in."""
    return run_id.replace("-digits-", "-mnist-", 1)


_PRIMES = {113: 29, 149: 31, 197: 37}
_FRACTIONS = {0.2: 0.4, 0.25: 0.45, 0.3: 0.5}
_SMALL_GRID = "--primes=29,31,37 --train_fractions=0.4,0.45,0.5 --seeds=46:49"
_SMALL_ABLATION = "--primes=31 --train_fractions=0.5 --seeds=46:49"


def _shared(name: str, fraction: str, levels: str) -> Shared:
    paper = f"--primes=197 --train_fractions={fraction}"
    part = {"paper": paper, "small": "--primes=31 --train_fractions=0.5"}
    return Shared(name=name, part=part, rest=f"--label_permutations={levels}")


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
            shared=_shared("transformer_grid", "0.3", "0.01,0.02,0.05,0.1,0.2"),
        ),
        Training(
            name="mlp_permutation",
            small=f"{_SMALL_MLP} {_SMALL_ABLATION}",
            primes={197: 31},
            fractions={0.2: 0.5},
            shared=_shared("mlp_grid", "0.2", "0.1,0.2,0.5,1.0"),
        ),
        Training(name="mnist", small="--steps=8000 --checkpoint_every=200 --seeds=46:48"),
    )
}


def missing(folder: pathlib.Path, wanted: frozenset[str]) -> str:
    """What a sweep's work directory lacks of these runs, in words; empty if they are complete.

    Runs that diverged are complete: their tables hold NaN, and training them again changes
    nothing.
    """
    try:
        sweep: Sweep = grokjax.load(folder)
    except WorkdirError:
        return "not begun"
    if not (folder / "results" / "runs.parquet").exists():
        return "no table of runs"
    there = {run.run_id for run in sweep.config.runs if meant(run.run_id) in wanted}
    if len(there) < len(wanted):
        return f"{len(wanted) - len(there)} runs not begun"
    runs = sweep.runs[sweep.runs["run_id"].isin(there)]
    unfinished = int((~runs["status"].isin(("done", "diverged"))).sum())
    if unfinished:
        return f"{unfinished} runs not finished"
    every, options = sweep.config.train.checkpoint_steps, sweep.config.options
    wanted_at = {"metrics": set(every)}
    for diagnostic, tables in views.tables_of(options).items():
        wanted_at |= dict.fromkeys(tables, diagnostics.steps(diagnostic, every, options))
    for name, steps in wanted_at.items():
        if name not in ("metrics", *sweep.tables()):
            return f"no table of {name}"
        keys = getattr(sweep, name)[["run_id", "step"]].itertuples(index=False, name=None)
        absent = len({(run_id, step) for run_id in there for step in steps} - set(keys))
        if absent:
            return f"{absent} rows of {name}"
    return ""


def ensure(training: Training, root: pathlib.Path, scale: str, extra: Sequence[str] = ()) -> bool:
    """Trains what its artefacts lack, shared runs first; returns whether there was anything to do.

    Raises:
        SystemExit: with the sweep's exit code if it fails or is stopped; the same command goes on
            from there.
    """
    busy = False
    if training.shared is not None:
        other = TRAININGS[training.shared.name]
        busy = _run(other, root, scale, extra, training.shared.part[scale])
    return _run(training, root, scale, extra, training.rest) or busy


def _run(
    training: Training, root: pathlib.Path, scale: str, extra: Sequence[str], part: str = ""
) -> bool:
    """Runs or resumes a sweep, or the part of it that flags name, unless it is complete."""
    folder, wanted = training.workdir(root, scale), training.ids(scale, part)
    lacks = missing(folder, wanted)
    if not lacks:
        print(f"{training.name}: complete", flush=True)
        return False
    there = set()
    if (folder / "sweep.json").exists():
        there = {meant(run.run_id) for run in grokjax.load(folder).config.runs}
    # A sweep can gain runs but not lose any: what goes beyond a part goes on as a whole.
    more = part.split() if there <= wanted else []
    grows = ["--allow=primes,train_fractions"] if there and there < wanted else []
    flags = training.flags(root, scale, [*more, *grows, *extra])
    command = [sys.executable, "-m", "grokjax.sweep", *flags]
    print(f"{training.name}: {lacks}; running\n  {' '.join(command)}", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)
    return True
