"""Networks. One architecture a module in ``architectures``, found by name through its ``PARTS``."""
