"""Optimisers in NumPy's float64, as their papers have them."""

import math

import numpy as np

# What the study's have where a test does not say.
USUAL = {
    "learning_rate": 0.003, "weight_decay": 0.1, "warmup_steps": 10, "schedule": "constant",
    "orthogonal_gradient": False, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-6, "momentum": 0.9,
}  # fmt: skip


def rate(step, n_steps, learning_rate, warmup_steps, schedule):
    """The learning rate of a step, the first of which is 1, of ``n_steps``."""
    if step <= warmup_steps:
        return learning_rate * step / warmup_steps
    if schedule == "constant":
        return learning_rate
    done = (step - 1 - warmup_steps) / (n_steps - warmup_steps)
    falls = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return learning_rate * falls[schedule]


def orthogonal(gradient, weight):
    """⊥Grad: without the part along the weight, as long as it was."""
    square = (weight * weight).sum()
    rest = gradient - ((weight * gradient).sum() / square * weight if square else 0)
    return rest * np.sqrt((gradient**2).sum() / (rest**2).sum())


class Optimizer:
    """Adam (adam, adamw) or momentum (sgd) of a dictionary of arrays."""

    def __init__(self, name, n_steps=0, **values):
        self.name, self.n_steps, self.values = name, n_steps, USUAL | values
        self.t, self.first, self.second = 0, {}, {}

    def update(self, params, gradients):
        """Parameters after one more step."""
        self.t += 1
        keys = ("learning_rate", "warmup_steps", "schedule")
        now = rate(self.t, self.n_steps, **{key: self.values[key] for key in keys})
        return {
            name: weight - now * self._direction(name, weight, gradients[name].astype(float))
            for name, weight in params.items()
        }

    def _direction(self, name, weight, gradient):
        value = self.values
        if value["orthogonal_gradient"]:
            gradient = orthogonal(gradient, weight)
        if self.name != "adamw":
            gradient = gradient + value["weight_decay"] * weight
        if self.name == "sgd":
            self.first[name] = value["momentum"] * self.first.get(name, 0) + gradient
            return self.first[name]
        beta1, beta2 = value["beta1"], value["beta2"]
        self.first[name] = beta1 * self.first.get(name, 0) + (1 - beta1) * gradient
        self.second[name] = beta2 * self.second.get(name, 0) + (1 - beta2) * gradient**2
        mean = self.first[name] / (1 - beta1**self.t)
        square = self.second[name] / (1 - beta2**self.t)
        step = mean / (np.sqrt(square) + value["epsilon"])
        return step + value["weight_decay"] * weight if self.name == "adamw" else step
