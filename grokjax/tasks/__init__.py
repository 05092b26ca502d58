"""Tasks: what a network learns. One family a module, found by name through its ``PARTS``."""
