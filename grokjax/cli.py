"""How a command runs: flags in, exit code out; a bad one ends in exit code 2, nothing written."""

import os
import pathlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from grokjax.settings import flags as ours
from grokjax.settings.fields import InvalidSettingError, check, lazy
from grokjax.store.errors import CheckpointError, DamagedTableError, StorageError, WorkdirError

compilation = lazy("grokjax.training.compilation")

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 0, 1, 2, 75
_MOST_FAILURES_TOLD = 10


def existing_workdir(values: flags.FlagValues) -> pathlib.Path:
    """The directory that --workdir names; raises ``InvalidSettingError`` if it holds no sweep."""
    check(bool(values.workdir), "workdir", "", "must name the work directory of a sweep")
    folder = pathlib.Path(values.workdir)
    message = "holds no sweep (there is no sweep.json)"
    check((folder / "sweep.json").is_file(), "workdir", folder, message)
    return folder


def define_compilation_flag() -> None:
    """The flag that says where compiled programs are kept."""
    text = "folder of compiled programs, or off; default: ~/.cache/grokjax/compilation"
    ours.define("compilation_cache", "", text)


def run(
    main: Callable[[flags.FlagValues], int],
    define: Callable[[], None],
    argv: list[str] | None = None,
) -> None:
    """Defines and parses flags, runs ``main`` and exits with what it returns, 2 if they are bad."""

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            ours.load_plugins(flags.FLAGS.read_flags_from_files(list(argv)))
            ours.define_plugins_flag()
            define()
            if any(argument.lstrip("-") in ("help", "helpshort", "h") for argument in argv[1:]):
                print(sys.modules[main.__module__].__doc__, ours.help_text(), sep="\n")
                sys.exit(EXIT_OK)
            return list(flags.FLAGS(argv, known_only=False))
        except (InvalidSettingError, flags.Error) as error:
            _refuse(error)
        except (OSError, ValueError, RecursionError) as error:  # a flagfile that is none
            _refuse(f"--flagfile: {error}")

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
        except (InvalidSettingError, WorkdirError) as error:
            _refuse(error)
        except (CheckpointError, DamagedTableError, StorageError) as error:
            _say(error)
            return EXIT_FAILED

    try:
        app.run(call, argv=argv, flags_parser=parse)
    except SystemExit as end:
        # After a write that failed Orbax's threads wait ten minutes and more for a signal that
        # nobody gives. Whatever was being written beside it has been waited for.
        others = set(threading.enumerate()) - {threading.current_thread()}
        held = any(not thread.daemon for thread in others)
        if held and argv is None and end.code == EXIT_FAILED:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(EXIT_FAILED)
        raise


def _tell_unraisable(unraisable: Any) -> None:
    """As Python does it, but for callbacks that Orbax leaves in a closed loop after an error."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def tell_failures(failures: Sequence[str]) -> int:
    """Prints what failed; returns the exit code of it."""
    for failure in failures[:_MOST_FAILURES_TOLD]:
        print(failure, file=sys.stderr)
    if len(failures) > _MOST_FAILURES_TOLD:
        print(f"… and {len(failures) - _MOST_FAILURES_TOLD} more", file=sys.stderr)
    if failures:
        print("the same command tries again what failed", file=sys.stderr)
    return EXIT_FAILED if failures else EXIT_OK


def _say(message: object) -> None:
    print(f"grokjax.{pathlib.Path(sys.argv[0]).stem}: {message}", file=sys.stderr)


def _refuse(message: object) -> NoReturn:
    _say(message)
    sys.exit(EXIT_USAGE)
