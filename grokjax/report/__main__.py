"""``python -m grokjax.report``: draws figures and the page of a work directory, or serves it.

python -m grokjax.report --workdir=work/first
python -m grokjax.report --workdir=work/study --watch
python -m grokjax.report --workdir=work/study --tensorboard
"""

import contextlib
import importlib.util
import pathlib
import signal
from typing import Any

from absl import flags

from grokjax import cli
from grokjax.settings import flags as ours
from grokjax.settings.fields import InvalidSettingError, check, lazy

# What takes seconds to import, and --help needs none of.
drawing, events = lazy("grokjax.report.drawing"), lazy("grokjax.report.events")
serving, progress = lazy("grokjax.report.serving"), lazy("grokjax.running.progress")
loading, record = lazy("grokjax.measuring.loading"), lazy("grokjax.store.record")


def define() -> None:
    """The flags of this command."""
    ours.define("workdir", None, "work directory of a sweep")
    ours.define("runs", "", "ids of runs that the page shows in detail before any others")
    ours.define("tensorboard", False, "write TensorBoard event files to W/tensorboard")
    ours.define("watch", False, "serve a page that renews itself, and write no other")
    ours.define("host", "127.0.0.1", "address that --watch listens on")
    ours.define("port", 0, "port that --watch listens on, up to 65535; 0: a free one")


def _watch(folder: pathlib.Path, host: str, port: int, event_files: Any) -> int:
    content = serving.Content(folder)
    if event_files is not None:
        content.renewed.append(event_files.update)
    try:
        server = serving.Server(content, host, port)
    except OSError as error:
        message = f"cannot listen there: {error.strerror or error}"
        raise InvalidSettingError("host", f"{host} --port={port}", message) from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server, contextlib.suppress(KeyboardInterrupt):
        content.renew()
        print(f"report: {server.address} (Ctrl-C ends it)", flush=True)
        with content.renewing():
            server.serve_forever()
    return cli.EXIT_OK


def main(values: flags.FlagValues) -> int:
    """Redraws the report, or serves it until interrupted; returns the exit code."""
    folder = cli.existing_workdir(values)
    check(0 <= values.port <= 65535, "port", values.port, "must be from 0 to 65535")
    known = {run.run_id for run in record.read_config(folder).runs}
    wanted = ours.names(values.runs)
    for run_id in wanted:
        check(run_id in known, "runs", run_id, f"no run of {folder} has this id")
    event_files = None
    if values.tensorboard:
        needed = "needs tensorboardX: pip install 'grokjax[tensorboard]'"
        installed = importlib.util.find_spec("tensorboardX") is not None
        check(installed, "tensorboard", "true", needed)
        event_files = events.EventFiles(folder)
    if values.watch:
        return _watch(folder, values.host, values.port, event_files)
    progress.print_summary(drawing.summary(folder))
    print(f"report: {drawing.write(folder, wanted)}")
    if event_files is not None:
        event_files.update(loading.Sweep(folder))
        print(f"events: tensorboard --logdir={folder / 'tensorboard'}")
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main, define)
