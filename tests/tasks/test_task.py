"""Splits, permuted labels, novel pairs and streams."""

import itertools

import numpy as np
import pytest

from grokjax.tasks import task
from grokjax.tasks.task import make_data
from grokjax.training import data
from tests.helpers import make_runs

TASKS = [
    {"operation": ["add"], "prime": [23]},
    {"operation": ["average"], "prime": [12]},
    {"operation": ["divide"], "prime": [15]},
    {"operation": ["d5"]},
    {"operation": ["z2^3_conjugate"]},
]
NAMES = [axes["operation"][0] for axes in TASKS]


@pytest.mark.parametrize("axes", TASKS, ids=NAMES)
def test_splits_have_the_asked_sizes_and_are_nested(axes):
    runs = make_runs(**axes, train_fraction=[0.2, 0.3, 0.9])
    found = [make_data(run) for run in runs]
    for run, own in zip(runs, found, strict=True):
        labelled = own.truth >= 0
        n_train = round(run.task.train_fraction * labelled.sum())
        assert own.train_mask.sum() == run.task.n_train == len(own.train) == n_train
        assert own.train.tolist() == np.flatnonzero(own.train_mask).tolist()
        assert not np.any(own.train_mask & ~labelled)
        np.testing.assert_array_equal(own.test_mask, labelled & ~own.train_mask)
        assert not np.any(own.novel_mask & ~own.test_mask)
    for small, large in itertools.pairwise(found):
        assert np.all(large.train_mask[small.train_mask])


def test_a_split_is_drawn_evenly():
    runs = make_runs(prime=[5], train_fraction=[0.4], seed=range(400))
    counts = sum(make_data(run).train_mask.astype(int) for run in runs)
    # Each pair trains in 160 of 400, give or take four standard deviations.
    assert abs(counts - 160).max() < 40


def test_splits_differ_between_seeds_but_not_between_weight_decays():
    one, two = make_runs(seed=[1, 2])
    assert np.any(make_data(one).train_mask != make_data(two).train_mask)
    weak, strong = make_runs(weight_decay=[0.1, 1.0])
    assert np.array_equal(make_data(weak).train_mask, make_data(strong).train_mask)
    for key in (task.init_key, task.batch_key):
        assert np.array_equal(key(weak), key(strong))
        assert not np.array_equal(key(one), key(two))


def test_runs_that_are_to_be_compared_begin_alike():
    first, *others = make_runs(
        optimizer=["adamw", "sgd"], loss=["cross_entropy", "stablemax"], batch_size=[8, 0],
        train_fraction=[0.3], learning_rate=[1e-3, 1e-2], init_scale=[1.0, 2.0],
    )  # fmt: skip
    draws = task.cloud_generator(first).random(3)
    for other in others:
        assert np.array_equal(task.init_key(first), task.init_key(other))
        assert np.array_equal(task.batch_key(first), task.batch_key(other))
        assert np.array_equal(draws, task.cloud_generator(other).random(3))
    add, multiply, small = make_runs(operation=["add", "multiply"]) + make_runs(prime=[31])
    assert np.array_equal(task.init_key(add), task.init_key(multiply))
    assert not np.array_equal(task.batch_key(add), task.batch_key(multiply))
    assert not np.array_equal(task.init_key(add), task.init_key(small))


def test_streams_are_fixed_for_good():
    # Runs begun by one release go on under the next.
    (run,) = make_runs(prime=[23], train_fraction=[0.5], seed=[46])
    assert make_data(run).train[:8].tolist() == [3, 5, 6, 7, 8, 11, 13, 14]
    assert task.init_key(run).tolist() == [3617221585, 3086247776]
    assert task.batch_key(run).tolist() == [2864837910, 2486684081]
    assert task.cloud_generator(run).integers(0, 1000, 4).tolist() == [410, 331, 93, 246]


@pytest.mark.parametrize("axes", TASKS, ids=NAMES)
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_permutation_moves_labels_within_the_training_pairs(axes, share):
    (run,) = make_runs(**axes, label_permutation=[share], train_fraction=[0.6])
    own = make_data(run)
    train = own.train_mask
    assert np.array_equal(own.labels[~train], own.truth[~train])
    moved = own.labels != own.truth
    assert moved.sum() <= round(share * run.task.n_train)
    assert moved.any() or share == 0.05
    # Permuted among themselves: what they hold together stays.
    assert np.array_equal(np.sort(own.labels[train]), np.sort(own.truth[train]))
    if share == 1:
        assert moved.sum() > 0.7 * run.task.n_train


def test_true_labels_are_the_truth():
    (run,) = make_runs()
    own = make_data(run)
    assert np.array_equal(own.labels, own.truth)


@pytest.mark.parametrize("axes", TASKS[:3], ids=NAMES[:3])
def test_novel_pairs_by_their_definition(axes):
    (run,) = make_runs(**axes, label_permutation=[0.3])
    own, n = make_data(run), run.task.n_elements
    for a in range(n):
        for b in range(n):
            here, there = a * n + b, b * n + a
            given_away = own.train_mask[there] and own.labels[there] == own.truth[here]
            tests = own.truth[here] >= 0 and not own.train_mask[here]
            assert own.novel_mask[here] == (tests and not given_away)


def test_padding_a_batch_leaves_each_task_as_it_is():
    runs = [
        *make_runs(prime=[23, 31], train_fraction=[0.2, 0.5]),
        *make_runs(operation=["divide"], prime=[12]),
        *make_runs(operation=["s4"], label_permutation=[0.5]),
    ]
    stacked = data.stack(runs)
    assert stacked.labels.shape == stacked.split.shape == (len(runs), 31 * 31)
    for i, run in enumerate(runs):
        own, n = make_data(run), run.task.n_elements
        labels, split = (x[i].reshape(31, 31) for x in (stacked.labels, stacked.split))
        square = [x.reshape(n, n) for x in (own.truth >= 0, own.train_mask, own.novel_mask)]
        there, train, novel = square
        assert np.array_equal(labels[:n, :n][there], own.labels.reshape(n, n)[there])
        assert np.array_equal(split[:n, :n] == data.TRAIN, train)
        assert np.array_equal(split[:n, :n] == data.NOVEL, novel)
        assert np.array_equal(split[:n, :n] == data.LEAKED, there & ~train & ~novel)
        assert np.all(split[n:] == data.PADDING)
        assert np.all(split[:, n:] == data.PADDING)
        n_train = run.task.n_train
        pairs = stacked.train_inputs[i] @ [n, 1]
        assert pairs[:n_train].tolist() == own.train.tolist()
        assert not stacked.train_inputs[i, n_train:].any()
        assert stacked.train_label[i, :n_train].tolist() == own.labels[own.train].tolist()
        sizes = [x[i] for x in (stacked.n_elements, stacked.n_outputs, stacked.n_train)]
        assert sizes == [n, n, n_train]
    assert data.sizes(runs) == (31, 31, 0)
