"""Population theories on single-index Gaussian teachers: mode algebra, densities, limits, simulated regression."""

import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.special import eval_chebyt, eval_gegenbauer

from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD
from inference.fixed_points.general.geometry import SingleIndexGeometry
from inference.fixed_points.general.irreps import harmonic_dimension, harmonic_fraction
from inference.fixed_points.general.kernel_theory import KernelTheory
from inference.fixed_points.general.mean_field_theory import MeanFieldTheory
from inference.fixed_points.general.problem import general_problem
from inference.fixed_points.general.solving import solve
from inference.fixed_points.kernels import erf_covariance, relu_covariance
from inference.runs.observables import observe
from models import ARD, Isotropic, SingleIndex, TwoLayerNetwork


def small(prior=None, **changes):
    """A problem whose single-neuron density bends visibly, and whose integrals are cheap."""
    settings = {"input_dim": 5, "width": 32, "kappa": 0.15, "bias": False, "prior": prior or Isotropic()}
    return TwoLayerNetwork(**(settings | changes)), SingleIndex(settings["input_dim"], 2, 2)


def gegenbauer(degree, n, t):
    """P_l with P_l(1) = 1, from another library's recursion."""
    if n == 1:
        return t**degree
    if n == 2:
        return eval_chebyt(degree, t)
    alpha = n / 2 - 1
    return eval_gegenbauer(degree, alpha, t) / eval_gegenbauer(degree, alpha, 1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 17])
def test_harmonic_parts_of_powers(n):
    t = np.array([1.0, -1.0]) if n == 1 else np.linspace(-1, 1, 7)
    for j in range(8):
        fractions = [harmonic_fraction(j, part, n) for part in range(j + 1)]
        assert sum(fractions) == pytest.approx(1.0, rel=1e-12)
        assert min(fractions) >= 0
        rebuilt = sum(f * gegenbauer(part, n, t) for part, f in enumerate(fractions))
        np.testing.assert_allclose(rebuilt, t**j, atol=1e-12)
        # Symmetric tensors of rank j are the sum of the harmonics of degrees j, j-2, …
        dimensions = sum(harmonic_dimension(part, n) for part in range(j, -1, -2))
        assert dimensions == math.comb(n + j - 1, j)


def neurons(geometry, num, seed=0):
    """Random weights, their reduced variables, and unit vectors of the blocks."""
    rng = np.random.default_rng(seed)
    d, k = geometry.input_dim, geometry.num_relevant
    w = rng.standard_normal((num, d))
    u = np.zeros(d)
    u[:k] = k**-0.5
    along = w @ u
    rest = w - np.outer(along, u)
    if geometry.anisotropic:
        parts = [rest * (np.arange(d) < k), rest * (np.arange(d) >= k)]
        parts = [p for p, n in zip(parts, (k - 1, d - k), strict=True) if n]
    else:
        parts = [rest]
    norms = np.column_stack([np.linalg.norm(p, axis=1) for p in parts])
    return w, along[:, None], norms, [p / n[:, None] for p, n in zip(parts, norms.T, strict=True)]


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize(("activation", "covariance"), [("relu", relu_covariance), ("erf", erf_covariance)])
@pytest.mark.parametrize(("d", "k"), [(5, 2), (7, 3), (4, 1)])
def test_modes_rebuild_the_kernel(activation, covariance, anisotropic, d, k):
    # E_x[φ(w·x) φ(w'·x)] = Σ_sectors a(w)·a(w') Π_B P_l(ŝ_B·ŝ'_B), against its closed form.
    geometry = SingleIndexGeometry(activation, 2, d, k, anisotropic, 12, 12)
    w, v, s, units = neurons(geometry, 6)
    a, power = geometry.amplitudes(v, s, np.zeros(6))
    values = 0.0
    for mode, column in zip(geometry.modes, a.T, strict=True):
        angles = [
            gegenbauer(part, n, np.clip(unit @ unit.T, -1, 1))
            for part, n, unit in zip(mode.sector[1:], geometry.blocks, units, strict=True)
        ]
        values = values + np.outer(column, column) * np.prod(angles, axis=0)
    squares = (w**2).sum(axis=1)
    exact = covariance(w @ w.T, squares[:, None], squares)
    missing = power - (a**2).sum(axis=1)
    assert missing.min() > -1e-12
    assert (missing < 0.05 * power).all()
    assert (np.abs(values - exact) <= np.sqrt(np.outer(missing, missing)) + 1e-10).all()
    np.testing.assert_allclose(power, np.diag(exact), rtol=1e-10)


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
def test_overlap_and_power_by_sampling(activation):
    geometry = SingleIndexGeometry(activation, 3, 6, 2, True, 5, 2)
    w, v, s, _ = neurons(geometry, 3, seed=1)
    bias = np.array([0.4, -1.1, 0.0])
    a, power = geometry.amplitudes(v, s, bias)
    teacher = SingleIndex(6, 2, 3, normalized=True)
    x = np.random.default_rng(2).standard_normal((400_000, 6))
    z = (x[:, 0] + x[:, 1]) / math.sqrt(2)
    y = (z**3 - 3 * z) / math.sqrt(6)
    np.testing.assert_allclose(y[:50], teacher(x[:50]), atol=1e-4)
    network = TwoLayerNetwork(6, 3, 0.1, activation=activation, bias=True)
    hidden = np.asarray(network.features({"w": w, "b": bias}, x.astype(np.float32)), dtype=float)
    for row in range(3):
        for sample, value in ((hidden[row] * y, a[row, geometry.target]), (hidden[row] ** 2, power[row])):
            assert abs(sample.mean() - value) < 5 * sample.std() / math.sqrt(len(x))


def test_mean_field_density_is_that_of_the_paper():
    network, teacher = small(bias=True)
    problem = general_problem(network, teacher, "MeanField", Isotropic, max_order=2, target_only=True)
    theory = MeanFieldTheory(problem)
    modes = [problem.geometry.modes[c].degrees for c in theory.columns]
    prediction = np.array([{(2, 0): 0.4, (0, 0): -0.1, (0, 2): 0.2}.get(m, 0.0) for m in modes])
    law = theory.law(prediction, math.log(network.kappa))
    rng = np.random.default_rng(0)
    geometry = problem.geometry
    w, v, s, _ = neurons(geometry, 3)
    w, v, s, bias = 0.6 * w, 0.6 * v, 0.6 * s, np.array([0.2, -0.5, 0.9])
    amplitudes, power, moments = problem.quadrature.features(np.column_stack([v, s, bias]))
    alpha = law.precision(power)
    beta = problem.amplitude * amplitudes[:, theory.columns] @ law.error / network.kappa**2 / math.sqrt(32)
    # α and β by sampling inputs, with the mean prediction as a function: He_2(z), 1 and the trace part of degree 2.
    x = rng.standard_normal((1_000_000, 5))
    z = (x[:, 0] + x[:, 1]) / math.sqrt(2)
    trace = ((x**2).sum(axis=1) - z**2 - 4) / math.sqrt(2 * 4)
    mean = math.sqrt(2) * (0.4 * (z**2 - 1) / math.sqrt(2) - 0.1 + 0.2 * trace)
    hidden = np.maximum(w @ x.T + bias[:, None], 0)
    for row in range(3):
        square = hidden[row] ** 2
        error = square.std() / 1000 / (2 * network.kappa**2 * 32)
        assert abs(0.5 + square.mean() / (2 * network.kappa**2 * 32) - alpha[row]) < 5 * error
        pull = hidden[row] * (z**2 - 1 - mean) / (network.kappa**2 * math.sqrt(32))
        assert abs(pull.mean() - beta[row]) < 5 * pull.std() / 1000
    expected = -0.5 * np.log(alpha) + beta**2 / (4 * alpha) - 2.5 * (w**2).sum(axis=1)
    nodes = problem.quadrature.tensor(problem.quadrature.rules(4.0)).take(np.arange(3))
    nodes = replace(nodes, amplitudes=amplitudes, power=power, moments=moments, log_measure=np.zeros(3))
    np.testing.assert_allclose(law.log_weight(nodes, slice(None)), expected, rtol=1e-10)


@pytest.mark.parametrize(("name", "prior"), [("mf", None), ("mf", ARD(0.5)), ("ak", ARD(2.0))])
def test_jacobian_is_the_derivative(name, prior):
    network, teacher = small(prior)
    problem = general_problem(network, teacher, "x", Isotropic, ARD, target_only=name == "mf")
    theory = MeanFieldTheory(problem) if name == "mf" else KernelTheory(problem, 100)
    nodes = [problem.quadrature.tensor(problem.quadrature.rules(2.5))]
    rng, log_kappa = np.random.default_rng(0), math.log(0.2)
    theta = theory.start(log_kappa, nodes)
    theta = theta + 0.03 * rng.standard_normal(len(theta))
    _, jacobian, noise = theory.system(theta, log_kappa, nodes)
    direction, step = rng.standard_normal(len(theta)), 1e-5
    ahead, behind = (theory.system(theta + h * direction, log_kappa, nodes)[0] for h in (step, -step))
    np.testing.assert_allclose((ahead - behind) / (2 * step), jacobian @ direction, rtol=1e-4, atol=1e-5)
    ahead, behind = (theory.system(theta, log_kappa + h, nodes)[0] for h in (step, -step))
    np.testing.assert_allclose((ahead - behind) / (2 * step), noise, rtol=1e-4, atol=1e-5)


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
    # The learning curve is an average over data sets for Gaussian features: 3 % at this size, over a spread of runs.
    for value, target, noise in zip(
        (point.order_parameter, point.test_mse_mean, point.test_mse), mean, error, strict=True
    ):
        assert abs(value - target) < 5 * noise + 0.03 * target
    population = NNGP().solve(network, teacher)
    assert 0.1 < point.order_parameter < population.order_parameter < 1
    assert point.error < 1e-6


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
    assert quadratic.order_parameter == 0.0
    assert quadratic.test_mse_mean == pytest.approx(2.0)


@pytest.mark.parametrize("theory", [NNGP(), MeanField(), AdaptiveKernel()])
def test_odd_targets_above_one_are_out_of_reach_without_biases(theory):
    network = TwoLayerNetwork(5, 32, 0.1)
    point = theory.solve(network, SingleIndex(5, 2, 3))
    assert point.order_parameter == 0.0
    assert point.test_mse_mean == pytest.approx(6.0)
    assert point.test_mse > 6.0
    assert point.converged


@pytest.mark.parametrize("theory", [MeanField(), AdaptiveKernel()])
def test_infinite_width_is_the_nngp(theory):
    limit = NNGP().solve(*small()).order_parameter
    widths = (64, 10**4, 10**7)
    narrow, wide, widest = (theory.solve(*small(width=width)).order_parameter for width in widths)
    # What is left is that each resolves its own number of modes.
    assert abs(widest - limit) < 6e-4
    assert abs(wide - limit) < 2e-3 < abs(narrow - limit)
    assert 0.05 < limit < 0.95


@pytest.mark.parametrize("theory", [MeanField(), AdaptiveKernel(), NNGP()])
def test_large_noise_leaves_nothing_learned(theory):
    point = theory.solve(*small(kappa=100.0))
    assert 0 < point.order_parameter < 1e-4
    assert point.test_mse_mean == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("theory", [MeanField(), AdaptiveKernel()])
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


@pytest.mark.parametrize("kind", ["mf", "ak"])
def test_errors_are_honest(kind):
    network, teacher = small(bias=kind == "mf")
    problem = general_problem(network, teacher, "x", Isotropic, ARD, target_only=kind == "mf")
    q = problem.quadrature
    axes = {
        "components": replace(q.components, step=0.7 * q.components.step),
        "others": tuple(replace(axis, step=0.7 * axis.step) for axis in q.others),
    }
    finer = replace(problem, quadrature=replace(q, **axes))
    solved = [
        solve(MeanFieldTheory(p) if kind == "mf" else KernelTheory(p, None), 1e-8).solutions[-1]
        for p in (problem, finer)
    ]
    gap = abs(solved[0].figures["order_parameter"] - solved[1].figures["order_parameter"])
    assert gap < 3 * math.hypot(solved[0].error, solved[1].error) + 1e-8
    assert solved[0].error < 1e-3
    assert 0.1 < solved[0].figures["order_parameter"] < 0.95


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
