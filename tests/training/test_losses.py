"""Losses against NumPy's float64; padding outputs never count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.settings import registry

pytestmark = pytest.mark.device

N, REAL, PADDED = 40, 9, 14


def s_of(x):
    """StableMax's s of Prieto et al. (2501.04697): x + 1, or 1 / (1 - x) below zero."""
    return np.array([value + 1 if value >= 0 else 1 / (1 - value) for value in x])


def cross_entropy(row, label):
    return np.log(np.exp(row - row[label]).sum())


def stablemax(row, label):
    return -np.log(s_of(row)[label] / s_of(row).sum())


def squared_error(row, label):
    return ((row - np.eye(len(row))[label]) ** 2).mean()


PLAIN = {"cross_entropy": cross_entropy, "stablemax": stablemax, "squared_error": squared_error}
LOSSES = [
    ("cross_entropy", {}),
    ("cross_entropy", {"loss_precision": "float64"}),
    ("stablemax", {}),
    ("squared_error", {}),
]
IDS = ["cross_entropy", "in float64", "stablemax", "squared_error"]


def part(name, **values):
    return registry.find("loss", name)(name=name, **values)


@pytest.fixture(scope="module")
def outputs():
    """(logits, labels): of all sizes and both signs, some zero."""
    source = np.random.default_rng(0)
    logits = (source.normal(size=(N, PADDED)) * 10 ** source.uniform(-2, 1.2, (N, 1))).astype("f")
    logits[:3, 4] = 0
    return logits, source.integers(0, REAL, N).astype(np.int32)


def slopes(plain, row, label):
    """Derivative of a plain loss by central differences in float64."""
    found = np.zeros(len(row))
    for i in range(len(row)):
        step = np.zeros(len(row))
        step[i] = 1e-6 * max(1, abs(row[i]))
        found[i] = (plain(row + step, label) - plain(row - step, label)) / (2 * step[i])
    return found


@pytest.mark.parametrize(("name", "values"), LOSSES, ids=IDS)
def test_losses_and_gradients_are_numpys_over_a_runs_own_outputs(name, values, outputs):
    logits, labels = outputs
    own = part(name, **values)
    real = jnp.arange(PADDED) < REAL
    plain = PLAIN[name]
    rows = logits[:, :REAL].astype(np.float64)
    expected = np.array([plain(row, label) for row, label in zip(rows, labels, strict=True)])
    slope = np.array([slopes(plain, row, label) for row, label in zip(rows, labels, strict=True)])

    @jax.jit
    def found(logits):
        losses, pull = jax.vjp(lambda x: own.per_example(x, labels, real), logits)
        return losses, pull(jnp.ones(N, jnp.float32))[0]

    losses, gradient = found(logits)
    assert losses.shape == (N,)
    assert losses.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(losses, expected, rtol=2e-5, atol=1e-6)
    # At zero StableMax has a kink in its second derivative, none in its first.
    np.testing.assert_allclose(gradient[:, :REAL], slope, rtol=1e-4, atol=2e-6)
    assert np.all(np.asarray(gradient)[:, REAL:] == 0)


@pytest.mark.parametrize("large", [1e30, -1e30, 0.0])
@pytest.mark.parametrize(("name", "values"), LOSSES, ids=IDS)
def test_padding_outputs_never_count(name, values, large, outputs):
    logits, labels = outputs
    own = part(name, **values)
    alone = own.per_example(jnp.asarray(logits[:, :REAL]), labels, jnp.ones(REAL, bool))
    logits = logits.copy()
    logits[:, REAL:] = large
    padded = own.per_example(jnp.asarray(logits), labels, jnp.arange(PADDED) < REAL)
    np.testing.assert_allclose(padded, alone, rtol=1e-6)


def test_stablemax_still_has_a_gradient_where_cross_entropy_has_none():
    logits = jnp.zeros((1, 5)).at[0, 2].set(200.0)
    real, label = jnp.ones(5, bool), jnp.array([2])

    def gradient(own):
        return jax.grad(lambda x: own.per_example(x, label, real)[0])(logits)

    gradients = {name: gradient(part(name)) for name in ("cross_entropy", "stablemax")}
    assert not np.any(gradients["cross_entropy"])
    # s = 201 and four times 1.
    np.testing.assert_allclose(gradients["stablemax"][0, 2], 1 / 205 - 1 / 201, rtol=1e-4)
    assert np.isfinite(gradients["stablemax"]).all()
