"""Axes → runs: ids, columns, and what shares a program."""

import dataclasses
import itertools
import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokjax.settings import grid, registry
from grokjax.settings.fields import RUN, InvalidSettingError, fields_of
from grokjax.settings.registry import KINDS
from grokjax.store import runs as runs_table
from tests.helpers import make_axes, make_runs

# One name of every class of parts.
PARTS = [
    (kind.column, name)
    for kind, names in zip(
        KINDS,
        [("transformer", "mlp"), ("add", "s3"), registry.names("optimizer"),
         registry.names("loss")],
        strict=True,
    )
    for name in names
]  # fmt: skip
EVERY = [
    (column, name, field)
    for column, name in [*PARTS, (RUN, RUN)]
    for field in fields_of(registry.find(column, name)).values()
]
IDS = [f"{name} {field.name}" for _, name, field in EVERY]


def others(field):
    """Values of a setting that are not its default."""
    if field.kind is bool:
        return (not field.default,)
    if field.choices:
        return tuple(value for value in field.choices if value != field.default)
    found = [value for value in (2 * field.default, field.default / 2, 0.5, 1.0)
             if value != field.default and field.accepts(field.kind(value))]  # fmt: skip
    return (field.kind(found[0]), *field.words.values())


def axes_with(column, part, name, values):
    """Axes of one run at the defaults, but of one part, with values of one of its settings."""
    chosen = {kind.column: registry.default(kind.column) for kind in KINDS} | {RUN: RUN}
    chosen[column] = part

    def of(cls):
        return {own.name: (own.default,) for own in fields_of(cls).values()}

    axes = {c: {n: of(registry.find(c, n))} for c, n in chosen.items()}
    axes[column][part][name] = tuple(values)
    return axes


# --------------------------------------------------------------------------- ids


def test_the_id_at_the_defaults_is_what_it_always_was():
    (run,) = grid.expand(axes_with(RUN, RUN, "seed", [46]))
    assert run.run_id == "transformer-add-p113-f0.3-c0.0-wd0.1-lr0.003-i1.0-s46"


@pytest.mark.parametrize(("column", "part", "field"), EVERY, ids=IDS)
def test_every_setting_that_is_not_at_its_default_is_in_the_id(column, part, field):
    values = others(field)
    runs = grid.expand(axes_with(column, part, field.name, [field.default, *values]))
    assert len({run.run_id for run in runs}) == len(runs) == 1 + len(values)
    for run, value in zip(runs, [field.default, *values], strict=True):
        named = f"-{field.name}={field.text(value)}"
        if field.symbol:
            named = f"-{field.symbol}{value!r}"
        assert (named in run.run_id) == (value != field.default or bool(field.symbol))
        assert run.values[field.name] == value
        assert type(run.values[field.name]) is field.kind


def test_parts_that_are_not_the_default_are_in_the_id():
    runs = make_runs(
        model=["transformer", "mlp"],
        operation=["add", "max", "s3", "s3_conjugate"],
        optimizer=list(registry.names("optimizer")),
        loss=list(registry.names("loss")),
    )
    assert len({run.run_id for run in runs}) == len(runs) == 2 * 4 * 4 * 3
    for run in runs:
        assert run.run_id.startswith(f"{run.model.name}-{run.task.name}-")
        for part, name in ((run.optimizer, "optimizer"), (run.loss, "loss")):
            named = f"-{name}={part.name}" in run.run_id
            assert named == (part.name != registry.default(name))


def test_run_ids_are_unique_and_do_not_depend_on_the_order_of_axes():
    axes = {
        "model": ["transformer", "mlp"],
        "operation": ["add", "z2^3"],
        "optimizer": ["adamw", "sgd"],
        "prime": [23, 31],
        "train_fraction": [0.3, 0.5],
        "weight_decay": [0.1, 1.0],
        "batch_size": [0, 64],
        "biases": [True, False],
        "n_heads": [2, 4],
        "momentum": [0.5, 0.9],
        "seed": [1, 2, 3],
    }
    ids = [run.run_id for run in make_runs(**axes)]
    # Of heads, moduli and momenta only the parts that have them make more runs.
    assert len(set(ids)) == len(ids) == (2 + 1) * (2 + 1) * (1 + 2) * 2**4 * 3
    shuffled = {name: random.Random(0).sample(v, len(v)) for name, v in reversed(axes.items())}
    assert {run.run_id for run in make_runs(**shuffled)} == set(ids)

    def backwards(own):
        return dict(reversed(own.items())) if isinstance(own, dict) else own

    reordered = {
        column: {name: backwards(own) for name, own in reversed(parts.items())}
        for column, parts in make_axes(**axes).items()
    }
    assert {run.run_id for run in grid.expand(reordered)} == set(ids)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_grid_has_one_id_a_run(data):
    chosen = data.draw(st.lists(st.sampled_from(EVERY), min_size=1, max_size=4, unique_by=id))
    axes = {field.name: [field.default, *others(field)] for _, _, field in chosen}
    names = {kind.column: list(registry.names(kind.column)) for kind in KINDS[2:]}
    runs = make_runs(model=["transformer", "mlp"], operation=["add", "s3"], **names, **axes)
    assert len({run.run_id for run in runs}) == len(runs)


def test_the_order_of_the_grid_is_that_of_kinds_with_the_seed_fastest():
    runs = make_runs(model=["mlp", "transformer"], prime=[31, 23], weight_decay=[1.0, 0.0],
                     seed=[5, 3])  # fmt: skip
    found = [(r.model.name, r.task.prime, r.optimizer.weight_decay, r.seed) for r in runs]
    assert found == list(itertools.product(["mlp", "transformer"], [31, 23], [1.0, 0.0], [5, 3]))


# --------------------------------------------------------------------------- columns


def test_a_setting_that_a_part_lacks_is_null_and_multiplies_nothing():
    runs = make_runs(
        model=["transformer", "mlp"],
        operation=["add", "s3"],
        optimizer=["adamw", "sgd"],
        loss=["cross_entropy", "stablemax"],
        prime=[23, 31],
        n_layers=[1, 2],
        mlp_inputs=["sum", "concatenate", "one_hot"],
        momentum=[0.5, 0.9],
        loss_precision=["float32", "float64"],
        batch_size=[0, 64],
    )
    assert len(runs) == (2 + 3) * (2 + 1) * (1 + 2) * (2 + 1) * 2
    none = pd.DataFrame({"run_id": [], "step": [], "train_loss": []})
    frame = runs_table.table(runs, none, 100)
    assert list(frame["run_id"]) == [run.run_id for run in runs]
    assert set(frame.columns) >= set(grid.columns()) | {"n_train", "status"}
    has = {
        "prime": frame["operation"] == "add",
        "momentum": frame["optimizer"] == "sgd",
        **dict.fromkeys(["beta1", "beta2", "epsilon"], frame["optimizer"] == "adamw"),
        "loss_precision": frame["loss"] == "cross_entropy",
        **dict.fromkeys(["n_layers", "n_heads", "d_ff", "layer_norm", "equals_token", "causal",
                         "attention_rate"], frame["model"] == "transformer"),
        **dict.fromkeys(["mlp_width", "mlp_depth", "mlp_inputs"], frame["model"] == "mlp"),
    }  # fmt: skip
    for name in grid.columns():
        there = has.get(name, pd.Series(True, index=frame.index))
        assert (frame[name].notna() == there).all(), name
    for i, run in enumerate(runs):
        for name, value in run.values.items():
            assert frame[name].iloc[i] == value
    assert frame["batch_size"].dtype == frame["seed"].dtype == "int64"
    assert frame["prime"].dtype == "Int64"
    assert frame["causal"].dtype == "boolean"


# --------------------------------------------------------------------------- programs


@pytest.mark.parametrize(("column", "part", "field"), EVERY, ids=IDS)
def test_runs_share_a_program_where_only_traced_settings_or_tasks_differ(column, part, field):
    values = [field.default, others(field)[0]]
    axes = axes_with(column, part, field.name, values)
    if field.name == "topology_weight":
        axes[column][part][field.name] = (0.5, 1.0)  # at 0 the program knows of no term
    elif field.name.startswith("topology"):
        assert len(grid.plan_batches(grid.expand(axes), 10)) == 1
        axes[column][part]["topology_weight"] = (0.5,)
    runs = grid.expand(axes)
    one_program = field.traced or column == "operation"
    assert (runs[0].static == runs[1].static) == one_program
    assert len(grid.plan_batches(runs, 10)) == (1 if one_program else 2)
    if field.traced and column != "operation" and field.name != "seed":
        assert [run.traced[field.name] for run in runs] == [run.values[field.name] for run in runs]


def test_tasks_of_pairs_share_a_program_and_images_have_their_own():
    runs = make_runs(model=["mlp"], operation=["add", "max", "s3", "z2^3", "digits"], prime=[23])
    assert [len(batch) for batch in grid.plan_batches(runs, 10)] == [4, 1]
    runs = make_runs(optimizer=["adamw", "adam"], loss=["cross_entropy", "squared_error"])
    assert len(grid.plan_batches(runs, 10)) == 4


@given(st.integers(1, 40), st.integers(1, 12))
def test_batches_partition_the_grid(n_seeds, runs_per_batch):
    runs = make_runs(model=["transformer", "mlp"], prime=[31, 23], seed=range(n_seeds))
    batches = grid.plan_batches(runs, runs_per_batch)
    assert sorted(r.run_id for batch in batches for r in batch) == sorted(r.run_id for r in runs)
    for batch in batches:
        assert 1 <= len(batch) <= runs_per_batch
        assert len({run.static for run in batch}) == 1


def test_batches_are_of_like_size_and_like_primes():
    batches = grid.plan_batches(make_runs(prime=[23, 31], seed=range(5)), 4)
    assert [len(batch) for batch in batches] == [3, 3, 4]
    primes = [run.task.prime for run in itertools.chain(*batches)]
    assert primes == sorted(primes)


# --------------------------------------------------------------------------- what cannot be


def test_a_fraction_must_leave_pairs_on_both_sides():
    with pytest.raises(InvalidSettingError, match="leaves 0 of the 9 pairs of prime 3"):
        make_runs(prime=[3], train_fraction=[0.01])
    with pytest.raises(InvalidSettingError, match="leaves 9 of the 9 pairs"):
        make_runs(prime=[3], train_fraction=[0.99])
    # Of quotients modulo 4 there are 4 x 2.
    with pytest.raises(InvalidSettingError, match="leaves 8 of the 8 pairs of modulus 4"):
        make_runs(operation=["divide"], prime=[4], train_fraction=[0.99])
    with pytest.raises(InvalidSettingError, match="leaves 0 of the 36 pairs of s3"):
        make_runs(operation=["s3"], train_fraction=[0.01])


def test_settings_that_cannot_be_together_are_refused():
    with pytest.raises(InvalidSettingError, match="--n_heads=3: must divide --d_model=128"):
        make_runs(n_heads=[3], d_model=[128])
    with pytest.raises(InvalidSettingError, match="--activation=swish: must be one of gelu"):
        make_runs(activation=["swish"])
    with pytest.raises(InvalidSettingError, match="--models=transformer: cannot learn --operat"):
        make_runs(operation=["digits"])
    with pytest.raises(InvalidSettingError, match=r"each must be one of transformer, mlp$"):
        registry.find("model", "rnn")
    with pytest.raises(InvalidSettingError, match=r"--operations=x: .* add, .*sN, dN, zNxzM"):
        registry.find("operation", "x")
    with pytest.raises(InvalidSettingError, match="--operations=s2: s2 holds s2"):
        make_runs(operation=["s2"])


def test_a_grid_of_more_than_a_million_runs_is_refused_before_it_is_made():
    with pytest.raises(InvalidSettingError, match=r"--seeds=\(999,999 values\): the grid has 1,9"):
        make_runs(seed=range(999_999), weight_decay=[0.0, 1.0])


def test_a_run_is_a_value():
    one, same, other = make_runs(seed=[1])[0], make_runs(seed=[1])[0], make_runs(seed=[2])[0]
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.settings.seed = 3
