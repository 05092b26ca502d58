"""``grokjax.sweep`` without its report, which takes longer to draw than a tiny sweep to train.

And with less patience for a process of the same job that has gone.
"""

import pathlib

from grokjax import cli, sweep
from grokjax.report import drawing
from grokjax.running import distributed

drawing.write = lambda *_: pathlib.Path("none")
distributed._PATIENCE = 15.0

if __name__ == "__main__":
    cli.run(sweep.main, sweep.define)
