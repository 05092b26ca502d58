"""The flags that entry points share, and how a bad one ends: exit code 2, nothing written."""

import dataclasses
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from grokjax import compilation, datasets, grid, sharding, tasks
from grokjax.checkpoints import CheckpointError
from grokjax.diagnostics import Options
from grokjax.grid import InvalidSettingError, ModelConfig, TrainConfig
from grokjax.results import DamagedTableError
from grokjax.workdir import StorageError, SweepConfig, WorkdirError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 0, 1, 2, 75

# The study's grid.
_AXIS_DEFAULTS = {
    "models": "transformer",
    "operations": "add",
    "primes": "113,149,197",
    "train_fractions": "0.2,0.25,0.3",
    "label_permutations": "0",
    "weight_decays": "0.1",
    "learning_rates": "0.003",
    "init_scales": "1",
    "seeds": "46:51",
}
# Omnigrok's set-up, in place of the study's, with --operations=mnist.
_IMAGE_DEFAULTS: dict[str, Any] = {
    "weight_decays": "0.01",
    "learning_rates": "0.001",
    "mlp_width": 200,
    "mlp_depth": 2,
    "activation": "relu",
    "batch_size": 200,
    "steps": 100_000,
    "diagnostics": "persistence",
    "clouds": "hidden1",
}
_AXIS_HELP = {
    "models": "transformer, mlp; images have their own",
    "operations": "what is learned: add is (a + b) mod p; mnist are images (see --mnist_dir)",
    "primes": "moduli p",
    "train_fractions": "fractions of the p^2 pairs that train",
    "label_permutations": "fractions of the training pairs whose labels are permuted",
    "weight_decays": "AdamW's decoupled weight decay",
    "learning_rates": "AdamW's learning rate after 10 steps of warm-up",
    "init_scales": "factor on every initial parameter",
    "seeds": "seeds",
}
_MODEL_HELP = {
    "d_model": "width of the embedding and of the encoder",
    "n_heads": "attention heads",
    "d_ff": "width of the encoder's feed-forward layers",
    "n_layers": "encoder blocks",
    "mlp_width": "width of the MLP's hidden layers",
    "mlp_depth": "number of the MLP's hidden layers",
    "activation": f"one of {', '.join(grid.ACTIVATION_NAMES)}",
}
_TRAIN_HELP = {
    "steps": "training steps of every run",
    "checkpoint_every": "steps between checkpoints; must divide --steps",
    "batch_size": "pairs a step",
    "precision": f"of float32 matrix products: {', '.join(grid.PRECISIONS)}",
    "loss_precision": "of the cross-entropy, from the logits on: float32, float64",
}
_OPTION_HELP = {
    "diagnostics": "comma list of what to measure at every checkpoint, or none",
    "clouds": "comma list: embedding, layer1 …, hidden1 …, hidden (all layers), all",
    "cloud_points": "points of a hidden-state cloud",
    "cloud_selection": "how they are chosen: random (the same pairs always) or farthest",
    "cloud_normalisation": "unit (rows), none, connectivity or rms; always centred",
    "ph_engine": "redzed or giotto",
    "ph_threads": "threads (giotto: processes) for persistence; default: all cores",
    "ph_verify": "share of the clouds that the other engine recomputes",
    "save_diagrams": "write every bar to diagrams.parquet",
    "save_key_frequencies": "write each key frequency's own measures to key_frequencies.parquet",
    "lid_points": "states of the last layer whose local dimension is estimated",
    "lid_neighbors": "neighbours a point's local dimension is estimated from",
    "lid_empirical": "from_one (scikit-dimension 0.5 on) or from_zero (before)",
}


def _define(name: str, default: Any, text: str) -> None:
    if name in flags.FLAGS:  # by another entry point in this process
        return
    if isinstance(default, bool):
        flags.DEFINE_boolean(name, default, text)
    elif isinstance(default, int):
        flags.DEFINE_integer(name, default, text)
    elif isinstance(default, float):
        flags.DEFINE_float(name, default, text)
    else:
        flags.DEFINE_string(name, default, text)


def define_workdir_flag(text: str) -> None:
    """The flag that names the work directory."""
    _define("workdir", None, text)


def define_grid_flags() -> None:
    """Flags of what is trained."""
    for name, default in _AXIS_DEFAULTS.items():
        _define(name, default, f"{_AXIS_HELP[name]} (comma list; grid axis)")
    for name, text in _MODEL_HELP.items():
        _define(name, getattr(ModelConfig, name), text)
    for name, text in _TRAIN_HELP.items():
        _define(name, getattr(TrainConfig, name), text)
    flags.DEFINE_string(
        "shard",
        None,
        "i/N: only part i, from 0, of N; goes to <workdir>/shard-i-of-N. none: the whole grid. "
        "Default: what an array of the scheduler says, else the whole grid",
    )
    define_mnist_flag()
    flags.DEFINE_integer("runs_per_batch", None, "runs trained as one program; default: what fits")


def define_mnist_flag() -> None:
    """The flag that says where MNIST is."""
    _define(
        "mnist_dir",
        None,
        "folder of MNIST's four IDX files, plain or gzipped; without it --operations=mnist learns "
        "the 8x8 digits that scikit-learn ships, and says so",
    )


def define_option_flags() -> None:
    """Flags of what is measured, and where programs that were compiled are kept."""
    _define(
        "compilation_cache",
        "",
        f"folder of compiled programs, or {compilation.OFF}; default: ~/.cache/grokjax/compilation",
    )
    for field in dataclasses.fields(Options):
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(default)
        if field.name == "ph_threads":
            default = os.cpu_count() or 1
        _define(field.name, default, _OPTION_HELP[field.name])


def options_from(values: flags.FlagValues, base: Options | None = None) -> Options:
    """Options as the flags give them; those not given on the command line come from ``base``."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(Options):
        flag = values[field.name]
        if base is not None and not flag.present:
            continue
        fields[field.name] = flag.value
    for name in ("diagnostics", "clouds"):
        if name in fields:
            fields[name] = _names(fields[name])
    if fields.get("diagnostics") == ("none",):
        fields["diagnostics"] = ()
    return dataclasses.replace(base, **fields) if base else Options(**fields)


def sweep_config_from(values: flags.FlagValues) -> SweepConfig:
    """The sweep that the flags describe; raises ``InvalidSettingError``."""
    fixed = _image_axes(values)
    given = {name: flag for name, flag in _IMAGE_DEFAULTS.items() if fixed}
    value = {
        name: given[name] if name in given and not values[name].present else values[name].value
        for name in (*_AXIS_DEFAULTS, *_MODEL_HELP, *_TRAIN_HELP, "diagnostics", "clouds")
    }
    axes = {
        axis.field: fixed.get(axis.flag) or grid.parse_axis(axis, str(value[axis.flag]))
        for axis in grid.axes(tasks.OPERATIONS)
    }
    shape: dict[str, Any] = {name: value[name] for name in _MODEL_HELP}
    budget: dict[str, Any] = {name: value[name] for name in _TRAIN_HELP}
    train = TrainConfig(**budget)
    models = {model: ModelConfig(model=model, **shape) for model in axes["model"]}
    options = options_from(values)
    for name in ("diagnostics", "clouds"):
        if name in given and not values[name].present:
            chosen: Any = {name: _names(value[name])}
            options = dataclasses.replace(options, **chosen)
    config = SweepConfig(
        axes=axes,
        models=models,
        train=train,
        options=options,
        shard=shard_from(values)[0],
    )
    config.validate()
    return config


def shard_from(values: flags.FlagValues) -> tuple[sharding.Shard | None, str]:
    """The shard in force and what says so; raises ``InvalidSettingError``."""
    if values.shard is not None:
        return sharding.parse(values.shard), "--shard"
    return sharding.detect(os.environ) or (None, "")


def _image_axes(values: flags.FlagValues) -> dict[str, tuple[Any, ...]]:
    """The axes that a set of images fixes, by flag; empty where images are not what is learned.

    Raises:
        InvalidSettingError: if images are mixed with operations, one of these axes is given
            another value, or the images cannot be read.
    """
    asked = _names(values["operations"].value)
    images = [name for name in asked if name in grid.IMAGE_SETS]
    if not images:
        return {}
    allowed = f"{images[0]} cannot be combined with other operations: its axes are others"
    grid.check(len(asked) == 1, "operations", values["operations"].value, allowed)
    folder = values["mnist_dir"].value
    name = images[0] if folder else "digits"
    if name == "mnist":
        datasets.use(str(folder))
    elif images[0] == "mnist":
        print("no --mnist_dir: scikit-learn's 8x8 digits stand in for MNIST")
    datasets.require(name)
    model = next(model for model, own in grid.IMAGE_MODELS.items() if own == name)
    fixed: dict[str, tuple[Any, ...]] = {
        "models": (model,),
        "operations": (name,),
        "primes": (grid.N_CLASSES,),
        "train_fractions": (grid.N_TRAIN / grid.IMAGE_SETS[name],),
    }
    for flag in ("models", "primes", "train_fractions"):
        given = values[flag]
        grid.check(
            not given.present or given.value == str(fixed[flag][0]),
            flag,
            given.value,
            f"has no meaning with --operations={images[0]}, where it is {fixed[flag][0]}",
        )
    return fixed


def _names(text: Any) -> tuple[str, ...]:
    """The names in a comma list."""
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def resolved_flags(values: flags.FlagValues, module: str) -> dict[str, Any]:
    """Every flag of ours with the value in force."""
    ours = values.get_flags_for_module("grokjax.cli") + values.get_flags_for_module(module)
    shard, source = shard_from(values)
    return {flag.name: flag.value for flag in ours} | (
        {} if shard is None else {"shard": str(shard), "shard_from": source}
    )


def existing_workdir(values: flags.FlagValues) -> pathlib.Path:
    """The directory that --workdir names; raises ``InvalidSettingError`` if it holds no sweep."""
    if not values.workdir:
        raise InvalidSettingError("workdir", "", "must name the work directory of a sweep")
    folder = pathlib.Path(values.workdir)
    if not (folder / "sweep.json").is_file():
        raise InvalidSettingError("workdir", folder, "holds no sweep (there is no sweep.json)")
    return folder


def run(main: Callable[[flags.FlagValues], int], argv: list[str] | None = None) -> None:
    """Parses flags, runs ``main`` and exits with what it returns.

    Bad settings end in exit code 2 and one message that names the flag.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            return list(flags.FLAGS(argv, known_only=False))
        except flags.Error as error:
            _refuse(str(error))
        except (OSError, ValueError, RecursionError) as error:  # a flagfile that is none
            _refuse(f"--flagfile: {error}")
        raise AssertionError("unreachable")

    def call(argv: Sequence[str]) -> int:
        if len(argv) > 1:
            _refuse(f"'{argv[1]}' is not a flag; flags are written --name=value")
        if not flags.FLAGS["verbosity"].present:
            # Orbax and JAX log every file they touch, and with tracebacks what they raise as well;
            # what a user should know is printed by us.
            logging.set_verbosity(logging.FATAL)
            sys.unraisablehook = _tell_unraisable
        if "compilation_cache" in flags.FLAGS:
            problem = compilation.use_cache(flags.FLAGS.compilation_cache)
            if problem:
                print(problem)
        try:
            return main(flags.FLAGS)
        except InvalidSettingError as error:
            _refuse(str(error))
        except WorkdirError as error:
            _refuse(str(error))
        except (CheckpointError, DamagedTableError, StorageError) as error:
            print(f"grokjax.{_program()}: {error}", file=sys.stderr)
            return EXIT_FAILED
        raise AssertionError("unreachable")

    try:
        app.run(call, argv=argv, flags_parser=parse)
    except SystemExit as end:
        if argv is None and end.code == EXIT_FAILED:
            _leave_threads_behind()
        raise


def _leave_threads_behind() -> None:
    """Ends this process if threads would keep it from ending by itself.

    After a write that failed Orbax's threads wait ten minutes and more for a signal that nobody
    gives. Whatever was being written beside it has been waited for.
    """
    ours = threading.current_thread()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not ours):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_FAILED)


def _tell_unraisable(unraisable: Any) -> None:
    """As Python does it, but for callbacks that Orbax leaves in a closed loop after an error."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


_MOST_FAILURES_TOLD = 10


def tell_failures(failures: Sequence[str]) -> int:
    """Prints what failed; returns the exit code of it."""
    for failure in failures[:_MOST_FAILURES_TOLD]:
        print(failure, file=sys.stderr)
    if len(failures) > _MOST_FAILURES_TOLD:
        print(f"… and {len(failures) - _MOST_FAILURES_TOLD} more", file=sys.stderr)
    if failures:
        print("the same command tries again what failed", file=sys.stderr)
    return EXIT_FAILED if failures else EXIT_OK


def _program() -> str:
    return pathlib.Path(sys.argv[0]).stem


def _refuse(message: str) -> None:
    print(f"grokjax.{_program()}: {message}", file=sys.stderr)
    sys.exit(EXIT_USAGE)
