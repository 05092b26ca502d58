"""Settings of every test: no silent rank promotion; how many kills and inputs the long ones take."""

import jax
import pytest


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=6, help="kills of each signal in test_kills.py")
    parser.addoption("--fuzz", type=int, default=500, help="inputs a reader in test_fuzzing.py")


@pytest.fixture(autouse=True, scope="session")
def _strict_jax():
    jax.config.update("jax_numpy_rank_promotion", "raise")
