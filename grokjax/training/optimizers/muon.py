"""Muon on matrices between hidden layers, AdamW on the rest."""

import dataclasses
from typing import Any

from grokjax.settings.fields import BELOW_1, Part, field, lazy
from grokjax.training.optimizers.adam import Moments

optax, optax_contrib = lazy("optax"), lazy("optax.contrib")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(Moments):
    """Updates of orthogonalised momentum for hidden matrices, AdamW for everything else.

    That of Jordan et al. 2024, as Optax has it. Embeddings and read-out are AdamW's, as its authors
    advise; their padding would also change what orthogonalising them gives.
    """

    momentum: float = field(0.95, help="of sgd and muon: decay of the sum of gradients", **BELOW_1)

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """See ``Optimizer``."""
        rate, decay = self.rate(n_steps), self.weight_decay
        # Optax's own choice for the rest is AdamW with Nesterov momentum.
        muon = optax_contrib.muon(rate, beta=self.momentum, eps=self.epsilon, weight_decay=decay)
        adamw = optax.adamw(rate, **self.moments, weight_decay=decay)
        return self.chain(optax.partition({True: muon, False: adamw}, hidden))


PARTS: dict[str, type[Part]] = {"muon": Muon}
