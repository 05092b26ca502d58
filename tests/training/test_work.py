"""What runs cost, against counts by hand from shapes, and against XLA's own."""

import inspect
import math

import jax
import jax.numpy as jnp
import pytest

from grokjax.settings import grid
from grokjax.settings.config import TrainConfig
from grokjax.training import data, evaluation, mapped, step, work
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
    with_own_map = jax.custom_batching.custom_vmap(lambda x: x @ x.T)
    with_own_map.def_vmap(lambda size, mapped, x: (x @ x.mT, True))
    assert counted(with_own_map, x) == {(3, 5, 3): 1}


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


@pytest.fixture
def pages(monkeypatch):
    """Sets the free memory."""
    sysconf = work.os.sysconf

    def set_bytes(n_bytes):
        told = {"SC_AVPHYS_PAGES": n_bytes // 1000, "SC_PAGE_SIZE": 1000}
        monkeypatch.setattr(work.os, "sysconf", lambda name: told.get(name) or sysconf(name))

    return set_bytes


def test_as_many_runs_go_into_a_batch_as_half_of_the_memory_holds(pages):
    runs = make_runs(model=["mlp"], mlp_width=[32, 64], prime=[11, 23], seed=range(300))

    def fit(n_bytes, runs):
        pages(n_bytes)
        return work.runs_that_fit(runs, CONFIG)

    assert fit(10**13, runs) == 512
    assert fit(1000, runs) == 1
    some = fit(10**8, runs)
    assert 1 < some < 512
    # It is the dearest run that counts.
    assert some == min(fit(10**8, runs[i : i + 300]) for i in range(0, 1200, 300))
    # Twice the memory is twice the runs, but for what a device needs once.
    assert some < fit(2 * 10**8, runs) - some < 1.5 * some


def taken(traced, n_runs):
    """Bytes of the compiled programs for so many runs, as XLA says."""
    mesh = mapped.runs_mesh(n_runs)
    state, own = (mapped.shapes(mesh, tree, n_runs) for tree in (traced.state, traced.data))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    train = inspect.unwrap(mapped.train_chunk)(traced.program, mesh, traced.n_steps)
    evaluate = inspect.unwrap(mapped.evaluate)(traced.program, mesh)
    found = [
        lowered.compile().memory_analysis()
        for lowered in (train.lower(state, own, step), evaluate.lower(state.params, own))
    ]
    training, evaluation = (
        m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
        + m.temp_size_in_bytes
        for m in found
    )  # fmt: skip
    # The optimiser's state lies there during evaluation too.
    return max(training, evaluation + work.n_bytes(state.opt_state))


@pytest.mark.parametrize("model", ["transformer", pytest.param("mlp", marks=pytest.mark.thorough)])
def test_memory_on_a_cpu_is_the_compilers(model):
    runs = make_runs(model=[model], prime=[31], batch_size=[256], d_model=[64], seed=range(64))
    traced = work.trace(runs[0], CONFIG)
    assert work.n_bytes(traced.state) > 0.5 * work.n_bytes(traced.data)
    for n_runs, most in ((2, 2.0), (64, 1.3)):  # what a device needs once is an upper bound
        # Without the copies of the state that are made beside the programs.
        copies = 2 * n_runs * work.n_bytes(traced.state)
        told = work.memory(runs, CONFIG, n_runs).of(n_runs) - copies
        assert 0.8 * taken(traced, n_runs) < told < most * taken(traced, n_runs)


def test_memory_of_runs_side_by_side_is_the_compilers(monkeypatch, pages):
    monkeypatch.setattr(mapped, "_one_by_one", lambda mesh: False)
    monkeypatch.setattr(mapped, "train_chunk", mapped.train_chunk.__wrapped__)
    monkeypatch.setattr(mapped, "evaluate", mapped.evaluate.__wrapped__)
    runs = make_runs(model=["mlp"], d_model=[24], mlp_width=[24], prime=[23], seed=range(60))
    traced = work.trace(runs[0], CONFIG)
    bound = work.Memory(a_run=traced.peak).of(60)
    pages(2 * bound + 1000)  # of which half counts: the bound fits, and no compiler is asked
    with monkeypatch.context() as patch:
        patch.setattr(work, "compiled", None)
        assert work.runs_that_fit(runs, CONFIG) == 512
    n_bytes = taken(traced, 60)
    assert n_bytes < bound
    pages(2 * n_bytes + 1000)
    assert work.runs_that_fit(runs, CONFIG) == 512  # all of them, and any others
    pages(n_bytes)
    half = work.runs_that_fit(runs, CONFIG)
    assert 20 <= half <= 30
    assert taken(traced, half) <= 1.1 * n_bytes / 2


# --------------------------------------------------------------------------- batches


def ways(sizes):
    """Every way to cut a list."""
    yield [sizes]
    for i in range(1, len(sizes)):
        yield from ([*way, sizes[i:]] for way in ways(sizes[:i]))


@pytest.mark.parametrize("steps", [100, 2000, 10_000, 10**6])
@pytest.mark.parametrize("n_devices", [1, 2, 4])
def test_on_a_cpu_runs_are_cut_by_size_where_that_is_cheapest(steps, n_devices, monkeypatch):
    config = TrainConfig(steps=steps, checkpoint_every=steps)
    runs = make_runs(model=["mlp"], prime=[97, 31, 37, 59], seed=range(5), batch_size=[128])
    device = jax.local_devices()[0]
    monkeypatch.setattr(jax, "local_devices", lambda: [device] * n_devices)
    found = work.plan_batches(runs, config, 100)

    def price(parts):
        total = 0
        for part in parts:
            largest = max(part, key=lambda run: run.task.prime)
            slots = math.ceil(len(part) / n_devices) * n_devices
            total += slots * work.costs([largest], config)[0] + 10**12 * n_devices
        return total

    cheapest = min(
        price([[run for run in runs if run.task.prime in part] for part in way])
        for way in ways([31, 37, 59, 97])
    )
    assert price(found) <= 1.02 * cheapest
    assert sorted(run.run_id for batch in found for run in batch) == sorted(
        run.run_id for run in runs
    )
    if steps == 100:
        assert found == grid.plan_batches(runs, 100)
    if steps == 10**6 and n_devices == 1:
        assert [len(batch) for batch in found] == [5] * 4
    # An accelerator takes them side by side.
    monkeypatch.setattr(mapped, "_one_by_one", lambda mesh: False)
    assert work.plan_batches(runs, config, 100) == grid.plan_batches(runs, 100)
