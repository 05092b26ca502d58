"""Surrogates: what each null keeps, exactness, independence of how they are computed."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from scipy import stats

from grokjax import analyze, check, cli, diagnostics, merge, sweep
from grokjax.clouds import normalize
from grokjax.diagnostics import Options, fourier, irreps, persistence, surrogates
from grokjax.report import drawing
from grokjax.tasks import finite_groups
from tests.diagnostics.test_measure import make_view
from tests.programs import assert_same_tables, call, tables
from tests.small_groups import TABLES, inverses

N, D = 13, 5


def noise(seed=0, n=N, d=D):
    return np.random.default_rng(seed).normal(size=(n, d))


def circle(n=N, frequencies=(1, 3)):
    angle = 2 * np.pi * np.outer(np.arange(n), frequencies) / n
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def centred(points):
    return points - points.mean(axis=0)


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


# --------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("null", surrogates.NULLS)
@pytest.mark.parametrize(("n", "d"), [(13, 5), (12, 5), (5, 20), (3, 1)])
def test_surrogates_are_centred_finite_and_different(null, n, d):
    points = noise(n=n, d=d) + 7
    drawn = surrogates.draw(points, null, 4, seed=1)
    assert drawn.shape == (4, n, n if null == "circulant" else d)
    np.testing.assert_allclose(drawn.mean(axis=1), 0, atol=1e-9)
    total = np.linalg.norm(centred(points))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=(1, 2)), total, rtol=1e-6)
    if null != "circulant" and d > 1:
        assert np.abs(drawn[0] - drawn[1]).max() > 0.1
        assert np.abs(drawn[0] - centred(points)).max() > 0.1
    np.testing.assert_array_equal(drawn, surrogates.draw(points, null, 4, seed=1))


@pytest.mark.parametrize("n", [12, 13])
def test_frequency_power_keeps_the_spectrum(n):
    points = noise(n=n)
    own = fourier.spectrum(centred(points))
    for cloud in surrogates.draw(points, "frequency_power", 5):
        np.testing.assert_allclose(fourier.spectrum(cloud)[1:], own[1:], rtol=1e-6)


@pytest.mark.parametrize("n", [12, 13])
def test_phase_keeps_the_spectrum_of_each_column(n):
    points = noise(n=n)
    own = np.abs(np.fft.rfft(points, axis=0))[1:]
    for cloud in surrogates.draw(points, "phase", 5):
        np.testing.assert_allclose(np.abs(np.fft.rfft(cloud, axis=0))[1:], own, rtol=1e-6)
    # Phases of different columns are independent, as those of one circle are not.
    drawn = surrogates.draw(circle(frequencies=(1,)), "phase", 400)
    turn = np.angle(np.fft.rfft(drawn, axis=1)[:, 1])
    gap = np.mod(turn[:, 0] - turn[:, 1], 2 * np.pi)
    assert stats.kstest(gap / (2 * np.pi), "uniform").pvalue > 0.01


@pytest.mark.parametrize(("n", "d"), [(13, 5), (6, 20)])
def test_covariance_keeps_singular_values_and_axes(n, d):
    points = noise(n=n, d=d) * np.arange(1, d + 1)
    own = centred(points).T @ centred(points)
    sizes = np.linalg.svd(centred(points), compute_uv=False)
    for cloud in surrogates.draw(points, "covariance", 5):
        np.testing.assert_allclose(np.linalg.svd(cloud, compute_uv=False), sizes, atol=1e-9)
        np.testing.assert_allclose(cloud.T @ cloud, own, atol=1e-9)


def test_isotropic_keeps_norms_up_to_the_centre():
    points = noise(n=200, d=50) * np.linspace(1, 3, 200)[:, None]
    own = np.linalg.norm(centred(points), axis=1)
    for cloud in surrogates.draw(points, "isotropic", 3):
        np.testing.assert_allclose(np.linalg.norm(cloud, axis=1), own, rtol=0.1)


def test_a_circulant_gram_matrix_gives_the_same_diagrams():
    points = circle(23, (1, 3, 4)) @ np.linalg.qr(noise(n=6, d=6))[0] + 3
    ours = persistence.diagrams(points)
    (drawn,) = surrogates.draw(points, "circulant", 1)
    np.testing.assert_allclose(distances(drawn), distances(points), atol=1e-7)
    theirs = persistence.diagrams(drawn)
    for degree in (0, 1):
        assert persistence.distance(ours[degree], theirs[degree], "bottleneck") < 1e-6
    assert persistence.summarize(ours).h1_max > 0.1
    assert surrogates.circulance(points) == pytest.approx(1)


# --------------------------------------------------------------------------- groups


@pytest.mark.parametrize("name", ["s3", "d7", "z6xz10", "7:3", "quaternions"])
def test_of_a_group_against_brute_force(name):
    table = TABLES[name]
    m, inverse = len(table), inverses(table)
    points = noise(n=m, d=4)
    gram = centred(points) @ centred(points).T
    mean = np.zeros_like(gram)
    for a, b in itertools.product(range(m), repeat=2):
        mean[a, b] = np.mean([gram[table[a, c], table[b, c]] for c in range(m)])
    (drawn,) = surrogates.draw(points, "circulant", 1, table=table)
    np.testing.assert_allclose(drawn @ drawn.T, mean, atol=1e-7)
    # R² of the regression of the off-diagonal entries on the element a·b⁻¹.
    pairs = [(a, b) for a in range(m) for b in range(m) if a != b]
    entries = np.array([gram[pair] for pair in pairs])
    quotients = np.array([table[a, inverse[b]] for a, b in pairs])
    fitted = np.zeros(len(pairs))
    for g in range(1, m):
        fitted[quotients == g] = entries[quotients == g].mean()
    explained = 1 - ((entries - fitted) ** 2).sum() / ((entries - entries.mean()) ** 2).sum()
    assert surrogates.circulance(points, table) == pytest.approx(explained)
    found = irreps.decompose(table)
    own = irreps.power(centred(points), found)
    for cloud in surrogates.draw(points, "frequency_power", 3, table=table):
        np.testing.assert_allclose(irreps.power(cloud, found)[1:], own[1:], rtol=1e-6)
    for cloud in surrogates.draw(points, "phase", 3, table=table):
        for column in range(4):
            kept = irreps.power(cloud[:, [column]], found)
            mine = irreps.power(centred(points)[:, [column]], found)
            np.testing.assert_allclose(kept[1:], mine[1:], rtol=1e-6)


def test_the_default_is_the_cyclic_group():
    points, table, other = noise(n=12), TABLES["z12"], finite_groups.find("d6").table
    for null in surrogates.NULLS:
        np.testing.assert_array_equal(
            surrogates.draw(points, null, 2), surrogates.draw(points, null, 2, table=table)
        )
    assert surrogates.circulance(points) == surrogates.circulance(points, table)
    assert surrogates.circulance(points) != surrogates.circulance(points, other)


# --------------------------------------------------------------------------- numbers


def test_circulance_of_noise_is_about_one_over_n():
    found = [surrogates.circulance(noise(seed, 31, 200)) for seed in range(20)]
    assert 0.7 / 31 < np.mean(found) < 1.3 / 31
    assert surrogates.circulance(np.ones((5, 2))) == 0
    assert surrogates.circulance(np.eye(5)) == 0  # all distances are the same
    assert np.isnan(surrogates.circulance(noise() * np.nan))


def rows_of(points, *args, **kwargs):
    rows = surrogates.compare(points, *args, **kwargs)
    return {(row["null"], row["statistic"]): row for row in rows}


def test_numbers_are_those_of_the_surrogates_drawn():
    points = circle(23)
    rows = rows_of(points, ["covariance"], 9, seed=[4], normalise=normalize)
    drawn = surrogates.draw(points, "covariance", 9, [4, *b"covariance"])
    values = np.array(
        [persistence.summarize(persistence.diagrams(normalize(c))).h1_total for c in drawn]
    )
    row = rows["covariance", "h1_total"]
    own = persistence.summarize(persistence.diagrams(normalize(points))).h1_total
    assert row["value"] == own and row["n"] == 9
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["z"] == pytest.approx((own - values.mean()) / values.std(ddof=1))
    assert row["percentile"] == pytest.approx(100 * (values < own).mean())
    assert rows["covariance", "circulance"]["percentile"] == 100


def test_what_a_null_fixes_is_a_tie():
    rows = rows_of(noise(), ["covariance", "circulant"], 9)
    row = rows["covariance", "effective_rank"]
    assert row["percentile"] == 50 and np.isnan(row["z"])
    row = rows["circulant", "h1_max"]
    assert row["n"] == 1 and np.isnan([row["sd"], row["z"], row["percentile"]]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan(bad):
    points = noise()
    points[3, 1] = bad
    for row in surrogates.compare(points, n=3, normalise=normalize):
        assert row["n"] == 0
        assert np.isnan([row[name] for name in ("value", "mean", "sd", "z", "percentile")]).all()


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="null must be one of frequency_power, phase"):
        surrogates.draw(noise(), "shuffled", 1)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        surrogates.draw(noise(), "phase", 0)
    with pytest.raises(ValueError, match="must be finite"):
        surrogates.draw(noise() * np.inf, "phase", 1)
    with pytest.raises(ValueError, match="a table of shape"):
        surrogates.circulance(noise(), TABLES["s3"])


# --------------------------------------------------------------------------- exactness


def uniformity(null, scales):
    """Statistic → p-value (Kolmogorov, Smirnov) that its percentiles on pure noise are uniform."""
    found = []
    # 20 points: of fewer, many have no second bar, and ties are no places.
    for seed in range(150):
        rows = surrogates.compare(noise(seed, 20, 3) * scales, [null], 19, seed=[seed],
                                  normalise=normalize)  # fmt: skip
        found.append([row["percentile"] for row in rows])
    # 19 surrogates leave 20 places; a value lies anywhere in its own.
    places = np.array(found) / 100 * 19
    drawn = (places + np.random.default_rng(0).uniform(size=(150, 1))) / 20
    own = zip(surrogates.STATISTICS, drawn.T, strict=True)
    return {statistic: stats.kstest(values, "uniform").pvalue for statistic, values in own}


ALIKE, UNLIKE = [1, 1, 1], [2, 1, 0.4]


@pytest.mark.parametrize(
    ("null", "scales"),
    [("frequency_power", ALIKE), ("phase", UNLIKE), ("covariance", UNLIKE)],
)
def test_every_percentile_of_pure_noise_is_uniform(null, scales):
    found = uniformity(null, scales)
    assert min(found.values()) > 0.01 / len(found), found


@pytest.mark.parametrize("null", ["frequency_power", "isotropic"])
def test_a_null_that_does_not_hold_is_found_out(null):
    # Columns of unequal variance are not what these two draw.
    found = uniformity(null, UNLIKE)
    assert max(found[name] for name in ("h0_total", "h1_total", "effective_rank")) < 1e-6


# --------------------------------------------------------------------------- as a diagnostic


OPTIONS = Options(surrogates=5)


def key_of(row):
    return tuple(row[name] for name in ("run_id", "cloud", "null", "statistic"))


def test_neither_threads_nor_order_nor_other_nulls_change_a_number():
    views = [
        dataclasses.replace(view, points=functools.cache(view.points))
        for view in (make_view(seed=0), make_view(seed=1))
    ]
    rows = {key_of(row): row for row in surrogates.measure(views, OPTIONS)["surrogates"]}
    assert len(rows) == 2 * (5 * 7 + 2 * 6)
    options = dataclasses.replace(OPTIONS, ph_threads=3, surrogate_nulls=("isotropic", "phase"))
    others = surrogates.measure(views[::-1], options)["surrogates"]
    assert len(others) == 2 * (2 * 7 + 6)
    for row in others:
        np.testing.assert_equal(rows[key_of(row)], row)
    # Random numbers are a run's, a cloud's and a step's own.
    later = dataclasses.replace(views[0], step=200)
    moved = {key_of(row): row for row in surrogates.measure([later], OPTIONS)["surrogates"]}
    where = ("run0", "embedding", "covariance", "h0_total")
    assert moved[where]["value"] == rows[where]["value"]
    assert moved[where]["mean"] != rows[where]["mean"]


@pytest.mark.parametrize(("operation", "n_points"), [("add", 13), ("multiply", 12), ("max", 13)])
def test_rows_of_an_embedding_are_elements_in_their_order(operation, n_points):
    view = dataclasses.replace(make_view(operation=operation), cloud_names=("embedding",))
    points = circle()
    order = np.arange(13)
    if view.structure is not None:
        order = view.structure.elements
        points = np.full((13, 4), 9.0)
        points[order] = circle(n_points)
    view = dataclasses.replace(view, points=lambda name: points)
    rows = surrogates.measure([view], OPTIONS)["surrogates"]
    found = [row for row in rows if row["statistic"] == "circulance"]
    assert {row["n_points"] for row in rows} == {n_points}
    assert len(found) == 5
    for row in found:
        assert row["value"] == pytest.approx(1)


def test_every_kth_checkpoint_and_the_last():
    options = Options(surrogate_every=3)
    assert diagnostics.steps("surrogates", (0, 10, 20, 30, 40), options) == {0, 30, 40}
    assert diagnostics.steps("surrogates", (0, 10, 20, 30), options) == {0, 30}
    assert diagnostics.steps("persistence", (0, 10, 20), options) == {0, 10, 20}


# --------------------------------------------------------------------------- in a sweep

GRID = """
--models=mlp --operations=add,s3 --primes=7 --train_fractions=0.5 --batch_size=8 --seeds=1,2
--d_model=8 --mlp_width=8 --mlp_depth=1 --steps=50 --checkpoint_every=10
--diagnostics=persistence,surrogates --clouds=embedding,hidden1 --cloud_points=9
--surrogates=5 --surrogate_every=3
""".split()


@pytest.fixture(autouse=True, scope="module")
def _no_pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        yield


def run(command, folder, *flags):
    return call(command.main, f"--workdir={folder}", *flags)


def finds_nothing(folder, capsys):
    capsys.readouterr()
    assert run(check, folder) == cli.EXIT_OK
    return "nothing is wrong" in capsys.readouterr().out


@pytest.mark.thorough
def test_through_a_sweep_its_resumption_check_analysis_and_merge(tmp_path, capsys):
    stop = ("--max_seconds=0.001", "--grace_seconds=100")
    assert run(sweep, tmp_path / "w", *GRID, *stop) == cli.EXIT_STOPPED
    assert run(sweep, tmp_path / "w", *GRID, "--ph_threads=1") == cli.EXIT_OK
    found = tables(tmp_path / "w")
    rows = found["surrogates"]
    assert sorted(set(rows["step"])) == [0, 30, 50]
    assert len(rows) == 4 * 3 * (5 * 7 + 2 * 6)
    # The values are those of persistence, and both groups have elements in their order.
    own = rows.query("null == 'isotropic' and statistic == 'h0_total'")
    merged = own.merge(found["persistence"], on=["run_id", "step", "cloud"])
    np.testing.assert_array_equal(merged["value"], merged["h0_total"])
    assert finds_nothing(tmp_path / "w", capsys)
    # What was measured is what an analysis measures anew, with other threads.
    (tmp_path / "w/results/surrogates.parquet").unlink()
    assert run(analyze, tmp_path / "w", "--ph_threads=2") == cli.EXIT_OK
    assert_same_tables(tables(tmp_path / "w"), found)
    # More checkpoints are added to those that are there; rows of fewer nulls are another table.
    assert run(sweep, tmp_path / "w", *GRID, "--surrogate_every=1") == cli.EXIT_OK
    more = tables(tmp_path / "w")["surrogates"]
    assert sorted(set(more["step"])) == [0, 10, 20, 30, 40, 50]
    both = more.merge(rows, how="inner")
    assert len(both) == len(rows)
    assert finds_nothing(tmp_path / "w", capsys)
    for shard in ("0/2", "1/2"):
        assert run(sweep, tmp_path / "s", *GRID, f"--shard={shard}") == cli.EXIT_OK
    assert run(merge, tmp_path / "s") == cli.EXIT_OK
    assert finds_nothing(tmp_path / "s", capsys)
    joined = tables(tmp_path / "s")["surrogates"]
    assert_same_tables({"surrogates": joined}, {"surrogates": rows})


def test_what_cannot_be_drawn_is_refused_before_training(tmp_path, capsys):
    for flags, text in (
        (["--surrogates=0"], "--surrogates=0: must be an integer of at least 1"),
        (["--surrogate_every=0"], "--surrogate_every=0: must be an integer of at least 1"),
        (["--surrogate_nulls=shuffled"], "--surrogate_nulls=shuffled: must be some of"),
        (["--surrogate_nulls=phase,phase"], "each once"),
        (["--surrogate_nulls=phase"], "hidden states have no order"),
    ):
        assert run(sweep, tmp_path / "w", *GRID, *flags) == cli.EXIT_USAGE
        assert text in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
