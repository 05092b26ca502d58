"""Where the time of a training step goes on the device: JAX's profiler, reduced to a table.

Question: which kernels take how much of a step, and how much of it is none of them?
Command: python -m experiments.benchmarks.profile [--models …] [--prime P] [--runs N] [--steps N]
[--output FILE]; on a GPU two minutes. With --output=F.json the whole tables are F-MODEL.parquet.

A chunk of steps is timed, then traced. Each kernel's time is its own: of one that contains others
(a loop, on a CPU), less theirs. Names go without their numbers, so kernels of one name are one row.
On a GPU command buffers are off, for within one kernels have no names of their own; the step's time
is therefore somewhat longer here than in `experiments.benchmarks.train`.
"""

import collections
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from experiments.benchmarks import environment

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
COLUMNS = ("kernel", "calls_a_step", "microseconds_a_step", "share")
SHOWN = 12
# Plane of a trace → beginning of the lines on it that hold what the device did.
_LINES = {"/device:GPU": "Stream", "/device:TPU": "XLA Ops"}


def own_times(events: Iterable[tuple[str, float, float]]) -> Iterator[tuple[str, float]]:
    """Names and own durations of one line's (name, start, duration): less what lies within them."""
    open_: list[list[Any]] = []  # name, end, own duration
    for name, start, duration in sorted(events, key=lambda event: (event[1], -event[2])):
        while open_ and open_[-1][1] <= start:
            ended = open_.pop()
            yield ended[0], ended[2]
        if open_:
            open_[-1][2] -= duration
        open_.append([name, start + duration, duration])
    yield from ((name, own) for name, _, own in open_)


def plain(name: str) -> str:
    """A kernel's name without the numbers that tell it from its like."""
    return re.sub(r"([._]\d+)+$", "", name)


def lines(trace: Any) -> Iterator[list[tuple[str, float, float]]]:
    """(name, start, duration) in nanoseconds of what devices did, a list a line of the trace."""
    for plane in trace.planes:
        wanted = next((own for name, own in _LINES.items() if plane.name.startswith(name)), None)
        for line in plane.lines:
            if wanted is not None and not line.name.startswith(wanted):
                continue
            found = [
                (event.name, event.start_ns, event.duration_ns)
                for event in line.events
                if wanted is not None
                # What a CPU does is on its host's lines, among much else.
                or ("hlo_op" in dict(event.stats) and not event.name.startswith("end: "))
            ]
            if found:
                yield found


def table(found: Iterable[Iterable[tuple[str, float, float]]], n_steps: int) -> pd.DataFrame:
    """A row a kernel, longest first: calls and time a step, and share of all kernels' time."""
    spent, calls = collections.Counter(), collections.Counter()
    for events in found:
        for name, own in own_times(events):
            spent[plain(name)] += own
            calls[plain(name)] += 1
    total = spent.total()
    rows = [
        (name, calls[name] / n_steps, ns / 1e3 / n_steps, ns / total)
        for name, ns in spent.most_common()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def traced(batch: Any) -> pd.DataFrame:
    """The table of the batch's next chunk."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            batch.seconds()
        found = list(pathlib.Path(folder).rglob("*.xplane.pb"))
        if not found:
            raise SystemExit("the profiler left no trace")
        trace = jax.profiler.ProfileData.from_file(str(found[0]))
        frame = table(lines(trace), batch.n_steps)
    if frame.empty:
        planes = ", ".join(plane.name for plane in trace.planes)
        raise SystemExit(f"the trace has no kernels; its planes: {planes}")
    return frame


def measure(kind: str, prime: int, n_runs: int, n_steps: int) -> tuple[dict[str, Any], Any]:
    """Time of a step and of the kernels in it, the longest of them; and the whole table."""
    import jax

    from experiments.benchmarks import batches

    batch = batches.Batch(kind, prime, n_runs, n_steps)
    wall = min(batch.seconds() for _ in range(3)) / n_steps
    frame = traced(batch)
    busy = frame["microseconds_a_step"].sum() / 1e6
    return {
        "model": kind,
        "prime": prime,
        "runs": n_runs,
        "steps": n_steps,
        "accelerator": jax.devices()[0].device_kind,
        "milliseconds_a_step": 1e3 * wall,
        "milliseconds_of_kernels": 1e3 * busy,
        "kernels_a_step": float(frame["calls_a_step"].sum()),
        "longest": frame.head(SHOWN).to_dict("records"),
    }, frame


def show(result: dict[str, Any]) -> None:
    """Prints one model's longest kernels."""
    wall, busy = result["milliseconds_a_step"], result["milliseconds_of_kernels"]
    print(f"{result['model']}, p = {result['prime']}, {result['runs']} runs: {wall:.3f} ms a step,")
    print(f"  {busy:.3f} ms of kernels, {result['kernels_a_step']:.0f} of them a step")
    for row in result["longest"]:
        print(f"  {row['share']:6.1%} {row['microseconds_a_step']:10.1f} µs {row['kernel'][:70]}")


def main() -> None:
    """Measure, print the tables, and append a JSON line where asked."""
    parser = environment.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--prime", type=int, default=197)
    parser.add_argument("--runs", type=int, default=45)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    # Read when JAX is first used.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_enable_command_buffer="
    results = []
    for kind in options.models:
        result, frame = measure(kind, options.prime, options.runs, options.steps)
        results.append(result)
        show(result)
        if options.output is not None:
            frame.to_parquet(options.output.with_name(f"{options.output.stem}-{kind}.parquet"))
    environment.append(options.output, PACKAGES, benchmark="profile", results=results)


if __name__ == "__main__":
    main()
