"""Population theories of parity beyond ReLU without biases: coefficients, closed forms, limits, odd degrees."""

import math

import jax
import numpy as np
import pytest

from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD
from inference.fixed_points.general.geometry import ParityGeometry
from inference.fixed_points.general.kernel_theory import KernelTheory
from inference.fixed_points.general.mean_field_theory import MeanFieldTheory
from inference.fixed_points.general.problem import general_problem
from inference.fixed_points.general.solving import solve
from inference.fixed_points.hermite_modes import hermite_coefficients, mean_square
from inference.fixed_points.kernels import nngp_kernel
from inference.runs.observables import observe
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork
from models.network import ACTIVATIONS


def erf_network(**changes):
    settings = {"input_dim": 8, "width": 32, "kappa": 0.06, "activation": "erf"}
    return TwoLayerNetwork(**(settings | changes))


def by_quadrature(activation, max_degree, u, s):
    """μ_n by a dense trapezoid rule, and He_n/√(n!) from numpy's own polynomials."""
    g = np.linspace(-14, 14, 200_001)
    weight = np.exp(-0.5 * g * g) / math.sqrt(2 * math.pi) * (g[1] - g[0])
    with jax.enable_x64(True):
        values = np.asarray(ACTIVATIONS[activation](u + s * g))
    polynomials = np.polynomial.hermite_e.hermevander(g, max_degree)
    norms = np.sqrt([math.factorial(n) for n in range(max_degree + 1)])
    return (values * weight) @ polynomials / norms, (values**2) @ weight


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh", "identity"])
@pytest.mark.parametrize(("u", "s"), [(0.0, 1.0), (0.7, 0.4), (-1.3, 1.5), (2.0, 0.1)])
def test_hermite_coefficients(activation, u, s):
    expected, square = by_quadrature(activation, 7, u, s)
    np.testing.assert_allclose(hermite_coefficients(activation, 7, u, s), expected, atol=2e-6)
    assert float(mean_square(activation, u, s)) == pytest.approx(square, abs=2e-6)
    assert (hermite_coefficients(activation, 7, u, s) ** 2).sum() <= square + 1e-9


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_parity_modes_by_sampling(activation, degree):
    # x_S uniform signs and the rest Gaussian: overlap with χ_S, power of all modes, total power.
    geometry = ParityGeometry(activation, degree, degree + 3, 3)
    rng = np.random.default_rng(degree)
    w, bias = rng.standard_normal(degree + 3), 0.4
    signs = rng.choice([-1.0, 1.0], (400_000, degree))
    g = rng.standard_normal(400_000)
    norm = np.linalg.norm(w[degree:])
    with jax.enable_x64(True):
        hidden = np.asarray(ACTIVATIONS[activation](signs @ w[:degree] + norm * g + bias))
    a, power = geometry.amplitudes(w[None, :degree], np.array([[norm]]), np.array([bias]))
    target = hidden * signs.prod(axis=1)
    assert abs(target.mean() - a[0, geometry.target]) < 5 * target.std() / math.sqrt(400_000)
    assert abs((hidden**2).mean() - power[0]) < 5 * (hidden**2).std() / math.sqrt(400_000)
    # All of degree 0 in the rest is the mean over g: Σ_i q_i0 = 2^-k Σ_σ h².
    zero = sum(a[0, c] ** 2 for c, mode in enumerate(geometry.modes) if mode.degrees[1] == 0)
    patterns = {tuple(p) for p in signs[:2000]}
    means = [hermite_coefficients(activation, 0, np.array(p) @ w[:degree] + bias, norm)[0] for p in patterns]
    assert len(patterns) == 2**degree
    assert zero == pytest.approx(np.mean(np.square(means)), rel=1e-10)
    assert (a[0] ** 2).sum() < power[0]


@pytest.mark.parametrize(("prior", "num_data"), [(Isotropic(), None), (ARD(), 300)])
def test_general_path_is_the_closed_path_for_relu(prior, num_data):
    network, teacher = TwoLayerNetwork(16, 64, 0.05, prior=prior), SparseParity(16, 2)
    closed = AdaptiveKernel().solve(network, teacher, num_data=num_data)
    problem = general_problem(network, teacher, "x", Isotropic, ARD, max_order=4)
    general = solve(KernelTheory(problem, num_data), 1e-8)
    found = general.solutions[general.reached["prior"]]
    assert found.figures["order_parameter"] == pytest.approx(closed.order_parameter, abs=1e-6)
    assert found.figures["mse_draw"] == pytest.approx(closed.test_mse, abs=2e-6)
    assert found.relevance_ratio == pytest.approx(closed.relevance_ratio, rel=1e-4)
    theory = MeanField() if num_data is None else MeanFieldARD()
    closed = theory.solve(network, teacher)
    general = solve(MeanFieldTheory(problem), 1e-8)
    found = general.solutions[general.reached["prior"]]
    assert found.figures["order_parameter"] == pytest.approx(closed.order_parameter, abs=1e-6)
    assert found.figures["mse_draw"] == pytest.approx(closed.test_mse, abs=2e-6)
    assert found.rho[0] == pytest.approx(closed.precisions.relevant, rel=1e-5)


@pytest.mark.parametrize("theory", [NNGP(), MeanField(), AdaptiveKernel()])
def test_odd_activations_without_biases_have_no_even_part(theory):
    point = theory.solve(erf_network(), SparseParity(8, 2))
    assert point.order_parameter == 0.0
    assert point.test_mse_mean == pytest.approx(1.0)


@pytest.mark.parametrize(
    "theory", [NNGP(), MeanField(), pytest.param(AdaptiveKernel(), marks=pytest.mark.slow)]
)
def test_biases_give_odd_activations_an_even_part(theory):
    with_bias = theory.solve(erf_network(bias=True), SparseParity(8, 2))
    assert with_bias.order_parameter > 1e-3


def test_nngp_is_the_exact_spectrum():
    # On ±1 inputs the kernel's eigenvalue of χ_S is a mean over inputs; erf and width drop out of the check.
    network, teacher = erf_network(input_dim=14, kappa=0.02), SparseParity(14, 3)
    x = 1.0 - 2.0 * ((np.arange(2**14)[:, None] >> np.arange(14)) & 1)
    row = nngp_kernel(network, np.ones((1, 14)), x)[0]
    value = float(np.mean(row * x[:, :3].prod(axis=1)))
    point = NNGP().solve(network, teacher)
    # The Gaussian replacement outside S overestimates the overlap of prior-like neurons: by about 10 %.
    exact = value / (value + 0.02**2)
    assert exact < point.order_parameter < 1.2 * exact


def test_nngp_learning_curve_is_that_of_simulated_regression():
    network, teacher = erf_network(input_dim=24, kappa=0.05), SparseParity(24, 1)
    point = NNGP().solve(network, teacher, num_data=150)
    runs = [NNGP().solve(network, teacher.sample(jax.random.key(seed), 150, 1500)) for seed in range(16)]
    for name in ("order_parameter", "test_mse"):
        values = [getattr(run, name) for run in runs]
        error = np.std(values, ddof=1) / 4
        assert abs(np.mean(values) - getattr(point, name)) < 5 * error + 0.1 * np.mean(values)


@pytest.mark.parametrize("theory", [MeanField(), AdaptiveKernel()])
@pytest.mark.parametrize(("activation", "degree"), [("erf", 3), ("tanh", 1)])
def test_infinite_width_is_the_nngp(theory, activation, degree):
    teacher = SparseParity(8, degree)
    wide = erf_network(activation=activation, width=10**7)
    limit, point = (scheme.solve(wide, teacher) for scheme in (NNGP(), theory))
    assert point.order_parameter == pytest.approx(limit.order_parameter, rel=1e-3)
    assert point.converged
    finite = theory.solve(erf_network(activation=activation, kappa=0.3 if degree == 1 else 0.06), teacher)
    assert 0.01 < finite.order_parameter < 1


def test_large_noise_and_stiff_precisions():
    noisy = AdaptiveKernel().solve(erf_network(kappa=50.0), SparseParity(8, 3))
    assert 0 < noisy.order_parameter < 1e-5
    plain = MeanField().solve(erf_network(), SparseParity(8, 3))
    stiff = MeanFieldARD().solve(erf_network(prior=ARD(shape=1e8)), SparseParity(8, 3))
    assert stiff.order_parameter == pytest.approx(plain.order_parameter, abs=1e-4)


def test_networks_of_the_mean_field():
    network, teacher = erf_network(kappa=0.03), SparseParity(8, 3, relevant=(1, 4, 6))
    point = MeanField().solve(network, teacher)
    assert point.error < 1e-3
    networks = point.sample_networks(jax.random.key(0), 600)
    values = observe(network, teacher.sample(jax.random.key(1), 10, 4000), networks)
    m, mse = values["order_parameter"], values["test_mse"]
    # ±1 inputs outside S against Gaussians.
    assert abs(m.mean() - point.order_parameter) < 5 * m.std() / math.sqrt(600) + 0.03
    assert abs(mse.mean() - point.test_mse) < 5 * mse.std() / math.sqrt(600) + 0.05
    assert values["relevance_ratio"].mean() == pytest.approx(point.relevance_ratio, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("degree", "changes"), [(3, {"activation": "relu", "bias": True}), (4, {"bias": False})]
)
def test_larger_problems_converge(degree, changes):
    point = MeanField().solve(erf_network(**changes), SparseParity(8, degree))
    assert point.converged
    assert 0 <= point.order_parameter < 1
    assert point.error < 1e-3


def test_degrees_that_are_not_covered():
    with pytest.raises(ValueError, match="degree must be at most 4"):
        MeanField().solve(erf_network(), SparseParity(8, 5))
    with pytest.raises(ValueError, match="degree must be smaller than input_dim"):
        MeanField().solve(erf_network(), SparseParity(8, 8))
    with pytest.raises(ValueError, match="num_data must be None"):
        MeanField().solve(erf_network(), SparseParity(8, 3), num_data=5)
    with pytest.raises(ValueError, match="no networks"):
        NNGP().solve(erf_network(), SparseParity(8, 3)).sample_networks(jax.random.key(0), 1)
