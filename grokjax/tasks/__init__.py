"""Tasks: what a network learns. One family a module, found by name through its ``PARTS``."""

from typing import Any, Protocol


class Task(Protocol):
    """What a task has to offer; ``task.PairTask`` has most of it for tasks of pairs."""

    name: str
    examples: str  # what an example is: ``pairs`` (of elements), or ``features``
    n_elements: int  # that have a row in the embedding; 0 for features
    n_outputs: int  # labels are below this
    n_places: int  # of examples; of pairs n_elements²
    n_examples: int  # places that are examples
    n_train: int  # those that train
    truth: Any  # (n_places,) int32 labels, −1 where a place is no example
    structure: Any  # of the elements, a ``task.Structure``; None where there is none

    def train_places(self, random: Any) -> Any:
        """(n_train,) places of the training examples, ascending, drawn from a NumPy generator."""
