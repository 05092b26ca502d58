"""Splits, permuted labels and novel pairs."""

import numpy as np
import pytest

from grokjax import tasks
from tests.helpers import make_runs


@pytest.mark.parametrize("prime", [3, 23, 47])
def test_labels_are_sums_modulo_the_prime(prime):
    (run,) = make_runs(prime=[prime])
    labels = tasks.make_task(run).labels
    for a in range(prime):
        for b in range(prime):
            assert labels[a, b] == (a + b) % prime


def test_split_has_the_asked_size_and_is_nested_in_larger_fractions():
    small, large = make_runs(train_fraction=[0.2, 0.3])
    first, second = tasks.make_task(small), tasks.make_task(large)
    assert first.train_mask.sum() == round(0.2 * 23**2) == small.n_train
    assert np.all(second.train_mask[first.train_mask])
    assert first.train_pairs.tolist() == np.flatnonzero(first.train_mask.ravel()).tolist()


def test_splits_differ_between_seeds_but_not_between_weight_decays():
    one, two = make_runs(seed=[1, 2])
    assert np.any(tasks.make_task(one).train_mask != tasks.make_task(two).train_mask)
    weak, strong = make_runs(weight_decay=[0.1, 1.0])
    assert np.array_equal(tasks.make_task(weak).train_mask, tasks.make_task(strong).train_mask)
    assert np.array_equal(tasks.init_key(weak), tasks.init_key(strong))


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_permutation_moves_labels_within_the_training_pairs(share):
    (run,) = make_runs(label_permutation=[share])
    task = tasks.make_task(run)
    train = task.train_mask
    assert np.array_equal(task.labels[~train], task.true_labels[~train])
    moved = task.labels != task.true_labels
    assert 0 < moved.sum() <= round(share * run.n_train)
    # Permuted among themselves: what they hold together stays.
    assert np.array_equal(np.sort(task.labels[train]), np.sort(task.true_labels[train]))
    if share == 1:
        assert moved.sum() > 0.9 * run.n_train


def test_novel_pairs_by_their_definition():
    (run,) = make_runs(prime=[13], label_permutation=[0.3])
    task = tasks.make_task(run)
    for a in range(13):
        for b in range(13):
            given_away = task.train_mask[b, a] and task.labels[b, a] == task.true_labels[a, b]
            assert task.novel_mask[a, b] == (not task.train_mask[a, b] and not given_away)


def test_padding_a_batch_leaves_each_task_as_it_is():
    runs = make_runs(prime=[23, 31], train_fraction=[0.2, 0.5])
    data = tasks.stack(runs)
    for i, run in enumerate(runs):
        task, p = tasks.make_task(run), run.prime
        assert np.array_equal(data.labels[i, :p, :p], task.labels)
        assert np.array_equal(data.split[i, :p, :p] == tasks.TRAIN, task.train_mask)
        assert np.array_equal(data.split[i, :p, :p] == tasks.NOVEL, task.novel_mask)
        assert np.all(data.split[i, p:] == tasks.PADDING)
        assert np.all(data.split[i, :, p:] == tasks.PADDING)
        pairs = data.train_a[i] * p + data.train_b[i]
        assert pairs[: run.n_train].tolist() == task.train_pairs.tolist()
        labels = task.labels.ravel()[task.train_pairs]
        assert data.train_label[i, : run.n_train].tolist() == labels.tolist()
