"""Settings of every test: no silent rank promotion, one compilation cache; lengths of long ones."""

import gc
import os
import shutil
import tempfile

# Before JAX is imported: tests, in this process and in those that they start, compile many small
# programs again and again. A cache of this session's own makes that once each, and leaving out
# LLVM's optimisations (not XLA's) and XLA's newer emitters of fused loops makes it quicker; set
# XLA_FLAGS to test with them, and GROKJAX_TESTS_CACHE to a folder that keeps the programs.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false",
)
# Sweeps write thousands of small files, each flushed to its disk: in memory, where there is room.
if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 4e9:
    os.environ.setdefault("TMPDIR", "/dev/shm")
# One device, whatever the machine; tests of many say how many.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ |= {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("GROKJAX_TESTS_CACHE")
        or tempfile.mkdtemp(prefix="grokjax-tests-"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

import hypothesis
import jax
import pytest

# Tests that run as a job of a scheduler are not a part of one.
SCHEDULERS = ("SLURM_", "SKYPILOT_", "OMPI_", "JOB_COMPLETION_INDEX", "GROKJAX_SHARDS")


# Tests assert no times.
hypothesis.settings.register_profile("grokjax", deadline=None)
hypothesis.settings.load_profile("grokjax")


def pytest_configure():
    tempfile.tempdir = None  # pytest has asked for it before TMPDIR was set
    for name in [name for name in os.environ if name.startswith(SCHEDULERS)]:
        del os.environ[name]


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=1, help="kills of each signal in test_kills.py")
    parser.addoption("--fuzz", type=int, default=500, help="inputs a reader in test_fuzzing.py")
    parser.addoption("--fuzz_seed", type=int, default=0, help="what they are drawn with")
    text = "power cuts in test_power_cuts.py, 0 for all that matter"
    parser.addoption("--cuts", type=int, default=2, help=text)
    text = "also the variants marked thorough, which take long and are nearly those that run"
    parser.addoption("--thorough", action="store_true", help=text)


# Minutes rather than seconds, longest first. They come first, so that no process is left alone with
# one of them at the end; see launch/test.sh for how files are dealt out.
LONGEST = (
    "batches",
    "check",
    "repair",
    "kills",
    "mixed_grid",
    "plugins",
    "workflow",
    "faults",
    "architectures",
    "version_0_1",
    "distributed",
    "lenses",
    "topology",
    "first_hour",
    "alone",
    "keeping",
    "bad_input",
    "page",
    "page_of_runs",
)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--thorough"):
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish():
    # Tracing makes many objects and few cycles: to look for them seldom spares 8 % of the time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def pytest_unconfigure():
    if not {"PYTEST_XDIST_WORKER", "GROKJAX_TESTS_CACHE"} & set(os.environ):
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def _strict_jax():
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def no_pages():
    """Sweeps end without their report, which takes longer to draw than small ones to train."""
    from grokjax.report import drawing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "write", lambda *_: "none")
        yield
