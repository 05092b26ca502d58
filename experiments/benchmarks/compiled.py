"""What the compilers for TPUs and for the H100 make of the study's programs, without such a device.

Question: what would a training step, an evaluation and lenses cost on an accelerator, and what are
they made of?
Command: python -m experiments.benchmarks.compiled [--targets …] [--programs …] [--models …]
[--runs …] [--kept] [--before FILE] [--output FILE]; two to six minutes of a core and up to 5 GB a
program.
Needs ``pip install -e '.[tpu]'`` for TPUs, and the CUDA plug-in of JAX for the H100 (``pip install
--no-deps jax-cuda13-plugin jax-cuda13-pjrt`` of jax's own version; no driver); a target whose
compiler is missing is said and left out. Each program that was compiled is kept in --cache under
what it is made of, so an interrupted command resumes; --kept compiles nothing more.

Nothing runs. TPU: the compiler's own estimate in cycles, over an assumed clock; gathers, sorts and
copies beside other work count nothing in it. H100: each kernel takes the larger of its bytes over
85 % of the memory's rate and its FLOPs over 75 % of the peak; starting kernels is not counted.
Bytes are those of the shapes in the program, without what stays in a TPU's vector memory. Compared
are programs, not chips: read ratios. Of training and evaluation the loop is counted, of lenses
(states of every layer, Fourier measures, TwoNN on 2,000 states) all that a call runs, but for the
branches of a choice: TwoNN sums again where rounding has taken distances away.
"""

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent import futures
from typing import Any

from experiments.benchmarks import environment, hlo

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
PRIME, STEPS_A_CALL = 197, 100
LENSES = ("states", "fourier", "dimension")
# Steps: training but for the order of examples, which takes half of a TPU's compile time.
TRAININGS = ("steps", "training")
PROGRAMS = (*TRAININGS, "evaluation", *LENSES)
# Milliseconds a run-step of 45 transformers that are asked for, by target and precision.
REQUIRED = {
    ("v5e", "float32"): 0.085,
    ("v6e", "float32"): 0.055,
    ("h100", "float32"): 0.045,
    ("h100", "tf32x3"): 0.035,
}
REQUIRED_KERNELS = {("h100", "float32"): 80}
FOLDER = pathlib.Path(__file__).parent.parent / "results" / "benchmarks"


@dataclasses.dataclass(frozen=True)
class Target:
    """A chip: how its compiler is asked, and its data sheet."""

    compiler: str  # module that is its compiler
    topology: str
    bytes_per_second: float
    bfloat16_flops: float  # a second
    clock: float = 0.0  # cycles a second of a TPU, assumed
    flops: Mapping[str, float] = dataclasses.field(default_factory=dict)  # by precision, of a GPU

    def peak(self, precision: str) -> float:
        """FLOPs a second of products; a TPU multiplies in one, three or six passes of bfloat16."""
        passes = {"bfloat16": 1, "bfloat16x3": 3, "float32": 6}
        return self.flops.get(precision) or self.bfloat16_flops / passes[precision]


_H100 = {"float32": 67e12, "tf32": 495e12, "bfloat16": 990e12, "tf32x3": 165e12}
TARGETS = {
    "v5e": Target("libtpu", "v5e:2x2", 819e9, 197e12, 1.5e9),
    "v5p": Target("libtpu", "v5p:2x2x1", 2765e9, 459e12, 1.75e9),
    "v6e": Target("libtpu", "v6e:2x2", 1640e9, 918e12, 1.75e9),
    "h100": Target("jax_plugins.xla_cuda13", "1x1x1", 3.35e12, 990e12, flops=_H100),
}
# The data sheet of an H100 SXM, as the CUDA compiler reads it.
_H100_CONFIG = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800  device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """One program to compile."""

    target: str
    program: str
    model: str
    runs: int
    precision: str = "float32"
    prime: int = PRIME
    steps: int = STEPS_A_CALL  # of a call, if it trains

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "Asked":
        """That of a result."""
        return cls(**{own.name: result[own.name] for own in dataclasses.fields(cls)})

    @property
    def name(self) -> str:
        """For a line, and a file."""
        steps = "" if self.steps == STEPS_A_CALL else f", {self.steps} steps a call"
        whole = f"{self.target}, {self.program} of {self.runs} {self.model}s, {self.precision}"
        return whole + steps


def quiet() -> None:
    """Tells JAX and the compilers that there is no accelerator here; before JAX is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Else a second process that only compiles would end on the first one's lock file.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_LOG_DIR": "disabled",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def mesh(target: str) -> Any:
    """A mesh of one device of a target."""
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh

    own = TARGETS[target]
    if own.compiler == "libtpu":
        found = topologies.get_topology_desc(own.topology, "tpu")
    else:
        given = {"target_config": _H100_CONFIG, "topology": own.topology}
        found = topologies.get_topology_desc(platform="cuda", **given)
    return Mesh(np.array(found.devices[:1]), ("runs",))


def lowered(asked: Asked, **settings: str) -> tuple[Any, int]:
    """A program for its target, and the FLOPs of products in one step of one run."""
    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    from experiments.benchmarks import batches, lens_programs
    from grokjax.settings.config import TrainConfig
    from grokjax.training import data, mapped, step, work

    runs = batches.runs(asked.model, asked.prime, 1, **settings)
    config = TrainConfig(precision=asked.precision)
    program, own = step.Program.of(runs, config), data.stack(runs)
    on = mesh(asked.target)

    def shapes(tree: Any) -> Any:
        split = NamedSharding(on, PartitionSpec("runs"))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((asked.runs, *x.shape[1:]), x.dtype, sharding=split),
            tree,
        )

    state = shapes(jax.eval_shape(jax.vmap(functools.partial(step.init, program)), own))
    if asked.program in TRAININGS:
        flops = work.flops(work.products(work.Traced(runs[0], config).training))
    if asked.program == "steps":
        size = (1, asked.steps, int(settings.get("batch_size", batches.BATCH_SIZE)), 3)
        given = shapes(jax.ShapeDtypeStruct(size, np.int32))
        steps = functools.partial(step.train_on, program, asked.steps)
        train = mapped.over_runs(program, on, steps, donate_argnums=0)
        return train.lower(state, shapes(own), given), flops
    if asked.program == "training":
        first = jax.ShapeDtypeStruct((), np.int32, sharding=NamedSharding(on, PartitionSpec()))
        train = mapped.train_chunk(program, on, asked.steps)
        return train.lower(state, shapes(own), first), flops
    if asked.program == "evaluation":
        flops = work.flops(work.products(work.Traced(runs[0], config).evaluation))
        return mapped.evaluate(program, on).lower(state.params, shapes(own)), flops
    lens = lens_programs.of(runs[0], config)[asked.program]
    with jax.enable_x64(asked.program != "states"):
        traced = jax.make_jaxpr(lens.function)(*lens.own, *lens.shared)
        look = mapped.over_runs(program, on, lens.function, n_shared=len(lens.shared))
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), lens.own)
        return look.lower(*shapes(one), *lens.shared), work.flops(work.products(traced.jaxpr))


def measure(asked: Asked, **settings: str) -> dict[str, Any]:
    """Compiles one program and says what is in it."""
    program, flops = lowered(asked, **settings)
    begun = time.process_time()
    compiled = program.compile()
    seconds = time.process_time() - begun
    target, module = TARGETS[asked.target], hlo.Module(compiled.as_text())
    memory: Any = compiled.memory_analysis()
    parts = module.parts(whole=asked.program in LENSES)
    kernels = [(times, each) for name, times in parts.items() for each in module.kernels(name)]
    moved = sum(times * module.bytes(*each) for times, each in kernels)
    if target.clock:
        took = sum(times * module.cycles(name) for name, times in parts.items()) / target.clock
    else:
        fast, copying = 0.75 * target.peak(asked.precision), 0.85 * target.bytes_per_second
        took = sum(
            times * max(module.flops(*each) / fast, module.bytes(*each) / copying)
            for times, each in kernels
        )
    counted: Counter[str] = Counter()
    for name in parts if asked.program in LENSES else [module.loop]:
        counted.update(module.counts(name))
    # From a call to a step, or an evaluation or a lens, of one run.
    share = 1 / asked.runs / (asked.steps if asked.program in TRAININGS else 1)
    return dataclasses.asdict(asked) | {
        "compile_seconds": seconds,
        "bytes_of": {
            name: getattr(memory, f"{name}_size_in_bytes")
            for name in ("argument", "output", "alias", "temp", "generated_code")
        },
        "loop": dict(counted),
        # Of one step, evaluation or lens, of one run.
        "flops": flops,
        "bytes": share * moved,
        "milliseconds": {
            "estimate": 1e3 * share * took,
            "products": 1e3 * flops / target.peak(asked.precision),
            "memory": 1e3 * share * moved / target.bytes_per_second,
        },
    }


# --------------------------------------------------------------------------- the command


def missing(target: str) -> str:
    """Why a target cannot be asked here; nothing if it can."""
    module = TARGETS[target].compiler
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    return "" if found else f"{target} is left out: {module} is not installed"


def _kept(asked: Asked, folder: pathlib.Path) -> pathlib.Path:
    """Where the result of a program is kept: under its sources, its sizes and its versions."""
    import grokjax

    package = pathlib.Path(grokjax.__file__).parent
    packages = ["models", "tasks", "training"]
    packages += ["diagnostics", "measuring"] if asked.program in LENSES else []
    sources = sorted(path for name in packages for path in package.glob(f"{name}/**/*.py"))
    here = pathlib.Path(__file__)
    ours = [here.with_name(f"{name}.py") for name in ("compiled", "hlo", "lens_programs")]
    own = [path.read_bytes() for path in (*sources, *ours)]
    made_of = [dataclasses.asdict(asked), importlib.metadata.version("jax")]
    key = hashlib.sha256(b"".join(own) + json.dumps(made_of).encode())
    return folder / f"{asked.name.replace(', ', '-').replace(' ', '-')}-{key.hexdigest()[:12]}.json"


def compiled(asked: Asked, folder: pathlib.Path) -> dict[str, Any]:
    """What ``measure`` says, from the cache or from a process of its own."""
    path = _kept(asked, folder)
    if not path.exists():
        # A process each: compilers keep gigabytes.
        spawned = multiprocessing.get_context("spawn")
        with futures.ProcessPoolExecutor(1, spawned) as pool:
            found = pool.submit(measure, asked).result()
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(found))
        fresh.replace(path)
    return json.loads(path.read_text())


def show(result: dict[str, Any]) -> None:
    """Prints one program."""
    loop, own = result["loop"], result["milliseconds"]
    counts = ", ".join(f"{n} {name}" for name, n in loop.items())
    print(
        f"{Asked.of(result).name}: "
        f"{own['estimate']:.3f} ms a run (products {own['products']:.3f}, memory "
        f"{own['memory']:.3f}); {counts}; compiled in {result['compile_seconds']:.0f} s",
        flush=True,
    )


def main() -> int:
    """Compiles what is asked for; returns the exit code."""
    parser = environment.parser(__doc__)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--models", nargs="+", default=["transformer", "mlp"])
    parser.add_argument("--runs", type=int, nargs="+", default=[45, 512])
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("work/compiled"))
    parser.add_argument("--kept", action="store_true", help="only what --cache has")
    parser.add_argument("--before", type=pathlib.Path, default=FOLDER / "compiled_before.json")
    options: argparse.Namespace = parser.parse_args()
    quiet()
    reasons = {target: missing(target) for target in options.targets}
    for reason in filter(None, reasons.values()):
        print(reason, file=sys.stderr)
    options.cache.mkdir(parents=True, exist_ok=True)
    results = []
    for runs in options.runs:
        for program in options.programs:
            for model in options.models:
                for target in (name for name, reason in reasons.items() if not reason):
                    for precision in options.precisions:
                        asked = Asked(
                            target=target, program=program, model=model, runs=runs,
                            precision=precision,
                        )  # fmt: skip
                        if options.kept and not _kept(asked, options.cache).exists():
                            continue
                        results.append(compiled(asked, options.cache))
                        show(results[-1])
    if not results:
        return 1
    before = []
    if options.before.exists():
        before = json.loads(options.before.read_text().splitlines()[-1])["results"]
    compilers = {"libtpu", "jax-cuda13-plugin"} & {
        own.name for own in importlib.metadata.distributions()
    }
    packages = (*PACKAGES, *sorted(compilers))
    environment.append(
        options.output, packages, benchmark="compiled", results=results, before=before
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
