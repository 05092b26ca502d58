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


# What training is made of; everything else runs beside it.
_PARTS = ("training", "evaluation", "lenses", "checkpoints")


def duration(seconds: float) -> str:
    """Seconds as minutes and hours."""
    if seconds != seconds:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Display:
    """How far a sweep has come: bars on a terminal, else one line a checkpoint of a batch."""

    def __init__(self) -> None:
        console = Console(file=sys.stdout)
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
        shown = Live(Group(self._bars, self._text), console=console, refresh_per_second=4)
        self._live = shown if console.is_terminal else None
        self._lock = threading.Lock()
        self._n_runs = 0
        self._steps_left = 0
        self._steps, self._seconds = 0, 0.0  # of training since the last checkpoint
        self._rate = 0.0  # run-steps a second, of late
        self._n_trained = 0  # run checkpoints with metrics
        self._n_measured = 0  # run checkpoints through the diagnostics
        self._n_before = 0  # of them those of earlier starts
        self._came: dict[str, set[str]] = collections.defaultdict(set)  # to what → run ids
        self._first_step: float | None = None  # when it began
        self._spent: dict[str, float] = collections.defaultdict(float)  # by what, since then

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Tells where the time since the first step went, compilation left out."""
        if self._live:
            self._live.stop()
        if self._first_step is None:
            return
        spent = self._spent
        took = time.monotonic() - self._first_step
        took -= sum(s for what, s in spent.items() if what.startswith("compiling"))
        named = [*_PARTS, *(["topology"] if "topology" in spent else [])]
        parts = ", ".join(f"{what} {spent[what] / took:.0%}" for what in named)
        rest = 1 - sum(spent[what] for what in named) / took
        beside = f"diagnostics took {duration(spent['diagnostics'])} beside it"
        self.note(f"of {duration(took)} after compilation: {parts}, other {rest:.0%}; {beside}")

    def note(self, text: str) -> None:
        """Something worth a line."""
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
            return
        with self._lock:
            print(text, flush=True)

    def started(
        self,
        runs: Sequence[Run],
        run_steps: tuple[int, int],
        checkpoints: tuple[int, int],
        metrics: pd.DataFrame,
    ) -> None:
        """The grid; run-steps, and run checkpoints to be measured: in all, and how many are left.

        And the metrics of earlier starts.
        """
        self._n_runs, self._steps_left = len(runs), run_steps[1]
        self._n_before = self._n_measured = checkpoints[0] - checkpoints[1]
        self._n_trained = len(metrics)
        self._note_outcomes(metrics)
        for bar, (total, left) in ((self._training, run_steps), (self._measuring, checkpoints)):
            self._bars.update(bar, total=total, completed=total - left)

    def spent(self, what: str, seconds: float) -> None:
        """So many seconds went into a part of the sweep."""
        self._spent[what] += seconds
        if self._first_step is None and what == "compiling training":
            self._first_step = time.monotonic()
            self._spent.clear()
            self.note(f"first step after {seconds_since_start():.1f} s")

    def trained(self, batch: int, step: int, run_steps: int, seconds: float) -> None:
        """A batch has come to ``step``; so many run-steps took so many seconds."""
        self.spent("training", seconds)
        self._steps_left -= run_steps
        self._steps += run_steps
        self._seconds += seconds
        rate = f"{run_steps / seconds:,.0f} run-steps/s"
        self._bars.update(self._training, advance=run_steps, rate=rate)

    def evaluated(self, batch: int, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Metrics of a checkpoint."""
        self._n_trained += len(rows)
        self._note_outcomes(pd.DataFrame(rows))
        told = ["memorised", "generalised", *(["diverged"] if self._came["diverged"] else [])]
        parts = ", ".join(f"{len(self._came[what])} {what}" for what in told)
        outcome = f"of {self._n_runs} runs: {parts}"
        rate = "compiling"
        if self._seconds:
            self._rate = self._steps / self._seconds
            rate = f"{self._rate:,.0f} run-steps/s"
        self._steps, self._seconds = 0, 0.0
        if self._live:
            self._text.plain = f"batch {batch + 1}, step {step:,}; {outcome}"
            return
        accuracy = sorted(row["test_accuracy"] for row in rows)[len(rows) // 2]
        left = self._steps_left / self._rate if self._rate else float("nan")
        self.note(
            f"batch {batch + 1} step {step:,} | {rate} | median test accuracy {accuracy:.3f} | "
            f"{outcome} | {self._n_measured:,} checkpoints measured, "
            f"{self._waiting()} | {duration(left)} left"
        )

    def _note_outcomes(self, metrics: pd.DataFrame) -> None:
        came = {
            "memorised": metrics["train_accuracy"] >= MEMORISED_ACCURACY,
            "generalised": metrics["test_accuracy"] >= GENERALISED_ACCURACY,
            "diverged": metrics["train_loss"].isna(),
        }
        for what, rows in came.items():
            self._came[what] |= set(metrics["run_id"][rows])

    def measured(self, done: int, seconds: float) -> None:
        """How many run checkpoints this start has measured; the last took so long."""
        self.spent("diagnostics", seconds)
        self._n_measured = self._n_before + done
        self._bars.update(self._measuring, completed=self._n_measured, rate=self._waiting())

    def _waiting(self) -> str:
        return f"{max(0, self._n_trained - self._n_measured):,} waiting"


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
