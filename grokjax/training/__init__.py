"""Training: one run's step, mapped over the runs of a batch, from checkpoint to checkpoint."""
