"""``grokjax.sweep`` without its report, which takes longer to draw than a tiny sweep to train.

It is stopped or killed at the same point whatever the load of the machine: with
GROKJAX_TESTS_SIGNAL="SIGTERM,SIGINT batch 1 step 500 " it sends itself these signals once it says a
line that begins with the rest. With GROKJAX_TESTS_PATIENCE=2 it waits so many seconds for a process
of the same job that is not at work.
"""

import os
import pathlib
import signal
import time

from grokjax import cli, sweep
from grokjax.report import drawing
from grokjax.running import distributed, progress

drawing.write = lambda *_: pathlib.Path("none")
distributed._PATIENCE = float(os.environ.get("GROKJAX_TESTS_PATIENCE", distributed._PATIENCE))

_NAMES, _, _LINE = os.environ.get("GROKJAX_TESTS_SIGNAL", "").partition(" ")
_note = progress.Display.note


def _note_and_signal(self, text):
    _note(self, text)
    if _LINE and text.startswith(_LINE):
        for name in _NAMES.split(","):
            os.kill(os.getpid(), signal.Signals[name])
        time.sleep(0.5)  # Python's handlers are a thread's


progress.Display.note = _note_and_signal

if __name__ == "__main__":
    cli.run(sweep.main, sweep.define)
