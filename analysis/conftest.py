"""What the examples of this package take as given: ``tree``, a short run on a small problem."""

import jax
import pytest

from inference import SGLD, sample
from models import SparseParity, TwoLayerNetwork


@pytest.fixture(scope="session", autouse=True)
def example(doctest_namespace):
    """Name the run ``tree`` in every example."""
    network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40, num_test=50)
    kernel = SGLD(step_size=1e-3)
    tree = sample(network, data, kernel, jax.random.key(1), num_warmup=10, num_samples=20)
    doctest_namespace["tree"] = tree
