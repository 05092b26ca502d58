"""Optimisers. What one has to offer is ``grokjax.training.optimizers.shared.Optimizer``."""
