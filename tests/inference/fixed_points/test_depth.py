"""Theories of deep networks: the recursion of the NNGP against Monte Carlo, kernel renormalisation
in its limits, and the exact posterior of deep linear networks against quadrature and sampling."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from inference.fixed_points import NNGP, AdaptiveKernel, DeepLinear, KernelRenormalisation, MeanField
from inference.fixed_points.kernel_renormalisation import layer_factors
from inference.fixed_points.regression.covariances import nngp_kernel, nngp_variance
from models import ARD, Dataset, DeepNetwork, Isotropic, SparseParity, TwoLayerNetwork
from models.problems import problem
from models.problems.exact import linear_network_exact

RNG = np.random.default_rng(0)
X, X_TEST = RNG.normal(size=(12, 4)), RNG.normal(size=(9, 4))
BETA = np.array([1.5, -1.0, 0.0, 0.0])
DATA = Dataset(X, X @ BETA + 0.3 * RNG.normal(size=12), X_TEST, X_TEST @ BETA, (0, 1))
KEY = jax.random.key(0)

# --- NNGP ---


def activation(name, u):
    from scipy.special import erf

    return {"relu": lambda: np.maximum(u, 0), "erf": lambda: erf(u), "tanh": lambda: np.tanh(u)}[name]()


@pytest.mark.parametrize(("name", "bias"), [("relu", False), ("relu", True), ("erf", True), ("tanh", False)])
@pytest.mark.parametrize("depth", [2, 3])
def test_nngp_kernel_is_the_recursion_of_gaussian_averages(name, bias, depth):
    scales = (1.5, 0.8, 1.2)[:depth]
    network = DeepNetwork(
        4, (7,) * depth, 0.1, activation=name, bias=bias, bias_scale=0.5, prior=tuple(map(Isotropic, scales))
    )
    pair = X[:2]
    covariance = scales[0] ** 2 * pair @ pair.T / 4 + 0.25 * bias
    rng, count = np.random.default_rng(1), 400_000
    for layer in range(depth):
        phi = activation(name, rng.multivariate_normal(np.zeros(2), covariance, size=count))
        error = (phi[:, 0] * phi[:, 1]).std() / count**0.5
        covariance = phi.T @ phi / count
        if layer + 1 < depth:
            covariance = scales[layer + 1] ** 2 * covariance + 0.25 * bias
    # The errors of the lower layers are carried on, by a factor of the order of 1 each.
    np.testing.assert_allclose(
        nngp_kernel(network, pair), covariance, atol=4 * depth * error + 2e-3 * covariance.max()
    )
    np.testing.assert_allclose(nngp_variance(network, X), np.diag(nngp_kernel(network, X)), rtol=1e-9)
    np.testing.assert_allclose(
        nngp_kernel(network, X[:3], X[3:]), nngp_kernel(network, X)[:3, 3:], rtol=1e-12
    )


@pytest.mark.parametrize("depth", [2, 3])
def test_prior_of_wide_networks_has_the_covariance_of_the_nngp(depth):
    network = DeepNetwork(4, (150,) * depth, 0.1, readout_scale=1.3)
    rng, count, f = np.random.default_rng(2), 2000, []
    for _ in range(count):
        hidden = X[:3].T
        for layer in network.layers:
            w = rng.normal(size=(layer.width, layer.input_dim)) / layer.input_dim**0.5
            hidden = np.maximum(w @ hidden, 0)
        f.append(1.3 * rng.normal(size=150) @ hidden / 150**0.5)
    products = np.stack(f)[:, :, None] * np.stack(f)[:, None]
    error = products.std(axis=0) / count**0.5
    expected = nngp_kernel(network, X[:3])
    np.testing.assert_array_less(np.abs(products.mean(axis=0) - expected), 4 * error + 0.01 * expected)


def test_nngp_of_one_hidden_layer_is_that_of_the_two_layer_network():
    deep, two = (NNGP().solve(n, DATA) for n in (DeepNetwork(4, (9,), 0.2), TwoLayerNetwork(4, 9, 0.2)))
    assert deep.to_dict() == two.to_dict()
    first, second = (point.sample_networks(KEY, 2) for point in (deep, two))
    np.testing.assert_array_equal(first["a"], second["a"])


def test_networks_of_the_deep_nngp_fit_the_data():
    network = DeepNetwork(4, (300, 200), 0.05, bias=True)
    draws = NNGP().solve(network, DATA).sample_networks(KEY, 5)
    assert {k: v.shape[1:] for k, v in draws.items()} == {
        "w": (300, 4), "b": (300,), "w2": (200, 300), "b2": (200,), "a": (200,)
    }  # fmt: skip
    residual = np.asarray(network.apply(draws, DATA.x)) - DATA.y
    assert np.mean(residual**2) < 4 * 0.05**2 * 12


# --- kernel renormalisation ---


@pytest.mark.parametrize(
    "network", [DeepNetwork(4, (10**7, 10**7), 0.2), TwoLayerNetwork(4, 10**7, 0.2, activation="erf")]
)
def test_kernel_renormalisation_of_wide_layers_is_the_nngp(network):
    point, limit = KernelRenormalisation().solve(network, DATA), NNGP().solve(network, DATA)
    np.testing.assert_allclose(point.factors, 1, atol=1e-4)
    np.testing.assert_allclose(point.predictions, limit.predictions, atol=1e-4)
    np.testing.assert_allclose(point.predictive_variance, limit.predictive_variance, rtol=1e-3)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("widths", [(6,), (30, 8), (20, 20, 20)])
def test_factors_are_a_minimum_of_the_action(widths, scale):
    network = DeepNetwork(4, widths, 0.2)
    data = Dataset(DATA.x, scale * DATA.y, DATA.x_test, scale * DATA.y_test)
    kernel = nngp_kernel(network, data.x)
    point = KernelRenormalisation().solve(network, data)

    def action(factors):
        covariance = np.prod(factors) * kernel + 0.2**2 * 12 * np.eye(12)
        own = (np.array(widths) * (factors - np.log(factors))).sum()
        return own + data.y @ np.linalg.solve(covariance, data.y) + np.linalg.slogdet(covariance)[1]

    best = np.array(point.factors)
    assert point.residual < 1e-9
    for change in np.random.default_rng(3).normal(size=(20, len(widths))):
        assert action(best * np.exp(0.05 * change)) > action(best)
        assert action(best * np.exp(2 * change)) > action(best)


def test_factor_of_one_linear_layer_is_the_mode_of_the_exact_posterior():
    network = TwoLayerNetwork(4, 11, 0.2, activation="identity")
    (factor,), _ = layer_factors(network, DATA)
    kernel = nngp_kernel(network, DATA.x)

    def log_posterior(x):
        covariance = np.exp(x) * kernel + 0.2**2 * 12 * np.eye(12)
        likelihood = stats.multivariate_normal.logpdf(DATA.y, np.zeros(12), covariance)
        return 11 / 2 * (x - np.exp(x)) + likelihood

    grid = np.linspace(np.log(factor) - 0.1, np.log(factor) + 0.1, 201)
    assert grid[np.argmax([log_posterior(x) for x in grid])] == pytest.approx(np.log(factor), abs=1.1e-3)


# --- deep linear networks ---


@pytest.mark.parametrize(
    ("power", "ridge", "means", "gains"),
    [
        (4.0, 1.0, (1.3913, 1.6979, 1.9188), (0.5802, 0.6267, 0.6542)),
        (0.25, 1.0, (0.6630, 0.5139, 0.4264), (0.3965, 0.3368, 0.2961)),
        (4.0, 0.001, (2.0042, 2.5295, 2.8425), None),
    ],
)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deep_linear_reference_values(power, ridge, means, gains, depth):
    """K0 = I, N = P = 100: E[u], and E[u/(u+T)], by which the training targets are shrunk."""
    x, y = 10 * np.eye(100), np.full(100, power**0.5)
    network = DeepNetwork(100, (100,) * depth, (ridge / 100) ** 0.5, activation="identity")
    point = DeepLinear().solve(network, Dataset(x, y, x, y))
    assert point.scale_mean == pytest.approx(means[depth - 1], abs=1e-3)
    factors = KernelRenormalisation().solve(network, Dataset(x, y, x, y)).factors
    assert np.prod(factors) == pytest.approx(point.scale_mean, rel=0.006)  # the saddle point, at P = N
    if gains:
        np.testing.assert_allclose(point.predictions / y, gains[depth - 1], atol=1e-3)


def density(kernel, ridge, u):
    return stats.multivariate_normal.pdf(DATA.y, np.zeros(12), u * kernel + ridge * np.eye(12))


@pytest.mark.parametrize("widths", [(3,), (1,), (6, 2)])
def test_deep_linear_against_quadrature(widths):
    network = DeepNetwork(4, widths, 0.3, activation="identity", readout_scale=1.4, prior=Isotropic(0.7))
    kernel, ridge = nngp_kernel(network, DATA.x), 0.3**2 * 12
    laws = [stats.gamma(n / 2, scale=2 / n) for n in widths]

    def average(function):
        if len(widths) == 1:
            return quad(lambda g: laws[0].pdf(g) * function(g), 0, 60, limit=400, epsabs=0, epsrel=1e-9)[0]
        nodes = [law.ppf((np.arange(400) + 0.5) / 400) for law in laws]
        products = np.outer(*nodes)
        grid = np.geomspace(products.min(), products.max(), 400)
        return np.interp(products, grid, [function(u) for u in grid]).mean()

    evidence = average(lambda u: density(kernel, ridge, u))
    cross = nngp_kernel(network, DATA.x_test[:1], DATA.x)[0]

    def mean(u):
        return u * cross @ np.linalg.solve(u * kernel + ridge * np.eye(12), DATA.y)

    predicted = average(lambda u: density(kernel, ridge, u) * mean(u)) / evidence
    point = DeepLinear().solve(network, DATA)
    rel = 1e-6 if len(widths) == 1 else 1e-2
    assert point.log_evidence == pytest.approx(np.log(evidence), abs=rel)
    assert point.predictions[0] == pytest.approx(predicted, rel=rel)
    scale = average(lambda u: u * density(kernel, ridge, u)) / evidence
    assert point.scale_mean == pytest.approx(scale, rel=rel)


def test_deep_linear_is_the_exact_answer_of_the_named_problem():
    """Of one hidden layer, by another integral."""
    declared = problem("linear-network-8-0.3")
    exact = linear_network_exact(declared)
    point = DeepLinear().solve(declared.network, declared.data)
    assert point.order_parameter == pytest.approx(exact["order_parameter"][0], abs=1e-6)
    assert point.test_mse == pytest.approx(exact["test_mse"][0], rel=1e-5)


@pytest.mark.parametrize("widths", [(8,), (6, 9), (5, 4, 7)])
def test_draws_of_deep_linear_networks_have_the_moments_of_the_theory(widths):
    network = DeepNetwork(4, widths, 0.3, activation="identity", gamma=0.6, prior=Isotropic(1.2))
    point = DeepLinear().solve(network, DATA)
    draws = point.sample_networks(KEY, 4000)
    f = np.asarray(network.apply(draws, DATA.x_test), float)
    np.testing.assert_array_less(np.abs(f.mean(0) - point.predictions), 4 * f.std(0) / 4000**0.5)
    np.testing.assert_allclose(f.var(0), point.predictive_variance, rtol=0.15)
    # Schwinger and Dyson: E[θ·∂U/∂θ] = 1 for every coordinate; of all weights of a layer together.
    residual = np.asarray(network.apply(draws, DATA.x), float) - DATA.y
    drive = ((residual + DATA.y) * residual).sum(1) / (0.3**2 * 12)  # f is linear in every layer
    for layer in network.layers:
        w = draws[layer.site("w")].astype(float)
        values = (w**2).sum((1, 2)) * layer.prior.precision(layer.input_dim) + drive
        assert abs(values.mean() - w[0].size) < 4 * values.std() / 4000**0.5
    values = (draws["a"].astype(float) ** 2).sum(1) + drive
    assert abs(values.mean() - widths[-1]) < 4 * values.std() / 4000**0.5


def test_deep_linear_of_wide_layers_is_the_nngp():
    wide = DeepNetwork(4, (10**6, 10**6), 0.2, activation="identity")
    point, limit = DeepLinear().solve(wide, DATA), NNGP().solve(wide, DATA)
    np.testing.assert_allclose(point.predictions, limit.predictions, atol=1e-4)
    np.testing.assert_allclose(point.elpd_loo_pointwise, limit.elpd_loo_pointwise, atol=1e-3)
    np.testing.assert_allclose(point.log_density_pointwise, limit.log_density_pointwise, atol=1e-3)


def test_leave_one_out_of_the_mixture_is_that_of_the_rest():
    network = DeepNetwork(4, (3, 3), 0.3, activation="identity")
    full = DeepLinear().solve(network, DATA)
    # With κ²P held, P - 1 targets have the evidence p(y_-μ) = p(y)/p(y_μ | y_-μ).
    rest = Dataset(DATA.x[1:], DATA.y[1:], DATA.x_test, DATA.y_test)
    fewer = DeepNetwork(4, (3, 3), 0.3 * (12 / 11) ** 0.5, activation="identity")
    without = DeepLinear().solve(fewer, rest).log_evidence
    assert full.elpd_loo_pointwise[0] == pytest.approx(full.log_evidence - without, abs=1e-8)


# --- what is refused ---


@pytest.mark.parametrize(
    ("theory", "network", "message"),
    [
        (NNGP, DeepNetwork(4, (5, 5), 0.2, prior=(Isotropic(), ARD())), "prior must be models.Isotropic for NNGP"),
        (MeanField, DeepNetwork(4, (5, 5), 0.2), "network must be a models.TwoLayerNetwork"),
        (AdaptiveKernel, DeepNetwork(4, (5, 5), 0.2), "network must be a models.TwoLayerNetwork"),
        (KernelRenormalisation, DeepNetwork(4, (5, 5), 0.2, activation="erf"), "relu and identity"),
        (KernelRenormalisation, DeepNetwork(4, (5, 5), 0.2, bias=True), "relu and identity"),
        (KernelRenormalisation, TwoLayerNetwork(4, 5, 0.2, prior=ARD()), "prior must be models.Isotropic"),
        (KernelRenormalisation, TwoLayerNetwork(3, 5, 0.2), "x must have input_dim=3"),
        (DeepLinear, DeepNetwork(4, (5, 5), 0.2), "DeepLinear covers the activation identity"),
        (DeepLinear, DeepNetwork(4, (5,), 0.2, activation="identity", bias=True), "DeepLinear covers"),
    ],
)  # fmt: skip
def test_what_a_theory_does_not_cover_is_said(theory, network, message):
    with pytest.raises(ValueError, match=message):
        theory().solve(network, DATA)


@pytest.mark.parametrize("theory", [NNGP, KernelRenormalisation, DeepLinear, MeanField])
def test_a_population_of_deep_networks_is_refused(theory):
    network = DeepNetwork(6, (5, 5), 0.2, activation="identity")
    with pytest.raises(ValueError, match=r"models\.(TwoLayerNetwork|Dataset)"):
        theory().solve(network, SparseParity(6, 2))
