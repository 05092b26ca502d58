"""Spikes of a training loss are found where they were planted, and what changes with them."""

import types

import numpy as np
import pandas as pd
import pytest

from experiments import spikes

STEPS = np.arange(0, 6001, 50.0)
PLANTED = (2000.0, 3500.0, 5000.0)


def losses(planted, height=1.0):
    """A loss that decays to 1e-6 and jumps up at some steps."""
    since = STEPS
    for at in planted:
        since = np.where(at <= STEPS, STEPS - at, since)
    return np.maximum(1e-6, height * np.exp(-since / 60))


def run_of(accuracy, planted=PLANTED):
    frame = pd.DataFrame({"step": STEPS, "train_loss": losses(planted)})
    for column in spikes.COLUMNS:
        frame[column] = accuracy
    run = types.SimpleNamespace(seed=1, memorisation_step=500, generalisation_step=3500)
    return spikes.row(frame, run)


def test_planted_spikes_are_found_and_no_others():
    assert spikes.spikes(STEPS, losses(PLANTED), 500).tolist() == list(PLANTED)
    assert not len(spikes.spikes(STEPS, losses(()), 500))
    # What counts is the least loss of the steps before, also while it still comes down.
    assert spikes.spikes(STEPS, losses((2000, 2350)), 500).tolist() == [2000, 2350]
    wave = 1e-3 * (1 + 0.9 * np.sin(STEPS / 40))  # of less than the factor
    assert not len(spikes.spikes(STEPS, wave, 500))


def test_shares_of_a_jump_at_a_spike_one_between_and_an_even_change():
    at, between = (run_of((step <= STEPS) * 1.0) for step in (3500, 4300))
    even = run_of(STEPS / 6000)
    assert at["test_accuracy"] == pytest.approx(1)
    assert between["test_accuracy"] == pytest.approx(0)
    assert even["test_accuracy"] == pytest.approx(even["steps"])
    assert even["steps"] == pytest.approx(3 * sum(spikes.AROUND) / 5500)
    assert (at["spikes"], at["spacing"]) == (3, 1500)


def test_without_a_spike_nothing_is_with_one():
    found = run_of(STEPS / 6000, planted=())
    assert (found["spikes"], found["steps"], found["h1_max"]) == (0, 0, 0)
    assert np.isnan(found["spacing"])
