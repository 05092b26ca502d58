"""Committed checkpoints → point clouds and arrays → rows of the diagnostics' tables."""
