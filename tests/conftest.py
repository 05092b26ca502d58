"""Settings of every test: no silent rank promotion."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def _strict_jax():
    jax.config.update("jax_numpy_rank_promotion", "raise")
