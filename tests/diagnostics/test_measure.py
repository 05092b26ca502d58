"""The diagnostics as a sweep calls them: rows for any run, finite or not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from grokjax import diagnostics
from grokjax.clouds import normalize
from grokjax.diagnostics import Options, RunView, fourier, irreps
from tests.helpers import make_runs


def make_view(finite=True, seed=0, operation="add"):
    (run,) = make_runs(operation=[operation], prime=[13])
    n = run.task.n_elements
    rng = np.random.default_rng(seed)
    bad = 1.0 if finite else np.nan

    def draw(*shape):
        return (rng.normal(size=shape) * bad).astype(np.float32)

    return RunView(
        run_id=f"run{seed}",
        step=100,
        structure=run.task.structure,
        cloud_names=("embedding", "layer1"),
        cloud=lambda name: draw(n if name == "embedding" else 20, 6),
        points=lambda name: draw(n if name == "embedding" else 20, 6),
        normalise=normalize,
        last_states=lambda n: draw(n, 6),
        last_states_name="layer1_both",
        embedding=draw(n, 6),
        head_rows=lambda: {name: draw(n, 2, 3) for name in ("query", "key", "value")},
        neurons=lambda: draw(n * n, 8),
        logits=lambda: draw(n * n, n),
        with_embedding=lambda rows: draw(n * n, n),
        labels=run.task.truth,
        train_mask=(rng.random(n * n) < 0.5) & (run.task.truth >= 0),
        params={"embed": {"embedding": draw(n, 6)}, "unembed": {"kernel": draw(6, n)}},
        loss=lambda n_examples: jax.tree_util.Partial(_loss),
        pair_logits=lambda: jax.tree_util.Partial(_pair_logits),
    )


def _loss(params):
    return (jnp.tanh(params["embed"]["embedding"]) @ params["unembed"]["kernel"]).sum()


def _pair_logits(params, pair, shifts):
    rows = params["embed"]["embedding"][pair] + shifts
    return rows.prod(0) @ params["unembed"]["kernel"]


OPTIONS = Options(
    lid_neighbors=8,
    lid_points=30,
    ph_verify=1.0,
    save_key_frequencies=True,
    surrogates=3,
    ablation_draws=2,
)


def test_the_diagnostics_are_found_by_name():
    assert diagnostics.names() == (
        *("ablation", "clock_pizza", "coordinates", "crocker", "dimension", "fourier", "holes"),
        *("homology_dimension", "landscapes", "participation", "persistence", "ranks"),
        *("sharpness", "surrogates", "weights"),
    )
    assert diagnostics.get("fourier").TABLES["fourier"]
    with pytest.raises(ValueError, match="dimension, fourier, holes, homology_dimension"):
        diagnostics.get("entropy")


@pytest.mark.parametrize("name", diagnostics.names())
@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("operation", ["add", "divide", "d5"])
def test_every_diagnostic_fills_its_tables(name, finite, operation):
    module = diagnostics.get(name)
    views = [make_view(finite, seed, operation) for seed in (0, 1)]
    rows = module.measure(views, OPTIONS)
    assert rows.keys() == module.TABLES.keys()
    main = next(iter(module.TABLES))
    for table, spec in module.TABLES.items():
        for row in rows[table]:
            assert row.keys() == {"run_id", "step", *spec.columns}
    spec = module.TABLES[main]
    units = [tuple(row[c] for c in (*spec.unit, *(spec.within or ()))) for row in rows[main]]
    assert len(set(units)) == len(units)
    assert {row["run_id"] for row in rows[main]} == {"run0", "run1"}
    measured = {"persistence": "h1_max", "dimension": "lid_mean", "fourier": "excluded_loss"}
    measured |= {
        "coordinates": "birth",
        "surrogates": "value",
        "clock_pizza": "gradient_symmetricity",
    }
    measured |= {"crocker": "betti", "holes": "ratio", "homology_dimension": "slope"}
    measured |= {"landscapes": "value", "participation": "ipr_mean", "ranks": "effective_rank"}
    measured |= {"sharpness": "sharpness", "weights": "gradient_norm", "ablation": "loss"}
    for row in rows[main]:
        # An embedding may have no loop at all, and few points no dimension; clocks are of cycles.
        may_lack = name in ("coordinates", "holes", "homology_dimension")
        may_lack |= name == "clock_pizza" and operation == "d5"
        assert np.isfinite(row[measured[name]]) == finite or (finite and may_lack)


def test_spectra_hold_the_embedding_and_every_head():
    rows = diagnostics.get("fourier").measure([make_view()], OPTIONS)["spectra"]
    matrices = {row["matrix"] for row in rows}
    assert matrices == {
        "embedding",
        *(f"{n}{h}" for n in ("query", "key", "value") for h in (0, 1)),
    }
    frequencies = [row["frequency"] for row in rows if row["matrix"] == "key1"]
    assert frequencies == list(range(13 // 2 + 1))


def test_spectra_of_a_group_are_by_irrep():
    rows = diagnostics.get("fourier").measure([make_view(operation="s3")], OPTIONS)["spectra"]
    embedding = [row for row in rows if row["matrix"] == "embedding"]
    assert {(row["irrep"], row["degree"]) for row in embedding} == {
        ("(3)", 1), ("(1,1,1)", 1), ("(2,1)", 2)
    }  # fmt: skip
    rows = np.asarray(make_view(operation="s3").embedding, float)
    assert sum(row["power"] for row in embedding) == pytest.approx((rows**2).sum())


@pytest.mark.parametrize(
    ("operation", "asks"), [("subtract", True), ("divide", True), ("quadratic", False)]
)
def test_what_asks_for_no_product_has_spectra_and_no_restricted_loss(operation, asks):
    rows = diagnostics.get("fourier").measure([make_view(operation=operation)], OPTIONS)
    (row,) = rows["fourier"]
    assert np.isfinite(row["concentration"]) and rows["spectra"]
    assert np.isfinite(row["restricted_loss"]) == np.isfinite(row["excluded_loss"]) == asks
    assert bool(rows["key_frequencies"]) == asks


@pytest.mark.parametrize("operation", ["add", "multiply", "d5", "s3_conjugate"])
def test_what_logits_say_by_themselves(operation):
    view = make_view(operation=operation)
    structure, n = view.structure, len(view.structure.elements)
    lens = fourier.lens_of(structure)
    basis = irreps.decompose(structure.table)
    total = structure.asked.ravel()
    random = np.random.default_rng(3)
    last = len(lens.names) - 1
    # The first and the last irrep, in functions of the total; functions of the first element.
    planted = random.normal(size=(n, n)) / 50
    for k, strength in ((1, 2.0), (last, 5.0)):
        columns = basis.basis[:, basis.block == k]
        planted += strength * columns @ random.normal(size=(columns.shape[1], n))
    own = (planted[total] + np.repeat(random.normal(size=(n, n)), n, axis=0)).astype(np.float32)
    pairs = (structure.elements[:, None] * len(view.embedding) + structure.second).ravel()
    logits = np.zeros((len(view.labels), n), np.float32)
    logits[pairs] = own
    labels = np.full_like(view.labels, -1)
    labels[pairs] = random.integers(0, n, n * n)
    neurons = np.zeros((len(view.labels), 1), np.float32)
    neurons[pairs, 0] = basis.basis[total, np.flatnonzero(basis.block == last)[0]]
    view = dataclasses.replace(view, logits=lambda: logits, neurons=lambda: neurons, labels=labels)
    (row,) = fourier.measure([view], OPTIONS)["fourier"]
    centred = own - own.mean(axis=0, dtype=float)
    power = []
    for k in range(1, last + 1):
        functions = basis.basis[total][:, basis.block == k] / np.sqrt(n)
        power.append((functions.T @ centred) ** 2)
    power = np.array([one.sum() for one in power])
    even = np.array([np.count_nonzero(basis.block == k) for k in range(1, last + 1)]) / (n - 1)
    found = 1 + np.flatnonzero(power / power.sum() > 2 * even)
    assert str(last) in row["logit_frequencies"].split(",")
    assert row["logit_frequencies"] == ",".join(map(str, found))
    keys = [int(k) for k in row["key_frequencies"].split(",")]
    expected = sum(power[k - 1] for k in keys) / (centred**2).sum()
    assert row["logit_power_on_keys"] == pytest.approx(expected, rel=1e-5)
    removed = np.zeros((n * n, n))
    for k in keys:
        functions = basis.basis[total][:, basis.block == k] / np.sqrt(n)
        removed += functions @ (functions.T @ own)
    test, asked = ~view.train_mask[pairs], labels[pairs]
    left = (own - removed)[test]
    loss = special.logsumexp(left, axis=1) - left[np.arange(len(left)), asked[test]]
    assert row["excluded_test_loss"] == pytest.approx(loss.mean(), rel=1e-5)
    right = (left.argmax(axis=1) == asked[test]).mean()
    assert row["excluded_test_accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_say_nothing(bad):
    view = make_view()
    logits = view.logits()
    logits[5, 1] = bad
    view = dataclasses.replace(view, logits=lambda: logits)
    (row,) = fourier.measure([view], OPTIONS)["fourier"]
    assert row["logit_frequencies"] == ""
    for name in ("logit_power_on_keys", "excluded_test_loss", "excluded_test_accuracy"):
        assert np.isnan(row[name])


def test_logits_without_structure_have_few_key_frequencies_and_little_power():
    found = [fourier.measure([make_view(seed=seed)], OPTIONS)["fourier"][0] for seed in range(30)]
    keys = [row["logit_frequencies"] for row in found]
    assert sum(bool(one) for one in keys) <= 2
    power = np.mean([row["logit_power_on_keys"] for row in found])
    n_keys = np.mean([len(row["key_frequencies"].split(",")) for row in found])
    # Of 168 directions of functions of the pairs, two are a key frequency's.
    assert power == pytest.approx(2 * n_keys / 168, rel=0.2)


def test_what_has_no_structure_is_left_out():
    for operation in ("average", "max"):
        view = make_view(operation=operation)
        assert view.structure is None
        rows = diagnostics.get("fourier").measure([view], OPTIONS)
        assert rows == {"fourier": [], "spectra": [], "key_frequencies": []}
    assert diagnostics.needs_structure("fourier")
    assert not diagnostics.needs_structure("persistence")
    assert [name for name in diagnostics.names() if diagnostics.needs_clouds(name)] == [
        *("crocker", "holes", "landscapes", "persistence", "ranks", "surrogates"),
    ]


def test_a_mismatch_names_the_cloud(monkeypatch):
    persistence = diagnostics.get("persistence")
    right = persistence.diagrams

    def wrong(points, max_dimension=1, engine="redzed", n_threads=1):
        found = right(points, max_dimension, engine, n_threads)
        return [found[0][:-1], *found[1:]] if engine != "redzed" else found

    monkeypatch.setattr(persistence, "diagrams", wrong)
    with pytest.raises(persistence.EngineMismatch, match=r"cloud embedding of run0.*degree 0"):
        persistence.measure([make_view()], OPTIONS)
    persistence.measure([make_view()], Options(ph_verify=0.0))


def test_the_verified_share_is_about_what_was_asked():
    sampled = diagnostics.get("persistence")._sampled
    hits = [sampled({"run_id": f"r{i}", "step": i}, 0.1) for i in range(5000)]
    assert 400 < sum(hits) < 600
    assert not sampled({"run_id": "r"}, 0.0)
    assert all(sampled({"run_id": f"r{i}"}, 1.0) for i in range(50))
