"""One neuron: its nodes, its radius, its density, and how averages over it respond."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from inference.fixed_points.adaptive_kernel import AdaptiveKernelEquations
from inference.fixed_points.branches.curve import prior_averages
from inference.fixed_points.branches.equations import System
from inference.fixed_points.mean_field import MeanFieldEquations
from inference.fixed_points.neuron.averages import averages
from inference.fixed_points.neuron.chart import Chart
from inference.fixed_points.neuron.density import NeuronDensity, RadialLaw, radial_moments
from inference.fixed_points.neuron.draws import NeuronSampler
from inference.fixed_points.neuron.nodes import lattice
from inference.fixed_points.populations.problem import population_problem
from models import ARD, Isotropic, SingleIndex, SparseParity, TwoLayerNetwork


def problem_of(teacher, target_only=False, order=2, width=64, **network):
    network = TwoLayerNetwork(teacher.input_dim, width, 0.05, **network)
    return population_problem(network, teacher, "x", Isotropic, ARD, max_order=order, target_only=target_only)


def sets_of(problem, points, seeds=range(4)):
    nodes = lattice(problem)
    return [nodes.nodes(np.arange(nodes.num_cells), seed, points) for seed in seeds]


@pytest.mark.parametrize(("degree", "input_dim"), [(1, 6), (2, 3), (2, 35), (3, 8), (4, 5), (4, 20), (6, 12)])
def test_directions_have_the_uniform_measure(degree, input_dim):
    # On the sphere |w_S|² is Beta(k/2, (d-k)/2), and E[w_j⁴] = 3/(d(d+2)).
    problem = problem_of(SparseParity(input_dim, degree), target_only=True)
    chart = Chart(problem)
    found = []
    for nodes in sets_of(problem, 16, range(8)):
        directions = nodes.directions
        weight = np.exp(directions.log_measure - directions.log_measure.max())
        share = directions.moments[:, 0]
        found.append([np.average(share**power, weights=weight) for power in (1, 2)])
    k, d = degree, input_dim
    expected = np.array([k / d, k * (k + 2) / (d * (d + 2))])
    found = np.array(found)
    error = found.std(axis=0, ddof=1) / math.sqrt(8) + 2e-6 * expected
    assert chart.num_uniforms == max(k - 2, 0)
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4 * error)


@pytest.mark.parametrize(
    ("teacher", "network"),
    [
        (SparseParity(9, 3), {"bias": True, "bias_scale": 0.3}),
        (SparseParity(7, 2), {"activation": "erf"}),
        (SparseParity(6, 2), {"activation": "tanh", "bias": True}),
        (SingleIndex(7, 3, 2), {"prior": ARD(), "bias": True, "bias_scale": 2.0}),
    ],
)
def test_prior_averages_are_exact(teacher, network):
    problem = problem_of(teacher, target_only=True, **network)
    chart = lattice(problem).chart
    sets = sets_of(problem, 1, range(4))
    naturals = np.zeros((3, sets[0].features.shape[1]))
    naturals[2, -2:] = problem.precision
    dimension = chart.dimension if problem.homogeneous else None
    found = averages(NeuronDensity(problem.coupling, naturals, dimension), sets)
    np.testing.assert_allclose(found.pooled[0, -2:], problem.counts / problem.precision, rtol=2e-2)
    # Σ of neurons of the prior, by drawing them.
    rng, scale = np.random.default_rng(0), problem.precision**-0.5
    w = scale * rng.standard_normal((40_000, problem.input_dim))
    b = (problem.bias_scale or 0.0) * rng.standard_normal(len(w))
    if isinstance(teacher, SparseParity):
        parts = w[:, : teacher.degree], np.linalg.norm(w[:, teacher.degree :], axis=1)[:, None]
    else:
        u = np.zeros(problem.input_dim)
        u[: teacher.num_relevant] = teacher.num_relevant**-0.5
        along, k = w @ u, teacher.num_relevant
        inside = np.sqrt(np.maximum((w[:, :k] ** 2).sum(axis=1) - along**2, 0))
        parts = along[:, None], np.column_stack([inside, np.linalg.norm(w[:, k:], axis=1)])
    power = problem.population.amplitudes(*parts, b)[1]
    size = len(lattice(problem).kernel.modes)
    mean = found.pooled[0, :size].sum() + found.pooled[0, -3]
    sets_apart = np.array([m[0, :size].sum() + m[0, -3] for m in found.means])
    error = math.hypot(power.std() / 200, sets_apart.std(ddof=1) / 2)
    assert abs(mean - power.mean()) < 5 * error + 1e-3 * mean


@pytest.mark.parametrize("teacher", [SparseParity(35, 4), SingleIndex(5, 2, 2)])
def test_quadrature_errors_of_the_prior_are_divided_out(teacher):
    # Wide networks amplify them by N/(2 α0): one node in every cell, and still exact to rounding.
    problem = problem_of(teacher, target_only=True, prior=ARD())
    sets = sets_of(problem, 1, range(2))
    for rho in ([35.0, 35.0], [3.0, 90.0]):
        naturals = np.zeros((3, sets[0].features.shape[1]))
        naturals[2, -2:] = rho
        found = averages(NeuronDensity(problem.coupling, naturals, problem.input_dim), sets)
        np.testing.assert_allclose(found.pooled[0, -2:], problem.counts / rho, rtol=1e-6)


@pytest.mark.parametrize(
    ("d", "energy", "drive", "slope"), [(16, 16.0, 0.0, 0.1), (6, 3.0, 40.0, 2.0), (35, 1.0, 9e4, 80.0)]
)
def test_radial_moments(d, energy, drive, slope):
    law = RadialLaw.find(d, *(np.array([value]) for value in (energy, drive, slope)))
    found = radial_moments(law)[:, 0]

    def log_density(x):
        v = math.exp(x)
        return 0.5 * d * x - 0.5 * math.log1p(slope * v) - 0.5 * energy * v + drive * v / (1 + slope * v)

    mode = float(law.log_mode[0])
    peak = log_density(mode)

    def average(function):
        def integrand(x):
            v = math.exp(x)
            h = 1 / (1 + slope * v)
            return function(v, h, h / 2 + drive * v * h * h) * math.exp(log_density(x) - peak)

        return quad(integrand, mode - 6, mode + 3, points=[mode], limit=400, epsabs=0, epsrel=1e-11)[0]

    norm = average(lambda v, h, e: 1.0)
    assert found[0] == pytest.approx(peak + math.log(norm), rel=1e-7)
    functions = [
        lambda v, h, e: v, lambda v, h, e: v * h, lambda v, h, e: v * e, lambda v, h, e: v * v,
        lambda v, h, e: v * v * h, lambda v, h, e: v * v * e, lambda v, h, e: v * v * h * h,
        lambda v, h, e: v * v * h * e,
    ]  # fmt: skip
    np.testing.assert_allclose(found[1:], [average(f) / norm for f in functions], rtol=2e-6)


def test_density_is_the_exact_conditional():
    # Evidence ratios by brute force against the density in terms of G and B, Ā built from the other
    # neurons.
    rng = np.random.default_rng(0)
    num_data, d, others, kappa, coupling = 12, 5, 6, 0.3, 0.4
    x = rng.choice([-1.0, 1.0], (num_data, d))
    y = x[:, :2].prod(axis=1)
    background = np.maximum(rng.standard_normal((others, d)) @ x.T, 0)
    partial = kappa**2 * num_data * np.eye(num_data) + coupling * background.T @ background
    brute, strength, overlap = [], [], []
    for w in rng.standard_normal((6, d)):
        phi = np.maximum(w @ x.T, 0)
        evidence = multivariate_normal(np.zeros(num_data), partial + coupling * np.outer(phi, phi))
        brute.append(evidence.logpdf(y))
        strength.append(phi @ np.linalg.solve(partial, phi))
        overlap.append((phi @ np.linalg.solve(partial, y)) ** 2)

    class Nodes:
        features = np.column_stack([strength, overlap, np.zeros(6)])
        bias_energy = log_measure = np.zeros(6)

        def __len__(self):
            return 6

    density = NeuronDensity(coupling, np.eye(3), None)
    assert np.allclose(np.diff(brute), np.diff(density.moments(Nodes())[0]), rtol=1e-10)


CASES = [
    (MeanFieldEquations, SparseParity(12, 4), {"prior": ARD(2.0)}),
    (MeanFieldEquations, SparseParity(8, 3), {"activation": "erf"}),
    (MeanFieldEquations, SingleIndex(5, 2, 2), {"prior": ARD(0.5)}),
    (AdaptiveKernelEquations, SparseParity(16, 2), {"prior": ARD()}),
    (AdaptiveKernelEquations, SparseParity(8, 2), {"bias": True}),
    (AdaptiveKernelEquations, SingleIndex(5, 2, 2), {"prior": ARD(2.0)}),
]


@pytest.mark.parametrize(("kind", "teacher", "network"), CASES)
def test_jacobian_is_the_derivative(kind, teacher, network):
    problem = problem_of(teacher, kind is MeanFieldEquations, **network)
    sets = sets_of(problem, 1, range(1))
    equations, rng = kind(lattice(problem)), np.random.default_rng(0)
    theta = equations.start(prior_averages(equations, sets).latest.pooled)
    theta = theta + 0.03 * rng.standard_normal(len(theta))
    log_ridge, step = 2 * math.log(0.2), 1e-5

    def residual(x, y):
        return System(equations, sets)(x, y)[0]

    _, jacobian, by_ridge = System(equations, sets)(theta, log_ridge)
    direction = rng.standard_normal(len(theta))
    ahead, behind = (residual(theta + s * direction, log_ridge) for s in (step, -step))
    # The prior's own moments are divided out set by set (DirectionPrior), the derivative on
    # average: 1e-3 here.
    np.testing.assert_allclose((ahead - behind) / (2 * step), jacobian @ direction, rtol=1e-4, atol=1e-5)
    ahead, behind = (residual(theta, log_ridge + s) for s in (step, -step))
    np.testing.assert_allclose((ahead - behind) / (2 * step), by_ridge, rtol=1e-4, atol=1e-6)
    at_noise = System(equations, sets).at_noise(0.1, 50)
    z, full = np.append(theta, log_ridge), np.append(direction, 0.3)
    ahead, behind = (at_noise(z + s * full)[0] for s in (step, -step))
    np.testing.assert_allclose((ahead - behind) / (2 * step), at_noise(z)[1] @ full, rtol=1e-4, atol=1e-5)


def test_a_kernel_that_is_not_learned_is_the_mean_field():
    # Λ = 0 in G and κ̃ = κ²: G = Σ/κ², and B = J/κ² as of MF at m = 0.
    problem = problem_of(SparseParity(16, 2), order=4)
    plain = problem_of(SparseParity(16, 2), target_only=True)
    kernel, field = AdaptiveKernelEquations(lattice(problem)), MeanFieldEquations(lattice(plain))
    count = lattice(problem).kernel.num_pairs
    log_ridge = np.asarray(2 * math.log(0.05))
    frozen = System(kernel, sets_of(problem, 2)).averages(np.full(count + 1, -700.0), log_ridge)
    free = System(field, sets_of(plain, 2)).averages(np.zeros(1), log_ridge)
    np.testing.assert_allclose(frozen.pooled[:, 0], free.pooled[:, 0], rtol=1e-7)
    np.testing.assert_allclose(frozen.pooled[:, -2:], free.pooled[:, -2:], rtol=1e-7)


@pytest.mark.parametrize(
    ("teacher", "network"),
    [
        (SparseParity(12, 4), {}),
        (SparseParity(8, 3), {"bias": True}),
        (SparseParity(6, 2), {"activation": "erf", "bias": True}),
        (SingleIndex(6, 2, 2), {"prior": ARD(1.0)}),
    ],
)
def test_draws_have_the_averages_of_the_quadrature(teacher, network):
    problem = problem_of(teacher, True, **network)
    nodes = lattice(problem)
    system = System(MeanFieldEquations(nodes), sets_of(problem, 2))
    theta = system.equations.start(prior_averages(system.equations, system.sets).latest.pooled)
    theta[0] = 0.2
    average = system.averages(theta, 2 * math.log(0.05))
    density = system.density(system.equations.naturals(theta, np.asarray(2 * math.log(0.05))))
    sampler = NeuronSampler(nodes, density, system.active_sets, average.weights, 1.0)
    drawn = sampler.draw(np.random.default_rng(1), 30_000)
    amplitudes, power = nodes.amplitudes(drawn)
    moments = problem.population.second_moments(drawn.components, drawn.norms)
    features = nodes.kernel.features(amplitudes, power, moments)
    apart = average.means[:, 0].std(axis=0, ddof=1) / 2
    error = np.hypot(features.std(axis=0) / math.sqrt(len(features)), apart)
    assert (np.abs(features.mean(axis=0) - average.pooled[0]) < 5 * error + 2e-3 * average.pooled[0]).all()


@pytest.mark.parametrize("degree", [2, 4])
def test_scrambles_share_no_bias(degree):
    # One node in every cell is a coarse estimate, but it is unbiased: 64 of them average to the
    # fine one.
    problem = problem_of(SparseParity(12, degree), True)
    equations = MeanFieldEquations(lattice(problem))
    theta, log_ridge = np.array([0.2]), np.asarray(2 * math.log(0.03))
    fine = System(equations, sets_of(problem, 64, range(4))).averages(theta, log_ridge)
    coarse = System(equations, sets_of(problem, 1, range(64))).averages(theta, log_ridge)
    shares = np.array([w.sum() for w in coarse.weights])
    values = coarse.means[:, 1, 0] * shares / shares.mean()
    error = values.std(ddof=1) / 8
    assert abs(values.mean() - fine.pooled[1, 0]) < 4 * error
    assert error < 0.2 * fine.pooled[1, 0]
