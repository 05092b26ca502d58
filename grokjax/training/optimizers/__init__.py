"""Optimisers: parts that give an Optax transformation of gradients to updates.

An optimiser has ``transformation(n_steps, hidden)``, which gives that of a training of ``n_steps``.
``hidden`` is a tree of booleans: which parameters are matrices between hidden layers. It also has
``horizon``: whether what it does depends on how many steps there will be; where it does not,
``n_steps`` is 0. Its settings may be traced.
"""
