"""Tasks: what a network learns. One family a module, found by name through its ``PARTS``.

Beside its settings, a task has (``task.PairTask`` has most of it for tasks of pairs):

- ``examples``: what an example is: ``pairs`` (of elements), or ``features``;
- ``n_elements``: those that have a row in the embedding; 0 for features;
- ``n_outputs``: labels are below this;
- ``n_places``, ``n_examples``, ``n_train``: places of examples (of pairs n_elements²), those that
  are examples, and those of them that train;
- ``truth``: (n_places,) int32 labels, −1 where a place is no example;
- ``structure``: of the elements, a ``task.Structure``; None where there is none;
- ``train_places(random)``: (n_train,) places of the training examples, ascending, drawn from a
  NumPy generator;
- ``features(name)``, if its examples are such: (n_places, width) numbers of all examples, and the
  number that scales them.
"""
