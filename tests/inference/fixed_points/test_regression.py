"""Gaussian processes on a data set: kernels against Monte Carlo, regression against brute force."""

import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from inference.fixed_points.regression.covariances import nngp_kernel, nngp_variance
from inference.fixed_points.regression.process_point import nngp_on_dataset
from inference.fixed_points.regression.readouts import hidden_activation
from models import ARD, Dataset, Isotropic, SparseParity, TwoLayerNetwork


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
    return network, data, nngp_on_dataset(network, data)


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
    """The predictive density at x_μ: regress at the training inputs and add the noise of a fresh
    target."""
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


def test_networks_have_the_process_s_predictions():
    """Readouts from their exact posterior given random features: at large width f is the
    process."""
    data = SparseParity(4, 2).sample(jax.random.key(0), 20, 12)
    network = TwoLayerNetwork(4, 400, kappa=0.2, bias=True, activation="erf")
    point = nngp_on_dataset(network, data)
    f = np.asarray(network.apply(point.sample_networks(jax.random.key(1), 400), data.x_test))
    error = np.sqrt(point.predictive_variance / 400)
    assert np.all(np.abs(f.mean(axis=0) - point.predictions) < 4.5 * error + 0.02)
    np.testing.assert_allclose(f.var(axis=0), point.predictive_variance, rtol=0.4)
    assert f.var(axis=0).mean() == pytest.approx(point.predictive_variance.mean(), rel=0.1)


def test_bad_input():
    data = SparseParity(4, 2).sample(jax.random.key(0), 20, 12)
    network = TwoLayerNetwork(4, 8, kappa=0.2)
    for bad, options, message in (
        (
            replace(network, prior=ARD()),
            {},
            r"prior must be models.Isotropic for NNGP, got ARD: .* no Gaussian",
        ),
        (network, {"num_data": 5}, "num_data must be None on a Dataset"),
        (replace(network, input_dim=5), {}, "x must have input_dim=5"),
        (replace(network, kappa=1e-9, activation="identity"), {}, "raise kappa"),
    ):
        with pytest.raises(ValueError, match=message):
            nngp_on_dataset(bad, data, **options)


def test_network_posterior_approaches_the_nngp_as_width_grows():
    rng = np.random.default_rng(2)
    data = SparseParity(6, 2).sample(jax.random.key(4), 40, 60)
    gaps = []
    widths = (64, 1024)
    for width in widths:
        network = TwoLayerNetwork(input_dim=6, width=width, kappa=0.1)
        noise = network.kappa**2 * 40
        limit, squares = nngp_on_dataset(network, data).predictions, []
        for _ in range(100):
            # The exact posterior mean given the hidden weights, a draw of which is the prior's.
            w = rng.standard_normal((width, 6)) / math.sqrt(6)
            train, test = (np.maximum(x @ w.T, 0) / math.sqrt(width) for x in (data.x, data.x_test))
            mean = test @ train.T @ np.linalg.solve(train @ train.T + noise * np.eye(40), data.y)
            squares.append(np.mean((mean - limit) ** 2))
        gaps.append(math.sqrt(np.mean(squares)))
    slope = math.log(gaps[1] / gaps[0]) / math.log(widths[1] / widths[0])
    assert slope == pytest.approx(-0.5, abs=0.08)
    assert gaps[1] < 0.05
