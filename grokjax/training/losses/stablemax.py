"""StableMax cross-entropy, of Prieto et al. 2025 (arXiv 2501.04697), section 4.1.

Softmax with another function in place of the exponential, s(x) = x + 1 for x ≥ 0 and 1 / (1 − x)
below: it grows linearly, so a network that is sure of its answers still has a gradient.
"""

import dataclasses
from typing import Any, ClassVar

from grokjax.settings.fields import Part
from grokjax.settings.lazy import lazy

jnp = lazy("jax.numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableMax(Part):
    """Cross-entropy under StableMax in place of softmax."""

    column: ClassVar[str] = "loss"

    def per_example(self, logits: Any, label: Any, real: Any) -> Any:
        """(B,) −log of the label's share of the sum of s(logits)."""
        # Where the other branch is taken, its argument is kept off the pole.
        low = 1 / (1 - jnp.minimum(logits, 0))
        size = jnp.where(logits >= 0, logits + 1, low)
        size = jnp.where(real[None], size, 0)
        chosen = jnp.arange(logits.shape[-1])[None] == label[:, None]
        own = jnp.where(chosen, size, 0).sum(-1)
        return jnp.log(size.sum(-1)) - jnp.log(own)


PARTS: dict[str, type[Part]] = {"stablemax": StableMax}
