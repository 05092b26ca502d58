"""Adam, with decoupled weight decay (the study's optimiser) or with L2 regularisation."""

import dataclasses
from typing import Any

from grokjax.settings.fields import BELOW_1, Part, field, lazy
from grokjax.training.optimizers.shared import Scheduled

optax = lazy("optax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments(Scheduled):
    """The moments of Adam's kin, with the study's values."""

    beta1: float = field(0.9, help="decay of the mean of gradients", **BELOW_1)
    beta2: float = field(0.98, help="decay of the mean of squared gradients", **BELOW_1)
    epsilon: float = field(
        1e-6, help="added to the root of the mean square", allowed="a finite number above 0",
        accepts=lambda v: 0 < v < 1e30,
    )  # fmt: skip

    @property
    def moments(self) -> dict[str, Any]:
        """Optax's names of them."""
        return {"b1": self.beta1, "b2": self.beta2, "eps": self.epsilon}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Moments):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101)."""

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See ``Optimizer``."""
        rate, decay = self.rate(n_steps), self.weight_decay
        return self.chain(optax.adamw(rate, **self.moments, weight_decay=decay))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Moments):
    """Adam (Kingma and Ba, arXiv 1412.6980); weight decay is L2 regularisation, in the gradient."""

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See ``Optimizer``."""
        return self.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.adam(self.rate(n_steps), **self.moments),
        )


PARTS: dict[str, type[Part]] = {"adamw": AdamW, "adam": Adam}
DEFAULT = "adamw"
