"""Settings: fields of parts, the grid they span, runs and their names. None of it needs JAX."""
