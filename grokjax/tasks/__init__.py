"""Tasks: what a network learns. One family a module, found by name through its ``PARTS``.

What a task has to offer stands in ``task.PairTask``; one that is no task of pairs gives the same.
"""
