"""Every flag of the grid alone, at small and large values: it works, or is refused in clear words.

Nothing is trained: what adapts, and what is refused, is decided before.
"""

import contextlib
import io

import pytest

from grokjax import cli, sweep
from grokjax.settings import flags as ours
from grokjax.settings import registry
from tests.programs import call

INTEGERS = [*range(8), 13, 64, 100, 512, 999, 1999, 4096, 65536, 10**6, 2**31 - 1, 2**63 - 1]
NUMBERS = [0.0, 1e-30, 1e-9, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 1.0, 2.0, 1e4, 1e29, 1e300]
PARTS = {kind.flag: registry.names(kind.column) for kind in registry.KINDS}
FLAGS = {flag: own[0] for flag, own in ours.axis_flags().items()}


def some(field):
    """Values that a setting allows: the smallest, the largest, and one between."""
    if field.choices:
        return list(field.choices)
    every = {int: INTEGERS, float: NUMBERS, bool: [False, True]}[field.kind]
    allowed = [value for value in every if field.accepts(value)]
    chosen = [*allowed[:4], *allowed[len(allowed) // 2 :][:1], *allowed[-2:]]
    return list(dict.fromkeys([*field.words, *map(field.text, chosen)]))


@pytest.fixture
def asked(monkeypatch):
    """Asks for a sweep by one flag; returns its configuration, or None and what was said."""

    def told(values, config, folder, process, stop):
        found.append(config)
        return cli.EXIT_OK

    def ask(flag, value):
        found.clear()
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = call(sweep.main, f"--{flag}={value}", "--workdir=/nowhere/at/all")
        assert code == (cli.EXIT_OK if found else cli.EXIT_USAGE)
        return (found[0] if found else None), err.getvalue()

    found: list = []
    monkeypatch.setattr(sweep, "_sweep_all", told)
    return ask


@pytest.mark.parametrize("flag", PARTS)
def test_every_part_alone(flag, asked):
    for name in PARTS[flag]:
        config, _ = asked(flag, name)
        assert config is not None, name


@pytest.mark.parametrize("flag", FLAGS)
def test_every_setting_alone(flag, asked):
    field, refused = FLAGS[flag], set()
    for value in some(field):
        config, message = asked(flag, value)
        if config is None:
            assert message.count("\n") == 1
            assert f"--{flag}={value}" in message
            refused.add(value)
        elif field.name in config.grid[0].values:  # else no part of the grid has it
            assert {field.text(run.values[field.name]) for run in config.grid} == {value}
    # Of the values that a setting allows these alone cannot be had with the rest at its defaults.
    too_few, too_many = {"1e-30", "1e-09"}, {str(2**31 - 1), str(2**63 - 1)}
    assert refused == {"train_fractions": too_few, "batch_size": too_many}.get(flag, set())


@pytest.mark.parametrize(
    ("flag", "value", "steps", "every"),
    [
        ("steps", 1, 1, 1),
        ("steps", 100, 100, 10),
        ("steps", 1500, 1500, 500),
        ("steps", 1009, 1009, 1009),  # a prime number
        ("steps", 60001, 60001, 2069),
        ("checkpoint_every", 7, 59997, 7),
        ("checkpoint_every", 100000, 100000, 100000),
        ("checkpoint_every", 60000, 60000, 60000),
    ],
)
def test_steps_and_checkpoints_go_together(flag, value, steps, every, asked):
    config, _ = asked(flag, value)
    assert (config.train.steps, config.train.checkpoint_every) == (steps, every)


@pytest.mark.parametrize(
    ("flag", "value", "widths", "heads"),
    [
        ("d_model", "6", {6}, {3}),
        ("d_model", "64,96", {64, 96}, {4}),
        ("d_model", "8,9", {8, 9}, {1}),
        ("n_heads", "3", {129}, {3}),
        ("n_heads", "3,4", {132}, {3, 4}),
        ("n_heads", "8", {128}, {8}),
    ],
)
def test_heads_and_width_go_together(flag, value, widths, heads, asked):
    models = [run.model for run in asked(flag, value)[0].grid]
    assert {own.d_model for own in models} == widths
    assert {own.n_heads for own in models} == heads
