"""Squared error of raw outputs against one-hot labels."""

import dataclasses
from typing import Any, ClassVar

from grokjax.settings.fields import Part, lazy

jax, jnp = lazy("jax"), lazy("jax.numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquaredError(Part):
    """Squared error, mean over a run's own outputs; that of Omnigrok and Gromov."""

    column: ClassVar[str] = "loss"

    def per_example(self, logits: Any, label: Any, real: Any) -> Any:
        """(B,) mean squared differences to the one-hot labels."""
        target = jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
        squares = jnp.where(real[None], (logits - target) ** 2, 0)
        return squares.sum(-1) / real.sum()


PARTS: dict[str, type[Part]] = {"squared_error": SquaredError}
