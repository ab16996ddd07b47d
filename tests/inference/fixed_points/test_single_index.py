"""Population theories on single-index Gaussian teachers: mode algebra, densities, limits, simulated
regression."""

import json
import math

import jax
import numpy as np
import pytest

from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD
from inference.fixed_points.adaptive_kernel import AdaptiveKernelEquations
from inference.fixed_points.branches.solve import solve as solve_with
from inference.fixed_points.mean_field import MeanFieldEquations
from inference.fixed_points.neuron.chart import Neurons
from inference.fixed_points.neuron.density import NeuronDensity
from inference.fixed_points.neuron.nodes import lattice
from inference.fixed_points.populations.problem import population_problem
from inference.runs.observables import observe
from models import ARD, Isotropic, SingleIndex, TwoLayerNetwork


def small(prior=None, **changes):
    """A problem whose single-neuron density bends visibly, and whose integrals are cheap."""
    settings = {"input_dim": 5, "width": 32, "kappa": 0.15, "bias": False, "prior": prior or Isotropic()}
    return TwoLayerNetwork(**(settings | changes)), SingleIndex(settings["input_dim"], 2, 2)


def test_mean_field_density_is_that_of_the_paper():
    network, teacher = small(bias=True)
    problem = population_problem(network, teacher, "MeanField", Isotropic, max_order=2, target_only=True)
    nodes = lattice(problem)
    modes = [mode.degrees for mode in nodes.kernel.modes]
    prediction = np.array([{(2, 0): 0.4, (0, 0): -0.1, (0, 2): 0.2}.get(m, 0.0) for m in modes])
    equations, log_ridge = MeanFieldEquations(nodes), np.asarray(2 * math.log(network.kappa))
    rng = np.random.default_rng(0)
    w, bias = 0.6 * rng.standard_normal((3, 5)), np.array([0.2, -0.5, 0.9])
    u = np.array([1, 1, 0, 0, 0]) / math.sqrt(2)
    along = w @ u
    norm = np.linalg.norm(w - np.outer(along, u), axis=1)
    neurons = Neurons(along[:, None], norm[:, None], bias, np.zeros(3))
    amplitudes, power = nodes.amplitudes(neurons)
    moments = problem.population.second_moments(neurons.components, neurons.norms)
    beta = amplitudes @ equations.drive(prediction, log_ridge) / math.sqrt(32)
    # α and β by sampling inputs, with the mean prediction as a function: He_2(z), 1 and the trace
    # part of degree 2.
    x = rng.standard_normal((1_000_000, 5))
    z = (x[:, 0] + x[:, 1]) / math.sqrt(2)
    trace = ((x**2).sum(axis=1) - z**2 - 4) / math.sqrt(2 * 4)
    mean = math.sqrt(2) * (0.4 * (z**2 - 1) / math.sqrt(2) - 0.1 + 0.2 * trace)
    hidden = np.maximum(w @ x.T + bias[:, None], 0)
    for row in range(3):
        assert abs((hidden[row] ** 2).mean() - power[row]) < 5 * (hidden[row] ** 2).std() / 1000
        pull = hidden[row] * (z**2 - 1 - mean) / (network.kappa**2 * math.sqrt(32))
        assert abs(pull.mean() - beta[row]) < 5 * pull.std() / 1000
    alpha = 0.5 + power / (2 * network.kappa**2 * 32)
    expected = -0.5 * np.log(2 * alpha) + beta**2 / (4 * alpha) - 2.5 * (w**2).sum(axis=1)

    class Nodes:
        features = nodes.kernel.features(amplitudes, power, moments)
        bias_energy = log_measure = np.zeros(3)

        def __len__(self):
            return 3

    density = NeuronDensity(problem.coupling, equations.naturals(prediction, log_ridge), None)
    np.testing.assert_allclose(density.moments(Nodes())[0], expected, rtol=1e-10)


@pytest.mark.parametrize("bias", [False, True])
def test_learning_curve_is_that_of_simulated_regression(bias):
    network = TwoLayerNetwork(6, 64, 0.1, bias=bias)
    teacher, num_data = SingleIndex(6, 2, 2), 120
    point = NNGP().solve(network, teacher, num_data=num_data)
    runs = []
    for seed in range(16):
        run = NNGP().solve(network, teacher.sample(jax.random.key(seed), num_data, 1500))
        runs.append((run.order_parameter, run.test_mse_mean, run.test_mse))
    mean, error = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / math.sqrt(16)
    # The learning curve is an average over data sets for Gaussian features: 3 % at this size, over
    # a spread of runs.
    for value, target, noise in zip(
        (point.order_parameter, point.test_mse_mean, point.test_mse), mean, error, strict=True
    ):
        assert abs(value - target) < 5 * noise + 0.03 * target
    population = NNGP().solve(network, teacher)
    assert 0.1 < point.order_parameter < population.order_parameter < 1
    assert point.error < 1e-5


@pytest.mark.slow
def test_large_dataset_meets_the_population():
    network, teacher = TwoLayerNetwork(6, 64, 0.3, bias=True), SingleIndex(6, 2, 2)
    point = NNGP().solve(network, teacher, num_data=3000)
    run = NNGP().solve(network, teacher.sample(jax.random.key(0), 3000, 20_000))
    assert run.order_parameter == pytest.approx(point.order_parameter, abs=0.03)
    assert run.test_mse == pytest.approx(point.test_mse, rel=0.1)


def test_identity_is_linear_regression():
    # K(x, x') = σ_a² σ_w² x·x'/d has one eigenvalue, 1.2² · 0.8²/5.
    network = TwoLayerNetwork(5, 40, 0.3, activation="identity", prior=Isotropic(1.2), readout_scale=0.8)
    value = 1.2**2 * 0.8**2 / 5
    linear = NNGP().solve(network, SingleIndex(5, 2, 1))
    assert linear.order_parameter == pytest.approx(value / (value + 0.09), abs=1e-6)
    assert linear.test_mse == pytest.approx(
        (0.09 / (value + 0.09)) ** 2 + 5 * value * 0.09 / (value + 0.09), abs=1e-6
    )
    quadratic = NNGP().solve(network, SingleIndex(5, 2, 2))
    assert abs(quadratic.order_parameter) < 1e-25
    assert quadratic.test_mse_mean == pytest.approx(2.0)


@pytest.mark.parametrize(
    "theory", [NNGP(), MeanField(), pytest.param(AdaptiveKernel(), marks=pytest.mark.slow)]
)
def test_odd_targets_above_one_are_out_of_reach_without_biases(theory):
    network = TwoLayerNetwork(5, 32, 0.1)
    point = theory.solve(network, SingleIndex(5, 2, 3))
    assert abs(point.order_parameter) < 1e-25
    assert point.test_mse_mean == pytest.approx(6.0)
    assert point.test_mse > 6.0
    assert point.converged


@pytest.mark.parametrize("theory", [MeanField(), pytest.param(AdaptiveKernel(), marks=pytest.mark.slow)])
def test_infinite_width_is_the_nngp(theory):
    limit = NNGP().solve(*small()).order_parameter
    widths = (64, 10**4, 10**7)
    narrow, wide, widest = (theory.solve(*small(width=width)).order_parameter for width in widths)
    # What is left is that each resolves its own number of modes.
    assert abs(widest - limit) < 6e-4
    assert abs(wide - limit) < 2e-3 < abs(narrow - limit)
    assert 0.05 < limit < 0.95


@pytest.mark.parametrize(
    "theory", [MeanField(), NNGP(), pytest.param(AdaptiveKernel(), marks=pytest.mark.slow)]
)
def test_large_noise_leaves_nothing_learned(theory):
    point = theory.solve(*small(kappa=100.0))
    assert 0 < point.order_parameter < 1e-4
    assert point.test_mse_mean == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("theory", [MeanField(), pytest.param(AdaptiveKernel(), marks=pytest.mark.slow)])
def test_units_of_the_target(theory):
    # y → y/A with κ → κ/A and σ_a → σ_a/A is the same posterior over f/A.
    raw = theory.solve(*small())
    scale = math.sqrt(2)
    network, _ = small(kappa=0.15 / scale, readout_scale=1 / scale)
    unit = theory.solve(network, SingleIndex(5, 2, 2, normalized=True))
    assert unit.order_parameter == pytest.approx(raw.order_parameter, abs=1e-6)
    assert 2 * unit.test_mse == pytest.approx(raw.test_mse, rel=1e-6)
    assert 2 * unit.test_mse_mean == pytest.approx(raw.test_mse_mean, rel=1e-6)


@pytest.mark.parametrize(
    ("theories", "num_data"),
    [((MeanField(), MeanFieldARD()), {}), ((AdaptiveKernel(), AdaptiveKernel()), {"num_data": 200})],
)
def test_stiff_ard_is_isotropic(theories, num_data):
    # The blocks differ, [d-1] against [k-1, d-k], and so do all sectors; the theory may not.
    plain = theories[0].solve(*small(), **num_data)
    stiff = theories[1].solve(*small(ARD(shape=1e8)), **num_data)
    assert 0.1 < plain.order_parameter < 0.95
    assert stiff.order_parameter == pytest.approx(plain.order_parameter, abs=2e-3)
    assert stiff.test_mse == pytest.approx(plain.test_mse, rel=3e-3)
    assert stiff.relevance_ratio == pytest.approx(plain.relevance_ratio, rel=5e-3)
    assert stiff.precisions.relevant == pytest.approx(5.0, rel=1e-4)


def test_ard_solution_satisfies_its_conjugate_update():
    network, teacher = small(ARD(shape=2.0, rate=0.3))
    point = MeanFieldARD().solve(network, teacher, start="aligned")
    assert point.converged
    moments = [((2.0 + 16) / rho - 0.3) / 16 for rho in (point.precisions.relevant, point.precisions.rest)]
    assert moments[0] / moments[1] == pytest.approx(point.relevance_ratio, rel=1e-6)
    assert point.precisions.relevant < point.precisions.rest


@pytest.mark.parametrize("bias", [False, True])
def test_networks_of_the_mean_field(bias):
    network, teacher = small(None if bias else ARD(shape=2.0), bias=bias)
    point = (
        MeanField().solve(network, teacher)
        if bias
        else MeanFieldARD().solve(network, teacher, start="aligned")
    )
    networks = point.sample_networks(jax.random.key(0), 600)
    data = teacher.sample(jax.random.key(1), 10, 4000)
    values = observe(network, data, networks)
    m, mse = values["order_parameter"], values["test_mse"]
    sampling = abs(np.asarray(data.y_test) ** 2).std() / math.sqrt(4000)  # the same test points for all
    assert abs(m.mean() - point.order_parameter) < 5 * m.std() / math.sqrt(600) + 0.05
    assert abs(mse.mean() - point.test_mse) < 5 * mse.std() / math.sqrt(600) + 3 * sampling * point.test_mse
    second = (networks["w"].astype(float) ** 2).mean(axis=1)
    error = second.std(axis=0) / math.sqrt(600)
    # Permutation symmetry: E[w_j²] is the same for both j in S, and for the others.
    assert abs(second[:, 0].mean() - second[:, 1].mean()) < 5 * math.hypot(error[0], error[1])
    ratio = second[:, :2].mean() / second[:, 2:].mean()
    assert ratio == pytest.approx(point.relevance_ratio, rel=0.05)
    again = point.sample_networks(jax.random.key(0), 600)
    assert all(np.array_equal(networks[k], again[k]) for k in networks)
    assert set(networks) == ({"w", "a", "b"} if bias else {"w", "a", "rho"})


def test_networks_of_the_adaptive_kernel():
    network, teacher = small(width=200)
    point = AdaptiveKernel().solve(network, teacher, num_data=200)
    data = teacher.sample(jax.random.key(1), 200, 2000)
    networks = point.sample_networks(jax.random.key(0), 20, data)
    assert networks["w"].shape == (20, 200, 5)
    values = observe(network, data, networks)
    assert values["order_parameter"].mean() == pytest.approx(point.order_parameter, abs=0.08)
    with pytest.raises(ValueError, match="data must be a models"):
        point.sample_networks(jax.random.key(0), 1)


@pytest.mark.parametrize(
    "kind", [MeanFieldEquations, pytest.param(AdaptiveKernelEquations, marks=pytest.mark.slow)]
)
def test_errors_are_honest(kind):
    field = kind is MeanFieldEquations
    network, teacher = small(bias=field)
    problem = population_problem(network, teacher, "x", Isotropic, max_order=2, target_only=field)
    rough, fine = (solve_with(kind, problem, network.kappa, refinement=r).solutions[-1] for r in (1, 8))
    gap = abs(rough.figures["order_parameter"] - fine.figures["order_parameter"])
    assert gap < 3 * math.hypot(rough.error, fine.error) + 1e-8
    assert rough.error < 1e-3
    assert 0.1 < rough.figures["order_parameter"] < 0.95


def test_to_dict_is_strict_json():
    for point in (AdaptiveKernel().solve(*small()), MeanField().solve(*small())):
        record = point.to_dict()
        assert json.loads(json.dumps(record, allow_nan=False)) == record


@pytest.mark.slow
def test_paper_case_has_two_branches():
    network = TwoLayerNetwork(18, 1024, 0.1, bias=True, prior=ARD(shape=0.1))
    prior, aligned = (
        MeanFieldARD().solve(network, SingleIndex(18, 2, 4), start=start) for start in ("prior", "aligned")
    )
    assert prior.converged
    assert aligned.converged
    assert [branch.stable for branch in prior.branches] == [True, False, True]
    assert prior.order_parameter < 0.1 * aligned.order_parameter
    assert aligned.precisions.relevant < 0.1 * prior.precisions.relevant


REFUSED = [
    ({"input_dim": 6}, SingleIndex(5, 2, 2), "teacher.input_dim must equal"),
    ({"input_dim": 1}, SingleIndex(1, 1, 2), "input_dim must be at least 2"),
    ({"prior": ARD()}, SingleIndex(5, 2, 2), "prior must be models.Isotropic"),
]


@pytest.mark.parametrize(("changes", "teacher", "message"), REFUSED)
def test_refused_combinations(changes, teacher, message):
    network = TwoLayerNetwork(**({"input_dim": 5, "width": 16, "kappa": 0.1} | changes))
    with pytest.raises(ValueError, match=message) as caught:
        MeanField().solve(network, teacher)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_ard_needs_an_irrelevant_input():
    network = TwoLayerNetwork(5, 16, 0.1, prior=ARD())
    with pytest.raises(ValueError, match="num_relevant must be smaller"):
        MeanFieldARD().solve(network, SingleIndex(5, 5, 2))
    with pytest.raises(ValueError, match="num_data must be None"):
        MeanFieldARD().solve(network, SingleIndex(5, 2, 2), num_data=10)
