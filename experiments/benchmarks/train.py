"""Training steps of grokjax beside a PyTorch loop over seeds, and beside the machine's floor.

Claim: on 2 CPU cores, 5 runs a batch, a transformer's step takes grokjax at most 1/1.6 of PyTorch
eager's time, an MLP's no more; on a GPU, 45 runs a batch, 1/25.
Command: python -m experiments.benchmarks.train [--models …] [--primes …] [--runs …] [--repeats N]
[--precision …] [--old FOLDER] [--output FILE]; on 2 cores about ten minutes, on a GPU four.
Expected: on 2 cores, 5 runs a batch, 2.4 times PyTorch eager for the transformer and 1.1 times for
the MLP, whose step is nearly all large products; over the fastest PyTorch of each repeat 2.1 and
0.8 to 1.0.

Both sides train the same network (initial weights copied across) on the same batches with the same
optimiser; their first losses must agree to 1e-4 before anything is timed. Each side has a process
of its own, warm, and they take turns, so that a busy machine slows them alike: read the ratios
rather than the times. A ratio is the median over the repeats of PyTorch's time over grokjax's, per
run-step: to PyTorch eager, which the claim is about, and to the fastest variant of each repeat.
PyTorch's network is made of its own encoder layers; its compiler needs a C++ compiler on a CPU, and
is left out, with the reason, where it does not work. So is all of PyTorch where it is missing;
nothing is compared then. --precision is grokjax's alone: PyTorch's products stay float32. --old is
a checkout of another version, as of the first, which takes turns with both.
"""

import contextlib
import importlib
import importlib.util
import os
import pathlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import batches, environment, floor
from experiments.benchmarks.turns import Contestants, Worker, median_ratio, take_turns
from grokjax.settings.config import PRECISIONS
from grokjax.store import record

PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")
TOLERANCE, COMPARED_STEPS = 1e-4, 3
# Of another version's rate, what is at least to be kept.
LEAST_OF_OLD = 0.95
# (backend, model) → runs a batch, the ratio asked for.
REQUIRED = {
    ("cpu", "transformer"): (5, 1.6),
    ("cpu", "mlp"): (5, 1.0),
    ("gpu", "transformer"): (45, 25.0),
    ("gpu", "mlp"): (45, 25.0),
}


def check_losses(ours: np.ndarray, theirs: dict[str, np.ndarray]) -> float:
    """The largest relative difference of first losses; raises SystemExit if it is too large."""
    gaps = [float(np.max(np.abs(losses / ours - 1)[:COMPARED_STEPS])) for losses in theirs.values()]
    if not max(gaps, default=0.0) < TOLERANCE:
        raise SystemExit(f"first losses differ by {max(gaps):.1e}: {ours[:3]}, {theirs}")
    return max(gaps, default=0.0)


def _pytorch(told: dict[str, Any]) -> contextlib.AbstractContextManager[Worker | None]:
    if importlib.util.find_spec("torch") is None:
        return contextlib.nullcontext()
    from experiments.benchmarks import pytorch

    given = (told["config"], told["params"], told["pairs"], list(pytorch.VARIANTS))
    return Worker(pytorch.make, *given)


def of_checkout(folder: str, *given: Any) -> tuple[Contestants, dict[str, Any]]:
    """The batches of a checkout of another version; in a process of its own."""
    for name in [name for name in sys.modules if name.startswith(("grokjax", "experiments"))]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    module = importlib.import_module("experiments.benchmarks.batches")
    if not pathlib.Path(module.__file__ or "").is_relative_to(folder):
        raise SystemExit(f"--old={folder} has no experiments/benchmarks/batches.py")
    contestants, told = module.make(*given)
    losses = {"grokjax": np.asarray(told["losses"])}
    return {_old(name): own for name, own in contestants.items()}, {"losses": losses}


def _old(name: str) -> str:
    return f"old {name}"


def contest(
    kind: str,
    prime: int,
    sizes: Sequence[int],
    repeats: int,
    n_steps: int | None,
    precision: str = "float32",
    old: str | None = None,
) -> dict[str, Any]:
    """Milliseconds a run-step of every contestant, and ratios to PyTorch and to the old version."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Worker(batches.make, kind, prime, sizes, n_steps, precision))
        told, gap = ours.told, None
        others = []
        if old is not None:
            given = (old, kind, prime, sizes, n_steps)
            others.append(stack.enter_context(Worker(of_checkout, *given)))
            check_losses(told["losses"], others[0].told["losses"])
        missing, pytorch_names = {"PyTorch": "is not installed"}, []
        if (theirs := stack.enter_context(_pytorch(told))) is not None:
            missing, pytorch_names = theirs.told["missing"], theirs.names
            gap = check_losses(told["losses"], theirs.told["losses"])
            others.append(theirs)
        seconds = take_turns([ours, *others], repeats)
    names = {n: batches.name_of(n) for n in sizes}
    run_steps = {
        own: n * told["n_steps"] for n, name in names.items() for own in (name, _old(name))
    }
    times = {
        name: [1e3 * s / run_steps.get(name, told["n_steps"]) for s in values]
        for name, values in seconds.items()
    }
    rivals = {"ratios_to_plain_eager": times.get("PyTorch eager")}
    if pytorch_names:
        rivals["ratios"] = np.min([times[name] for name in pytorch_names], axis=0).tolist()
    return {
        "model": kind,
        "prime": prime,
        "precision": precision,
        "backend": told["backend"],
        "accelerator": told["device"],
        "repeats": repeats,
        "largest_relative_loss_difference": gap,
        "milliseconds_per_run_step": {n: statistics.median(v) for n, v in times.items()},
        "spread": {n: [min(v), max(v)] for n, v in times.items()},
        "ratios": {},
        **{
            key: {str(n): median_ratio(rival, times[names[n]]) for n in sizes}
            for key, rival in rivals.items()
            if rival
        },
        "ratios_to_old": {
            str(n): median_ratio(times[_old(name)], times[name])
            for n, name in names.items()
            if old is not None
        },
        "missing": missing,
    }


def show(result: dict[str, Any]) -> None:
    """Prints one contest."""
    print(
        f"{result['model']}, p = {result['prime']}, batch {batches.BATCH_SIZE}, "
        f"{result['precision']}:"
    )
    for name, milliseconds in result["milliseconds_per_run_step"].items():
        low, high = result["spread"][name]
        print(f"  {name:32} {milliseconds:8.3f} ms a run-step ({low:.3f} to {high:.3f})")
    for name, reason in result["missing"].items():
        print(f"  {name:32} does not work here: {reason[:200]}")
    asked, required = REQUIRED.get((result["backend"], result["model"]), (None, 0.0))
    for n_runs, ratio in result["ratios_to_old"].items():
        verdict = "PASS" if ratio >= LEAST_OF_OLD else "below"
        print(f"  {n_runs:>2} a batch: {ratio:.2f} times the old version ({verdict})")
    for n_runs, ratio in result["ratios"].items():
        eager, verdict = result["ratios_to_plain_eager"][n_runs], ""
        if int(n_runs) == asked:
            verdict = f" ({'PASS' if eager >= required else 'below'}; required: {required})"
        print(
            f"  {n_runs:>2} a batch: {eager:.2f} times PyTorch eager{verdict}, {ratio:.2f} times "
            "the fastest PyTorch"
        )


def main() -> None:
    """Measure, print the ratios and the floor, and append a JSON line where asked."""
    parser = environment.parser(__doc__, repeats=5)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--primes", type=int, nargs="+", default=[113])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 5, 15, 45])
    parser.add_argument("--steps", type=int, help="steps a turn; default: 25, on a GPU 500")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--old", help="a checkout of another version, to take turns with")
    options = parser.parse_args()
    # Two processes share a GPU here; neither may take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    results = []
    for kind in options.models:
        for prime in options.primes:
            own = (options.runs, options.repeats, options.steps, options.precision, options.old)
            result = contest(kind, prime, *own)
            with Worker(floor.make, kind, prime, max(options.runs)) as worker:
                result["floor"] = worker.told
            results.append(result)
            show(result)
            best = min(
                result["milliseconds_per_run_step"][batches.name_of(n)] for n in options.runs
            )
            print(floor.describe(result["floor"], best / 1e3), flush=True)
    old = record.commit(pathlib.Path(options.old)) if options.old else None
    environment.append(options.output, PACKAGES, benchmark="train", results=results, old=old)


if __name__ == "__main__":
    main()
