"""Cross-entropies: under softmax, in float32 or float64, and under StableMax."""

import dataclasses
from typing import Any, ClassVar

from grokjax.settings.fields import Part, field, lazy

jax, jnp = lazy("jax"), lazy("jax.numpy")
float64 = lazy("grokjax.training.float64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(Part):
    """Cross-entropy of the labels under the softmax of the logits."""

    column: ClassVar[str] = "loss"

    loss_precision: str = field(
        "float32",
        help="precision of the cross-entropy, from the logits on",
        choices=("float32", "float64"),
        needed=True,
    )

    def per_example(self, logits: Any, label: Any, real: Any) -> Any:
        """(B,) cross-entropies."""
        logits = jnp.where(real[None], logits, jnp.finfo(logits.dtype).min)
        if self.loss_precision == "float64":
            return float64.cross_entropy(logits, label)
        return jax.nn.logsumexp(logits, axis=-1) - _picked(logits, label)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableMax(Part):
    """Cross-entropy under StableMax in place of softmax.

    That of Prieto et al. 2025 (arXiv 2501.04697), section 4.1: for the exponential stands
    s(x) = x + 1 for x ≥ 0 and 1 / (1 − x) below. It grows linearly, so a network that is sure of
    its answers still has a gradient.
    """

    column: ClassVar[str] = "loss"

    def per_example(self, logits: Any, label: Any, real: Any) -> Any:
        """(B,) −log of the label's share of the sum of s(logits)."""
        # Where the other branch is taken, its argument is kept off the pole.
        low = 1 / (1 - jnp.minimum(logits, 0))
        size = jnp.where(logits >= 0, logits + 1, low)
        size = jnp.where(real[None], size, 0)
        return jnp.log(size.sum(-1)) - jnp.log(_picked(size, label))


def _picked(values: Any, label: Any) -> Any:
    """(B,) each label's of (B, Q) values, picked by a mask.

    A look-up's gradient would be a scatter, which accelerators do badly; both agree to the bit.
    """
    chosen = jnp.arange(values.shape[-1])[None] == label[:, None]
    return jnp.where(chosen, values, 0).sum(-1)


PARTS: dict[str, type[Part]] = {"cross_entropy": CrossEntropy, "stablemax": StableMax}
DEFAULT = "cross_entropy"
