"""Stochastic gradient descent with momentum."""

import dataclasses
from typing import Any

from grokjax.settings.fields import Part, field
from grokjax.settings.lazy import lazy
from grokjax.training.optimizers.shared import Scheduled

optax = lazy("optax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Scheduled):
    """Gradient descent with momentum; weight decay is L2 regularisation, in the gradient."""

    momentum: float = field(
        0.9, help="of sgd and muon: decay of the sum of gradients",
        allowed="a number from 0, below 1", accepts=lambda v: 0 <= v < 1,
    )  # fmt: skip

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See ``shared.Optimizer``."""
        return self.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.sgd(self.rate(n_steps), momentum=self.momentum),
        )


PARTS: dict[str, type[Part]] = {"sgd": SGD}
