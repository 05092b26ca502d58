"""A sweep whose processes JAX has to join, as on a TPU slice; says what JAX makes of that."""

import atexit

import jax

from grokjax import cli, sweep
from grokjax.running import distributed
from tests import sweep_without_pages  # noqa: F401 - no pages here either

distributed._has_tpu = lambda: True
atexit.register(lambda: print(f"{jax.process_index()} of {jax.process_count()} for JAX"))

if __name__ == "__main__":
    cli.run(sweep.main, sweep.define)
