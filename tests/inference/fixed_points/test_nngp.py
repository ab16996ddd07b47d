"""NNGP on populations: learning curves against simulated regression, eigenvalues against sums over
inputs."""

import math

import jax
import numpy as np
import pytest

from inference.fixed_points import NNGP
from inference.fixed_points.regression.covariances import nngp_kernel
from models import SparseParity, TwoLayerNetwork


@pytest.mark.parametrize("num_data", [100, 600])
def test_learning_curve_against_simulated_regression(num_data):
    network, teacher = TwoLayerNetwork(input_dim=10, width=64, kappa=0.04), SparseParity(10, 2)
    theory = NNGP().solve(network, teacher, num_data=num_data)
    simulated = []
    for seed in range(24):
        point = NNGP().solve(network, teacher.sample(jax.random.key(seed), num_data, 1000))
        simulated.append([point.order_parameter, point.test_mse, point.test_mse_mean])
    mean, error = np.mean(simulated, axis=0), np.std(simulated, axis=0, ddof=1) / math.sqrt(24)
    expected = np.array([theory.order_parameter, theory.test_mse, theory.test_mse_mean])
    # The effective ridge is an expansion in 1/P, and Gaussians stand for ±1 inputs outside S: 10 %
    # here.
    assert np.all(np.abs(mean - expected) < 4 * error + (2 / num_data + 0.1) * expected)


def test_population_is_the_limit_of_many_points():
    network, teacher = TwoLayerNetwork(input_dim=12, width=64, kappa=0.05), SparseParity(12, 2)
    limit = NNGP().solve(network, teacher)
    many = NNGP().solve(network, teacher, num_data=10**8)
    assert many.order_parameter == pytest.approx(limit.order_parameter, rel=1e-5)
    assert many.test_mse == pytest.approx(limit.test_mse, rel=1e-5)
    few = NNGP().solve(network, teacher, num_data=10)
    assert few.order_parameter < limit.order_parameter
    assert few.residual < 1e-9
    # All of the kernel's trace is accounted for: with nothing learned, the test error is 1 + σ_a²
    # σ_w²/2.
    noisy = NNGP().solve(TwoLayerNetwork(12, 64, 1e3), teacher)
    assert noisy.test_mse == pytest.approx(1.5, rel=1e-4)


@pytest.mark.parametrize(("degree", "tolerance"), [(2, 0.12), (4, 0.4)])
def test_gaussian_replacement_is_close_to_binary_inputs(degree, tolerance):
    # The eigenvalue of χ_S on ±1 inputs is a mean over all of them; the replacement overestimates
    # it.
    network, kappa = TwoLayerNetwork(input_dim=14, width=64, kappa=0.1), 0.1
    x = 1.0 - 2.0 * ((np.arange(2**14)[:, None] >> np.arange(14)) & 1)
    value = float(np.mean(nngp_kernel(network, np.ones((1, 14)), x)[0] * x[:, :degree].prod(axis=1)))
    exact = value / (value + kappa**2)
    m = NNGP().solve(network, SparseParity(14, degree)).order_parameter
    assert exact < m < (1 + tolerance) * exact


def test_every_start_and_key_gives_the_same():
    network, teacher = TwoLayerNetwork(input_dim=8, width=16, kappa=0.1), SparseParity(8, 2)
    first = NNGP().solve(network, teacher)
    second = NNGP().solve(network, teacher, start="aligned", key=jax.random.key(3))
    assert first.order_parameter == second.order_parameter
    assert second.start == "aligned"
