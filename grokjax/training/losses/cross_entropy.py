"""Cross-entropy, from the logits on in float32 or float64."""

import dataclasses
from typing import Any, ClassVar

from grokjax.settings.fields import Part, field
from grokjax.settings.lazy import lazy

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
    )

    def per_example(self, logits: Any, label: Any, real: Any) -> Any:
        """(B,) cross-entropies.

        The label's logit is picked by a mask: a look-up's gradient would be a scatter, which
        accelerators do badly. Sum and look-up agree to the bit.
        """
        logits = jnp.where(real[None], logits, jnp.finfo(logits.dtype).min)
        if self.loss_precision == "float64":
            return float64.cross_entropy(logits, label)
        chosen = jnp.arange(logits.shape[-1])[None] == label[:, None]
        picked = jnp.where(chosen, logits, 0).sum(-1)
        return jax.nn.logsumexp(logits, axis=-1) - picked


PARTS: dict[str, type[Part]] = {"cross_entropy": CrossEntropy}
DEFAULT = "cross_entropy"
