"""Losses: parts that give each example a number.

A loss has ``per_example(logits, label, real)``, which gives (B,) losses of (B, Q) logits, (B,)
labels, and (Q,) which outputs are no padding. Its settings may be traced.
"""
