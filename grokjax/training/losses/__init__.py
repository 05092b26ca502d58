"""Losses: parts that give each example a number."""

from typing import Any, Protocol


class Loss(Protocol):
    """What a loss has to offer; its settings may be traced."""

    name: str

    def per_example(self, logits: Any, label: Any, real: Any) -> Any:
        """(B,) losses of (B, Q) logits, (B,) labels, and (Q,) which outputs are no padding."""
