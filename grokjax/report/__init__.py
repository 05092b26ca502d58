"""The report of a work directory: figures, tables by setting, one page."""
