"""NNGP: kernels against Monte Carlo, regression against brute force, learning curves against simulation."""

import json
import math

import jax
import numpy as np
import pytest

from inference.fixed_points import NNGP
from inference.fixed_points.kernels import nngp_kernel, nngp_variance
from inference.fixed_points.nngp import hidden_activation
from inference.fixed_points.parity import parity_problem
from inference.fixed_points.spectrum import binary_spectrum, gaussian_spectrum
from models import Dataset, Isotropic, SparseParity, TwoLayerNetwork


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh", "identity"])
@pytest.mark.parametrize("bias", [False, True])
def test_kernel_is_the_prior_covariance(activation, bias):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 5))
    x[3] = 1.01 * x[2]  # nearly parallel inputs
    network = TwoLayerNetwork(
        input_dim=5, width=50, kappa=0.1, gamma=0.7, prior=Isotropic(1.4), readout_scale=0.8,
        activation=activation, bias=bias, bias_scale=0.6,
    )  # fmt: skip
    w = 1.4 / math.sqrt(5) * rng.standard_normal((500_000, 5))
    b = 0.6 * bias * rng.standard_normal((len(w), 1))
    hidden = hidden_activation(activation, w @ x.T + b)
    scale = 0.8**2 * 50 ** (1 - 1.4)
    kernel = nngp_kernel(network, x)
    np.testing.assert_allclose(np.diag(kernel), nngp_variance(network, x), rtol=1e-9)
    np.testing.assert_allclose(kernel[:2, 2:], nngp_kernel(network, x[:2], x[2:]))
    for i in range(4):
        for j in range(4):
            products = scale * hidden[:, i] * hidden[:, j]
            error = products.std(ddof=1) / math.sqrt(len(w))
            assert abs(products.mean() - kernel[i, j]) < 4.5 * error


def test_hidden_activation_is_the_network_s():
    for name in ("relu", "erf", "tanh", "identity"):
        network = TwoLayerNetwork(input_dim=1, width=1, kappa=1.0, activation=name)
        x = np.linspace(-2, 2, 9)
        expected = network.features({"w": np.ones((1, 1))}, x[:, None])[0]
        np.testing.assert_allclose(hidden_activation(name, x), expected, atol=1e-6)


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(1)
    x, x_test = rng.normal(size=(25, 3)), rng.normal(size=(40, 3))
    data = Dataset(x, np.sin(x[:, 0]) + x[:, 1], x_test, np.sin(x_test[:, 0]) + x_test[:, 1])
    network = TwoLayerNetwork(input_dim=3, width=30, kappa=0.07)
    return network, data, NNGP().solve(network, data)


def test_regression_against_plain_linear_algebra(regression):
    network, data, point = regression
    kernel, cross = nngp_kernel(network, data.x), nngp_kernel(network, data.x, data.x_test)
    inverse = np.linalg.inv(kernel + network.kappa**2 * 25 * np.eye(25))
    np.testing.assert_allclose(point.predictions, cross.T @ inverse @ data.y, atol=1e-10)
    full = nngp_kernel(network, data.x_test)
    np.testing.assert_allclose(
        point.predictive_variance, np.diag(full - cross.T @ inverse @ cross), atol=1e-10
    )
    assert point.test_mse_mean == pytest.approx(np.mean((point.predictions - data.y_test) ** 2))
    assert point.test_mse == pytest.approx(point.test_mse_mean + point.predictive_variance.mean())
    expected = np.mean(point.predictions * data.y_test) / np.mean(data.y_test**2)
    assert abs(point.order_parameter - expected) < 1e-12
    assert point.precisions.relevant == point.precisions.rest == 3.0
    assert point.relevance_ratio is None


def test_leave_one_out_against_brute_force(regression):
    network, data, point = regression
    noise = network.kappa**2 * data.num_data
    kernel = nngp_kernel(network, data.x) + noise * np.eye(25)
    expected = []
    for left_out in range(25):
        rest = np.delete(np.arange(25), left_out)
        solved = np.linalg.solve(
            kernel[np.ix_(rest, rest)], np.stack([data.y[rest], kernel[rest, left_out]], 1)
        )
        mean, reduction = kernel[left_out, rest] @ solved
        variance = kernel[left_out, left_out] - reduction
        expected.append(-0.5 * (math.log(2 * math.pi * variance) + (data.y[left_out] - mean) ** 2 / variance))
    np.testing.assert_allclose(point.elpd_loo_pointwise, expected, rtol=1e-9)
    assert point.elpd_loo == pytest.approx(sum(expected))


def test_in_sample_density_is_that_of_a_repeated_point(regression):
    """The predictive density at x_μ: regress at the training inputs and add the noise of a fresh target."""
    network, data, point = regression
    noise = network.kappa**2 * data.num_data
    kernel = nngp_kernel(network, data.x)
    gain = np.linalg.solve(kernel + noise * np.eye(25), kernel)
    variance = np.diag(kernel - kernel @ gain) + noise
    expected = -0.5 * (np.log(2 * math.pi * variance) + (data.y - gain.T @ data.y) ** 2 / variance)
    np.testing.assert_allclose(point.log_density_pointwise, expected, rtol=1e-9)


def test_to_dict_is_strict_json(regression):
    record = regression[2].to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["effective_sample_size"] is None
    assert record["converged"]


def test_network_posterior_approaches_the_nngp_as_width_grows():
    rng = np.random.default_rng(2)
    data = SparseParity(6, 2).sample(jax.random.key(4), 40, 60)
    gaps = []
    widths = (64, 1024)
    for width in widths:
        network = TwoLayerNetwork(input_dim=6, width=width, kappa=0.1)
        noise = network.kappa**2 * 40
        squares = []
        for _ in range(100):
            # The exact posterior mean given the hidden weights, a draw of which is the prior's.
            w = rng.standard_normal((width, 6)) / math.sqrt(6)
            train, test = (np.maximum(x @ w.T, 0) / math.sqrt(width) for x in (data.x, data.x_test))
            mean = test @ train.T @ np.linalg.solve(train @ train.T + noise * np.eye(40), data.y)
            squares.append(np.mean((mean - NNGP().solve(network, data).predictions) ** 2))
        gaps.append(math.sqrt(np.mean(squares)))
    slope = math.log(gaps[1] / gaps[0]) / math.log(widths[1] / widths[0])
    assert slope == pytest.approx(-0.5, abs=0.08)
    assert gaps[1] < 0.05


@pytest.mark.parametrize("num_data", [100, 600])
def test_learning_curve_against_simulated_regression(num_data):
    network, teacher = TwoLayerNetwork(input_dim=10, width=64, kappa=0.04), SparseParity(10, 2)
    theory = NNGP(inputs="binary").solve(network, teacher, num_data=num_data)
    simulated = []
    for seed in range(24):
        point = NNGP().solve(network, teacher.sample(jax.random.key(seed), num_data, 1000))
        simulated.append([point.order_parameter, point.test_mse, point.test_mse_mean])
    mean, error = np.mean(simulated, axis=0), np.std(simulated, axis=0, ddof=1) / math.sqrt(24)
    expected = np.array([theory.order_parameter, theory.test_mse, theory.test_mse_mean])
    # The effective ridge is an expansion in 1/P: allow 2/P of relative error.
    assert np.all(np.abs(mean - expected) < 4 * error + 2 / num_data * expected)


@pytest.mark.parametrize("inputs", ["gaussian", "binary"])
def test_population_is_the_limit_of_many_points(inputs):
    network, teacher = TwoLayerNetwork(input_dim=12, width=64, kappa=0.05), SparseParity(12, 2)
    limit = NNGP(inputs).solve(network, teacher)
    many = NNGP(inputs).solve(network, teacher, num_data=10**8)
    assert many.order_parameter == pytest.approx(limit.order_parameter, rel=1e-5)
    assert many.test_mse == pytest.approx(limit.test_mse, rel=1e-5)
    few = NNGP(inputs).solve(network, teacher, num_data=10)
    assert few.order_parameter < limit.order_parameter
    assert few.residual < 1e-9


def test_spectra_against_direct_diagonalisation():
    d, k = 8, 2
    network, teacher = TwoLayerNetwork(input_dim=d, width=16, kappa=0.1, gamma=0.6), SparseParity(d, k)
    problem = parity_problem(network, teacher, "NNGP", Isotropic)
    spectrum = binary_spectrum(problem, 1.0)
    x = 1.0 - 2 * ((np.arange(2**d)[:, None] >> np.arange(d)) & 1)
    operator = nngp_kernel(network, x) / 2**d
    expected = np.linalg.eigvalsh(operator)[::-1]
    resolved = np.repeat(spectrum.eigenvalues, spectrum.multiplicities.astype(int))
    np.testing.assert_allclose(np.sort(resolved)[::-1], expected[: len(resolved)], atol=1e-12)
    assert (resolved.sum() + spectrum.tail) == pytest.approx(np.trace(operator))
    parity = x[:, :k].prod(axis=1)
    assert spectrum.target == pytest.approx(parity @ operator @ parity / 2**d, rel=1e-9)


@pytest.mark.parametrize(("input_dim", "degree", "tolerance"), [(16, 2, 0.12), (35, 4, 0.25)])
def test_gaussian_replacement_is_close_to_binary_inputs(input_dim, degree, tolerance):
    network, teacher = (
        TwoLayerNetwork(input_dim=input_dim, width=64, kappa=0.1),
        SparseParity(input_dim, degree),
    )
    problem = parity_problem(network, teacher, "NNGP", Isotropic)
    gaussian, binary = gaussian_spectrum(problem, 1.0), binary_spectrum(problem, 1.0)
    assert gaussian.target == pytest.approx(binary.target, rel=tolerance)
    assert gaussian.target > binary.target
    trace = (gaussian.eigenvalues * gaussian.multiplicities).sum() + gaussian.tail
    assert trace == pytest.approx(0.5, rel=1e-3)
