"""Optimisers: parts with ``horizon`` and ``transformation(n_steps, hidden)``.

The first says whether what they do depends on how many steps there will be. The second gives the
Optax transformation of gradients to updates; settings may be traced. ``n_steps`` are those of the
whole training, 0 where there is no horizon; ``hidden`` is a tree of booleans, which parameters are
matrices between hidden layers.
"""
