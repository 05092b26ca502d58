"""Measures of networks by irrep: closed-form logits, least squares on matrices, residues."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.diagnostics import fourier, irreps
from grokjax.tasks import finite_groups
from tests.diagnostics.plain_fourier import plain_cross_entropy, plain_measures
from tests.small_groups import TABLES, inverses, permutations, symmetric_irreps


@pytest.fixture(params=TABLES)
def table(request):
    return TABLES[request.param]


# ------------------------------------------------------------------------------------- spectra


def test_an_embedding_inside_one_irrep_has_that_irrep_alone(table):
    found, m = irreps.decompose(table), len(table)
    rng = np.random.default_rng(0)
    for k, degree in enumerate(found.dimensions):
        # Translations of the character span the irrep's functions.
        functions = found.characters[k][table[:, rng.integers(0, m, 4)]]
        power = irreps.power(functions @ rng.normal(size=(4, 6)) / degree, found)
        np.testing.assert_allclose(power / power.sum(), np.eye(len(found.names))[k], atol=1e-12)


def test_matrices_as_an_embedding_have_their_irrep_alone():
    found = irreps.decompose(TABLES["s4"])
    for name, matrices in symmetric_irreps(4).items():
        power = irreps.power(matrices, found).sum(axis=0)
        expected = 24 * matrices.shape[1] * (np.array(found.names) == name)
        np.testing.assert_allclose(power, expected, atol=1e-10)


def test_spectra_sum_to_the_squared_norm_one_a_head(table):
    found = irreps.decompose(table)
    rows = np.random.default_rng(1).normal(size=(len(table), 4, 5)).astype(np.float32)
    power = irreps.power(jnp.asarray(rows), found)
    assert power.shape == (4, len(found.names))
    np.testing.assert_allclose(power.sum(axis=1), (rows.astype(float) ** 2).sum(axis=(0, 2)))
    for head in range(4):
        np.testing.assert_allclose(power[head], irreps.power(rows[:, head], found), rtol=1e-9)


@pytest.mark.parametrize("n", [3, 12, 31])
def test_spectra_of_residues_are_those_of_their_frequencies(n):
    rows = np.random.default_rng(n).normal(size=(n, 4, 5)) + 1
    power = irreps.power(rows, irreps.decompose(finite_groups.find(f"z{n}").table))
    np.testing.assert_allclose(power, fourier.spectrum(rows), rtol=1e-11)


# ------------------------------------------------------------------------------------- neurons


def plain_neuron_irreps(neurons, matrices):
    """Shares of variance (irreps but the first, W) by least squares on matrix elements."""
    centred = neurons - neurons.mean(axis=0)
    m = math.isqrt(len(neurons))
    g, h = np.divmod(np.arange(m * m), m)
    shares = []
    for one in list(matrices)[1:]:
        flat = one.reshape(m, -1)
        products = flat[g][:, :, None] * flat[h][:, None, :]
        design = np.hstack([flat[g], flat[h], products.reshape(m * m, -1)])
        fitted = design @ np.linalg.lstsq(design, centred)[0]
        shares.append((fitted**2).sum(axis=0) / (centred**2).sum(axis=0))
    return np.array(shares)


@pytest.mark.parametrize("n", [3, 4])
def test_neuron_irreps_from_the_definition(n):
    found = irreps.decompose(TABLES[f"s{n}"])
    written = symmetric_irreps(n)
    rng = np.random.default_rng(n)
    neurons = rng.normal(size=(len(found.basis) ** 2, 12)) ** 3 + 5
    neurons += 3 * np.arange(12) * np.linalg.det(permutations(n))[TABLES[f"s{n}"]].reshape(-1, 1)
    shares = plain_neuron_irreps(neurons, [written[name] for name in found.names])
    measured = irreps.neuron_irreps(jnp.asarray(neurons, jnp.float32), found)
    np.testing.assert_array_equal(measured.frequency, shares.argmax(axis=0) + 1)
    np.testing.assert_allclose(measured.explained, shares.max(axis=0), rtol=1e-5)
    assert len(set(measured.frequency)) > 1


def test_neurons_inside_one_irrep_are_explained_by_it():
    written, found = symmetric_irreps(4), irreps.decompose(TABLES["s4"])
    rng = np.random.default_rng(0)
    for name in found.names[1:]:
        one = written[name].reshape(24, -1)
        in_g, in_h, by_g, by_h = (one @ rng.normal(size=(one.shape[1], 8)) for _ in range(4))
        neurons = 3 + in_g[:, None] + 0.5 * in_h + by_g[:, None] * by_h
        measured = irreps.neuron_irreps(neurons.reshape(576, 8), found)
        assert set(measured.frequency) == {found.names.index(name)}
        np.testing.assert_allclose(measured.explained, 1, rtol=1e-9)
    # Functions of g h and g h⁻¹ are among them.
    table = TABLES["s4"]
    for product in (table, table[:, inverses(table)]):
        neurons = written["(2,2)"].reshape(24, 4)[product].reshape(576, 4)
        assert fourier.key_frequencies(neurons, irreps.lens(found)) == (found.names.index("(2,2)"),)
        np.testing.assert_allclose(irreps.neuron_irreps(neurons, found).explained, 1)


@pytest.mark.parametrize("n", [7, 12, 13])
def test_neuron_irreps_of_residues_are_their_frequencies(n, monkeypatch):
    found = irreps.decompose(finite_groups.find(f"z{n}").table)
    neurons = np.random.default_rng(n).normal(size=(n * n, 40)) ** 3 + 10
    neurons[:, 0] = 0.1
    neurons[3, 1] = np.nan
    neurons[4, 2] = np.inf
    a, b = np.divmod(np.arange(n * n), n)
    neurons[:, 3] += 20 * (-1.0) ** (a + b)
    expected = fourier.neuron_frequencies(neurons)
    for together in (2**23, n * n * 7, 1):
        monkeypatch.setattr(irreps, "_TOGETHER", together)
        measured = irreps.neuron_irreps(neurons, found)
        np.testing.assert_array_equal(measured.frequency, expected.frequency)
        np.testing.assert_allclose(measured.explained, expected.explained, rtol=1e-9)
    assert fourier.key_frequencies(neurons, irreps.lens(found)) == fourier.key_frequencies(neurons)


# -------------------------------------------------------------------------------------- logits


def mask(m, fraction=0.4):
    return np.random.default_rng(m).random(m * m) < fraction


def direct_logits(table, found, keys):
    """Σ_ρ d χ_ρ(g h k⁻¹) over the irreps of these names."""
    quotients = table[table.ravel()[:, None], inverses(table)]
    chosen = [found.names.index(name) for name in keys]
    return sum(found.dimensions[k] * found.characters[k][quotients] for k in chosen)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("s3", ["(2,1)"]),
        ("s3", ["(2,1)", "(1,1,1)"]),
        ("s4", ["(3,1)"]),
        ("s4", ["(2,2)", "(2,1,1)"]),
        ("s5", ["(3,1,1)", "(1,1,1,1,1)"]),
        ("quaternions", ["2a"]),
        ("7:3", ["3a"]),
        ("z6xz10", ["(1,0)", "(0,1)"]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_closed_form_logits_are_all_in_their_key_irreps(name, keys, dtype):
    table, found, m = TABLES[name], irreps.decompose(TABLES[name]), len(TABLES[name])
    logits = direct_logits(table, found, keys)
    indices = [found.names.index(key) for key in keys]
    measured = fourier.restricted_and_excluded(
        logits.astype(dtype), table.ravel(), mask(m), indices, irreps.lens(found, table)
    )
    assert measured.restricted_accuracy == 1.0
    assert measured.restricted_loss == pytest.approx(
        plain_cross_entropy(logits, table.ravel()), rel=1e-5
    )
    assert measured.excluded_accuracy == pytest.approx(1 / m, rel=1e-9)
    assert measured.excluded_loss == pytest.approx(np.log(m), rel=1e-5)


def test_other_irreps_than_the_key_ones_are_left_in():
    table, found = TABLES["s4"], irreps.decompose(TABLES["s4"])
    logits = direct_logits(table, found, ["(3,1)", "(2,1,1)"])
    keys = [found.names.index(name) for name in ("(3,1)", "(2,2)")]
    arguments = (logits, table.ravel(), mask(24))
    measured = fourier.restricted_and_excluded(*arguments, keys, irreps.lens(found, table))
    left = direct_logits(table, found, ["(2,1,1)"])[mask(24)]
    assert measured.excluded_loss == pytest.approx(
        plain_cross_entropy(left, table.ravel()[mask(24)]), rel=1e-9
    )
    assert measured.excluded_accuracy == 1.0
    wrong = fourier.restricted_and_excluded(*arguments, [2], irreps.lens(found, table))
    assert found.names[2] == "(2,2)"
    assert wrong.restricted_accuracy == pytest.approx(1 / 24)
    assert wrong.restricted_loss == pytest.approx(np.log(24))


def plain_restricted_and_excluded(logits, labels, train_mask, matrices, total):
    """By least squares on the matrix elements ρ_ij of each input's total."""
    projections = np.zeros_like(logits)
    for one in matrices:
        design = one.reshape(len(one), -1)[total]
        projections += design @ np.linalg.lstsq(design, logits)[0]
    return plain_measures(projections, logits, labels, train_mask)


@pytest.mark.parametrize("operation", ["product", "conjugate"])
@pytest.mark.parametrize(("n", "n_outputs"), [(3, 6), (3, 9), (4, 24)])
@pytest.mark.parametrize("keys", [(), (1,), (1, 2)])
def test_restricted_and_excluded_from_the_definitions(n, n_outputs, keys, operation):
    table, found = TABLES[f"s{n}"], irreps.decompose(TABLES[f"s{n}"])
    m = len(table)
    totals = table if operation == "product" else table[table, inverses(table)[:, None]]
    rng = np.random.default_rng(n)
    logits = rng.normal(size=(m * m, n_outputs)) + rng.normal(size=n_outputs)
    logits += np.eye(m, n_outputs)[totals.ravel()] * 2
    labels = np.where(rng.random(m * m) < 0.2, rng.integers(0, m, m * m), totals.ravel())
    matrices = [symmetric_irreps(n)[found.names[k]] for k in keys]
    expected = plain_restricted_and_excluded(logits, labels, mask(m), matrices, totals.ravel())
    lens = irreps.lens(found, totals)
    measured = fourier.restricted_and_excluded(logits, labels, mask(m), keys, lens)
    assert all(type(value) is float for value in measured)
    assert measured == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [12, 13])
def test_residues_are_measured_as_by_frequency(n):
    table = finite_groups.find(f"z{n}").table
    found = irreps.decompose(table)
    rng = np.random.default_rng(n)
    logits = rng.normal(size=(n * n, n + 1)).astype(np.float32) * 3
    labels = rng.integers(0, n, n * n)
    arguments = (logits, labels, mask(n), [1, 3, n // 2, 3])
    for each in (False, True):
        by_irrep = irreps.lens(found, table)
        measured = fourier.restricted_and_excluded(*arguments, by_irrep, each=each)
        expected = fourier.restricted_and_excluded(*arguments, each=each)
        np.testing.assert_allclose(measured, expected, rtol=1e-12)


def test_each_irrep_alone():
    table, found = TABLES["d12"], irreps.decompose(TABLES["d12"])
    logits = np.random.default_rng(0).normal(size=(24**2, 24)).astype(np.float32)
    arguments = (logits, table.ravel(), mask(24))
    lens = irreps.lens(found, table)
    alone = fourier.restricted_and_excluded(
        *map(jnp.asarray, arguments), range(1, 9), lens, each=True
    )
    for k in range(1, 9):
        expected = fourier.restricted_and_excluded(*arguments, [k], lens)
        assert [field[k - 1] for field in alone] == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------- what is not finite, or not right


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_give_nan_without_warnings(bad):
    table, found = TABLES["s3"], irreps.decompose(TABLES["s3"])
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(36, 6)).astype(np.float32)
    logits[:3, 0] = bad, -bad, np.nan
    arguments = (logits, table.ravel(), mask(6), (1, 2), irreps.lens(found, table))
    assert np.isnan(fourier.restricted_and_excluded(*arguments)).all()
    assert np.isnan(fourier.restricted_and_excluded(*arguments, each=True)).all()
    rows = rng.normal(size=(6, 2, 4))
    rows[2, 1, 1] = bad
    finite = np.isfinite(irreps.power(rows, found))
    assert finite[0].all() and not finite[1].any()
    neurons = rng.normal(size=(36, 3))
    neurons[5, 1] = bad
    measured = irreps.neuron_irreps(neurons, found)
    assert (measured.frequency > 0).tolist() == [True, False, True]
    assert np.isnan(measured.explained).tolist() == [False, True, False]
    assert fourier.key_frequencies(np.full((36, 2), bad), irreps.lens(found)) == ()


S3 = irreps.decompose(TABLES["s3"])


def good_call(keys=(1,), table=TABLES["s3"], **changes):
    arrays = {
        "logits": np.zeros((36, 6)),
        "labels": TABLES["s3"].ravel(),
        "train_mask": mask(6),
    }
    lens = irreps.lens(S3, table)
    return fourier.restricted_and_excluded(**(arrays | changes), key_frequencies=keys, lens=lens)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: good_call(keys=(0, 2)), r"from 1 to 2, not \[0, 2\]"),
        (lambda: good_call(keys=(3,)), r"from 1 to 2, not \[3\]"),
        (lambda: good_call(logits=np.zeros((35, 6))), "logits must have n"),
        (lambda: good_call(logits=np.zeros((16, 6)), labels=np.zeros(16, int),
                           train_mask=np.ones(16, bool)), "each of 4 rows"),
        (lambda: good_call(labels=np.full(36, 6)), "labels run from 6"),
        (lambda: good_call(train_mask=np.ones(36)), "36 booleans"),
        (lambda: good_call(table=TABLES["s4"]), "not of 6 elements"),
        (lambda: good_call(table=np.zeros((6, 6), int)), "each of 6 rows of the table"),
        (lambda: irreps.power(np.zeros((5, 2)), S3), r"shape \(6, ..., d\)"),
        (lambda: irreps.power(np.zeros(6), S3), r"shape \(6, ..., d\)"),
        (lambda: irreps.neuron_irreps(np.zeros((25, 2)), S3), "each of 6"),
        (lambda: irreps.neuron_irreps(np.zeros((35, 2)), S3), r"n\^2 rows"),
    ],
)  # fmt: skip
def test_bad_inputs_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
