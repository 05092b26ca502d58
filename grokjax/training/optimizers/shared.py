"""What optimisers share: learning rate, warm-up, schedule, weight decay, ⊥Grad."""

import dataclasses
import math
from typing import Any, ClassVar

from grokjax.settings.fields import ABOVE_0, Part, field, lazy

jax, jnp, optax = lazy("jax"), lazy("jax.numpy"), lazy("optax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheduled(Part):
    """A learning rate after warm-up, weight decay, and what may come before any optimiser."""

    column: ClassVar[str] = "optimizer"

    weight_decay: float = field(
        0.1,
        help="weight decay, decoupled but in adam and sgd, where it is L2 regularisation",
        allowed="a finite number of at least 0",
        accepts=lambda v: 0 <= v < math.inf,
        traced=True,
        flag="weight_decays",
        symbol="wd",
        label="weight decay {}",
    )
    learning_rate: float = field(
        0.003,
        help="learning rate after warm-up",
        traced=True,
        flag="learning_rates",
        symbol="lr",
        label="lr {}",
        **ABOVE_0,
    )
    warmup_steps: int = field(
        10, help="steps in which the learning rate rises linearly", between=(0, 2**31 - 1)
    )
    schedule: str = field(
        "constant",
        help="of the learning rate after warm-up; the others fall to 0 by the end",
        choices=("constant", "linear", "cosine"),
        flag="schedules",
    )
    orthogonal_gradient: bool = field(
        False, help="whether the part of the gradient along the weights is taken out (⊥Grad)"
    )

    @property
    def horizon(self) -> bool:
        """Whether what it does depends on how many steps there will be."""
        return self.schedule != "constant"

    def rate(self, n_steps: int) -> Any:
        """The learning rate: a number, or a function of the number of steps made."""
        if self.schedule == "constant" and not self.warmup_steps:
            return self.learning_rate
        length = max(1, n_steps - self.warmup_steps)
        decays = {
            "linear": optax.linear_schedule(1.0, 0.0, length),
            "cosine": optax.cosine_decay_schedule(1.0, length),
        }

        def rate(count: Any) -> Any:
            value = self.learning_rate
            if self.warmup_steps:
                value = value * jnp.minimum(1.0, (count + 1) / self.warmup_steps)
            if self.schedule != "constant":
                value = value * decays[self.schedule](jnp.maximum(count - self.warmup_steps, 0))
            return value

        return rate

    def chain(self, *transformations: Any) -> Any:
        """Transformations one after the other, ⊥Grad before them if asked for."""
        first = [orthogonal_gradient()] if self.orthogonal_gradient else []
        every = [*first, *transformations]
        return every[0] if len(every) == 1 else optax.chain(*every)


def orthogonal_gradient() -> Any:
    """⊥Grad of Prieto et al. 2025 (arXiv 2501.04697): the gradient without its part along weights.

    Of each parameter array w with gradient g, g − (w·g / w·w) w, scaled to the length of g. Scaling
    weights up then no longer lowers the loss in the update's view.
    """

    def one(gradient: Any, weight: Any) -> Any:
        along = jnp.vdot(weight, gradient) / (jnp.vdot(weight, weight) + _TINY)
        rest = gradient - along * weight
        return rest * (jnp.linalg.norm(gradient) / (jnp.linalg.norm(rest) + _TINY))

    def update(gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
        return jax.tree.map(one, gradients, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


_TINY = 1e-30  # against 0 / 0 where weights or gradient vanish
