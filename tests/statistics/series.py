"""Series that step once, as those of a grokking run do."""

import numpy as np
from scipy import signal

N_CHECKPOINTS = 121


def step_series(rng, at, *, width=2.0, noise=0.05, rise=1.0):
    """(121,) sigmoid step at checkpoint `at` plus AR(1) noise of coefficient 0.9."""
    innovations = rng.normal(size=N_CHECKPOINTS) * np.sqrt(1 - 0.9**2)
    innovations[0] /= np.sqrt(1 - 0.9**2)
    ar1 = signal.lfilter([1.0], [1.0, -0.9], innovations)
    step = 1 / (1 + np.exp(-(np.arange(N_CHECKPOINTS) - at) / width))
    return rise * step + noise * ar1


def unrelated_pairs(seed, n_pairs, earliest=10, latest=110):
    rng = np.random.default_rng(seed)
    return [
        tuple(step_series(rng, rng.uniform(earliest, latest)) for _ in range(2))
        for _ in range(n_pairs)
    ]


def coupled_seeds(seed, n_seeds, earliest=30, latest=90):
    """Series of n_seeds runs whose two steps lie within 3 checkpoints of each other."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(earliest, latest, n_seeds)
    xs = [step_series(rng, t) for t in times]
    return xs, [step_series(rng, t + rng.uniform(-3, 3)) for t in times]


def share_below(p_values, level=0.05):
    return np.mean(np.array(p_values) < level)
