"""Shards partition the grid, alike in cost, whatever the order of axes; schedulers name them."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokjax import train
from grokjax.running import sharding
from grokjax.settings import grid
from grokjax.settings.fields import InvalidSettingError, ModelConfig, TrainConfig
from grokjax.models import Model
from grokjax.running.sharding import Shard
from tests.helpers import make_runs

CONFIGS = {model: ModelConfig(model=model) for model in grid.MODELS}
TRAIN = TrainConfig()


def costs(shards, train_config=TRAIN):
    return [sum(sharding.flops(r, CONFIGS[r.model], train_config) for r in part) for part in shards]


# --------------------------------------------------------------------------- the parts

GRIDS = st.fixed_dictionaries(
    {
        "model": st.lists(st.sampled_from(grid.MODELS), min_size=1, unique=True),
        "prime": st.lists(st.sampled_from([11, 23, 59, 113, 197]), min_size=1, unique=True),
        "weight_decay": st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=1, unique=True),
        "seed": st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=7, unique=True),
    }
)


@settings(deadline=None, max_examples=60)
@given(axes=GRIDS, data=st.data())
def test_shards_partition_the_grid_evenly_whatever_the_order(axes, data):
    runs = make_runs(**axes)
    count = data.draw(st.integers(1, min(len(runs), 9)))
    shards = sharding.split(runs, CONFIGS, TRAIN, count)
    assert len(shards) == count
    held = list(itertools.chain(*shards))
    assert len(held) == len(set(held)) == len(runs)
    assert set(held) == set(runs)
    for part in shards:
        assert part
        assert list(part) == [run for run in runs if run in part]
    dearest = max(sharding.flops(run, CONFIGS[run.model], TRAIN) for run in runs)
    assert max(costs(shards)) - min(costs(shards)) <= dearest
    shuffled = make_runs(**{name: data.draw(st.permutations(v)) for name, v in axes.items()})
    reordered = sharding.split(data.draw(st.permutations(shuffled)), CONFIGS, TRAIN, count)
    assert [set(part) for part in reordered] == [set(part) for part in shards]


@pytest.mark.parametrize("count", [2, 3, 4, 6, 10, 16, 32])
def test_shards_of_a_mixed_grid_cost_the_same_within_ten_per_cent(count):
    runs = make_runs(
        model=["transformer", "mlp"],
        prime=[59, 113, 197],
        train_fraction=[0.2, 0.3],
        seed=list(range(16)),
    )
    found = costs(sharding.split(runs, CONFIGS, TRAIN, count))
    assert max(found) <= 1.1 * min(found)


def test_equal_runs_are_dealt_out_equally():
    runs = make_runs(seed=list(range(12)))
    assert [len(part) for part in sharding.split(runs, CONFIGS, TRAIN, 4)] == [3, 3, 3, 3]
    assert [len(part) for part in sharding.split(runs, CONFIGS, TRAIN, 5)] == [3, 3, 2, 2, 2]


def test_who_holds_which_run_is_fixed_for_good():
    # Shards trained by one release must fit those trained by the next.
    runs = make_runs(prime=[11, 23], seed=[0, 1, 2])
    parts = sharding.split(runs, CONFIGS, TRAIN, 2)
    assert [[(r.prime, r.seed) for r in part] for part in parts] == [
        [(11, 2), (23, 0), (23, 1)],
        [(11, 0), (11, 1), (23, 2)],
    ]


def test_more_shards_than_runs_are_refused():
    with pytest.raises(InvalidSettingError, match=r"the grid has 1 runs; take at most as many"):
        sharding.split(make_runs(), CONFIGS, TRAIN, 2)


@pytest.mark.parametrize("kind", grid.MODELS)
def test_predicted_cost_is_the_compilers(kind):
    """Of a training step, the matrix products alone: within 10 % of XLA's count of everything."""

    def compiled(p, n_pairs):
        (run,) = make_runs(model=[kind], prime=[p])
        model = Model(config=CONFIGS[kind], n_tokens=p)
        program = train.Program(model=model, batch_size=n_pairs, precision="float32")
        pairs = jnp.zeros(n_pairs, jnp.int32)

        def loss(params):
            return train._loss(params, program, p, (pairs, pairs, pairs))

        cost = jax.jit(jax.grad(loss)).lower(model.template()).cost_analysis()
        one = TrainConfig(steps=1, checkpoint_every=1, batch_size=n_pairs)
        evaluations = 2 * sharding._forward(CONFIGS[kind], p, p * p)
        return cost["flops"], sharding.flops(run, CONFIGS[kind], one) - evaluations

    for p in (59, 197):
        counted, predicted = compiled(p, 512)
        assert predicted == pytest.approx(counted, rel=0.1)


# --------------------------------------------------------------------------- the flag


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "0/0", "a/b", "1/4/2", "0.5/2", "all"])
def test_bad_shards_are_refused(text):
    with pytest.raises(InvalidSettingError, match=r"--shard=.*must be i/N with i from 0 to N - 1"):
        sharding.parse(text)


def test_shards_read_and_print_alike():
    assert sharding.parse("3/16") == Shard(index=3, count=16)
    assert str(Shard(index=3, count=16)) == "3/16"
    assert Shard(index=3, count=16).folder == "shard-003-of-016"
    assert sharding.parse("none") is None


# --------------------------------------------------------------------------- schedulers


def slurm(index, first=0, last=3, step=1, count=4):
    values = {"ID": index, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


KUBERNETES = {"JOB_COMPLETION_INDEX": "2"}
SKYPILOT = {"SKYPILOT_JOB_RANK": "2", "SKYPILOT_NUM_JOBS": "7"}
N_SHARDS = {sharding.N_SHARDS_VARIABLE: "8"}


@pytest.mark.parametrize(
    ("environment", "shard", "source"),
    [
        (slurm(2), "2/4", "SLURM_ARRAY_TASK_ID=2"),
        (slurm(8, first=5, last=8), "3/4", "SLURM_ARRAY_TASK_ID=8"),
        (slurm(9, first=1, last=13, step=4), "2/4", "SLURM_ARRAY_TASK_ID=9"),
        (slurm(2, 2, 2, 1, 1) | N_SHARDS, "2/8", "SLURM_ARRAY_TASK_ID=2 with GROKJAX_SHARDS=8"),
        (KUBERNETES | N_SHARDS, "2/8", "JOB_COMPLETION_INDEX=2 with GROKJAX_SHARDS=8"),
        (SKYPILOT, "2/7", "SKYPILOT_JOB_RANK=2"),
    ],
)
def test_schedulers_name_the_shard(environment, shard, source):
    found, told_by = sharding.detect(environment)
    assert (str(found), told_by) == (shard, source)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (KUBERNETES, "JOB_COMPLETION_INDEX=2 names no shard (Kubernetes does not tell"),
        (slurm(2, 2, 2, 1, 1), "it is the only task of its array"),
        (slurm(4, first=1, last=7, count=3), "its array of 3 from 1 to 7 has gaps"),
        ({"SLURM_ARRAY_TASK_ID": "2"}, "SLURM_ARRAY_TASK_MIN is not set"),
        ({"SKYPILOT_JOB_RANK": "2"}, "SKYPILOT_NUM_JOBS is not set"),
        (slurm(9, last=9, count=10) | N_SHARDS, "9/8"),
        (slurm(2) | SKYPILOT, "two schedulers name one"),
        (KUBERNETES | {sharding.N_SHARDS_VARIABLE: "many"}, "GROKJAX_SHARDS=many"),
    ],
)
def test_what_names_no_shard_is_an_error_not_a_guess(environment, words):
    with pytest.raises(InvalidSettingError) as caught:
        sharding.detect(environment)
    assert words in str(caught.value)
    assert "say --shard=i/N" in str(caught.value)


def test_processes_within_a_job_are_no_shards():
    coupled = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SKYPILOT_NODE_RANK": "1", "RANK": "1"}
    assert sharding.detect(coupled) is None
    assert sharding.detect(N_SHARDS) is None
