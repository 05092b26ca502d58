"""What runs cost, against counts by hand from shapes, and against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.settings.config import TrainConfig
from grokjax.training import data, evaluation, step, work
from grokjax.training.step import Program
from grokjax.training.work import Traced
from tests.helpers import make_runs

CONFIG = TrainConfig(steps=100, checkpoint_every=50)


def one(**axes):
    (run,) = make_runs(**axes)
    return run


def forward(run, n_pairs):
    """Operations of the products of a forward pass over pairs, tables of all elements included."""
    model, p = run.model, run.task.n_elements
    if model.name == "mlp":
        width = model.mlp_width
        if model.mlp_inputs == "one_hot":  # embeddings are the first layer's outputs
            table, n_layers = 0, model.mlp_depth - 1
        else:
            table, n_layers = 2 * p * model.d_model * width, model.mlp_depth - 1
        return 2 * (table + n_pairs * (n_layers * width * width + width * p))
    width, tokens = model.d_model, model.n_tokens
    products = (2 * p + tokens - 2) * 3 * width**2
    for depth in range(model.n_layers):
        queries = n_pairs * (1 if depth == model.n_layers - 1 else tokens)
        if depth > 0:
            products += queries * width**2 + tokens * n_pairs * 2 * width**2
        products += queries * (width**2 + 2 * width * model.d_ff)
    return 2 * (products + n_pairs * width * p)


def look_up_gradient(run, n_pairs):
    """That of a look-up is a product with one-hot rows; the look-up itself is none."""
    columns = run.model.mlp_width if run.model.name == "mlp" else 4 * run.model.d_model
    return 2 * 2 * run.task.n_elements * n_pairs * columns


NETWORKS = {
    "transformer": {},
    "mlp": {"model": ["mlp"]},
    "the study's transformer": {"d_model": [128], "d_ff": [256], "batch_size": [512]},
    "the study's mlp": {"model": ["mlp"], "d_model": [128], "mlp_width": [512],
                        "batch_size": [512], "prime": [113]},
    "one layer, =": {"equals_token": [True], "n_layers": [1], "d_ff": [0], "n_heads": [2],
                     "optimizer": ["sgd"], "loss": ["stablemax"]},
    "causal": {"equals_token": [True], "causal": [True], "layer_norm": ["post"], "n_layers": [3],
               "biases": [False], "separate_embeddings": [True], "operation": ["s4"]},
    "one-hot": {"model": ["mlp"], "mlp_inputs": ["one_hot"], "batch_size": [0],
                "loss": ["squared_error"]},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_counted_by_hand(name):
    run = one(**NETWORKS[name])
    n_pairs = run.settings.batch_size or run.task.n_train
    size, n_blocks = evaluation.blocks(Program.of([run], CONFIG), run.task.n_places)
    # A step is a forward pass and twice that for the gradient.
    training = 3 * forward(run, n_pairs) + look_up_gradient(run, n_pairs)
    evaluating = n_blocks * forward(run, size)
    traced = Traced(run, CONFIG, n_steps=4)
    assert work.flops(work.products(traced.training)) == 4 * training
    assert work.flops(work.products(traced.evaluation)) == evaluating
    assert work.costs([run], CONFIG) == [100 * training + 3 * evaluating]


def test_operations_of_images():
    run = one(model=["mlp"], operation=["digits"], mlp_width=[20], mlp_depth=[2], batch_size=[50])
    first, rest = 64 * 20, 20 * 20 + 20 * 10
    traced = Traced(run, CONFIG)
    # Pixels have no gradient.
    assert work.flops(work.products(traced.training)) == 2 * 50 * (2 * first + 3 * rest)
    assert work.flops(work.products(traced.evaluation)) == 2 * 4096 * (first + rest)


def test_operations_of_muon_are_those_of_its_products_too():
    width = {"d_model": [16], "d_ff": [32], "n_layers": [1]}
    plain, muon = (
        work.flops(work.products(Traced(one(**width, optimizer=[name]), CONFIG).training))
        for name in ("adamw", "muon")
    )

    def orthogonalised(rows, columns):
        # Five times X Xᵀ, its square, and their sum with X.
        low, high = sorted((rows, columns))
        return 5 * 2 * (2 * low * low * high + low**3)

    shapes = [(16, 48), (16, 16), (16, 32), (32, 16)]
    assert muon - plain == sum(orthogonalised(*shape) for shape in shapes)


@pytest.mark.parametrize("model", ["transformer", "mlp"])
@pytest.mark.parametrize("prime", [59, 197])
def test_operations_are_the_compilers(model, prime):
    """Of a training step, the matrix products alone: within 10 % of XLA's count of everything."""
    run = one(model=[model], prime=[prime], d_model=[128], d_ff=[256], mlp_width=[512],
              batch_size=[512])  # fmt: skip
    program = Program.of([run], CONFIG)
    own = jax.tree.map(lambda leaf: leaf[0], data.stack([run]))
    pairs, label = jnp.zeros((512, 2), jnp.int32), jnp.zeros(512, jnp.int32)

    def gradient(params):
        return jax.grad(step.loss)(params, program, own, pairs, label)

    template = program.model.template()
    cost = jax.jit(gradient).lower(template).cost_analysis()
    counted = work.flops(work.products(jax.make_jaxpr(gradient)(template).jaxpr))
    assert counted == 3 * forward(run, 512) + look_up_gradient(run, 512)
    assert counted == pytest.approx(cost["flops"], rel=0.1)


def test_products_within_loops_maps_and_calls_are_counted():
    x = jnp.zeros((3, 5))

    def counted(function, *arguments):
        return dict(work.products(jax.make_jaxpr(function)(*arguments).jaxpr))

    assert counted(lambda x: x @ x.T, x) == {(3, 5, 3): 1}
    assert counted(jax.jit(lambda x: jax.lax.scan(lambda c, _: (c, x @ x.T), 0, length=7)), x) == {
        (3, 5, 3): 7
    }
    assert counted(jax.vmap(lambda x: x @ x.T), jnp.zeros((4, 3, 5))) == {(3, 5, 3): 4}
    assert counted(jax.checkpoint(lambda x: jnp.sin(x) @ x.T), x) == {(3, 5, 3): 1}


def test_costs_are_each_runs_own_in_the_order_of_the_grid():
    runs = make_runs(model=["mlp"], mlp_depth=[1, 2], prime=[11], weight_decay=[0.0, 1.0],
                     batch_size=[0, 16], train_fraction=[0.5, 0.7])  # fmt: skip
    costs = work.costs(runs, CONFIG)
    key = {(r.model.mlp_depth, r.settings.batch_size,
            r.settings.batch_size or r.task.train_fraction): cost
           for r, cost in zip(runs, costs, strict=True)}  # fmt: skip
    assert len(runs) == 16
    # Of full batches also the training set counts; weight decay never does.
    assert len(set(costs)) == len(key) == 2 * (1 + 2)
    assert work.costs(runs[::-1], CONFIG) == costs[::-1]
    one, twice, thrice = (
        work.costs(runs[:1], TrainConfig(steps=n, checkpoint_every=n))[0] for n in (50, 100, 150)
    )
    assert thrice - twice == twice - one > 0


# --------------------------------------------------------------------------- memory


def peak(function, *arguments):
    return work.peak_bytes(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_peaks_of_small_programs():
    x = jnp.zeros(1000)  # 4,000 bytes
    assert peak(lambda x: x, x) == 4000
    assert peak(lambda x: jnp.exp(jnp.sin(jnp.cos(x))), x) == 8000
    assert peak(lambda x: jnp.sin(x) + jnp.cos(x), x) == 12_000
    assert peak(lambda x: x[:, None] * jnp.ones((1000, 10)), x) > 80_000
    # What a loop keeps of every turn counts in full, what it needs within a turn once.
    stacked = peak(lambda x: jax.lax.scan(lambda c, _: (c, c), x, length=50)[1], x)
    assert 50 * 4000 < stacked < 60 * 4000
    passing = peak(lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=50)[0], x)
    assert 8000 <= passing <= 5 * 4000


@pytest.mark.parametrize("model", ["transformer", "mlp"])
def test_peaks_hold_what_is_trained_and_grow_with_the_batch(model):
    peaks = []
    for size in (16, 64, 256):
        run = one(model=[model], batch_size=[size], prime=[23])
        traced = Traced(run, CONFIG)
        template = Program.of([run], CONFIG).model.template()
        n_parameters = sum(leaf.size for leaf in jax.tree.leaves(template))
        peaks.append(work.peak_bytes(traced.training))
        # Parameters, their gradient, and Adam's two moments.
        assert peaks[-1] >= 4 * 4 * n_parameters
        assert work.peak_bytes(traced.evaluation) >= 4 * n_parameters
    assert peaks == sorted(peaks)
    # The last batch is of 192 pairs more, whose logits, of 23 numbers, are there with the rest.
    assert peaks[2] - peaks[1] > 192 * 23 * 4
    assert peaks[2] - peaks[1] > 2 * (peaks[1] - peaks[0])


def test_as_many_runs_go_into_a_batch_as_half_of_the_memory_holds(monkeypatch):
    runs = make_runs(model=["mlp"], mlp_width=[32, 64], prime=[11, 23])
    sysconf = work.os.sysconf

    def fit(n_bytes, runs):
        pages = {"SC_AVPHYS_PAGES": n_bytes // 1000, "SC_PAGE_SIZE": 1000}
        monkeypatch.setattr(work.os, "sysconf", lambda name: pages.get(name) or sysconf(name))
        return work.runs_that_fit(runs, CONFIG)

    assert fit(10**13, runs) == 512
    assert fit(1000, runs) == 1
    some = fit(10**8, runs)
    assert 1 < some < 512
    # It is the dearest run that counts.
    assert some == min(fit(10**8, runs[i : i + 1]) for i in range(4))
    traced = [Traced(run, CONFIG, 100) for run in runs]
    dearest = max(work.peak_bytes(p) for one in traced for p in (one.training, one.evaluation))
    assert some == 10**8 // 2 // dearest
    assert np.isclose(fit(2 * 10**8, runs), 2 * some, atol=1)
