"""What a person sees of a sweep: a live display on a terminal, plain lines in a pipe."""

import collections
import os
import pathlib
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from grokjax.settings.grid import Run
from grokjax.statistics import GENERALISED_ACCURACY, MEMORISED_ACCURACY


def seconds_since_start() -> float:
    """Seconds since this process began, imports included."""
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # after boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - begun


class _Counts:
    """Numbers that both displays tell."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.n_runs = 0
        self.run_steps_total = 0
        self.run_steps_done = 0
        self.checkpoints_total = 0
        self.trained = 0  # run checkpoints with metrics
        self.measured = 0  # run checkpoints through the diagnostics
        self.rate = 0.0  # run-steps a second, of late
        self.memorised: set[str] = set()
        self.generalised: set[str] = set()
        self.diverged: set[str] = set()
        self.first_step: float | None = None  # when it began
        self.seconds: dict[str, float] = collections.defaultdict(float)  # by what, since then

    def spent(self, what: str, seconds: float) -> str:
        """Adds to what a part of the sweep took; returns what is worth telling, if anything."""
        self.seconds[what] += seconds
        if self.first_step is not None or what != "compiling training":
            return ""
        self.first_step = time.monotonic()
        self.seconds.clear()
        return f"first step after {seconds_since_start():.1f} s"

    def shares(self) -> str:
        """Where the time since the first step went, compilation left out."""
        if self.first_step is None:
            return ""
        took = time.monotonic() - self.first_step
        took -= sum(s for what, s in self.seconds.items() if what.startswith("compiling"))
        parts = [f"{what} {self.seconds[what] / took:.0%}" for what in _PARTS]
        rest = 1 - sum(self.seconds[what] for what in _PARTS) / took
        return (
            f"of {_duration(took)} after compilation: {', '.join(parts)}, other {rest:.0%}; "
            f"diagnostics took {_duration(self.seconds['diagnostics'])} beside it"
        )

    def evaluated(self, rows: Sequence[dict[str, Any]]) -> None:
        self.trained += len(rows)
        for row in rows:
            if row["train_accuracy"] >= MEMORISED_ACCURACY:
                self.memorised.add(row["run_id"])
            if row["test_accuracy"] >= GENERALISED_ACCURACY:
                self.generalised.add(row["run_id"])
            if row["train_loss"] != row["train_loss"]:
                self.diverged.add(row["run_id"])

    @property
    def clouds_waiting(self) -> int:
        return max(0, self.trained - self.measured)

    def outcome(self) -> str:
        parts = [f"{len(self.memorised)} memorised", f"{len(self.generalised)} generalised"]
        if self.diverged:
            parts.append(f"{len(self.diverged)} diverged")
        return f"of {self.n_runs} runs: " + ", ".join(parts)

    def seconds_left(self) -> float:
        left = self.run_steps_total - self.run_steps_done
        return left / self.rate if self.rate else float("nan")


# What training is made of; everything else runs beside it.
_PARTS = ("training", "evaluation", "checkpoints")


def _duration(seconds: float) -> str:
    if seconds != seconds:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class PlainDisplay:
    """One line a checkpoint of a batch, for pipes and logs."""

    def __init__(self) -> None:
        self._counts = _Counts()
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._counts.shares():
            self._print(self._counts.shares())

    def _print(self, text: str) -> None:
        with self._lock:
            print(text, flush=True)

    def started(self, runs: Sequence[Run], run_steps: int, checkpoints: int) -> None:
        """See ``pipeline.Display``."""
        self._counts.n_runs, self._counts.run_steps_total = len(runs), run_steps
        self._counts.checkpoints_total = checkpoints

    def spent(self, what: str, seconds: float) -> None:
        """See ``pipeline.Display``."""
        text = self._counts.spent(what, seconds)
        if text:
            self._print(text)

    def trained(self, batch: int, step: int, run_steps: int, seconds: float) -> None:
        """See ``pipeline.Display``."""
        self._counts.spent("training", seconds)
        self._counts.run_steps_done += run_steps
        self._seconds += seconds
        self._steps += run_steps

    def evaluated(self, batch: int, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """See ``pipeline.Display``."""
        counts = self._counts
        counts.evaluated(rows)
        if self._seconds:
            counts.rate = self._steps / self._seconds
        rate = f"{counts.rate:,.0f} run-steps/s" if self._seconds else "compiling"
        self._seconds, self._steps = 0.0, 0
        accuracy = sorted(row["test_accuracy"] for row in rows)[len(rows) // 2]
        self._print(
            f"batch {batch + 1} step {step:,} | {rate} | median test accuracy {accuracy:.3f} | "
            f"{counts.outcome()} | {counts.measured:,} checkpoints measured, "
            f"{counts.clouds_waiting:,} waiting | {_duration(counts.seconds_left())} left"
        )

    def measured(self, done: int) -> None:
        """See ``pipeline.Display``."""
        self._counts.measured = done

    def note(self, text: str) -> None:
        """See ``pipeline.Display``."""
        self._print(text)


class LiveDisplay:
    """Bars for training and diagnostics and a line of what has come out, redrawn in place."""

    def __init__(self, console: Console):
        self._counts = _Counts()
        self._bars = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            expand=True,
        )
        self._training = self._bars.add_task("run-steps", total=None, rate="compiling")
        self._measuring = self._bars.add_task("measured", total=None, rate="")
        self._text = Text("")
        self._live = Live(Group(self._bars, self._text), console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._counts.shares():
            self.note(self._counts.shares())

    def started(self, runs: Sequence[Run], run_steps: int, checkpoints: int) -> None:
        """See ``pipeline.Display``."""
        self._counts.n_runs, self._counts.run_steps_total = len(runs), run_steps
        self._bars.update(self._training, total=run_steps)
        self._bars.update(self._measuring, total=checkpoints)

    def spent(self, what: str, seconds: float) -> None:
        """See ``pipeline.Display``."""
        text = self._counts.spent(what, seconds)
        if text:
            self.note(text)

    def trained(self, batch: int, step: int, run_steps: int, seconds: float) -> None:
        """See ``pipeline.Display``."""
        self._counts.spent("training", seconds)
        rate = f"{run_steps / seconds:,.0f} run-steps/s"
        self._bars.update(self._training, advance=run_steps, rate=rate)

    def evaluated(self, batch: int, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """See ``pipeline.Display``."""
        self._counts.evaluated(rows)
        self._refresh(f"batch {batch + 1}, step {step:,}; ")

    def measured(self, done: int) -> None:
        """See ``pipeline.Display``."""
        self._counts.measured = done
        self._bars.update(
            self._measuring, completed=done, rate=f"{self._counts.clouds_waiting:,} waiting"
        )

    def _refresh(self, prefix: str) -> None:
        self._text.plain = prefix + self._counts.outcome()

    def note(self, text: str) -> None:
        """See ``pipeline.Display``."""
        self._live.console.print(text, highlight=False, markup=False)


def display() -> PlainDisplay | LiveDisplay:
    """The live display if standard output is a terminal, else the plain one."""
    console = Console(file=sys.stdout)
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()


def print_summary(frame: pd.DataFrame) -> None:
    """Prints the table of settings that ends a sweep."""
    table = Table(title="By setting")
    for name in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=160)
    console.print(table)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 10 else f"{value:.3g}"
    return str(value)
