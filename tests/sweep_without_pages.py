"""``grokjax.sweep`` without its report, which takes longer to draw than a tiny sweep to train."""

import pathlib

from grokjax import cli, sweep
from grokjax.report import drawing

drawing.write = lambda *_: pathlib.Path("none")

if __name__ == "__main__":
    cli.run(sweep.main, sweep.define)
