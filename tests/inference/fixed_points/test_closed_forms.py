"""Closed forms of one ReLU neuron and the direction quadrature, against Monte Carlo and one another."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.fixed_points.directions import default_resolution, direction_nodes, replicates
from inference.fixed_points.relu import (
    hermite_mode,
    mode_powers,
    parity_overlap,
    parity_overlap_binary,
    power,
    smoothed_relu,
)


def z_score(samples, expected):
    return (samples.mean() - expected) / (samples.std(ddof=1) / math.sqrt(len(samples)))


@pytest.mark.parametrize(("u", "s"), [(0.7, 0.4), (-1.1, 0.9), (0.0, 2.0)])
def test_smoothed_relu_and_its_modes_are_gaussian_averages(u, s):
    g = np.random.default_rng(0).standard_normal(400_000)
    relu = np.maximum(u + s * g, 0)
    assert abs(z_score(relu, smoothed_relu(u, s))) < 4
    hermite = [np.ones_like(g), g, g**2 - 1, g**3 - 3 * g, g**4 - 6 * g**2 + 3]
    for order, polynomial in enumerate(hermite):
        values = relu * polynomial / math.sqrt(math.factorial(order))
        assert abs(z_score(values, hermite_mode(order, u, s))) < 4, order


@pytest.mark.parametrize("degree", [2, 4])
def test_overlap_and_power_are_averages_over_inputs(degree):
    rng = np.random.default_rng(degree)
    w = rng.normal(size=degree)
    s = 0.6
    x = rng.choice([-1.0, 1.0], size=(600_000, degree))
    relu = np.maximum(x @ w + s * rng.standard_normal(len(x)), 0)
    assert abs(z_score(relu * x.prod(axis=1), parity_overlap(w, s))) < 4
    assert abs(z_score(relu**2, power(w, s))) < 4


def test_mode_powers_contain_the_overlap_and_sum_to_the_power():
    rng = np.random.default_rng(3)
    w, s = rng.normal(size=(5, 4)), rng.uniform(0.3, 2.0, size=5)
    powers = mode_powers(w, s, 60)
    np.testing.assert_allclose(powers[:, 4, 0], parity_overlap(w, s) ** 2, rtol=1e-9)
    # Parseval; what is beyond degree 60 falls as order^(-3/2).
    np.testing.assert_allclose(powers.sum(axis=(1, 2)), power(w, s), rtol=5e-3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.floats(0.05, 3.0),
    st.floats(0.1, 10.0),
    st.permutations(range(4)),
)
def test_overlap_symmetries(w, s, scale, order):
    w = np.array(w)
    overlap = parity_overlap(w, s)
    assert parity_overlap(w[list(order)], s) == pytest.approx(overlap, abs=1e-12)
    assert parity_overlap(scale * w, scale * s) == pytest.approx(scale * overlap, abs=1e-11)
    flipped = w * np.array([-1, 1, 1, 1])
    assert parity_overlap(flipped, s) == pytest.approx(-overlap, abs=1e-12)


def test_binary_overlap_is_exact_and_the_replacement_close_to_it():
    rng = np.random.default_rng(4)
    w = rng.normal(size=10)
    signs = 1 - 2 * ((np.arange(2**10)[:, None] >> np.arange(10)) & 1)
    exact = np.mean(np.maximum(signs @ w, 0) * signs[:, :4].prod(axis=1))
    assert parity_overlap_binary(w, 4) == pytest.approx(exact, abs=2e-4)
    # Aligned neurons: the replacement overestimates by a fraction of a per cent.
    aligned = np.concatenate([np.ones(4), 0.33 / math.sqrt(31) * rng.choice([-1, 1], 31)])
    ratio = parity_overlap(aligned[:4], np.linalg.norm(aligned[4:])) / parity_overlap_binary(aligned, 4)
    assert ratio == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("degree", "input_dim"), [(2, 3), (2, 35), (4, 5), (4, 20), (6, 12)])
def test_direction_nodes_are_the_uniform_measure(degree, input_dim):
    moments, overlaps = [], []
    for nodes in replicates(degree, input_dim):
        weight = np.exp(nodes.log_measure - nodes.log_measure.max())
        moments.append(
            [np.average(nodes.relevant_fraction**power, weights=weight) for power in (1, 2)]
            + [np.average((nodes.relevant_weights**4).sum(axis=1), weights=weight)]
        )
        overlaps.append(np.average(nodes.overlap_squared, weights=weight))
    # On the sphere c² is Beta(k/2, (d-k)/2), and E[w_j⁴] = 3/(d(d+2)).
    k, d = degree, input_dim
    expected = [k / d, k * (k + 2) / (d * (d + 2)), 3 * k / (d * (d + 2))]
    moments, overlaps = np.array(moments), np.array(overlaps)
    error = moments.std(axis=0, ddof=1) / math.sqrt(len(moments)) + 2e-6 * np.array(expected)
    assert np.all(np.abs(moments.mean(axis=0) - expected) < 4 * error)
    rng = np.random.default_rng(0)
    w = rng.standard_normal((200_000, d))
    w /= np.linalg.norm(w, axis=1)[:, None]
    samples = parity_overlap(w[:, :k], np.linalg.norm(w[:, k:], axis=1)) ** 2
    assert abs(z_score(samples, overlaps.mean())) < 4


def test_replicates_are_independent_and_cached():
    resolution = default_resolution(2)
    first, second = (direction_nodes(2, 9, replicate, resolution) for replicate in (0, 1))
    assert first is direction_nodes(2, 9, 0, resolution)
    assert not np.allclose(first.overlap_squared, second.overlap_squared)
