"""Clocks and pizzas in closed form."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grokjax.diagnostics import Options, clock_pizza
from tests.helpers import make_runs

P, WIDTH = 13, 6
(RUN,) = make_runs(operation=["add"], prime=[P])
RNG = np.random.default_rng(0)
PARAMS = {"embed": RNG.normal(size=(P, WIDTH)).astype(np.float32),
          "out": RNG.normal(size=(WIDTH, P)).astype(np.float32)}  # fmt: skip


def pizza(params, pair, shifts):
    """Embeddings are added before anything else."""
    rows = params["embed"][pair] + shifts
    return jnp.tanh(rows.sum(0)) @ params["out"]


def clock(params, pair, shifts):
    """Embeddings are multiplied."""
    rows = params["embed"][pair] + shifts
    return (rows[0] * rows[1]) @ params["out"]


def view(function, operation="add", logits=None):
    (run,) = make_runs(operation=[operation], prime=[P])
    n = run.task.n_elements
    return types.SimpleNamespace(
        run_id="r", step=5, structure=run.task.structure, labels=run.task.truth,
        embedding=PARAMS["embed"][:n], params=PARAMS,
        logits=lambda: np.zeros((n * n, P)) if logits is None else logits,
        pair_logits=lambda: jax.tree_util.Partial(function),
    )  # fmt: skip


def measured(*args, **options):
    (row,) = clock_pizza.measure([view(*args)], Options(**options))["clock_pizza"]
    return row["gradient_symmetricity"], row["distance_irrelevance"]


def test_gradient_symmetricity_is_one_of_a_pizza():
    assert measured(pizza, "add")[0] == pytest.approx(1)


def test_gradient_symmetricity_of_a_clock_is_the_mean_cosine():
    # ∂/∂E[a] of logit c is E[b] W[:, c] and the other way round.
    def cosine(a, b, c):
        first, second = (PARAMS["embed"][i] * PARAMS["out"][:, c] for i in (b, a))
        return first @ second / np.linalg.norm(first) / np.linalg.norm(second)

    every = [cosine(a, b, c) for a in range(P) for b in range(P) for c in range(P)]
    found = measured(clock, "add", symmetricity_triples=4000)[0]
    assert found == pytest.approx(np.mean(every), abs=float(5 * np.std(every) / 4000**0.5))
    assert abs(found) < 0.4


def test_gradients_that_are_zero_have_no_angle():
    gradients = np.zeros((3, 2, 4))
    assert np.isnan(clock_pizza.gradient_symmetricity(gradients))
    gradients[0] = 1
    gradients[1, 0] = 1
    assert clock_pizza.gradient_symmetricity(gradients) == pytest.approx(1)


def logits_of(function, operation="add"):
    """(n², P) logits of right answers that are a function of the places of a, b in the cycle."""
    (run,) = make_runs(operation=[operation], prime=[P])
    structure, n = run.task.structure, run.task.n_elements
    logits = RNG.normal(size=(n * n, P))
    for i, a in enumerate(structure.elements):
        for j, b in enumerate(structure.second):
            logits[a * n + b, run.task.truth[a * n + b]] = function(i, j, len(structure.elements))
    return logits


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply"])
def test_distance_irrelevance_is_none_of_a_pizza_and_all_of_a_clock(operation):
    values = RNG.normal(size=P)
    by_difference = logits_of(lambda i, j, n: values[(i - j) % n], operation)
    by_sum = logits_of(lambda i, j, n: values[(i + j) % n], operation)
    assert measured(clock, operation, by_difference)[1] < 1e-6
    # Of an even number, a sum is even or odd with the difference: it varies less within one.
    even = operation == "multiply"
    halves = np.mean([values[:12][first::2].std() for first in (0, 1)]) / values[:12].std()
    assert measured(clock, operation, by_sum)[1] == pytest.approx(halves if even else 1)


def test_permuted_labels_do_not_change_which_answer_is_right():
    own = view(clock, "add", logits_of(lambda i, j, n: np.cos(i * j + j)))
    before = clock_pizza.measure([own], Options())["clock_pizza"]
    own.labels = own.labels.copy()
    some = np.random.default_rng(0).permutation(P * P)[: P * P // 3]
    own.labels[some] = np.roll(own.labels[some], 1)
    assert clock_pizza.measure([own], Options())["clock_pizza"] == before


def test_what_is_no_sum_in_a_cycle_has_neither():
    for operation in ("s3", "s3_conjugate"):
        assert np.isnan(measured(clock, operation)).all()
    assert np.isnan(clock_pizza.distance_irrelevance(np.ones((4, 4))))
    assert np.isnan(clock_pizza.distance_irrelevance(np.full((4, 4), np.nan)))
    with pytest.raises(ValueError, match=r"right must have shape \(n, n\)"):
        clock_pizza.distance_irrelevance(np.ones(4))
