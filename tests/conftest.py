"""Problems that several test files share; each fixture is immutable, so that tests do not depend on
their order."""

import os
import shutil
import tempfile

import jax
import pytest

from inference import SGLD, sample
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config):
    """One compilation cache for this run, shared by its worker processes and by the commands that
    tests start."""
    # Worker processes share the cores already: BLAS threads of their own would only wait for each
    # other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if _CACHE not in os.environ:
        config._own_cache = os.environ[_CACHE] = tempfile.mkdtemp(prefix="mfzoo-tests-")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
        # JAX has read its environment already, when this file imported it.
        jax.config.update("jax_compilation_cache_dir", config._own_cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_unconfigure(config):
    if hasattr(config, "_own_cache"):
        shutil.rmtree(config._own_cache, ignore_errors=True)


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
