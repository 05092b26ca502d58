"""Losses: parts with ``per_example(logits, label, real)``.

It is given (B, Q) logits, (B,) labels and (Q,) which outputs are no padding, and returns (B,)
float32.
"""
