"""Gradient descent with momentum."""

import dataclasses
from typing import Any

from grokjax.settings.fields import BELOW_1, Part, field, lazy
from grokjax.training.optimizers.shared import Scheduled

optax = lazy("optax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Scheduled):
    """Gradient descent with momentum; weight decay is L2 regularisation, in the gradient."""

    momentum: float = field(0.9, help="of sgd and muon: decay of the sum of gradients", **BELOW_1)

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See ``Optimizer``."""
        return self.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.sgd(self.rate(n_steps), momentum=self.momentum),
        )


PARTS: dict[str, type[Part]] = {"sgd": SGD}
