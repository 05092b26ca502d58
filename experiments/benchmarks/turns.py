"""Contestants in processes of their own that take turns, so that a busy machine slows all alike."""

import contextlib
import functools
import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Self

# Name → a call that does a fixed piece of work and returns what it took, in seconds.
Contestants = Mapping[str, Callable[[], float]]


def _serve(pipe: Connection, make: Callable[..., tuple[Contestants, Any]], given: Any) -> None:
    contestants, told = make(*given)
    pipe.send((list(contestants), told))
    while (name := pipe.recv()) is not None:
        pipe.send(contestants[name]())


class Worker:
    """A process that makes contestants and calls each when it is its turn; a context manager."""

    def __init__(self, make: Callable[..., tuple[Contestants, Any]], *given: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # Not a daemon, for those may not have children, and compilers want some.
        self._process = context.Process(target=_serve, args=(theirs, make, given))
        self._process.start()
        theirs.close()  # so that a worker that dies ends the wait for it

    @functools.cached_property
    def _made(self) -> tuple[list[str], Any]:
        return self._pipe.recv()

    @property
    def names(self) -> list[str]:
        """Of its contestants; waits until they are made, as ``told`` does."""
        return self._made[0]

    @property
    def told(self) -> Any:
        """Whatever else ``make`` returned."""
        return self._made[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()
        self._process.join()

    def dismiss(self) -> None:
        """Tells it to end, and does not wait: two that are one job end together."""
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self._pipe.send(None)

    def begin(self, name: str) -> None:
        """Starts one turn of a contestant."""
        self._pipe.send(name)

    def ended(self) -> float:
        """Waits for the turn to end; its seconds."""
        return self._pipe.recv()

    def seconds(self, name: str) -> float:
        """One turn."""
        self.begin(name)
        return self.ended()


def take_turns(workers: Sequence[Worker], repeats: int) -> dict[str, list[float]]:
    """Seconds of every contestant in each of the repeats."""
    times: dict[str, list[float]] = {name: [] for worker in workers for name in worker.names}
    for _ in range(repeats):
        for worker in workers:
            for name in worker.names:
                times[name].append(worker.seconds(name))
    return times


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the repeats of the ratio within each."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def quartiles_of_ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """First and third quartile over the repeats (two at least) of the ratio within each."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    first, _, third = statistics.quantiles(ratios, n=4, method="inclusive")
    return first, third
