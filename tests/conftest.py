"""Settings of every test: no silent rank promotion, no compilation cache; lengths of long ones."""

import os

# Before JAX is imported, and for the processes that tests start.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax
import pytest


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=6, help="kills of each signal in test_kills.py")
    parser.addoption("--fuzz", type=int, default=500, help="inputs a reader in test_fuzzing.py")


@pytest.fixture(autouse=True, scope="session")
def _strict_jax():
    jax.config.update("jax_numpy_rank_promotion", "raise")
