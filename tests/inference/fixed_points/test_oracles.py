"""The oracles themselves: closed forms, completeness of the modes, the values of the theory's
page."""

import math

import numpy as np
import pytest
from oracles import (
    AdaptiveKernelOracle,
    Cloud,
    MeanFieldOracle,
    NNGPOracle,
    Problem,
    _components,
    answer,
    exact_parity_overlap,
    hermite_coefficients,
    sampled_kernel,
)

from models import ARD, SingleIndex, SparseParity, TwoLayerNetwork

PHI = {
    "relu": lambda u: np.maximum(u, 0),
    "erf": np.vectorize(math.erf),
    "tanh": np.tanh,
    "identity": lambda u: u,
}
PAPER = SparseParity(35, 4)


def paper(kappa, **changes):
    return TwoLayerNetwork(35, 512, kappa, **changes)


@pytest.mark.parametrize("activation", PHI)
def test_hermite_coefficients_by_the_trapezoid_rule(activation):
    g = np.linspace(-12, 12, 40_001)
    weight = np.exp(-0.5 * g * g) / math.sqrt(2 * math.pi) * (g[1] - g[0])
    basis = np.polynomial.hermite_e.hermevander(g, 4) / np.sqrt([math.factorial(n) for n in range(5)])
    for u, s in ((0.3, 1.0), (-1.2, 0.2), (2.0, 3.0)):
        values = PHI[activation](u + s * g)
        found, square = hermite_coefficients(activation, 4, u, s)
        np.testing.assert_allclose(found, (values * weight) @ basis, atol=3e-6)
        assert square == pytest.approx(values**2 @ weight, abs=3e-6)


def test_modes_of_parity_are_those_of_enumeration():
    problem = Problem(TwoLayerNetwork(20, 8, 0.1, activation="erf", bias=True), SparseParity(20, 3), order=8)
    y = np.append(np.log([0.5, 0.9, 0.4, 0.8]), 0.7)
    a, power, squares = problem.features(y[None])
    g, rng = np.linspace(-9, 9, 4001), np.random.default_rng(0)
    weight = np.exp(-0.5 * g * g) / math.sqrt(2 * math.pi) * (g[1] - g[0])
    signs = rng.permutation(np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T)
    hidden = PHI["erf"]((signs @ np.exp(y[:3]))[:, None] + 0.8 * g + 0.7)
    assert a[0, problem.target] == pytest.approx(abs((hidden @ weight) @ signs.prod(axis=1)) / 8, abs=1e-8)
    assert power[0] == pytest.approx(((hidden**2) @ weight).mean(), abs=1e-8)
    assert (a[0, :4] ** 2).sum() == pytest.approx(((hidden @ weight) ** 2).mean(), abs=1e-8)
    assert (a**2).sum() == pytest.approx(power[0], rel=1e-3)
    np.testing.assert_allclose(squares[0], [0.25 + 0.81 + 0.16, 0.64])


def test_modes_of_a_single_index_are_complete_and_average_to_the_kernel():
    problem = Problem(TwoLayerNetwork(4, 8, 0.1, activation="erf"), SingleIndex(4, 2, 2), order=12, extra=10)
    y = np.log([[0.4, 0.5], [0.3, 0.6]])
    a, power, _ = problem.features(y)
    assert (a**2).sum(axis=1) == pytest.approx(power, rel=1e-4)
    # Neurons with the same direction outside u: every harmonic has C_l(1)/C_l(1) = 1.
    v = np.exp(y)
    overlap = 2 * v[0] @ v[1]
    norms = 1 + 2 * (v**2).sum(axis=1)
    exact = 2 / math.pi * math.asin(overlap / math.sqrt(norms.prod()))
    assert a[0] @ a[1] == pytest.approx(exact, rel=1e-4)


def test_mixture_weights_integrate_the_prior():
    network = TwoLayerNetwork(10, 8, 0.1, bias=True, prior=ARD())
    theory = MeanFieldOracle(network, SparseParity(10, 3))
    cloud = Cloud.draw(theory.problem, _components(theory.problem, theory.start(), 13), 0)
    weights = np.exp(cloud.log_prior(np.array([10.0, 10.0])))
    assert weights.sum() == pytest.approx(1, abs=2e-3)
    assert weights @ cloud.squares == pytest.approx([0.3, 0.7], rel=1e-2)


def test_gaussian_replacement_against_the_exact_overlap():
    rng, problem = np.random.default_rng(0), Problem(paper(0.01), PAPER, target_only=True)
    aligned = np.append(np.ones(4), 0.33 * rng.choice([-1, 1], 31) / math.sqrt(31))
    generic = rng.standard_normal(35) / math.sqrt(35)
    for w, tolerance in ((aligned, 5e-3), (generic, 0.35)):
        y = np.log(np.append(np.abs(w[:4]), np.linalg.norm(w[4:])))
        replaced = problem.features(y[None])[0][0, 0] * np.sign(w[:4]).prod()
        assert exact_parity_overlap(w, range(4)) == pytest.approx(replaced, rel=tolerance)


def test_sampled_arc_cosine_kernel():
    x = np.array([[1.0, 0.5, -0.2], [0.3, -1.0, 0.8]])
    found, error = sampled_kernel("relu", x, 0.5)
    norms = np.linalg.norm(x, axis=1)
    angle = math.acos(x[0] @ x[1] / norms.prod())
    exact = 0.5 * norms.prod() * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)
    assert abs(found[0, 1] - exact) < 4 * error[0, 1] + 1e-6
    assert error[0, 1] < 1e-3


@pytest.mark.parametrize(
    ("kappa", "m"),
    [
        (0.01, 0.2106),
        *(pytest.param(*v, marks=pytest.mark.slow) for v in ((0.0125, 0.0180), (0.005, 0.6116))),
    ],
)
def test_mean_field_of_the_page(kappa, m):
    found = answer(MeanFieldOracle(paper(kappa), PAPER), size=10)
    assert found.order_parameter == pytest.approx(m, abs=6e-5)
    assert found.error < 2e-5
    assert found.effective_sample_size > 10_000


@pytest.mark.slow
def test_adaptive_kernel_of_the_page():
    found = answer(AdaptiveKernelOracle(paper(0.005), PAPER), size=8, rounds=2)
    assert found.order_parameter == pytest.approx(0.9406, abs=6e-5)
    assert found.mse == pytest.approx(0.0277, abs=6e-5)


@pytest.mark.slow
def test_error_is_that_of_other_seeds():
    theory = MeanFieldOracle(TwoLayerNetwork(8, 32, 0.1, bias=True, bias_scale=0.5), SparseParity(8, 2))
    one, two = (answer(theory, seed=seed, size=8, rounds=2) for seed in (1, 2))
    assert abs(one.order_parameter - two.order_parameter) < 4 * math.hypot(one.error, two.error)
    assert 1e-5 < one.error < 1e-3


def test_nodes_find_aligned_neurons_with_biases_far_out():
    # The fourth difference of ReLU has kinks at b = ±2a, too: neurons six σ_b out, which carry a
    # thousandth of m. The grid of inference.fixed_points gives .54374 ± 4e-5.
    theory = MeanFieldOracle(TwoLayerNetwork(12, 64, 0.01, bias=True, bias_scale=0.1), SparseParity(12, 4))
    found = answer(theory, size=11, rounds=2)
    assert found.order_parameter == pytest.approx(0.54372, abs=8e-5)


@pytest.mark.parametrize(
    "teacher", [SparseParity(6, 3), pytest.param(SingleIndex(6, 2, 2), marks=pytest.mark.slow)]
)
def test_infinite_width_is_the_nngp(teacher):
    network = TwoLayerNetwork(6, 10**7, 0.1, bias=True)
    wide = answer(AdaptiveKernelOracle(network, teacher, 80, order=6), size=8, rounds=1)
    limit = answer(NNGPOracle(network, teacher, 80), size=8, rounds=1)
    assert abs(wide.order_parameter - limit.order_parameter) < 4 * math.hypot(wide.error, limit.error) + 1e-5
    assert abs(wide.mse - limit.mse) < 1e-2 * limit.mse
    assert limit.order_parameter > 1e-3


@pytest.mark.slow
def test_mean_field_ard_of_the_page():
    for start in ("prior", "aligned"):
        found = answer(MeanFieldOracle(paper(0.005, prior=ARD()), PAPER), start, size=12)
        assert found.order_parameter == pytest.approx(0.8758, abs=1e-4)
        assert found.precisions == pytest.approx((0.1608, 110.8), rel=5e-3)
    prior, aligned = (
        answer(MeanFieldOracle(paper(0.02, prior=ARD()), PAPER), start, size=12)
        for start in ("prior", "aligned")
    )
    assert prior.order_parameter < 2e-4
    assert aligned.order_parameter == pytest.approx(0.533, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "kappa"), [(35, 0.0345), (70, 0.0241), (140, 0.0178), (280, 0.0130)])
def test_onset_of_the_mean_field(d, kappa):
    found = answer(MeanFieldOracle(TwoLayerNetwork(d, 512, kappa), SparseParity(d, 2)))
    # κ is given to three digits, and d log m/d log κ is about -10 there.
    assert found.order_parameter == pytest.approx(0.1, rel=0.04)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "kappa"), [(35, 0.1075), (70, 0.1040), (140, 0.1023), (280, 0.1015)])
def test_fold_of_the_mean_field_ard(d, kappa):
    for factor, count in ((0.99, 3), (1.01, 1)):
        network = TwoLayerNetwork(d, 512, factor * kappa, prior=ARD())
        theory = MeanFieldOracle(network, SparseParity(d, 2))
        assert len(answer(theory, "aligned", size=8).branches) == count
