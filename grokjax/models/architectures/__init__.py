"""Architectures; what one has to offer is ``grokjax.models.network.Architecture``."""
