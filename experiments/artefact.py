"""One figure or table of the study as a command: trains what is missing, draws, says so.

``python -m experiments.figure3 --workdir=W`` writes ``W/figure3.svg``, ``.pdf`` and ``.csv``, at
``--scale=small`` the same with ``-small`` in their names and titles. An artefact whose inputs have
not changed since it was made is left alone.
"""

import argparse
import dataclasses
import hashlib
import importlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

import grokjax
from experiments import sweeps
from experiments.sweeps import TRAININGS, Training
from grokjax.report import figures, panels
from grokjax.store import results
from grokjax.measuring.loading import Sweep

DEFAULT_ROOT = "work/paper"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What an artefact is made from.

    Attributes:
        sweep: the work directory it reads.
        training: which sweep that is.
        scale: ``paper`` or ``small``.
    """

    sweep: Sweep
    training: Training
    scale: str
    _tables: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict, repr=False)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the sweep, read once; not to be written to."""
        if name not in self._tables:
            self._tables[name] = getattr(self.sweep, name)
        return self._tables[name]

    def prime(self, of_study: int) -> int:
        """The prime that stands for one of the study's at this scale."""
        return of_study if self.scale == "paper" else self.training.primes[of_study]

    def fraction(self, of_study: float) -> float:
        """The train fraction that stands for one of the study's at this scale."""
        return of_study if self.scale == "paper" else self.training.fractions[of_study]

    def runs(self, **values: object) -> pd.DataFrame:
        """Runs with these values in these columns, without those that diverged or failed.

        Raises:
            ValueError: if there is none.
        """
        runs = self.table("runs")
        kept = ~runs["status"].isin(("diverged", "failed"))
        for column, value in values.items():
            kept &= runs[column] == value
        if not kept.any():
            raise ValueError(f"{self.sweep.workdir} has no finished run with {values}")
        return runs[kept]

    def title(self, text: str) -> str:
        """A title, which says so where the scale is small."""
        small = " – SMALL SCALE, not the study's sizes" if self.scale == "small" else ""
        return text + small


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """What an artefact is: a figure, or a page, and the numbers behind it."""

    numbers: pd.DataFrame
    figure: Figure | None = None
    page: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artefact:
    """A figure or table of the study.

    Attributes:
        name: such as ``figure3``.
        training: name of the sweep it reads.
        caption: what it shows, in a line.
        make: its numbers and figure, from a context.
    """

    name: str
    training: str
    caption: str
    make: Callable[[Context], Output]


def context(artefact: Artefact, root: pathlib.Path, scale: str) -> Context:
    """What the artefact is made from, the sweep being there."""
    training = TRAININGS[artefact.training]
    return Context(
        sweep=grokjax.load(training.workdir(root, scale)), training=training, scale=scale
    )


def stem(artefact: Artefact, scale: str) -> str:
    """Name of its files, without suffix."""
    return artefact.name if scale == "paper" else f"{artefact.name}-small"


# --------------------------------------------------------------------------- making one


def inputs(folders: Sequence[pathlib.Path]) -> str:
    """A hash of what artefacts are made from: these sweeps' tables, and this folder's code."""
    tables = [path for folder in folders for path in sorted((folder / "results").glob("*.parquet"))]
    state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in tables]
    sources = [*sorted(sweeps.FOLDER.glob("*.py")), *sorted(sweeps.FOLDER.glob("reference/*"))]
    hashed = hashlib.sha256(json.dumps(state).encode())
    for path in (*sources, pathlib.Path(figures.__file__), pathlib.Path(panels.__file__)):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def fresh(stamp: pathlib.Path, digest: str) -> bool:
    """Whether what a stamp stands for was made from these inputs and is all there."""
    try:
        made = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return made["inputs"] == digest and all((stamp.parent / name).exists() for name in made["made"])


def write_stamp(stamp: pathlib.Path, digest: str, made: Sequence[str]) -> None:
    """Records what was made from which inputs; files are named relative to the stamp's folder."""
    results.write_text(stamp, json.dumps({"inputs": digest, "made": list(made)}) + "\n")


def stamp_path(root: pathlib.Path, name: str) -> pathlib.Path:
    """Where the stamp of that name lies."""
    return root / f".{name}.json"


def make(artefact: Artefact, root: pathlib.Path, scale: str) -> bool:
    """Draws an artefact of a sweep that is there; returns whether there was anything to do."""
    name = stem(artefact, scale)
    digest = inputs([TRAININGS[artefact.training].workdir(root, scale)])
    stamp = stamp_path(root, name)
    if fresh(stamp, digest):
        print(f"{name}: nothing to do", flush=True)
        return False
    output = artefact.make(context(artefact, root, scale))
    made = [f"{name}.csv"]
    results.write_text(root / made[0], output.numbers.to_csv(index=False))
    if output.figure is not None:
        for suffix in ("svg", "pdf"):
            with results.replacing(root / f"{name}.{suffix}") as temporary:
                figures.save(output.figure, temporary, suffix)
            made.append(f"{name}.{suffix}")
    if output.page:
        results.write_text(root / f"{name}.html", output.page)
        made.append(f"{name}.html")
    write_stamp(stamp, digest, made)
    print(f"{name}: {', '.join(str(root / file) for file in made)}", flush=True)
    return True


# --------------------------------------------------------------------------- commands


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that every artefact has."""
    parsed = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsed.add_argument(
        "--workdir",
        type=pathlib.Path,
        default=pathlib.Path(DEFAULT_ROOT),
        help=f"root of the sweeps' work directories; default: {DEFAULT_ROOT}",
    )
    parsed.add_argument("--scale", choices=sweeps.SCALES, default="paper", help="default: paper")
    parsed.add_argument("--mnist_dir", help="folder of MNIST's four IDX files, plain or gzipped")
    return parsed


def extra_flags(training: str, mnist_dir: str | None) -> list[str]:
    """Flags that a sweep is given beside those of its scale."""
    return [f"--mnist_dir={mnist_dir}"] if mnist_dir and training == "mnist" else []


def main(name: str, argv: Sequence[str] | None = None) -> None:
    """Runs the command of the artefact of that name."""
    module = importlib.import_module(f"experiments.{name}")
    artefact: Artefact = module.ARTEFACT
    arguments = parser(module.__doc__).parse_args(argv)
    extra = extra_flags(artefact.training, arguments.mnist_dir)
    sweeps.ensure(TRAININGS[artefact.training], arguments.workdir, arguments.scale, extra)
    make(artefact, arguments.workdir, arguments.scale)


def frame_of(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a table."""
    return pd.DataFrame(list(rows))
