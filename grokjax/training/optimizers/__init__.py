"""Optimisers: parts that give an Optax transformation of gradients to updates."""

from typing import Any, Protocol


class Optimizer(Protocol):
    """What an optimiser has to offer; its settings may be traced."""

    name: str
    horizon: bool  # whether what it does depends on how many steps there will be

    def transformation(self, n_steps: int, hidden: Any) -> Any:
        """The transformation, for a training of ``n_steps`` (0 where there is no horizon).

        ``hidden`` is a tree of booleans: which parameters are matrices between hidden layers.
        """
