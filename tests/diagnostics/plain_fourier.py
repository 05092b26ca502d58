"""Fourier measures computed plainly from their definitions, and networks of closed form."""

import itertools

import numpy as np

# --------------------------------------------------------------- from the definitions, plainly


def basis(n):
    """(n, n), rows: the constant, then cosine and sine of each frequency, normalised."""
    x = np.arange(n)
    waves = [np.ones(n)]
    for k in range(1, n // 2 + 1):
        waves.append(np.cos(2 * np.pi * k * x / n))
        if 2 * k != n:
            waves.append(np.sin(2 * np.pi * k * x / n))
    return np.array([wave / np.linalg.norm(wave) for wave in waves])


def places(n, k):
    """Rows of the basis that belong to frequency k."""
    return [2 * k - 1] if 2 * k == n else [2 * k - 1, 2 * k]


def plain_neuron_frequencies(neurons):
    n = int(np.sqrt(len(neurons)))
    centred = (neurons - neurons.mean(axis=0)).reshape(n, n, -1)
    transform = np.einsum("ia,jb,abw->ijw", basis(n), basis(n), centred)
    explained = []
    for k in range(1, n // 2 + 1):
        waves = places(n, k)
        terms = [(i, 0) for i in waves] + [(0, j) for j in waves]
        terms += list(itertools.product(waves, waves))
        explained.append(sum(transform[i, j] ** 2 for i, j in terms))
    explained = np.array(explained) / (centred**2).sum(axis=(0, 1))
    return explained.argmax(axis=0) + 1, explained.max(axis=0)


def plain_cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_probability[np.arange(len(labels)), labels].mean()


def plain_measures(projections, logits, labels, train_mask):
    """Losses, then accuracies, restricted to projections of the logits and excluding them."""
    restricted = projections + logits.mean(axis=0)
    excluded = (logits - projections)[train_mask]
    return (
        plain_cross_entropy(restricted, labels),
        plain_cross_entropy(excluded, labels[train_mask]),
        (restricted.argmax(axis=1) == labels).mean(),
        (excluded.argmax(axis=1) == labels[train_mask]).mean(),
    )


def plain_restricted_and_excluded(logits, labels, train_mask, keys):
    n = int(np.sqrt(len(logits)))
    a, b = np.divmod(np.arange(n * n), n)
    projections = np.zeros_like(logits)
    for k in keys:
        for wave in (np.cos, np.sin):
            direction = wave(2 * np.pi * k * (a + b) / n)
            if np.linalg.norm(direction) > 1e-6:
                direction = direction / np.linalg.norm(direction)
                projections += np.outer(direction, direction @ logits)
    return plain_measures(projections, logits, labels, train_mask)


# ------------------------------------------------------------------------------------ networks


def sums(n):
    return np.add.outer(np.arange(n), np.arange(n)).ravel() % n


def mask(n, fraction=0.4, seed=0):
    return np.random.default_rng(seed).random(n * n) < fraction


def direct_logits(n, keys, scale=3.0):
    """Σ_k cos(w_k (a + b − c)), weighted so that no two frequencies are alike."""
    differences = sums(n)[:, None] - np.arange(n)
    return sum(
        scale * (1 + 0.1 * i) * np.cos(2 * np.pi * k * differences / n) for i, k in enumerate(keys)
    )


def gromov(p, keys, n_phases=5):
    """Neurons and logits of the quadratic network of Gromov (arXiv:2301.02679), phases in a grid.

    Preactivations cos(w a + φ) + cos(w b + ψ), activation x², read-out cos(w c + φ + ψ). Summed
    over the grid of phases, every term but cos(w (a + b − c)) cancels exactly.
    """
    a, b = np.divmod(np.arange(p * p), p)
    phases = 2 * np.pi * np.arange(n_phases) / n_phases
    neurons, readout = [], []
    for k, phi, psi in itertools.product(keys, phases, phases):
        w = 2 * np.pi * k / p
        neurons.append((np.cos(w * a + phi) + np.cos(w * b + psi)) ** 2)
        readout.append(np.cos(w * np.arange(p) + phi + psi))
    return np.array(neurons).T, np.array(neurons).T @ np.array(readout)


def relu_neurons(p, keys, seed=0):
    """Rectified waves, as in Nanda et al.'s networks, with random phases and offsets."""
    rng = np.random.default_rng(seed)
    a, b = np.divmod(np.arange(p * p), p)
    columns = []
    for k in keys:
        for phi, psi, offset in rng.uniform(0, 2 * np.pi, (6, 3)):
            w = 2 * np.pi * k / p
            columns.append(np.cos(w * a + phi) + np.cos(w * b + psi) + offset / 10)
    return np.maximum(np.array(columns).T, 0)
