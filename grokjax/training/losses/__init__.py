"""Losses: parts whose ``per_example`` makes (B,) of (B, Q) logits, labels, and what is real."""
