"""Interventions: bases, random subspaces of exactly the same power, planted truths, whole runs."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, optimize, special, stats

from grokjax import check, cli, diagnostics, sweep
from grokjax.diagnostics import Options, ablation, fourier, irreps
from grokjax.report import drawing
from tests.diagnostics.test_measure import make_view
from tests.programs import call, tables
from tests.small_groups import TABLES

N = 31


def random(*key):
    return np.random.default_rng(key)


def wave(k, n=N):
    turn = 2 * np.pi * k * np.arange(n) / n
    return np.stack([np.cos(turn), np.sin(turn)], axis=1) * np.sqrt(2 / n)


def planted(strengths, seed=0, n=N, d=40):
    """Waves of these strengths (k → power), each in a plane of its own, and a mean."""
    planes = np.linalg.qr(random(seed).normal(size=(d, 2 * len(strengths))))[0].T
    rows = np.full((n, d), 0.3)
    for place, (k, power) in enumerate(strengths.items()):
        rows += np.sqrt(power / 2) * wave(k, n) @ planes[2 * place : 2 * place + 2]
    return rows


def power(rows, basis):
    return float(((basis.T @ rows) ** 2).sum())


# --------------------------------------------------------------------------- subspaces


@pytest.mark.parametrize("keys", [[1], [3, 7], [15]])
def test_waves_are_the_cosines_and_sines(keys):
    basis = ablation.waves(N, keys)
    expected = np.concatenate([wave(k) for k in keys], axis=1)
    np.testing.assert_allclose(basis @ basis.T, expected @ expected.T, atol=1e-12)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2 * len(keys)), atol=1e-12)


def test_taking_waves_out_and_keeping_them():
    rows = planted({2: 5.0, 9: 3.0, 11: 1.0})
    own = fourier.spectrum(rows)
    gone = fourier.spectrum(ablation.without(rows, ablation.waves(N, [2, 11])))
    left = fourier.spectrum(ablation.alone(rows, ablation.waves(N, [2, 11])))
    for k in range(N // 2 + 1):
        assert gone[k] == pytest.approx(0 if k in (2, 11) else own[k], abs=1e-12)
        assert left[k] == pytest.approx(own[k] if k in (0, 2, 11) else 0, abs=1e-12)


def test_the_waves_of_a_group_are_its_irreps():
    table = TABLES["d7"]
    found = irreps.decompose(table)
    basis = ablation.waves(table, [1, 3])
    rows = random(0).normal(size=(14, 5))
    gone = irreps.power(ablation.without(rows, basis), found)
    own = irreps.power(rows, found)
    np.testing.assert_allclose(gone, np.where(np.isin(np.arange(len(own)), [1, 3]), 0, own),
                               atol=1e-12)  # fmt: skip


@pytest.mark.parametrize("keys", [[0], [16], [], [-1]])
def test_waves_that_are_not_there(keys):
    with pytest.raises(ValueError, match=r"keys must lie in 1 … 15"):
        ablation.waves(N, keys)


def test_the_plane_of_the_loop_is_that_of_its_wave():
    rows = planted({4: 10.0}) + 0.01 * random(1).normal(size=(N, 40))
    basis, expected = ablation.loop(rows), wave(4)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    assert np.linalg.norm(basis.T @ expected) ** 2 / 2 > 0.99
    # No bar at all: points on a line.
    assert ablation.loop(np.arange(6.0)[:, None]).shape == (6, 0)
    with pytest.raises(ValueError, match="must be finite"):
        ablation.loop(np.full((6, 2), np.nan))


# --------------------------------------------------------------------------- random subspaces


@pytest.mark.parametrize("dimension", [1, 2, 6])
@pytest.mark.parametrize("where", [0.0, 0.02, 0.3, 0.7, 0.98, 1.0])
@pytest.mark.parametrize("cloud", ["noise", "waves", "few dimensions"])
def test_random_subspaces_hold_the_power_exactly(dimension, where, cloud):
    rows = {
        "noise": random(0).normal(size=(N, 50)),
        "waves": planted({1: 100.0, 2: 100.0, 7: 1e-3}) + 1e-6 * random(1).normal(size=(N, 40)),
        "few dimensions": random(2).normal(size=(N, 3)),
    }[cloud]
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    values = np.pad(values, (0, N))[: N - 1]
    least, most = values[-dimension:].sum(), values[:dimension].sum()
    wanted = least + where * (most - least)
    drawn = ablation.random_subspaces(rows, dimension, wanted, 4, 3)
    assert drawn.shape == (4, N, dimension)
    for basis in drawn:
        np.testing.assert_allclose(basis.T @ basis, np.eye(dimension), atol=1e-9)
        np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-9)
        assert power(rows, basis) == pytest.approx(wanted, abs=3e-9 * values.sum())
    again = ablation.random_subspaces(rows, dimension, wanted, 4, 3)
    np.testing.assert_array_equal(drawn, again)


def test_one_draw_at_two_powers_is_on_one_line_of_the_flow():
    rows = random(4).normal(size=(9, 6))
    rows -= rows.mean(axis=0)
    gram = rows @ rows.T
    most = np.linalg.eigvalsh(gram)[-2:].sum()
    for low, high in ((0.1, 0.3), (0.5, 0.9)):
        (first,), (second,) = (
            ablation.random_subspaces(rows, 2, share * most, 1, 5) for share in (low, high)
        )

        def after(time, first=first):
            return np.linalg.qr(linalg.expm(time * gram) @ first)[0]

        def excess(time, after=after, wanted=high * most):
            return power(rows, after(time)) - wanted

        carried = after(optimize.brentq(excess, 0, 2, xtol=1e-14))
        np.testing.assert_allclose(carried @ carried.T, second @ second.T, atol=1e-6)


def test_subspaces_are_uniform_where_all_hold_the_same():
    # Of an isotropic cloud every plane holds the same power: the draw is the uniform one, whose
    # square of a coordinate is Beta(1, (N − 3) / 2) distributed.
    rows = np.linalg.svd(np.ones((N, 1)))[0][:, 1:]
    drawn = ablation.random_subspaces(rows, 2, 2.0, 400, 7)
    direction = wave(3)[:, 0]
    inside = ((drawn.transpose(0, 2, 1) @ direction) ** 2).sum(axis=1)
    assert stats.kstest(inside, stats.beta(1, (N - 3) / 2).cdf).pvalue > 0.01


def test_equal_waves_are_hit_alike():
    rows = planted({k: 10.0 for k in (1, 4, 6, 10)})
    drawn = ablation.random_subspaces(rows, 2, 10.0, 400, 8)
    held = np.array([[np.linalg.norm(basis.T @ wave(k)) ** 2 / 2 for k in (1, 4, 6, 10)]
                     for basis in drawn])  # fmt: skip
    # Together they hold everything the subspaces do; each a quarter, on average.
    np.testing.assert_allclose(held.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(held.mean(axis=0), 0.25, atol=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power": 1e9}, "subspaces of dimension 2 hold"),
        ({"power": -1.0}, "subspaces of dimension 2 hold"),
        ({"dimension": 0}, "dimension must lie in 1 … 29"),
        ({"dimension": 30}, "dimension must lie in 1 … 29"),
        ({"rows": np.full((N, 2), np.nan)}, "rows must be finite"),
    ],
)
def test_what_no_subspace_can(change, message):
    given = {"rows": planted({1: 1.0}), "dimension": 2, "power": 0.1} | change
    with pytest.raises(ValueError, match=message):
        ablation.random_subspaces(**given, n=1)


# --------------------------------------------------------------------------- planted truths


LARGE = 101


def sectors(k, rows):
    """A network that reads wave k of its embedding, and tells in which third of a turn a + b is.

    Three answers, so that a plane that shares little with the wave does no harm.
    """
    mean = rows.mean(axis=0)
    reader = np.linalg.pinv(rows - mean) @ wave(k, LARGE)
    pairs = np.array(list(itertools.product(range(LARGE), repeat=2)))

    def logits_of(changed):
        read = (changed - mean) @ reader * np.sqrt(LARGE / 2)
        turn = read[:, 0] + 1j * read[:, 1]
        both = turn[pairs[:, 0]] * turn[pairs[:, 1]]
        return 20 * (both[:, None] * np.exp(-2j * np.pi * np.arange(3) / 3)).real

    return logits_of, logits_of(rows).argmax(axis=1)


def split(n=N):
    return random(10).random(n * n) < 0.5


def noisy(strengths):
    rows = 0.2 * random(11).normal(size=(LARGE, 200))
    return rows + planted(strengths, n=LARGE, d=200)


def test_a_network_that_reads_one_plane_loses_everything_with_it_and_nothing_without_others():
    rows = noisy({5: 3.0})
    logits_of, labels = sectors(5, rows)
    basis = ablation.waves(LARGE, [5])
    found = ablation.compare(rows, basis, logits_of, labels, split(LARGE), 20, 1)
    by_name = {(row["intervention"], row["pairs"]): row for row in found}
    for pairs in ("train", "test"):
        gone, left = by_name["removed", pairs], by_name["kept", pairs]
        assert gone["accuracy_before"] == 1 and left["accuracy"] == 1
        assert gone["accuracy"] < 0.4 and gone["loss"] == pytest.approx(np.log(3))
        assert gone["random_accuracy"] > 0.9 and gone["overlap"] < 0.03
        assert gone["percentile"] == 100 and left["percentile"] == 0
        # What is kept of random subspaces of this power holds little of the wave.
        assert left["random_accuracy"] < 0.6
        assert gone["power"] + left["power"] == pytest.approx(1)
        lost = (1 - gone["accuracy"]) / gone["power"]
        assert gone["accuracy_lost"] == pytest.approx(lost)
        assert gone["random_accuracy_lost"] < 0.15 * gone["accuracy_lost"]
        gained = (gone["loss"] - gone["loss_before"]) / gone["power"]
        assert gone["loss_gained"] == pytest.approx(gained)


def test_a_wave_that_is_not_read_can_go():
    rows = noisy({5: 3.0, 8: 3.0})
    logits_of, labels = sectors(5, rows)
    basis = ablation.waves(LARGE, [8])
    found = ablation.compare(rows, basis, logits_of, labels, split(LARGE), 20, 1)
    gone = next(row for row in found if row["intervention"] == "removed")
    assert gone["accuracy"] == 1 and gone["percentile"] == 0


def test_random_planes_of_networks_that_know_no_waves_show_no_difference():
    # A random network over a random embedding: the wave's percentile among the random planes of its
    # power is uniform, wherever it is not chosen for its power.
    percentiles = []
    for seed in range(120):
        draw = random(13, seed)
        rows, first, second = (draw.normal(size=s) for s in ((N, 8), (16, 12), (12, N)))
        pairs = np.array(list(itertools.product(range(N), repeat=2)))

        def logits_of(own, first=first, second=second, pairs=pairs):
            return np.tanh(own[pairs].reshape(len(pairs), -1) @ first) @ second

        labels = draw.integers(0, N, N * N)
        found = ablation.compare(rows, ablation.waves(N, [1 + seed % 15]), logits_of, labels,
                                 split(), 9, seed)  # fmt: skip
        percentiles.append(found[1]["percentile"])
    assert stats.kstest(np.array(percentiles) / 100 + draw.uniform(-0.05, 0.05, 120),
                        stats.uniform(-0.05, 1.1).cdf).pvalue > 0.01  # fmt: skip


def test_performance_against_brute_force():
    logits, labels = random(14).normal(size=(20, 5)), random(15).integers(0, 5, 20)
    counts = random(16).random(20) < 0.6
    found = ablation.performance(logits, labels, counts)
    log_share = special.log_softmax(logits, axis=1)
    own = [-log_share[i, labels[i]] for i in range(20) if counts[i]]
    right = [logits[i].argmax() == labels[i] for i in range(20) if counts[i]]
    assert found == pytest.approx((np.mean(right), np.mean(own)))
    assert np.isnan(ablation.performance(logits, labels, np.zeros(20, bool))).all()
    logits[np.flatnonzero(counts)[0]] = np.nan
    assert np.isnan(ablation.performance(logits, labels, counts)).all()


def test_a_subspace_that_is_everything_has_no_others():
    rows = random(17).normal(size=(3, 4))
    labels = np.add.outer(np.arange(3), np.arange(3)).ravel() % 3

    def logits_of(changed):
        return np.tile(changed @ rows.T, (3, 1))

    found = ablation.compare(rows, ablation.waves(3, [1]), logits_of, labels, labels == 0)
    for row in found:
        assert row["n"] == 0 and np.isnan(row["random_loss"]) and np.isnan(row["overlap"])
        assert np.isfinite(row["loss"])


# --------------------------------------------------------------------------- of runs


def test_elements_are_in_their_order_and_what_is_no_element_stays():
    # Residues modulo 13 without 0, in the order of discrete logarithms.
    view = make_view(operation="multiply")
    order = view.structure.elements
    assert 0 not in order and (np.diff(order) < 0).any()
    seen = []

    def with_embedding(rows):
        seen.append(rows)
        return np.zeros((169, 13), np.float32)

    view = dataclasses.replace(view, with_embedding=with_embedding)
    options = Options(ablation_waves=1, ablation_draws=1)
    found = pd.DataFrame(ablation.measure([view], options)["ablation"])
    wave1 = found.query("subspace == 'wave1' and intervention == 'removed'").iloc[0]
    own = fourier.spectrum(view.embedding[order])
    assert wave1["frequency"] == 1 + own[1:].argmax() and wave1["dimension"] == 2
    assert wave1["power"] == pytest.approx(own[1:].max() / own[1:].sum())
    np.testing.assert_allclose(seen[0], view.embedding, rtol=1e-6)
    for rows in seen:
        np.testing.assert_array_equal(rows[0], view.embedding[0])
    gone = fourier.spectrum(seen[1][order])
    assert gone[wave1["frequency"]] == pytest.approx(0, abs=1e-9)
    # Pairs that have no answer, those with 0, count nowhere; all that is said is 0.
    right = (view.labels[~view.train_mask & (view.labels >= 0)] == 0).mean()
    assert found["accuracy"].iloc[1] == right


def test_every_kth_checkpoint_and_the_last():
    options = Options(ablation_every=3)
    assert diagnostics.steps("ablation", (0, 10, 20, 30, 40), options) == {0, 30, 40}


GRID = """
--models=mlp --operations=add,s3 --primes=7 --train_fractions=0.5 --batch_size=8 --seeds=1
--d_model=8 --mlp_width=8 --mlp_depth=1 --steps=30 --checkpoint_every=10
--diagnostics=ablation --ablation_draws=2 --ablation_every=2
""".split()


@pytest.mark.thorough
def test_through_a_sweep_and_its_check(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(drawing, "write", lambda *_: "none")
    folder = f"--workdir={tmp_path / 'w'}"
    assert call(sweep.main, folder, *GRID) == cli.EXIT_OK
    found = tables(tmp_path / "w")
    rows = found["ablation"]
    assert sorted(set(rows["step"])) == [0, 20, 30]
    assert set(rows["subspace"]) >= {"wave1", "wave2", "waves"}
    # Before anything goes the answers are those of training's own evaluation.
    for pairs in ("train", "test"):
        both = rows[rows["pairs"] == pairs].merge(found["metrics"], on=["run_id", "step"])
        for column in ("accuracy", "loss"):
            np.testing.assert_allclose(
                both[f"{column}_before"], both[f"{pairs}_{column}"], rtol=1e-4, atol=1e-6
            )
    capsys.readouterr()
    assert call(check.main, folder) == cli.EXIT_OK
    assert "nothing is wrong" in capsys.readouterr().out
