"""Flags → runs: parsing, validation, ids, batching."""

import dataclasses
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokjax.settings import grid
from grokjax.settings.fields import InvalidSettingError, ModelConfig, TrainConfig
from tests.helpers import axis, make_runs


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("seeds", "46:51", (46, 47, 48, 49, 50)),
        ("seeds", "0:10:3", (0, 3, 6, 9)),
        ("seeds", "7, 1:3 ,9", (7, 1, 2, 9)),
        ("seeds", "5:0:-2", (5, 3, 1)),
        ("primes", "113,149", (113, 149)),
        ("train_fractions", "0.2,.25,3e-1", (0.2, 0.25, 0.3)),
        ("models", "mlp,transformer", ("mlp", "transformer")),
    ],
)
def test_axis_values(flag, text, expected):
    assert grid.parse_axis(axis(flag), text) == expected


@pytest.mark.parametrize(
    ("flag", "text", "words"),
    [
        ("primes", "1", "odd prime"),
        ("primes", "abc", "'abc' is not an integer"),
        ("primes", "91", "91 cannot be used"),
        ("primes", "2", "odd prime"),
        ("primes", "", "is not an integer"),
        ("primes", "23,,29", "is not an integer"),
        ("seeds", "5:5", "empty"),
        ("seeds", "5:1", "empty"),
        ("seeds", "0:5:0", "not a range"),
        ("seeds", "0:1:2:3", "not a range"),
        ("seeds", "0:10000000000", "at most"),
        ("seeds", "1,2,1", "more than once"),
        ("seeds", "0:600,0:600", "more than once"),
        ("seeds", "-1", "2^63"),
        ("seeds", "1.5", "not an integer"),
        ("train_fractions", "1.2", "between 0 and 1"),
        ("train_fractions", "0", "between 0 and 1"),
        ("train_fractions", "nan", "between 0 and 1"),
        ("weight_decays", "-1", "at least 0"),
        ("weight_decays", "inf", "at least 0"),
        ("learning_rates", "0", "above 0"),
        ("label_permutations", "1.01", "between 0 and 1"),
        ("models", "rnn", "transformer, mlp"),
        ("operations", "divide", "add"),
    ],
)
def test_bad_axis_names_flag_value_and_what_is_allowed(flag, text, words):
    with pytest.raises(InvalidSettingError) as caught:
        grid.parse_axis(axis(flag), text)
    assert str(caught.value).startswith(f"--{flag}={text}")
    assert words in str(caught.value)


@given(st.text(max_size=30), st.sampled_from([a.flag for a in grid.axes(["add"])]))
def test_any_text_parses_or_is_refused_clearly(text, flag):
    try:
        values = grid.parse_axis(axis(flag), text)
    except InvalidSettingError as error:
        assert f"--{flag}=" in str(error)
    else:
        assert len(set(values)) == len(values) > 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True))
def test_integers_survive_printing_and_parsing(values):
    assert list(grid.parse_axis(axis("seeds"), ",".join(map(str, values)))) == values


def test_a_fraction_must_leave_pairs_on_both_sides():
    with pytest.raises(InvalidSettingError, match="leaves 0 of the 9 pairs"):
        make_runs(prime=[3], train_fraction=[0.01])
    with pytest.raises(InvalidSettingError, match="leaves 9 of the 9 pairs"):
        make_runs(prime=[3], train_fraction=[0.99])


def test_run_ids_are_unique_and_do_not_depend_on_the_order_of_axes():
    axes = {
        "model": ["transformer", "mlp"],
        "prime": [23, 31],
        "train_fraction": [0.3, 0.5],
        "label_permutation": [0.0, 1.0],
        "weight_decay": [0.1, 1.0],
        "learning_rate": [1e-3, 3e-3],
        "init_scale": [1.0, 8.0],
        "seed": [1, 2, 3],
    }
    ids = [run.run_id for run in make_runs(**axes)]
    assert len(set(ids)) == len(ids) == 2**7 * 3
    shuffled = {name: random.Random(0).sample(v, len(v)) for name, v in reversed(axes.items())}
    assert {run.run_id for run in make_runs(**shuffled)} == set(ids)


def test_every_field_of_a_run_is_in_its_id():
    (run,) = make_runs()
    for field in dataclasses.fields(run):
        value = getattr(run, field.name)
        other = "x" if isinstance(value, str) else value + 1
        assert dataclasses.replace(run, **{field.name: other}).run_id != run.run_id


@given(st.integers(1, 40), st.integers(1, 12))
def test_batches_partition_the_grid(n_seeds, runs_per_batch):
    runs = make_runs(model=["transformer", "mlp"], prime=[31, 23], seed=range(n_seeds))
    batches = grid.plan_batches(runs, runs_per_batch)
    assert sorted(r.run_id for batch in batches for r in batch) == sorted(r.run_id for r in runs)
    for batch in batches:
        assert 1 <= len(batch) <= runs_per_batch
        assert len({run.model for run in batch}) == 1


def test_batches_are_of_like_size_and_like_primes():
    batches = grid.plan_batches(make_runs(prime=[23, 31], seed=range(5)), 4)
    assert [len(batch) for batch in batches] == [3, 3, 4]
    primes = [run.prime for run in itertools.chain(*batches)]
    assert primes == sorted(primes)


def test_settings_refuse_what_cannot_be():
    with pytest.raises(InvalidSettingError, match="--steps=1001: must be a multiple of"):
        TrainConfig(steps=1001, checkpoint_every=500)
    with pytest.raises(InvalidSettingError, match="--n_heads=3: must divide --d_model=128"):
        ModelConfig(model="transformer", n_heads=3)
    with pytest.raises(InvalidSettingError, match="--activation=swish: must be one of gelu"):
        ModelConfig(model="mlp", activation="swish")
    with pytest.raises(InvalidSettingError, match="2\\^31"):
        TrainConfig(steps=10_000_000, checkpoint_every=500)
    with pytest.raises(InvalidSettingError, match="--precision=half"):
        TrainConfig(precision="half")


def test_the_study_has_121_checkpoints():
    assert len(TrainConfig().checkpoint_steps) == 121
