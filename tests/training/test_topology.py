"""Loops as a term of the loss: gradients by GUDHI's differences, look-ups, what must not change."""

import functools

import gudhi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from grokjax.clouds import normalize
from grokjax.diagnostics import persistence
from grokjax.models import network
from grokjax.models.network import Sizes
from grokjax.settings import grid
from grokjax.settings.config import Saving, TrainConfig
from grokjax.settings.fields import InvalidSettingError
from grokjax.store import checkpoints
from grokjax.store.results import Results
from grokjax.training import data, mapped, step, topology
from grokjax.training.step import Program
from grokjax.training.stopping import Stopped, StopRequest
from grokjax.training.trainer import BatchTrainer
from tests.helpers import make_config, make_runs
from tests.training.batches import assert_same_parameters

SMALL = {"d_model": [16], "d_ff": [16], "mlp_width": [16], "n_layers": [1], "mlp_depth": [1],
         "batch_size": [32], "prime": [13], "n_heads": [2]}  # fmt: skip
EVERY, CHECKPOINT_EVERY, STEPS = 5, 10, 30


def runs_with(**axes):
    return make_runs(**SMALL | {"topology_every": [EVERY]} | axes)


class Quiet:
    """A listener that does nothing."""

    def __getattr__(self, name):
        return lambda *_: None


class StopAt(StopRequest):
    """Asks to stop between two calls to the device, wherever that is."""

    def __init__(self, call):
        super().__init__()
        self._left, self.reason = call, "test"

    def due(self, seconds_to_checkpoint):
        self._left -= 1
        return self._left == 0


def train(runs, workdir, stop=None, steps=STEPS, checkpoint_every=CHECKPOINT_EVERY):
    """The parameters of every checkpoint, step → one tree for all runs."""
    workdir.mkdir(exist_ok=True)
    config = TrainConfig(steps=steps, checkpoint_every=checkpoint_every)
    results = Results(workdir, [run.run_id for run in runs])
    saving, stop = Saving(state_minutes=0.0), stop or StopRequest()
    trainer = BatchTrainer(0, runs, config, saving, workdir, results, Quiet(), stop)
    trainer.run(set())
    reader = checkpoints.Reader(workdir / "checkpoints")
    model = Program.of(runs, config).model
    template = network.stacked(model.template(), len(runs))
    return {s: reader.params(trainer.batch, s, template) for s in config.checkpoint_steps}


def own(params, runs, index):
    """One run's parameters without padding."""
    task = runs[index].task
    return network.row(runs[index].model, params, index, Sizes(task.n_elements, task.n_outputs))


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)


def h1(params, runs, index=0):
    """H1 max and H1 total, as they are measured."""
    rows = np.asarray(network.embedding(own(params, runs, index)))
    found = persistence.summarize(persistence.diagrams(normalize(rows)))
    return found.h1_max, found.h1_total


# --------------------------------------------------------------------------- the gradient


def lengths_by_gudhi(embedding):
    """Bars of H1 of unit rows, in float64, longest first."""
    cloud = embedding - embedding.mean(0)
    cloud /= np.linalg.norm(cloud, axis=1, keepdims=True)
    tree = gudhi.RipsComplex(distance_matrix=squareform(pdist(cloud))).create_simplex_tree(2)
    tree.compute_persistence(homology_coeff_field=2)
    bars = tree.persistence_intervals_in_dimension(1).reshape(-1, 2)
    return np.sort(bars[:, 1] - bars[:, 0])[::-1]


def gradient_by_gudhi(embedding, direction, whole, h=1e-6):
    lengths = (lengths_by_gudhi(embedding + sign * h * direction) for sign in (1, -1))
    ahead, behind = (found.sum() if whole else found[0] for found in lengths)
    return (ahead - behind) / (2 * h)


def embedding_of(seed):
    """A cloud in general position with some loops, and its number of rows."""
    rng = np.random.default_rng(seed)
    n, width = 10 + seed % 9, 3 + seed % 4
    return rng.normal(size=(n, width)) + rng.normal(size=width), n


@pytest.mark.parametrize("whole", [False, True], ids=["h1_max", "h1_total"])
def test_the_gradient_is_gudhis_difference(whole):
    n_bars = []
    slope = jax.jit(jax.value_and_grad(topology.term))
    for seed in range(50):
        embedding, n = embedding_of(seed)
        _, found = persistence.critical_edges(normalize(embedding))
        edges = np.zeros((1, 12, 2, 2), np.int32)
        found = found if whole else found[:1]
        edges[0, : len(found)] = found
        n_bars.append(len(found))
        # Of one shape, so that one program does for all: rows and columns without influence.
        padded = np.zeros((20, 6))
        padded[:n, : embedding.shape[1]] = embedding
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            value, gradient = slope(jnp.asarray(padded), n, edges)
        lengths = lengths_by_gudhi(embedding)
        assert value == pytest.approx(lengths.sum() if whole else lengths[:1].sum(), abs=1e-12)
        gradient = np.asarray(gradient)
        assert not gradient[n:].any() and not gradient[:, embedding.shape[1] :].any()
        gradient = gradient[:n, : embedding.shape[1]]
        if not len(found):
            assert not gradient.any()
            continue
        for direction in np.random.default_rng(seed).normal(size=(3, *embedding.shape)):
            expected = gradient_by_gudhi(embedding, direction, whole)
            assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert np.mean(np.array(n_bars) > 0) > 0.9
    assert not whole or max(n_bars) > 3


def test_points_that_coincide_and_a_row_at_the_centre_have_no_gradient_that_is_none():
    rows = jnp.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0], [0, 0]])
    edges = jnp.array([[[[0, 1], [2, 4]], [[0, 0], [0, 0]]]])
    value, gradient = jax.jit(jax.value_and_grad(topology.term))(rows, 5, edges)
    assert value == 1  # from -1 to the row that stays at the centre
    assert np.isfinite(gradient).all()


# --------------------------------------------------------------------------- look-ups


def test_looked_up_are_the_edges_of_each_runs_own_longest_bars():
    runs = runs_with(prime=[13, 31], topology_weight=[0.1], topology_term=["h1_total"])
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(3, 31, 5)).astype(np.float32)  # padded to a third run
    found = topology.look_up(runs, embeddings, step=0)
    assert found.shape == (2, 1, 128, 2, 2) and found.dtype == np.int32
    for run, edges, embedding in zip(runs, found, embeddings, strict=False):
        cloud = normalize(embedding[: run.task.n_elements])
        expected = persistence.summarize(persistence.diagrams(cloud, engine="ripser"))
        length = np.linalg.norm(cloud[edges[0, :, :, 0]] - cloud[edges[0, :, :, 1]], axis=-1)
        bars = length[:, 1] - length[:, 0]
        assert bars.sum() == pytest.approx(expected.h1_total, rel=1e-5)
        assert bars[0] == bars.max() == pytest.approx(expected.h1_max, rel=1e-5)
    embeddings[0, 2, 3] = np.nan
    assert not topology.look_up(runs, embeddings, step=0)[0].any()
    assert topology.look_up(runs, embeddings, step=0)[1].any()


def test_the_control_has_random_edges_and_the_gradient_of_h1_max():
    axes = {"prime": [13], "topology_weight": [0.1]}
    (run,) = runs_with(**axes, topology_term=["random_edges"])
    (other,) = runs_with(**axes)
    drawn, slope = [], jax.jit(jax.grad(topology.term))
    for s in range(60):
        rows = np.random.default_rng(s).normal(size=(1, 13, 4)).astype(np.float32)
        (edges,), (critical,) = (topology.look_up([r], rows, s) for r in (run, other))
        np.testing.assert_array_equal(edges[:1], critical)
        np.testing.assert_array_equal(edges, topology.look_up([run], rows, s)[0])
        gradients = [slope(rows[0], 13, e) for e in (edges, critical)]
        assert np.linalg.norm(gradients[0]) == pytest.approx(np.linalg.norm(gradients[1]), rel=1e-4)
        if critical.any():
            drawn += edges[1].reshape(-1, 2).tolist()
    assert all(len({*four}) == 4 for four in np.reshape(drawn, (-1, 4)).tolist())
    assert len(drawn) > 100 and np.bincount(np.ravel(drawn), minlength=13).min() > 5


# --------------------------------------------------------------------------- training


def test_weight_zero_is_to_the_bit_the_run_without_the_term(tmp_path):
    plain = runs_with(topology_every=[10], model=["transformer", "mlp"])
    grids = runs_with(topology_weight=[0.0, 0.3, -0.3], model=["transformer", "mlp"])
    batches = grid.plan_batches(grids, 10)
    for run, model in zip(plain, ("transformer", "mlp"), strict=True):
        mine = [batch for batch in batches if batch[0].model.name == model]
        assert [[r.settings.topology_weight for r in b] for b in mine] == [[0.0], [0.3, -0.3]]
        found, expected = train(mine[0], tmp_path / f"{model}0"), train([run], tmp_path / model)
        assert_same_bits(found, expected)
        assert Program.of(mine[0], CONFIG) == Program.of([run], CONFIG)
        assert data.stack(mine[0]).edges is None
        assert jaxpr_of(mine[0][0]) == jaxpr_of(run) != jaxpr_of(mine[1][0])
        assert "scatter" not in jaxpr_of(mine[1][0])


CONFIG = TrainConfig(steps=STEPS, checkpoint_every=CHECKPOINT_EVERY)


def jaxpr_of(run):
    """The program of a run's steps, as text."""
    program = Program.of([run], CONFIG)
    stacked = jax.tree.map(lambda leaf: leaf[0], data.stack([run]))
    state = jax.eval_shape(lambda: step.init(program, stacked))
    made = jax.make_jaxpr(lambda s, r: step.train_run(program, 2, s, r, jnp.int32(0)))
    return str(made(state, stacked))


@pytest.mark.parametrize(
    "kind", [pytest.param("h1_total", marks=pytest.mark.thorough), "random_edges"]
)
def test_stopped_anywhere_and_started_again_it_ends_with_the_same_bits(kind, tmp_path):
    axes = {"h1_total": {"batch_size": [0]}, "random_edges": {"loss_precision": ["float64"]}}
    axes[kind]["model"] = ["mlp"]
    runs = runs_with(topology_weight=[2.0, -2.0], topology_term=[kind], **axes[kind])
    whole = train(runs, tmp_path / "whole")
    # Calls are of five steps, so every second stop falls between two checkpoints.
    for call in (1, 4):
        with pytest.raises(Stopped):
            train(runs, tmp_path / f"{call}", StopAt(call))
        assert_same_bits(train(runs, tmp_path / f"{call}"), whole)
    (still,) = runs_with(**axes[kind])
    moved = own(whole[STEPS], runs, 0)["embed"]["embedding"]
    assert np.abs(moved - train([still], tmp_path / "still")[STEPS]["embed"]["embedding"]).max() > 0


@pytest.mark.parametrize(
    ("model", "at_once"),
    [pytest.param("transformer", False, marks=pytest.mark.thorough), ("mlp", True)],
)
def test_a_run_in_a_batch_of_several_primes_equals_the_run_alone(
    model, at_once, tmp_path, monkeypatch
):
    runs = [
        *runs_with(model=[model], topology_weight=[1.0, -0.5], topology_term=["h1_total"]),
        *runs_with(model=[model], topology_weight=[0.7], topology_term=["h1_total"], prime=[17]),
    ]
    assert len(grid.plan_batches(runs, 10)) == 1
    with monkeypatch.context() as patched:
        if at_once:  # as accelerators take them
            patched.setattr(mapped, "_one_by_one", lambda mesh: False)
            for cached in (mapped.init, mapped.train_chunk, mapped.evaluate):
                anew = functools.cache(cached.__wrapped__)
                patched.setattr(mapped, cached.__name__, anew)
        together = train(runs, tmp_path / "together")[STEPS]
    padding = together["embed"]["embedding"][0, 13:]
    assert padding.shape == (4, 16) and not padding.any()
    alone = own(train(runs[:1], tmp_path / "alone")[STEPS], runs, 0)
    assert_same_parameters(own(together, runs, 0), alone, 1e-3)


@pytest.mark.parametrize("term", ["h1_max", pytest.param("h1_total", marks=pytest.mark.thorough)])
def test_a_positive_weight_makes_loops_longer_and_a_negative_one_shorter(term, tmp_path):
    axes = {"prime": [23], "batch_size": [128], "topology_term": [term], "weight_decay": [0.0],
            "model": ["mlp"]}  # fmt: skip
    seeds = list(range(4))
    found = {}
    for weight in (0.0, 1.0, -1.0):
        runs = runs_with(topology_weight=[weight], seed=seeds, **axes)
        params = train(runs, tmp_path / f"{weight}", steps=100, checkpoint_every=100)[100]
        values = [h1(params, runs, i)[term == "h1_total"] for i in range(len(runs))]
        found[weight] = np.array(values)
    assert (found[1.0] > found[0.0]).all()
    assert (found[-1.0] < found[0.0]).all()


# --------------------------------------------------------------------------- bad input


def test_what_cannot_be_is_refused():
    def config(**axes):
        return make_config(steps=40, every=20, **axes).grid

    assert config(topology_every=[3])  # nothing is looked up
    with pytest.raises(InvalidSettingError, match="--topology_every=3: must divide --checkpoint_e"):
        config(topology_every=[3], topology_weight=[0.0, 0.1])
    with pytest.raises(
        InvalidSettingError, match=r"topology_weights=-1\.0: mlp embeds no elements"
    ):
        config(topology_weight=[-1.0], model=["mlp"], operation=["digits"])
