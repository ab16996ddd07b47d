"""Populations: Hermite coefficients, modes of parities and single indices, against sampling and
other libraries."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact_parity_overlap
from scipy.special import eval_chebyt, eval_gegenbauer

from inference.fixed_points.populations.hermite import hermite_coefficients, mean_square
from inference.fixed_points.populations.parity import ParityPopulation
from inference.fixed_points.populations.single_index import (
    SingleIndexPopulation,
    harmonic_dimension,
    harmonic_fraction,
)
from inference.fixed_points.regression.covariances import erf_covariance, relu_covariance
from models import SingleIndex, TwoLayerNetwork
from models.network import ACTIVATIONS


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
@pytest.mark.parametrize(("u", "s"), [(0.0, 1.0), (0.7, 0.4), (-1.3, 1.5), (2.0, 0.1), (0.5, 6.0)])
def test_hermite_coefficients(activation, u, s):
    expected, square = by_quadrature(activation, 7, u, s)
    np.testing.assert_allclose(hermite_coefficients(activation, 7, u, s), expected, atol=2e-6)
    assert float(mean_square(activation, u, s)) == pytest.approx(square, abs=2e-6)
    assert (hermite_coefficients(activation, 7, u, s) ** 2).sum() <= square + 1e-9


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4, 6])
def test_parity_modes_by_sampling(activation, degree):
    # x_S uniform signs and the rest Gaussian: overlap with χ_S, power of all modes, total power.
    population = ParityPopulation(activation, degree, degree + 3, 3)
    rng = np.random.default_rng(degree)
    w, bias = rng.standard_normal(degree + 3), 0.4
    signs = rng.choice([-1.0, 1.0], (400_000, degree))
    g = rng.standard_normal(400_000)
    norm = np.linalg.norm(w[degree:])
    with jax.enable_x64(True):
        hidden = np.asarray(ACTIVATIONS[activation](signs @ w[:degree] + norm * g + bias))
    a, power = population.amplitudes(w[None, :degree], np.array([[norm]]), np.array([bias]))
    target = hidden * signs.prod(axis=1)
    assert abs(target.mean() - a[0, population.target]) < 5 * target.std() / math.sqrt(400_000)
    assert abs((hidden**2).mean() - power[0]) < 5 * (hidden**2).std() / math.sqrt(400_000)
    # All of degree 0 in the rest is the mean over g: Σ_i q_i0 = 2^-k Σ_σ h².
    zero = sum(a[0, c] ** 2 for c, mode in enumerate(population.modes) if mode.degrees[1] == 0)
    patterns = {tuple(p) for p in signs[:2000]}
    means = [hermite_coefficients(activation, 0, np.array(p) @ w[:degree] + bias, norm)[0] for p in patterns]
    assert len(patterns) == 2**degree
    assert zero == pytest.approx(np.mean(np.square(means)), rel=1e-10)
    assert (a[0] ** 2).sum() < power[0]


def overlap(w, s):
    """J of ReLU, for w_S (k,) and s."""
    population = ParityPopulation("relu", len(w), len(w) + 1, 0, target_only=True)
    return population.amplitudes(np.array([w]), np.array([[s]]), np.zeros(1))[0][0, 0]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.floats(0.05, 3.0),
    st.floats(0.1, 10.0),
    st.permutations(range(4)),
)
def test_overlap_symmetries(w, s, scale, order):
    w = np.array(w)
    value = overlap(w, s)
    assert overlap(w[list(order)], s) == pytest.approx(value, abs=1e-12)
    assert overlap(scale * w, scale * s) == pytest.approx(scale * value, abs=1e-11)
    assert overlap(w * np.array([-1, 1, 1, 1]), s) == pytest.approx(-value, abs=1e-12)


def test_the_replacement_of_binary_inputs():
    # Aligned neurons: it overestimates by a fraction of a per cent; prior-like ones by about 10 %.
    rng = np.random.default_rng(4)
    aligned = np.concatenate([np.ones(4), 0.33 / math.sqrt(31) * rng.choice([-1, 1], 31)])
    ratio = overlap(aligned[:4], np.linalg.norm(aligned[4:])) / exact_parity_overlap(aligned, range(4))
    assert ratio == pytest.approx(1.0, abs=0.01)


def test_modes_of_relu_sum_to_the_power():
    rng = np.random.default_rng(3)
    w, s = rng.normal(size=(5, 4)), rng.uniform(0.3, 2.0, size=(5, 1))
    amplitudes, power = ParityPopulation("relu", 4, 70, 60).amplitudes(w, s, np.zeros(5))
    np.testing.assert_allclose(power, 0.5 * ((w**2).sum(axis=1) + s[:, 0] ** 2), rtol=1e-12)
    # Parseval; what is beyond degree 60 falls as order^(-3/2).
    np.testing.assert_allclose((amplitudes**2).sum(axis=1), power, rtol=5e-3)


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


def neurons(population, num, seed=0):
    """Random weights, their reduced variables, and unit vectors of the blocks."""
    rng = np.random.default_rng(seed)
    d, k = population.input_dim, population.num_relevant
    w = rng.standard_normal((num, d))
    u = np.zeros(d)
    u[:k] = k**-0.5
    along = w @ u
    rest = w - np.outer(along, u)
    if population.anisotropic:
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
    population = SingleIndexPopulation(activation, 2, d, k, anisotropic, 12, 12)
    w, v, s, units = neurons(population, 6)
    a, power = population.amplitudes(v, s, np.zeros(6))
    values = 0.0
    for mode, column in zip(population.modes, a.T, strict=True):
        angles = [
            gegenbauer(part, n, np.clip(unit @ unit.T, -1, 1))
            for part, n, unit in zip(mode.sector[1:], population.blocks, units, strict=True)
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
    population = SingleIndexPopulation(activation, 3, 6, 2, True, 5, 2)
    w, v, s, _ = neurons(population, 3, seed=1)
    bias = np.array([0.4, -1.1, 0.0])
    a, power = population.amplitudes(v, s, bias)
    teacher = SingleIndex(6, 2, 3, normalized=True)
    x = np.random.default_rng(2).standard_normal((400_000, 6))
    z = (x[:, 0] + x[:, 1]) / math.sqrt(2)
    y = (z**3 - 3 * z) / math.sqrt(6)
    np.testing.assert_allclose(y[:50], teacher(x[:50]), atol=1e-4)
    network = TwoLayerNetwork(6, 3, 0.1, activation=activation, bias=True)
    hidden = np.asarray(network.features({"w": w, "b": bias}, x.astype(np.float32)), dtype=float)
    for row in range(3):
        for sample, value in ((hidden[row] * y, a[row, population.target]), (hidden[row] ** 2, power[row])):
            assert abs(sample.mean() - value) < 5 * sample.std() / math.sqrt(len(x))
