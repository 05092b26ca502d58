"""Optimisers by hand and against Optax, over enough steps that every constant shows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grokjax.settings import registry
from grokjax.settings.fields import fields_of
from tests.training import by_hand

pytestmark = pytest.mark.device

N_STEPS = 60
SHAPES = {"embed": (7, 4), "hidden": (6, 5), "wide": (3, 8), "bias": (5,)}
HIDDEN = {"embed": False, "hidden": True, "wide": True, "bias": False}


def part(name, **values):
    return registry.find("optimizer", name)(name=name, **values)


@functools.cache
def problem():
    """Initial parameters, and a function of parameters and step whose gradients vary in size."""
    source = np.random.default_rng(0)
    params = {name: source.normal(size=shape) for name, shape in SHAPES.items()}
    # Gradients of very different sizes, some as small as ε, that fall over the steps.
    sizes = {name: 10 ** source.uniform(-7, 0, shape) for name, shape in SHAPES.items()}
    noise = {name: source.normal(size=(N_STEPS, *shape)) for name, shape in SHAPES.items()}

    def gradient(t, own):
        return {
            name: (sizes[name] * (own[name] + noise[name][t]) * 0.9**t).astype(np.float32)
            for name in own
        }

    return {name: leaf.astype(np.float32) for name, leaf in params.items()}, gradient


@functools.cache
def ours(optimizer, n_steps=N_STEPS, horizon=N_STEPS):
    """Parameters after every step of the part."""
    params, gradient = problem()
    transformation = optimizer.transformation(horizon if optimizer.horizon else 0, HIDDEN)
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    found = []
    for t in range(n_steps):
        updates, state = update(gradient(t, params), state, params)
        params = jax.tree.map(lambda p, u: np.asarray(p + u), params, updates)
        found.append(params)
    return found


def theirs(optimizer, n_steps=N_STEPS):
    """The same of an optimiser by hand, in float64."""
    params, gradient = problem()
    found = []
    for t in range(n_steps):
        params = optimizer.update(params, gradient(t, params))
        found.append(params)
    return found


def distance(ours, theirs):
    """The largest gap over all steps, against how far an array went in all."""
    start, _ = problem()
    gaps = []
    for name in SHAPES:
        way = np.abs(theirs[-1][name] - start[name]).max()
        gaps += [np.abs(a[name] - b[name]).max() / way for a, b in zip(ours, theirs, strict=True)]
    return max(gaps)


CASES = {
    "the study's": ("adamw", {}),
    "adam at its defaults": ("adam", {}),
    "sgd at its defaults": ("sgd", {}),
    "adamw": ("adamw", {"beta1": 0.8, "beta2": 0.999, "epsilon": 1e-4, "weight_decay": 1.0,
                        "warmup_steps": 0}),
    "adam": ("adam", {"weight_decay": 0.01, "learning_rate": 0.01}),
    "sgd": ("sgd", {"learning_rate": 0.5, "weight_decay": 0.03, "warmup_steps": 3}),
    "sgd without momentum": ("sgd", {"momentum": 0.0, "weight_decay": 0.0, "warmup_steps": 0}),
    "linear": ("adamw", {"schedule": "linear"}),
    "cosine": ("sgd", {"schedule": "cosine", "warmup_steps": 0, "learning_rate": 0.2}),
    "orthogonal": ("adam", {"orthogonal_gradient": True, "weight_decay": 0.0}),
    "orthogonal sgd": ("sgd", {"orthogonal_gradient": True, "schedule": "linear"}),
}  # fmt: skip
TOLERANCE = 1e-4


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_those_by_hand_at_every_step(case):
    name, values = CASES[case]
    expected = theirs(by_hand.Optimizer(name, N_STEPS, **values))
    assert distance(ours(part(name, **values)), expected) < TOLERANCE


# With L2 regularisation of any size, few of Adam's gradients are small enough for ε to show.
BASE = {"adamw": {}, "adam": {"weight_decay": 1e-6}, "sgd": {}}
# Constant → a value near it, from which the steps above must tell it.
NEAR = {
    "beta1": 0.89, "beta2": 0.99, "epsilon": 1.1e-6, "momentum": 0.91, "learning_rate": 0.00303,
    "warmup_steps": 11, "schedule": "linear", "orthogonal_gradient": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "constant"),
    [(name, own) for name in BASE for own in fields_of(registry.find("optimizer", name))],
)
def test_every_constant_shows(name, constant):
    usual = by_hand.USUAL | BASE[name]
    changed = BASE[name] | {
        constant: (NEAR | {"weight_decay": 1.1 * usual["weight_decay"]})[constant]
    }
    near = theirs(by_hand.Optimizer(name, N_STEPS, **changed))
    assert distance(ours(part(name, **BASE[name])), near) > 10 * TOLERANCE
    assert distance(ours(part(name, **changed)), near) < TOLERANCE


# --------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_learning_rate_of_every_step(schedule, warmup):
    own = part("sgd", learning_rate=0.5, warmup_steps=warmup, schedule=schedule)
    assert own.horizon == (schedule != "constant")
    rate = own.rate(40 if own.horizon else 0)
    found = [float(rate(jnp.int32(t))) if callable(rate) else rate for t in range(40)]
    expected = [by_hand.rate(t + 1, 40, 0.5, warmup, schedule) for t in range(40)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert max(found) == 0.5
    if own.horizon:
        assert 0 < found[-1] < 0.02
        assert float(rate(40)) == pytest.approx(0, abs=1e-7)  # where the training has ended
    else:
        assert found[-1] == 0.5


def test_a_warm_up_longer_than_the_training_never_gets_there():
    rate = part("sgd", learning_rate=1.0, warmup_steps=100, schedule="cosine").rate(40)
    assert [float(rate(jnp.int32(t))) for t in (0, 39)] == pytest.approx([0.01, 0.4])


# --------------------------------------------------------------------------- Muon


def test_muon_is_optaxs_on_hidden_matrices_and_adamw_on_the_rest():
    values = {"learning_rate": 0.02, "weight_decay": 0.3, "warmup_steps": 0, "momentum": 0.9,
              "beta1": 0.85, "beta2": 0.97, "epsilon": 1e-5}  # fmt: skip
    found = ours(part("muon", **values))
    params, gradient = problem()
    muon = optax.contrib.muon(0.02, beta=0.9, eps=1e-5, weight_decay=0.3)
    adamw = by_hand.Optimizer("adamw", **values)
    matrices = {name for name, hidden in HIDDEN.items() if hidden}

    def only(tree, names):
        return {name: leaf for name, leaf in tree.items() if name in names}

    state = muon.init(only(params, matrices))
    update = jax.jit(muon.update)
    for t in range(N_STEPS):
        slope = gradient(t, params)
        own = only(params, matrices)
        updates, state = update(only(slope, matrices), state, own)
        rest = params.keys() - matrices
        params = {name: np.asarray(own[name] + updates[name]) for name in own} | adamw.update(
            only(params, rest), only(slope, rest)
        )
        for name in params:
            np.testing.assert_allclose(found[t][name], params[name], rtol=2e-4, atol=2e-5)


def test_muon_takes_steps_whose_singular_values_are_near_one():
    source = np.random.default_rng(1)
    params = {name: source.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    own = part("muon", learning_rate=1.0, weight_decay=0.0, warmup_steps=0)
    transformation = own.transformation(0, HIDDEN)
    updates, _ = transformation.update(params, transformation.init(params), params)
    for name, scale in (("hidden", 1.0), ("wide", (8 / 3) ** 0.5)):
        singular = np.linalg.svd(updates[name])[1] / scale
        assert 0.5 < singular.min() <= singular.max() < 1.25
        assert (updates[name] * params[name]).sum() < 0
    # AdamW's first step is the sign of the gradient.
    np.testing.assert_allclose(updates["embed"], -np.sign(params["embed"]), rtol=1e-3)


@pytest.mark.parametrize(
    "constant",
    ["beta1", "beta2", "epsilon", "momentum", "weight_decay", "learning_rate", "warmup_steps"],
)
def test_every_constant_of_muon_shows(constant):
    near = part("muon", **{constant: (NEAR | {"weight_decay": 0.11})[constant]})
    assert distance(ours(near), ours(part("muon"))) > 10 * TOLERANCE


# --------------------------------------------------------------------------- ⊥Grad


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "muon"])
def test_what_an_optimizer_is_given_is_orthogonal_to_the_weights_and_as_long(name):
    """Read off plain gradient descent, and off the difference that it makes to each optimiser."""
    params, gradient = problem()
    slope = gradient(0, params)
    plain = part("sgd", momentum=0.0, weight_decay=0.0, learning_rate=1.0, warmup_steps=0,
                 orthogonal_gradient=True)  # fmt: skip
    transformation = plain.transformation(0, HIDDEN)
    updates, _ = transformation.update(slope, transformation.init(params), params)
    given = {leaf: -np.asarray(update, np.float64) for leaf, update in updates.items()}
    for leaf, weight in params.items():
        lengths = np.linalg.norm(given[leaf]), np.linalg.norm(slope[leaf])
        assert abs((given[leaf] * weight).sum()) < 1e-5 * lengths[0] * np.linalg.norm(weight)
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-5)
        assert (given[leaf] * slope[leaf]).sum() > 0
    values = {"warmup_steps": 0, "learning_rate": 0.1}
    projected = part(name, orthogonal_gradient=True, **values).transformation(0, HIDDEN)
    bare = part(name, **values).transformation(0, HIDDEN)
    one, _ = projected.update(slope, projected.init(params), params)
    other, _ = bare.update(jax.tree.map(jnp.float32, given), bare.init(params), params)
    for leaf in params:
        np.testing.assert_allclose(one[leaf], other[leaf], rtol=1e-3, atol=1e-6)


def test_orthogonal_gradients_of_nothing_are_nothing():
    transformation = part("sgd", orthogonal_gradient=True).transformation(0, HIDDEN)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    ones = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
    for gradients, params in [(zeros, ones), (ones, zeros), (zeros, zeros), (ones, ones)]:
        updates, _ = transformation.update(gradients, transformation.init(params), params)
        assert all(np.isfinite(leaf).all() for leaf in updates.values())
