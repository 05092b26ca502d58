"""What all figures and tables of the study share: how each is made from a sweep, and made once.

An artefact that is named ``figure3`` becomes ``W/figure3.svg``, ``.pdf`` and ``.csv``, at
``--scale=small`` the same with ``-small`` in their names and titles. What has been made is left
alone until its sweep's tables or any code that it rests on changes.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
from matplotlib.figure import Figure

from experiments import staleness, sweeps
from experiments.evidence import Folder, Pool
from experiments.sweeps import TRAININGS, Training
from grokjax.report import figures
from grokjax.settings import labels
from grokjax.store.errors import WorkdirError
from grokjax.store.files import replacing, write_text

DEFAULT_ROOT = "work/paper"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What an artefact is made from.

    Attributes:
        pool: the runs it reads, and where from.
        training: which sweep that is.
        scale: ``paper`` or ``small``.
    """

    pool: Pool
    training: Training
    scale: str

    def values(
        self, table: str, column: str, run_ids: Sequence[str], cloud: str = ""
    ) -> pd.DataFrame:
        """A column of a table, of one cloud where it has several: a row a step, a column a run."""
        rows = self.table(table)
        return figures.wide(rows[rows["cloud"] == cloud] if cloud else rows, column, run_ids)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the runs; not to be written to."""
        return self.pool.table(name)

    def prime(self, of_study: int) -> int:
        """The prime that stands for one of the study's at this scale."""
        return of_study if self.scale == "paper" else self.training.primes[of_study]

    def fraction(self, of_study: float) -> float:
        """The train fraction that stands for one of the study's at this scale."""
        return of_study if self.scale == "paper" else self.training.fractions[of_study]

    def found(self, **values: object) -> pd.DataFrame:
        """Runs with these values in these columns, without those that diverged or failed."""
        runs = self.table("runs")
        kept = ~runs["status"].isin(("diverged", "failed"))
        for column, value in values.items():
            kept &= runs[column] == value
        return runs[kept]

    def runs(self, **values: object) -> pd.DataFrame:
        """The same, there being any.

        Raises:
            ValueError: if there is none.
        """
        runs = self.found(**values)
        if runs.empty:
            raise ValueError(f"there is no finished run of {self.training.name} with {values}")
        return runs

    def not_yet(self, run_ids: Iterable[str]) -> list[str]:
        """Of these runs those that trained for less than the study's and have not generalised.

        They may still: what they say of generalisation is not known.
        """
        came = self.table("runs").set_index("run_id")["generalisation_step"].notna()
        whole = self.training.steps(self.scale)
        return [name for name in run_ids if not came[name] and self.pool.horizons[name] < whole]

    def runs_of(self, prime: int | None, fraction: float | None) -> pd.DataFrame:
        """`runs` that stand for a prime and a train fraction of the study; None: for all."""
        prime = prime and self.prime(prime)
        fraction = fraction and self.fraction(fraction)
        values = {"prime": prime, "train_fraction": fraction}
        return self.runs(**{name: value for name, value in values.items() if value is not None})


def folders(training: Training, root: pathlib.Path, scale: str) -> list[pathlib.Path]:
    """Work directories that have runs of a sweep, its own first."""
    shared = [TRAININGS[training.shared.name]] if training.shared else []
    return [own.workdir(root, scale) for own in (training, *shared)]


def load(
    training: str, root: pathlib.Path, scale: str, more: Sequence[pathlib.Path] = ()
) -> Context | None:
    """What the artefacts of a sweep are made from, also of a part of it; None if nothing is there.

    Args:
        training: name of the sweep.
        root: of the work directories.
        scale: ``paper`` or ``small``.
        more: folders with further runs or tables, see `experiments.evidence`.
    """
    own = TRAININGS[training]
    there = [path for path in folders(own, root, scale) if (path / "sweep.json").exists()]
    ids = own.ids(scale)
    found = [Folder(path) for path in (*there, *more)]
    pool = Pool(found, lambda run_id: sweeps.meant(run_id) in ids)
    return Context(pool=pool, training=own, scale=scale) if pool else None


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
        title: without its number; ``{prime}``, ``{fraction}`` and ``{data}`` are filled in.
        shows: what can be seen, in a line.
        claim: what the study says about it, beside its numbers in ``reference/claims.csv``.
        make: its numbers and figure, from a context and this artefact.
        expected: what to expect beside those numbers.
        prime: of the study, to which its runs are restricted.
        fraction: the same of train fractions.
        takes: how long it takes to make, the sweep being there.
        sections: of the study, whose claims in ``reference/claims.csv`` are about its sweep too.
    """

    name: str
    training: str
    title: str
    shows: str
    claim: str
    make: Callable[[Context, "Artefact"], Output]
    expected: str = ""
    prime: int | None = None
    fraction: float | None = None
    takes: str = "a second"
    sections: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Either ``figure`` or ``table``."""
        return self.name.rstrip("0123456789")

    @property
    def label(self) -> str:
        """Such as ``Figure 3``."""
        return f"{self.kind.capitalize()} {self.name.removeprefix(self.kind)}"

    @property
    def sources(self) -> tuple[str, ...]:
        """Whence the rows of ``reference/claims.csv`` that it answers, in that file's words."""
        return self.name.replace("figure", "fig"), *self.sections

    @property
    def headline(self) -> str:
        """What it is in the study, in a line."""
        title = self.title.format(prime=self.prime, fraction=self.fraction, data="MNIST")
        return f"{self.label}: {title}: {self.shows}"

    def runs(self, context: Context) -> pd.DataFrame:
        """The runs it shows."""
        return context.runs_of(self.prime, self.fraction)

    def heading(self, context: Context) -> str:
        """Its title over what is made from a sweep, which says so where the scale is small."""
        title = self.title.format(
            prime=self.prime and context.prime(self.prime),
            fraction=self.fraction and context.fraction(self.fraction),
            data=labels.in_words("operation", context.table("runs")["operation"].iloc[0]),
        )
        small = " – SMALL SCALE, not the study's sizes" if context.scale == "small" else ""
        return f"{self.label}: {title}{small}"


# --------------------------------------------------------------------------- making one


def inputs(tables: Iterable[pathlib.Path], module: str) -> str:
    """A hash of what an artefact is made from: tables, and all code that a module rests on."""
    state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in tables]
    hashed = hashlib.sha256(json.dumps(state).encode())
    for path in [*staleness.behind(module), *sorted(sweeps.FOLDER.glob("reference/*"))]:
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def fresh(stamp: pathlib.Path, digest: str) -> bool:
    """Whether what a stamp stands for was made from these inputs and is all there."""
    try:
        made = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return made["inputs"] == digest and all((stamp.parent / name).exists() for name in made["made"])


def write(
    name: str,
    root: pathlib.Path,
    tables: Iterable[pathlib.Path],
    module: str,
    make: Callable[[], Output],
) -> bool:
    """Makes and writes an artefact unless it is fresh; returns whether there was anything to do.

    Args:
        name: of its files.
        root: where they go.
        tables: what it is made from.
        module: what makes it.
        make: makes it.
    """
    digest = inputs(tables, module)
    stamp = root / f".{name}.json"
    if fresh(stamp, digest):
        print(f"{name}: nothing to do", flush=True)
        return False
    made = save(name, root, make())
    write_text(stamp, json.dumps({"inputs": digest, "made": made}) + "\n")
    return True


def save(name: str, root: pathlib.Path, output: Output) -> list[str]:
    """Writes what an artefact is; returns names of files."""
    made = [f"{name}.csv"]
    write_text(root / made[0], output.numbers.to_csv(index=False))
    if output.figure is not None:
        for suffix in ("svg", "pdf"):
            with replacing(root / f"{name}.{suffix}") as temporary:
                figures.save(output.figure, temporary, suffix)
            made.append(f"{name}.{suffix}")
    if output.page:
        write_text(root / f"{name}.html", output.page)
        made.append(f"{name}.html")
    print(f"{name}: {', '.join(str(root / file) for file in made)}", flush=True)
    return made


def make(one: Artefact, root: pathlib.Path, scale: str) -> bool:
    """Draws an artefact of a sweep that is there; returns whether there was anything to do.

    Raises:
        WorkdirError: if it is not.
    """
    context = load(one.training, root, scale)
    if context is None:
        raise WorkdirError(f"nothing is there of {one.training} below {root}")
    name = sweeps.at_scale(one.name, scale)
    files = context.pool.files()
    return write(name, root, files, "experiments.registry", lambda: one.make(context, one))


# --------------------------------------------------------------------------- commands


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that every artefact has."""
    parsed = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    text = "root of the sweeps' work directories; default: %(default)s"
    parsed.add_argument("--workdir", type=pathlib.Path, default=DEFAULT_ROOT, help=text)
    parsed.add_argument("--scale", choices=sweeps.SCALES, default="paper", help="default: paper")
    parsed.add_argument("--mnist_dir", help="folder of MNIST's four IDX files, plain or gzipped")
    return parsed


def ensure(training: str, arguments: argparse.Namespace) -> bool:
    """Runs what its sweep lacks, as the command line says; see `sweeps.ensure`."""
    given = arguments.mnist_dir and training == "mnist"
    extra = [f"--mnist_dir={arguments.mnist_dir}"] if given else []
    return sweeps.ensure(TRAININGS[training], arguments.workdir, arguments.scale, extra)
