"""Flags, derived from fields, and what they say."""

import dataclasses
import math
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from grokjax import diagnostics
from grokjax.diagnostics import Options
from grokjax.settings import grid, plugins, registry
from grokjax.settings.config import Saving, SweepConfig, TrainConfig
from grokjax.settings.fields import RUN, Field, check, fields_of
from grokjax.settings.grid import Run
from grokjax.settings.registry import KINDS

Say = Callable[[str], None]

_groups: dict[str, list[str]] = {}  # what ``--help`` shows together
_ORDER = ("grid", "network", "training", "measuring", "running")


def define(
    name: str, default: Any, text: str, kind: type | None = None, group: str = "running"
) -> None:
    """A flag of the kind of its default, unless another command in this process has it already."""
    _groups.setdefault(group, []).append(name)
    makers: Any = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}
    if name not in flags.FLAGS:
        makers.get(kind or type(default), flags.DEFINE_string)(name, default, text)


def help_text() -> str:
    """Every flag that was defined, in groups, with its default."""
    lines = []
    for group, own in sorted(_groups.items(), key=lambda item: _ORDER.index(item[0])):
        several = " (most take a comma list: an axis of the grid)" * (group in _ORDER[:3])
        lines += ["", f"{group}{several}:"]
        for name in dict.fromkeys(own):
            default = flags.FLAGS[name].default
            usual = "" if default in (None, "", False) else f" (default: {default})"
            text = f"--{name}: {flags.FLAGS[name].help}{usual}"
            lines += textwrap.wrap(text, 96, initial_indent="  ", subsequent_indent="      ")
    return "\n".join(lines)


def define_plugins_flag() -> None:
    """The flag that names plug-ins; it is read before all others, by ``load_plugins``."""
    define("plugins", "", "modules, or entry points of grokjax.plugins, with parts of your own")


def define_grid_flags() -> None:
    """Flags of what is trained."""
    for kind in KINDS:
        text = f"{kind.noun}: {registry.known(kind.column)} (comma list)"
        define(kind.flag, None, text, str, "grid")
    kinds = {kind.column: kind.group for kind in KINDS} | {RUN: "grid"}
    classes = [(kinds[part.column], part) for part in registry.classes()]
    groups = {own.flag: group for group, part in classes for own in fields_of(part).values()}
    for flag, own in axis_flags().items():
        usual = " or ".join(",".join(map(each.text, each.grid)) for each in own)
        define(flag, None, f"{own[0].help} (default: {usual})", str, groups[flag])
    for setting in fields_of(TrainConfig).values():
        define(setting.name, setting.default, setting.help, group="training")
    for setting in fields_of(Saving).values():
        define(setting.name, setting.default, setting.help)
    define(
        "shard",
        None,
        "i/N: only part i, from 0, of N; goes to <workdir>/shard-i-of-N. none: the whole grid. "
        "Default: what an array of the scheduler says, else the whole grid",
    )
    define("runs_per_batch", None, "runs trained as one program; default: what fits", int)


def axis_flags() -> dict[str, list[Field]]:
    """Flag → the settings that it sets, one for each part that has one of its own."""
    found: dict[str, list[Field]] = {}
    for part in registry.classes():
        for own in fields_of(part).values():
            same = found.setdefault(own.flag, [])
            if own.grid not in [other.grid for other in same]:
                same.append(own)
    return found


def define_source_flags() -> None:
    """Flags that say where on this machine the data of tasks lie."""
    for part in registry.classes():
        for name, text in part.sources.items():
            define(name, None, text)


def define_option_flags() -> None:
    """Flags of what is measured."""
    for setting in dataclasses.fields(Options):
        default = setting.default
        if isinstance(default, tuple):
            default = ",".join(default)
        if setting.name == "ph_threads":
            default = len(os.sched_getaffinity(0))
        define(setting.name, default, setting.metadata["help"], group="measuring")


def load_plugins(argv: Sequence[str]) -> None:
    """Loads the plug-ins that a command line or its flagfiles name, before flags are defined.

    Raises:
        InvalidSettingError: if one cannot be loaded.
    """
    named = ""
    for argument, behind in zip(argv, [*argv[1:], ""], strict=True):
        name, is_whole, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "plugins":
            named = value if is_whole else behind
    plugins.load(names(named))


def names(text: Any) -> tuple[str, ...]:
    """The names in a comma list."""
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def options_from(values: flags.FlagValues, base: Options | None = None) -> Options:
    """Options as the flags give them; those not given on the command line come from ``base``."""
    fields: dict[str, Any] = {}
    for setting in dataclasses.fields(Options):
        flag = values[setting.name]
        if base is None or flag.present:
            is_list = isinstance(setting.default, tuple)
            fields[setting.name] = names(flag.value) if is_list else flag.value
    if fields.get("diagnostics") == ("none",):
        fields["diagnostics"] = ()
    return dataclasses.replace(base, **fields) if base else Options(**fields)


def use_sources(values: flags.FlagValues) -> None:
    """Tells tasks where their data lie."""
    for part in registry.classes():
        for name in part.sources:
            if values[name].value:
                part.use(name, str(values[name].value))  # type: ignore[attr-defined]


def sweep_config_from(values: flags.FlagValues, say: Say = print) -> SweepConfig:
    """The whole grid that the flags describe; what was not asked for adapts, and ``say`` says so.

    Raises:
        InvalidSettingError: for what cannot be.
    """
    use_sources(values)
    given = {flag: str(values[flag].value) for flag in axis_flags() if values[flag].present}
    chosen = {kind.column: _named(values, kind) for kind in KINDS}
    meant = [registry.find("operation", name).resolve(name) for name in chosen["operation"]]
    chosen["operation"] = [name for name, _ in meant]
    for note in filter(None, (note for _, note in meant)):
        say(note)
    if not values[KINDS[0].flag].present:
        chosen["model"] = [_network_for(chosen["operation"], chosen["model"][0], say)]
    axes = {
        column: {name: _axes(column, name, given, say) for name in names}
        for column, names in {**chosen, RUN: [RUN]}.items()
    }
    _say_unused(axes, given, say)
    budget: Any = _budget_that_fits({name: values[name] for name in fields_of(TrainConfig)}, say)
    train, options = TrainConfig(**budget), options_from(values)
    stored: Any = {name: values[name].value for name in fields_of(Saving)}
    config = SweepConfig(axes=axes, train=train, options=options, saving=Saving(**stored))
    config = _with_batch_that_fits(config, "batch_size" in given, say)
    if not values["diagnostics"].present:
        config = _with_diagnostics_that_fit(config, say)
    return config


def _named(values: flags.FlagValues, kind: registry.Kind) -> list[str]:
    if not values[kind.flag].present:
        return [registry.default(kind.column)]
    found = names(values[kind.flag].value)
    check(len(found) > 0, kind.flag, values[kind.flag].value, f"names no {kind.noun}")
    check(len(set(found)) == len(found), kind.flag, ",".join(found), "names must differ")
    for name in found:
        registry.find(kind.column, name)
    return list(found)


def _network_for(tasks: Sequence[str], default: str, say: Say) -> str:
    """The first architecture that learns all of the tasks, the default if it does."""
    kinds = {registry.find("operation", name).examples for name in tasks}
    able = (n for n in registry.names("model") if kinds <= set(registry.find("model", n).learns))
    name = next(able, default)
    if name != default:
        lacking = kinds - set(registry.find("model", default).learns)
        say(f"--models={name}: {default} learns no {', '.join(sorted(lacking))}")
    return name


def _axes(column: str, name: str, given: Mapping[str, str], say: Say) -> grid.Values:
    """The values of a part's settings, those that were not given adapted to those that were."""
    axes, part = grid.axes_of(column, name, given), registry.find(column, name)
    changes = part.adapted(axes, given)
    for setting, values in changes.items():
        own = fields_of(part)[setting]
        text, usual = (",".join(map(own.text, some)) for some in (values, axes[setting]))
        say(f"--{own.flag}={text}: {usual} does not go with what is asked of {name}")
    return {**axes, **changes}


def _budget_that_fits(values: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Steps and what comes with them; of steps and checkpoints, what was not asked for adapts."""
    budget = {name: flag.value for name, flag in values.items()}
    steps, every = budget["steps"], budget["checkpoint_every"]
    if min(steps, every) < 1 or steps % every == 0:
        return budget
    if not values["steps"].present:
        budget["steps"] = max(1, steps // every) * every
        say(f"--steps={budget['steps']}: {steps} is no multiple of --checkpoint_every={every}")
    elif not values["checkpoint_every"].present:
        # About ten checkpoints of a short training, and not one a step of a prime number of them.
        small = [n for n in range(1, math.isqrt(steps) + 1) if steps % n == 0]
        aim = min(every, max(1, steps // 10))
        fits = min((*small, *(steps // n for n in small)), key=lambda n: abs(math.log(n / aim)))
        say(f"--checkpoint_every={fits}: {every} does not divide --steps={steps}")
        budget["checkpoint_every"] = fits
    return budget


def _say_unused(axes: Mapping[str, Any], given: Mapping[str, str], say: Say) -> None:
    used = {name for parts in axes.values() for own in parts.values() for name in own}
    for flag, own in axis_flags().items():
        if flag in given and not used & {field.name for field in own}:
            usual = set(own[0].parse(given[flag])) == {own[0].default}  # or it is a typing error
            message = "has no effect: no part of this grid has it; leave it out"
            check(usual or not own[0].needed, flag, given[flag], message)
            say(f"--{flag}={given[flag]}: no part of this grid has it")


def _with_batch_that_fits(config: SweepConfig, given: bool, say: Say) -> SweepConfig:
    """The configuration, with a batch no larger than any training set where none was asked for."""
    for run in config.grid:
        size, n_train = run.settings.batch_size, run.task.n_train
        if size > n_train:
            message = f"is more than the {n_train} training examples of {run.run_id}"
            check(not given, "batch_size", size, f"{message}; take fewer, or full")
            fits = 2 ** (min(r.task.n_train for r in config.grid).bit_length() - 1)
            say(f"--batch_size={fits}: {size} {message}")
            own = {**config.axes[RUN][RUN], "batch_size": (fits,)}
            return dataclasses.replace(config, axes={**config.axes, RUN: {RUN: own}})
    return config


def _with_diagnostics_that_fit(config: SweepConfig, say: Say) -> SweepConfig:
    """The configuration without diagnostics that fit no task of it."""
    kept = [name for name in config.options.diagnostics if fits_some(name, config.grid)]
    dropped = sorted(set(config.options.diagnostics) - set(kept))
    if dropped:
        say(f"--diagnostics={','.join(kept) or 'none'}: {', '.join(dropped)} fits no task here")
    options = dataclasses.replace(config.options, diagnostics=tuple(kept))
    return dataclasses.replace(config, options=options)


def fits_some(diagnostic: str, runs: Sequence[Run]) -> bool:
    """Whether a diagnostic has something to measure in any of the runs."""
    tasks = dict.fromkeys(run.task for run in runs)
    needed = diagnostics.needs_structure(diagnostic)
    return not needed or any(task.structure is not None for task in tasks)
