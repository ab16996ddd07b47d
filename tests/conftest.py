"""Problems that several test files share; each fixture is immutable, so that tests do not depend on
their order."""

import os
import tempfile
import time
from pathlib import Path

import jax
import pytest

from inference import SGLD, sample
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

_CACHE = "JAX_COMPILATION_CACHE_DIR"
_MONTH = 30 * 24 * 3600


def pytest_configure(config):
    """Fast compilation, kept in one cache from run to run, for this process, its workers and the
    commands that tests start."""
    # Worker processes share the cores already: BLAS threads of their own would only wait for each
    # other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Tests compile many small programs and run each of them once: to compile without optimising
    # takes half of the time. XLA reads this at the first compilation.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if _CACHE not in os.environ:
        cache = getattr(config, "cache", None)  # .pytest_cache, which pytest --cache-clear empties
        folder = cache.mkdir("jax") if cache else Path(tempfile.mkdtemp(prefix="mfzoo-tests-"))
        for path in folder.iterdir():
            if path.stat().st_mtime < time.time() - _MONTH:
                path.unlink(missing_ok=True)
        os.environ[_CACHE] = str(folder)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        # JAX has read its environment already, when this file imported it.
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="session")
def default_data():
    """Data of the default problem: parity, input_dim 16, degree 2, 300 training points."""
    data = SparseParity(16, 2).sample(jax.random.key(0), 300)
    for array in (data.x, data.y, data.x_test, data.y_test):
        array.flags.writeable = False
    return data


@pytest.fixture(scope="session")
def isotropic_network():
    """Network of the default problem with the isotropic prior, κ = 0.05."""
    return TwoLayerNetwork(input_dim=16, width=64, kappa=0.05, prior=Isotropic())


@pytest.fixture(scope="session")
def ard_network():
    """Network of the default problem with the ARD prior, κ = 0.05."""
    return TwoLayerNetwork(input_dim=16, width=64, kappa=0.05, prior=ARD())


@pytest.fixture(scope="session")
def small_data():
    """Parity, input_dim 5, degree 2, 30 training points, 20 test points."""
    return SparseParity(5, 2, relevant=(1, 3)).sample(jax.random.key(3), 30, 20)


@pytest.fixture(scope="session")
def small_network():
    """A network for the small data that samples in a blink."""
    return TwoLayerNetwork(input_dim=5, width=8, kappa=0.3)


@pytest.fixture(scope="session")
def small_tree(small_network, small_data):
    """A short SGLD run on the small problem."""
    kernel = SGLD(step_size=1e-3)
    return sample(small_network, small_data, kernel, jax.random.key(5), num_warmup=20, num_samples=50)
