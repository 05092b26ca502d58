"""Adam, with decoupled weight decay (the study's optimiser) or with L2 regularisation."""

import dataclasses
from typing import Any

from grokjax.settings.fields import Part, field
from grokjax.settings.lazy import lazy
from grokjax.training.optimizers.shared import Scheduled

optax = lazy("optax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments(Scheduled):
    """The moments of Adam's kin, with the study's values."""

    beta1: float = field(
        0.9, help="decay of the mean of gradients", allowed="a number from 0, below 1",
        accepts=lambda v: 0 <= v < 1,
    )  # fmt: skip
    beta2: float = field(
        0.98, help="decay of the mean of squared gradients", allowed="a number from 0, below 1",
        accepts=lambda v: 0 <= v < 1,
    )  # fmt: skip
    epsilon: float = field(
        1e-6, help="added to the root of the mean square", allowed="a finite number above 0",
        accepts=lambda v: 0 < v < 1e30,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Moments):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101)."""

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See ``shared.Optimizer``."""
        return self.chain(
            optax.adamw(
                self.rate(n_steps),
                b1=self.beta1,
                b2=self.beta2,
                eps=self.epsilon,
                weight_decay=self.weight_decay,
            )
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Moments):
    """Adam (Kingma and Ba, arXiv 1412.6980); weight decay is L2 regularisation, in the gradient."""

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See ``shared.Optimizer``."""
        return self.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.adam(self.rate(n_steps), b1=self.beta1, b2=self.beta2, eps=self.epsilon),
        )


PARTS: dict[str, type[Part]] = {"adamw": AdamW, "adam": Adam}
DEFAULT = "adamw"
