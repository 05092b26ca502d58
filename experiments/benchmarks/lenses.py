"""What lenses cost beside training: whole sweeps with and without, a checkpoint, operations.

Claim: a sweep with lenses takes at most 108 % of the same without; at its last step at most one
checkpoint of the batch waits, and all is measured within 5 s of it; the tables are those of
``grokjax.analyze`` to the bit. All lenses of a checkpoint (persistence of the embedding and of
every hidden layer on 256 states, Fourier, TwoNN on 2,000 states) take less than 5 % of the 500
steps before it at every prime of the study, and of the operations likewise.
Command: python -m experiments.benchmarks.lenses [--parts sweeps shares operations] [--sizes S…]
[--steps N] [--folder F] [--primes P…] [--runs N] [--output FILE]; on 2 quiet cores about 75
minutes, most of it the sweeps of 20,000 steps; with --steps=1000, for both sizes, ten.
Expected: 103 to 106 %; 3 to 5 %.

Sweeps: processes of their own on one compilation cache, which a short one fills before; with and
without lenses in turns; seconds from the first step until everything is measured. Before this came,
with lenses in a thread whose calls waited for training's chunks, the first size took 19 min 54 s of
diagnostics beside training (1 min 30 s by ``analyze`` alone), and of the second 64 of 80 run
checkpoints waited at the last step, and it took 109 %.

Shares: a batch of a run a device (--runs: as many), lenses and steps in turns within each repeat;
what evaluation takes longer because its answers are kept is counted to lenses, evaluation itself is
not.

Operations: counted from traced programs, a float64 one as two; they say what a GPU would have to
do beside training. Persistence is not among them: host cores do it beside.
"""

import collections
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks import environment
from experiments.benchmarks.sweep import Clock

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "redzed-tda")
MOST_RATIO, MOST_WAITING, MOST_SECONDS, MOST_SHARE = 1.08, 1, 5.0, 0.05
STEPS = 500
COMMON = ("--models=transformer", "--primes=113", "--train_fractions=0.3", "--checkpoint_every=500")
# Name → flags, steps, and what was measured before.
SIZES: dict[str, tuple[tuple[str, ...], int, dict[str, Any]]] = {
    "5 runs": (
        ("--seeds=46:51", "--diagnostics=persistence,fourier"),
        20_000,
        {"diagnostics_seconds": 1194.0, "analyze_seconds": 90.0},
    ),
    "16 runs": (
        ("--seeds=46:62", "--diagnostics=persistence,fourier,dimension"),
        2_000,
        {"ratio": 1.09, "run_checkpoints_waiting": 64, "run_checkpoints": 80},
    ),
}


class LensClock(Clock):
    """A clock that also knows what waits."""

    def __init__(self) -> None:
        super().__init__()
        self.trained_runs = self.measured_runs = self.waiting = 0
        self.measured_at = 0.0

    def evaluated(self, batch: int, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Counts it; told before the lenses of the checkpoint are waited for."""
        super().evaluated(batch, step, rows)
        self.trained_runs += len(rows)
        self.waiting = self.trained_runs - self.measured_runs

    def measured(self, done: int, seconds: float) -> None:
        """Counts it."""
        self.measured_runs, self.measured_at = done, time.perf_counter()
        self.seconds["diagnostics"] += seconds


def _sweep(folder: str, cache: str, flags: Sequence[str], pipe: Any) -> None:
    """Runs a sweep in this process and sends what its clock says."""
    from grokjax import cli, sweep
    from grokjax.report import drawing
    from grokjax.running import progress

    clock = LensClock()
    progress.Display, drawing.write = lambda: clock, lambda *_: "none"  # type: ignore[misc]
    given = [*flags, f"--workdir={folder}", f"--compilation_cache={cache}"]
    try:
        cli.run(sweep.main, sweep.define, ["sweep", *given])
    except SystemExit as end:
        last = max(clock.measured_at, clock.last_checkpoint_at)
        compiling = sum(s for what, s in clock.seconds.items() if what.startswith("compiling"))
        pipe.send(
            {
                "exit_code": end.code or 0,
                "seconds": last - clock.first_step_at - compiling,
                "run_checkpoints_waiting": clock.waiting,
                "after_last_step": max(0.0, clock.measured_at - clock.last_checkpoint_at),
                "parts": dict(clock.seconds),
            }
        )


def _analyze(folder: str, cache: str, flags: Sequence[str], pipe: Any) -> None:
    from grokjax import analyze, cli

    begun = time.perf_counter()
    try:
        given = [f"--workdir={folder}", f"--compilation_cache={cache}", *flags]
        cli.run(analyze.main, analyze.define, ["analyze", *given])
    except SystemExit as end:
        pipe.send({"exit_code": end.code or 0, "seconds": time.perf_counter() - begun})


def _in_a_process(work: Callable[..., None], *given: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(*given, theirs))
    process.start()
    theirs.close()
    found: dict[str, Any] = ours.recv()
    process.join()
    if found["exit_code"]:
        raise SystemExit(f"{work.__name__} {given} ended with {found['exit_code']}")
    return found


def _tables(folder: str) -> dict[str, Any]:
    import pandas as pd

    paths = Path(folder, "results").glob("*.parquet")
    return {path.stem: pd.read_parquet(path) for path in sorted(paths)}


def sweeps(name: str, steps: int | None, folder: Path | None) -> dict[str, Any]:
    """A size with and without lenses, and analysed; work directories stay in a folder if told."""
    own, usual, before = SIZES[name]
    flags, n_steps = [*COMMON, *own], steps or usual
    with tempfile.TemporaryDirectory() as passing:
        where = folder or passing
        cache = f"{where}/cache"
        found = {}
        for kind, given in (("without", ["--diagnostics=none"]), ("with", [])):
            _in_a_process(_sweep, f"{where}/short-{kind}", cache, [*flags, *given, "--steps=500"])
        for kind, given in (("without", ["--diagnostics=none"]), ("with", [])):
            every = [*flags, *given, f"--steps={n_steps}"]
            found[kind] = _in_a_process(_sweep, f"{where}/{kind}", cache, every)
        theirs = _tables(f"{where}/with")
        diagnostics = next(flag for flag in own if flag.startswith("--diagnostics"))
        found["analyze"] = _in_a_process(_analyze, f"{where}/without", cache, [diagnostics])
        ours = _tables(f"{where}/without")
    equal = {key: ours[key].equals(frame) for key, frame in theirs.items()}
    ratio = found["with"]["seconds"] / found["without"]["seconds"]
    return {
        "size": name,
        "steps": n_steps,
        "before": before,
        "found": found,
        "ratio": ratio,
        "tables_equal": equal,
    }


def share(kind: str, prime: int, repeats: int, n_runs: int | None) -> dict[str, Any]:
    """Medians of the milliseconds of each part of a checkpoint's lenses, and share of the steps."""
    import jax

    from experiments.benchmarks import batches, lens_programs
    from grokjax import diagnostics
    from grokjax.measuring import views
    from grokjax.measuring.analyst import own_params
    from grokjax.measuring.lenses import Lenses
    from grokjax.settings.config import TrainConfig
    from grokjax.training import mapped

    mapped.use_every_core()
    n_runs = n_runs or len(jax.local_devices())
    config, options = TrainConfig(), lens_programs.options()
    batch = batches.Batch(kind, prime, n_runs, batches.steps_a_turn())
    lenses = Lenses(options, config)
    evaluator = lenses.evaluator(batch.runs)
    times: dict[str, list[float]] = collections.defaultdict(list)

    def timed(name: str, compute: Callable[..., Any], *given: Any) -> Any:
        begun = time.perf_counter()
        result = jax.block_until_ready(compute(*given))
        times[name].append(time.perf_counter() - begun)
        return result

    for repeat in range(repeats + 1):  # the first compiles
        times["step"].append(batch.seconds() / batch.n_steps)
        stacked = jax.tree.map(lambda leaf: leaf[:n_runs], jax.device_get(batch.state.params))
        chunks = list(evaluator.chunks(stacked))
        timed("evaluation", lambda own: [chunk.evaluate() for chunk in own], chunks)
        answers = timed("with answers", lambda all_: [c.examine()[1] for c in all_], chunks)
        seen: dict[str, Any] = {}
        for chunk, own in zip(chunks, answers, strict=True):
            seen |= timed("look", lenses.look, 0, chunk, own)
        all_views = [
            views.view(run, own_params(stacked, i, run), repeat, config, options, seen[run.run_id])
            for i, run in enumerate(batch.runs)
        ]
        for name in options.diagnostics:
            timed(name, diagnostics.get(name).measure, all_views, options)
    shares, n_chunks = [], len(times["look"]) // (repeats + 1)
    for i in range(1, repeats + 1):
        kept = times["with answers"][i] - times["evaluation"][i]
        looks = sum(times["look"][i * n_chunks : (i + 1) * n_chunks])
        host = sum(times[name][i] for name in options.diagnostics)
        shares.append((kept + looks + host) / (STEPS * times["step"][i]))
    return {
        "model": kind,
        "prime": prime,
        "runs": n_runs,
        "milliseconds": {name: 1e3 * statistics.median(own[1:]) for name, own in times.items()},
        "share_of_steps": statistics.median(shares),
    }


def _count(jaxpr: Any) -> float:
    """Operations of a traced program, loops counted out: a float64 one counts as two."""
    from grokjax.training import work

    total = 0.0
    for equation in jaxpr.eqns:
        inner = work._inner(equation)
        if inner:
            counts = [times * _count(own) for own, times in inner]
            # Of a choice one branch is taken: the first is the usual one.
            total += counts[0] if equation.primitive.name == "cond" else sum(counts)
            continue
        shapes = [v.aval for v in (*equation.outvars, *equation.invars) if hasattr(v, "aval")]
        wide = any(str(getattr(own, "dtype", "")) == "float64" for own in shapes)
        if equation.primitive.name == "dot_general":
            (axes, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            n = 2 * equation.outvars[0].aval.size * math.prod(left[i] for i in axes)
        else:
            n = max(getattr(own, "size", 1) for own in shapes)
            if equation.primitive.name in ("sort", "top_k"):
                n *= math.log2(max(2, equation.invars[0].aval.shape[-1]))
        total += n * (2 if wide else 1)
    return total


def operations(kind: str, prime: int) -> dict[str, Any]:
    """Operations of each lens's program and of a training step, of one run."""
    import functools

    import jax
    import numpy as np

    from experiments.benchmarks import batches, lens_programs
    from grokjax.settings.config import TrainConfig
    from grokjax.training import data, step, work
    from grokjax.training.step import Program

    (run,) = batches.runs(kind, prime, 1)
    program = Program.of([run], TrainConfig())
    counted = {}
    for name, lens in lens_programs.of(run, TrainConfig()).items():
        with jax.enable_x64(name != "states"):
            counted[name] = _count(jax.make_jaxpr(lens.function)(*lens.own, *lens.shared).jaxpr)
    own = jax.tree.map(lambda leaf: leaf[0], data.stack([run]))
    state = jax.eval_shape(functools.partial(step.init, program), own)
    train = functools.partial(step.train_run, program, 100)
    first = jax.ShapeDtypeStruct((), np.int32)
    traced = jax.make_jaxpr(train)(state, own, first).jaxpr
    training = _count(traced) / 100
    return {
        "model": kind,
        "prime": prime,
        "operations": counted,
        "a_step": training,
        "products_of_a_step": work.flops(work.products(traced)) / 100,
        "share_of_steps": sum(counted.values()) / (STEPS * training),
    }


def show(part: str, result: dict[str, Any]) -> None:
    """Prints one result."""
    if part == "sweeps":
        found = result["found"]
        print(f"{result['size']}, {result['steps']:,} steps: before {result['before']}")
        for kind, own in found.items():
            print(f"  {kind:8} {own['seconds']:8.1f} s")
        print(f"  ratio {result['ratio']:.1%} (required: at most {MOST_RATIO:.0%})")
        own = found["with"]
        print(f"  run checkpoints waiting at the last step: {own['run_checkpoints_waiting']}")
        print(f"  {own['after_last_step']:.1f} s from the last checkpoint to the end of lenses")
        print(f"  tables equal to analyze's: {result['tables_equal']}", flush=True)
        return
    told = result.get("milliseconds") or result["operations"] | {"a step": result["a_step"]}
    print(f"{part}: {result['model']}, p = {result['prime']}")
    for name, value in told.items():
        print(f"  {name:14} {value:14,.1f}")
    print(f"  {result['share_of_steps']:.1%} of {STEPS} steps (below {MOST_SHARE:.0%})", flush=True)


def main() -> None:
    """Measure, print, and append a JSON line where asked."""
    parser = environment.parser(__doc__, repeats=5)
    parser.add_argument("--parts", nargs="+", default=["sweeps", "shares", "operations"])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--steps", type=int, help="of every sweep, instead of the usual")
    parser.add_argument("--folder", type=Path, help="an empty one, to keep the sweeps in")
    parser.add_argument("--primes", type=int, nargs="+", default=[113, 149, 197])
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--runs", type=int, help="of the shares; default: one a device")
    options = parser.parse_args()
    if options.folder and options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"--folder={options.folder} is not empty: sweeps there would only resume")
    results: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)

    def take(part: str, result: dict[str, Any]) -> None:
        results[part].append(result)
        show(part, result)

    if "sweeps" in options.parts:
        for name in options.sizes:
            folder = options.folder and options.folder / name.replace(" ", "-")
            take("sweeps", sweeps(name, options.steps, folder))
    for kind in options.models:
        for prime in options.primes:
            if "shares" in options.parts:
                take("shares", share(kind, prime, options.repeats, options.runs))
            if "operations" in options.parts:
                take("operations", operations(kind, prime))
    environment.append(options.output, PACKAGES, benchmark="lenses", results=dict(results))


if __name__ == "__main__":
    main()
