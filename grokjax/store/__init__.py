"""The work directory: checkpoints, tables, the record of what was asked for, and who may write."""
