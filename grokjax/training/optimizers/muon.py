"""Muon (Jordan et al. 2024), Optax's, on matrices between hidden layers; AdamW on the rest.

Embeddings and read-out are AdamW's, as its authors advise. Their padding would also change what
orthogonalising them gives.
"""

import dataclasses
from typing import Any

from grokjax.settings.fields import BELOW_1, Part, field
from grokjax.settings.lazy import lazy
from grokjax.training.optimizers.adam import Moments

optax, optax_contrib = lazy("optax"), lazy("optax.contrib")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(Moments):
    """Updates of orthogonalised momentum for hidden matrices, AdamW for everything else."""

    momentum: float = field(0.95, help="of sgd and muon: decay of the sum of gradients", **BELOW_1)

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See the package."""
        rate, decay = self.rate(n_steps), self.weight_decay
        on_hidden = optax_contrib.muon(
            rate, beta=self.momentum, eps=self.epsilon, weight_decay=decay
        )
        # Optax's own choice for the rest is AdamW with Nesterov momentum.
        on_the_rest = optax.adamw(rate, **self.moments, weight_decay=decay)
        return self.chain(optax.partition({True: on_hidden, False: on_the_rest}, hidden))


PARTS: dict[str, type[Part]] = {"muon": Muon}
