"""Fourier measures: closed-form networks, and a plain computation from the definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.diagnostics import fourier
from grokjax.tasks import finite_groups
from tests.diagnostics.plain_fourier import (
    basis,
    direct_logits,
    gromov,
    mask,
    places,
    plain_cross_entropy,
    plain_neuron_frequencies,
    plain_restricted_and_excluded,
    relu_neurons,
    sums,
)

pytestmark = pytest.mark.device

# ------------------------------------------------------------------------------------- spectra


@pytest.mark.parametrize("n", [3, 4, 12, 31])
def test_spectrum_is_the_squared_coefficients_in_the_basis(n):
    rows = np.random.default_rng(n).normal(size=(n, 7)) + 1
    squared = ((basis(n) @ rows) ** 2).sum(axis=1)
    expected = [squared[0]] + [squared[places(n, k)].sum() for k in range(1, n // 2 + 1)]
    power = fourier.spectrum(rows)
    assert power.shape == (n // 2 + 1,)
    np.testing.assert_allclose(power, expected, rtol=1e-12)
    np.testing.assert_allclose(power.sum(), (rows**2).sum(), rtol=1e-12)


def test_spectrum_of_heads_is_one_spectrum_a_head():
    rows = np.random.default_rng(0).normal(size=(13, 4, 8)).astype(np.float32)
    power = fourier.spectrum(jnp.asarray(rows))
    assert power.shape == (4, 7)
    for head in range(4):
        np.testing.assert_allclose(power[head], fourier.spectrum(rows[:, head]), rtol=1e-12)


def test_shares_and_concentration_of_known_spectra():
    x = 2 * np.pi * np.arange(31) / 31
    one = fourier.spectrum(5 + np.stack([np.cos(3 * x), 2 * np.sin(3 * x)], axis=1))
    np.testing.assert_allclose(fourier.shares(one), np.eye(15)[2], atol=1e-12)
    assert fourier.concentration(one) == pytest.approx((1, 1, 1 - 1 / 15), abs=1e-12)
    level = np.ones(16)
    assert fourier.concentration(level, n_top=3) == pytest.approx((3 / 15, 15, 0), abs=1e-12)


def test_concentration_of_a_random_spectrum():
    power = fourier.spectrum(np.random.default_rng(1).normal(size=(31, 3)))
    share = power[1:] / power[1:].sum()
    pairs = np.abs(share[:, None] - share[None, :]).mean() / (2 * share.mean())
    measured = fourier.concentration(power, n_top=2)
    expected = (np.sort(share)[-2:].sum(), 1 / (share**2).sum(), pairs)
    assert measured == pytest.approx(expected, rel=1e-12)


def test_a_random_embedding_is_not_concentrated():
    power = fourier.spectrum(np.random.default_rng(2).normal(size=(113, 128)))
    measured = fourier.concentration(power)
    # 256 squared normals a frequency: shares 1/56 with a relative SD of 9 %.
    assert measured.top_share < 1.3 * 6 / 56
    assert measured.effective_frequencies > 0.97 * 56
    assert measured.gini < 0.08


def circles(n, keys, radii, dimension=8, seed=0):
    x = 2 * np.pi * np.arange(n) / n
    waves = [r * f(k * x) for k, r in zip(keys, radii, strict=True) for f in (np.cos, np.sin)]
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimension, dimension)))[0]
    return np.array(waves).T @ frame[: 2 * len(keys)] + 3


def test_circularity_of_circles_and_of_noise():
    assert fourier.circularity(circles(59, (3, 11), (2, 1))) == pytest.approx(1, abs=1e-12)
    one = circles(59, (7,), (1,)).astype(np.float32)
    assert fourier.circularity(one) == pytest.approx(1, abs=1e-6)
    assert fourier.circularity(np.random.default_rng(0).normal(size=(59, 64))) < 0.3


def test_circularity_from_its_formula():
    rows = np.random.default_rng(3).normal(size=(17, 6)) * np.arange(1, 7)
    covariance = np.cov(rows.T)
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :4]
    scores = (rows - rows.mean(axis=0)) @ directions
    harmonics = np.exp(2j * np.pi * np.outer(np.arange(1, 17), np.arange(17)) / 17)
    share = 2 / 17 * np.abs(harmonics @ scores) ** 2 / (scores**2).sum(axis=0)
    assert fourier.circularity(rows) == pytest.approx(share.max(axis=0).mean(), rel=1e-10)


# ------------------------------------------------------------------------------------- neurons


@pytest.mark.parametrize(("p", "keys"), [(13, (2, 5)), (31, (1, 4, 9)), (59, (3, 14, 26))])
def test_key_frequencies_of_closed_form_networks_are_exact(p, keys):
    quadratic, _ = gromov(p, keys)
    assert fourier.key_frequencies(quadratic) == keys
    assert fourier.key_frequencies(relu_neurons(p, keys).astype(np.float32)) == keys
    found = fourier.neuron_frequencies(quadratic)
    np.testing.assert_array_equal(found.frequency, np.repeat(keys, 25))
    # 2 cos cos has variance 1, the two squares 1/8 each at twice the frequency.
    np.testing.assert_allclose(found.explained, 0.8, rtol=1e-12)


@pytest.mark.parametrize("n", [7, 12, 13])
def test_neuron_frequencies_from_the_definition(n):
    neurons = np.random.default_rng(n).normal(size=(n * n, 40)) ** 3 + 10
    a, b = np.divmod(np.arange(n * n), n)
    neurons[:, 0] += 20 * (-1.0) ** a
    neurons[:, 1] += 20 * (-1.0) ** (a + b)
    frequency, explained = plain_neuron_frequencies(neurons)
    found = fourier.neuron_frequencies(jnp.asarray(neurons, jnp.float32))
    np.testing.assert_array_equal(found.frequency, frequency)
    np.testing.assert_allclose(found.explained, explained, rtol=1e-5)


def test_random_neurons_show_no_structure():
    neurons = np.maximum(np.random.default_rng(0).normal(size=(31 * 31, 200)), 0)
    found = fourier.neuron_frequencies(neurons)
    # Eight of 960 waves; the largest of 15 such shares is about 2.3 times the mean.
    assert found.explained.mean() == pytest.approx(8 / 960 * 2.3, rel=0.15)
    assert fourier.key_frequencies(neurons) == tuple(range(1, 16))


def test_constant_and_non_finite_neurons_have_no_frequency():
    neurons = relu_neurons(13, (4,)).astype(np.float32)
    neurons[:, 1] = 0.1
    neurons[:, 2] = 0.1 * (1 + 1e-7 * np.random.default_rng(0).normal(size=169))
    neurons[5, 3] = np.nan
    neurons[5, 4] = np.inf
    found = fourier.neuron_frequencies(neurons)
    np.testing.assert_array_equal(found.frequency, [4, 0, 0, 0, 0, 4])
    np.testing.assert_array_equal(np.isnan(found.explained), found.frequency == 0)
    assert fourier.key_frequencies(np.full((169, 3), np.nan)) == ()


# -------------------------------------------------------------------------------------- logits


@pytest.mark.parametrize(("p", "keys"), [(13, (2, 5)), (31, (1, 4, 9)), (113, (6, 17, 40))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_closed_form_logits_are_all_in_their_key_frequencies(p, keys, dtype):
    logits = direct_logits(p, keys).astype(dtype)
    measured = fourier.restricted_and_excluded(logits, sums(p), mask(p), keys)
    assert measured.restricted_accuracy == 1.0
    assert measured.excluded_accuracy == pytest.approx(1 / p, rel=1e-9)
    assert measured.excluded_loss == pytest.approx(np.log(p), rel=1e-6)
    assert measured.restricted_loss == pytest.approx(
        plain_cross_entropy(direct_logits(p, keys), sums(p)), rel=1e-5
    )


def test_quadratic_network_end_to_end():
    neurons, logits = gromov(31, (2, 7, 12))
    keys = fourier.key_frequencies(neurons)
    measured = fourier.restricted_and_excluded(
        jnp.asarray(logits, jnp.float32), jnp.asarray(sums(31)), jnp.asarray(mask(31)), keys
    )
    assert measured.restricted_accuracy == 1.0
    assert measured.excluded_accuracy == pytest.approx(1 / 31, rel=1e-6)


def test_other_frequencies_than_the_key_ones_are_left_in():
    logits = direct_logits(31, (3, 8))
    measured = fourier.restricted_and_excluded(logits, sums(31), mask(31), (3, 5))
    assert measured.excluded_loss == pytest.approx(
        plain_cross_entropy(1.1 * direct_logits(31, (8,)), sums(31)), rel=1e-9
    )
    assert measured.excluded_accuracy == 1.0


@pytest.mark.parametrize("n", [8, 11, 23])
@pytest.mark.parametrize("keys", [(), (1,), (2, 4, 3)])
def test_restricted_and_excluded_from_the_definitions(n, keys):
    rng = np.random.default_rng(n)
    logits = rng.normal(size=(n * n, n)) + rng.normal(size=n) + 0.3 * direct_logits(n, (1, 2, 4))
    logits = logits.astype(np.float32)
    labels = np.where(rng.random(n * n) < 0.2, rng.integers(0, n, n * n), sums(n))
    expected = plain_restricted_and_excluded(logits.astype(np.float64), labels, mask(n), keys)
    measured = fourier.restricted_and_excluded(logits, labels, mask(n), keys)
    assert all(type(value) is float for value in measured)
    assert measured == pytest.approx(expected, rel=1e-9)


def test_outputs_may_outnumber_residues():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(100, 11)), rng.integers(1, 11, 100)
    expected = plain_restricted_and_excluded(logits, labels, mask(10), (2, 5))
    measured = fourier.restricted_and_excluded(logits, labels, mask(10), (2, 5))
    assert measured == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [22, 23])
@pytest.mark.parametrize(("noise", "strength"), [(1, 0), (1, 1), (1, 30), (300, 300)])
def test_each_frequency_alone(n, noise, strength):
    rng = np.random.default_rng(5)
    logits = noise * rng.normal(size=(n * n, n)) + strength * direct_logits(n, (2, 6))
    logits = logits.astype(np.float32)
    labels = np.where(rng.random(n * n) < 0.1, rng.integers(0, n, n * n), sums(n))
    keys = range(1, n // 2 + 1)
    measured = fourier.restricted_and_excluded(logits, labels, mask(n), keys, each=True)
    for i, k in enumerate(keys):
        expected = plain_restricted_and_excluded(logits.astype(np.float64), labels, mask(n), (k,))
        assert [field[i] for field in measured] == pytest.approx(expected, rel=1e-9)


def test_frequencies_alone_are_in_ascending_order_once_each():
    logits = direct_logits(23, (2, 6))
    ordered = fourier.restricted_and_excluded(logits, sums(23), mask(23), (2, 6), each=True)
    other = fourier.restricted_and_excluded(logits, sums(23), mask(23), (6, 2, 6), each=True)
    np.testing.assert_array_equal(ordered, other)
    none = fourier.restricted_and_excluded(logits, sums(23), mask(23), (), each=True)
    assert [field.shape for field in none] == [(0,)] * 4


def test_random_logits_stay_at_chance():
    p = 31
    logits = np.random.default_rng(8).normal(size=(p * p, p)).astype(np.float32)
    measured = fourier.restricted_and_excluded(logits, sums(p), mask(p), range(1, 16))
    chance = 1 / p
    # One restricted row a residue: 31 independent predictions; about 380 excluded ones.
    assert measured.restricted_accuracy < chance + 4 * np.sqrt(chance / p)
    assert measured.excluded_accuracy < chance + 4 * np.sqrt(chance / 380)


def test_small_losses_keep_their_accuracy():
    logits = direct_logits(13, (1, 2, 3), scale=30.0)
    measured = fourier.restricted_and_excluded(logits, sums(13), np.ones(169, bool), ())
    shifted = logits - logits[np.arange(169), sums(13)][:, None]
    shifted[np.arange(169), sums(13)] = -np.inf
    expected = np.log1p(np.exp(shifted).sum(axis=1)).mean()
    assert 0 < expected < 1e-12
    assert measured.excluded_loss == pytest.approx(expected, rel=1e-9, abs=0)


def test_equal_logits_share_the_prediction():
    logits = np.zeros((25, 5))
    logits[:, 3:] = -1
    measured = fourier.restricted_and_excluded(logits, sums(5), np.ones(25, bool), ())
    assert measured.excluded_accuracy == pytest.approx(3 / 5 * 1 / 3)
    assert measured.restricted_accuracy == pytest.approx(3 / 5 * 1 / 3)


# ---------------------------------------------------------------------------- what is not finite


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_give_nan_without_warnings(bad):
    logits = np.random.default_rng(0).normal(size=(49, 7)).astype(np.float32)
    logits[:3, 0] = bad, -bad, np.nan
    for measured in (
        fourier.restricted_and_excluded(logits, sums(7), mask(7), (1, 2)),
        fourier.restricted_and_excluded(logits, sums(7), mask(7), (1, 2), each=True),
    ):
        assert all(np.isnan(field).all() for field in measured)
    rows = np.random.default_rng(0).normal(size=(7, 4))
    rows[2, 1] = bad
    assert not np.isfinite(fourier.spectrum(rows)).any()
    assert np.isnan(fourier.concentration(fourier.spectrum(rows), n_top=1)).all()
    assert np.isnan(fourier.circularity(rows))


def test_nothing_to_measure_gives_nan():
    still = np.full((7, 4), 0.1)
    assert np.isnan(fourier.circularity(still))
    assert np.isnan(fourier.shares(np.zeros(4))).all()
    assert np.isnan(fourier.concentration(np.array([2.0, 0, 0, 0]), n_top=1)).all()
    logits = np.random.default_rng(0).normal(size=(49, 7))
    measured = fourier.restricted_and_excluded(logits, sums(7), np.zeros(49, bool), (1,))
    assert np.isnan([measured.excluded_loss, measured.excluded_accuracy]).all()
    assert np.isfinite([measured.restricted_loss, measured.restricted_accuracy]).all()


# ------------------------------------------------------------------------------ order of residues


@pytest.mark.parametrize("p", [3, 5, 7, 59, 113])
def test_products_become_sums_of_discrete_logarithms(p):
    order = finite_groups.units(p).elements
    assert sorted(order) == list(range(1, p))
    assert order[0] == 1
    product = order[:, None] * order[None, :] % p
    np.testing.assert_array_equal(product, order[np.add.outer(*[np.arange(p - 1)] * 2) % (p - 1)])


def test_a_multiplicative_character_is_one_frequency_in_that_order():
    order = finite_groups.units(31).elements
    logarithm = np.zeros(31, int)
    logarithm[order] = np.arange(30)
    rows = np.stack([np.cos(2 * np.pi * 4 * logarithm / 30), 0 * logarithm], axis=1)
    np.testing.assert_allclose(
        fourier.shares(fourier.spectrum(rows[order])), np.eye(15)[3], atol=1e-12
    )


# ------------------------------------------------------------------------------------ bad inputs


def good_call(**changes):
    arguments = {
        "logits": np.zeros((49, 7)),
        "labels": sums(7),
        "train_mask": mask(7),
        "key_frequencies": (1,),
    }
    return fourier.restricted_and_excluded(**(arguments | changes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: good_call(logits=np.zeros((48, 7))), r"logits must have n\^2 rows"),
        (lambda: good_call(logits=np.zeros((49, 1)), labels=np.zeros(49, int)), "2 outputs"),
        (lambda: good_call(labels=sums(7)[:40]), "labels must be 49 integers"),
        (lambda: good_call(labels=sums(7) / 1.0), "labels must be 49 integers"),
        (lambda: good_call(labels=sums(7) + 1), "labels run from 1 to 7; there are 7 outputs"),
        (lambda: good_call(train_mask=np.ones(49)), "train_mask must be 49 booleans"),
        (lambda: good_call(key_frequencies=(0, 2)), "from 1 to 3, not \\[0, 2\\]"),
        (lambda: good_call(key_frequencies=(4,)), "from 1 to 3, not \\[4\\]"),
        (lambda: fourier.key_frequencies(np.zeros((4, 3))), "n >= 3"),
        (lambda: fourier.spectrum(np.zeros((2, 3))), "n >= 3"),
        (lambda: fourier.spectrum(np.zeros(7)), "n >= 3"),
        (lambda: fourier.circularity(np.zeros((7, 2, 2))), r"shape \(n, d\)"),
        (lambda: fourier.circularity(np.zeros((7, 2)), n_components=0), "at least 1"),
        (lambda: fourier.concentration(np.ones(4), n_top=4), "n_top is 4; it must be from 1 to 3"),
        (lambda: fourier.concentration(np.ones((2, 4))), r"shape \(F \+ 1,\)"),
    ],
)
def test_bad_inputs_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
