"""Shards partition the grid, alike in cost, whatever the order of axes; schedulers name them."""

import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokjax.running import sharding
from grokjax.settings.config import Shard, TrainConfig
from grokjax.settings.fields import InvalidSettingError
from grokjax.training import work
from tests.helpers import make_runs

STUDY = {"d_model": [128], "d_ff": [256], "mlp_width": [512], "batch_size": [512]}
MODELS = ["transformer", "mlp"]


@functools.cache
def cost(model, prime):
    return work.costs(make_runs(**STUDY, model=[model], prime=[prime]), TrainConfig())[0]


def costs(runs):
    return [cost(run.model.name, run.task.prime) for run in runs]


def split(runs, count):
    return sharding.split(runs, costs(runs), count)


# --------------------------------------------------------------------------- the parts

GRIDS = st.fixed_dictionaries(
    {
        "model": st.lists(st.sampled_from(MODELS), min_size=1, unique=True),
        "prime": st.lists(st.sampled_from([11, 23, 59, 113, 197]), min_size=1, unique=True),
        "weight_decay": st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=1, unique=True),
        "seed": st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=7, unique=True),
    }
)


@settings(deadline=None, max_examples=60)
@given(axes=GRIDS, data=st.data())
def test_shards_partition_the_grid_evenly_whatever_the_order(axes, data):
    runs = make_runs(**STUDY, **axes)
    count = data.draw(st.integers(1, min(len(runs), 9)))
    shards = split(runs, count)
    assert len(shards) == count
    held = list(itertools.chain(*shards))
    assert len(held) == len(set(held)) == len(runs)
    assert set(held) == set(runs)
    for part in shards:
        assert part
        assert list(part) == [run for run in runs if run in part]
    loads = [sum(costs(part)) for part in shards]
    assert max(loads) - min(loads) <= max(costs(runs))
    shuffled = make_runs(
        **STUDY, **{name: data.draw(st.permutations(v)) for name, v in axes.items()}
    )
    reordered = split(data.draw(st.permutations(shuffled)), count)
    assert [set(part) for part in reordered] == [set(part) for part in shards]


@pytest.mark.parametrize("count", [2, 3, 4, 6, 10, 16, 32])
def test_shards_of_a_mixed_grid_cost_the_same_within_ten_per_cent(count):
    runs = make_runs(
        **STUDY,
        model=MODELS,
        prime=[59, 113, 197],
        train_fraction=[0.2, 0.3],
        seed=list(range(16)),
    )
    loads = [sum(costs(part)) for part in split(runs, count)]
    assert max(loads) <= 1.1 * min(loads)


def test_parts_of_every_kind_are_shared_out():
    runs = make_runs(
        model=["mlp"],
        operation=["add", "s4", "z2^3", "digits"],
        prime=[11],
        batch_size=[0, 16],
        seed=list(range(3)),
    )
    own = work.costs(runs, TrainConfig())
    shards = sharding.split(runs, own, 4)
    by_id = {run.run_id: each for run, each in zip(runs, own, strict=True)}
    loads = [sum(by_id[run.run_id] for run in part) for part in shards]
    assert max(loads) - min(loads) <= max(own)
    assert len(set(own)) == 8


def test_equal_runs_are_dealt_out_equally():
    runs = make_runs(**STUDY, seed=list(range(12)))
    assert [len(part) for part in split(runs, 4)] == [3, 3, 3, 3]
    assert [len(part) for part in split(runs, 5)] == [3, 3, 2, 2, 2]


def test_who_holds_which_run_is_fixed_for_good():
    # Shards trained by one release must fit those trained by the next.
    runs = make_runs(**STUDY, prime=[11, 23], seed=[0, 1, 2])
    parts = split(runs, 2)
    assert [[(r.task.prime, r.seed) for r in part] for part in parts] == [
        [(11, 2), (23, 0), (23, 1)],
        [(11, 0), (11, 1), (23, 2)],
    ]


def test_more_shards_than_runs_are_refused():
    with pytest.raises(InvalidSettingError, match=r"the grid has 1 runs; take at most as many"):
        split(make_runs(), 2)


# --------------------------------------------------------------------------- the flag


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "0/0", "a/b", "1/4/2", "0.5/2", "all"])
def test_bad_shards_are_refused(text):
    with pytest.raises(InvalidSettingError, match=r"--shard=.*must be i/N with i from 0 to N - 1"):
        Shard.parse(text)


def test_shards_read_and_print_alike():
    assert Shard.parse("3/16") == Shard(index=3, count=16)
    assert str(Shard(index=3, count=16)) == "3/16"
    assert Shard(index=3, count=16).folder == "shard-003-of-016"
    assert Shard.parse("none") is None


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
