"""What lenses compute on a device at a checkpoint, of one run, to be counted or compiled.

All that the study looks at: states of every layer, Fourier measures, TwoNN on 2,000 states.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from grokjax import diagnostics
from grokjax.diagnostics import Options, RunArrays
from grokjax.measuring import views
from grokjax.settings.config import TrainConfig
from grokjax.settings.grid import Run
from grokjax.training import data, evaluation
from grokjax.training.data import RunData
from grokjax.training.step import Program


class Lens(NamedTuple):
    """A program of one run: of shapes of what is its own, and of what is the same for all runs."""

    function: Callable[..., Any]
    own: tuple[Any, ...]
    shared: tuple[Any, ...]


def options() -> Options:
    """All lenses of the study, persistence too, which is computed on the host."""
    names = ("persistence", "fourier", "dimension")
    n_threads = len(os.sched_getaffinity(0))
    # Only the study's cloud of 2,000 states is asked for its dimension beside the others' topology.
    return Options(diagnostics=names, clouds=("all",), cloud_points=256, ph_threads=n_threads)


def of(run: Run, config: TrainConfig) -> dict[str, Lens]:
    """The programs of a run by name: ``states``, ``fourier``, ``dimension``.

    The last two are to be traced with 64-bit types, as sweeps do it.
    """
    asked, program = options(), Program.of([run], config)
    own: RunData = jax.tree.map(lambda leaf: leaf[0], data.stack([run]))
    params = program.model.template()
    examine = functools.partial(evaluation.examine_run, program)
    answers = jax.eval_shape(examine, params, own)[1]
    n_each = -(-asked.lid_points // views.n_tokens(run))
    place = jax.ShapeDtypeStruct((max(n_each, asked.cloud_points),), np.int32)
    see = functools.partial(views.states, program)
    seen = jax.eval_shape(see, params, place)[run.model.state_names[-1]]
    arrays = RunArrays(
        labels=own.labels,
        train_mask=own.split == data.TRAIN,
        neurons=answers.neurons,
        logits=answers.logits,
        clouds={},
        last_states=jax.ShapeDtypeStruct((asked.lid_points, seen.shape[-1]), np.float32),
    )
    found = {"states": Lens(see, (params, place), ())}
    for name in ("fourier", "dimension"):
        lens = diagnostics.get(name)
        told = lens.constants(run.task.structure, asked) if hasattr(lens, "constants") else None
        found[name] = Lens(functools.partial(_reduced, lens.on_device, asked), (arrays,), (told,))
    return found


def _reduced(on_device: Any, asked: Options, arrays: RunArrays, constants: Any) -> Any:
    return on_device(arrays, constants, asked)
