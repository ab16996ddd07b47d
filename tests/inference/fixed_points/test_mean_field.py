"""MeanField on population parity: published values, independent quadrature, limits, honesty of the
error."""

import json
import math

import jax
import numpy as np
import pytest

from inference.fixed_points import NNGP, MeanField
from inference.fixed_points.branches.solve import solve as solve_with
from inference.fixed_points.mean_field import MeanFieldEquations
from inference.fixed_points.populations.parity import ParityPopulation
from inference.fixed_points.populations.problem import population_problem
from models import Isotropic, SparseParity, TwoLayerNetwork


def parity_overlap(relevant_weights, rest_norm):
    """J(w) of ReLU, for w_S (n, k) and s (n,)."""
    k = relevant_weights.shape[1]
    population = ParityPopulation("relu", k, k + 1, 0, target_only=True)
    return population.amplitudes(relevant_weights, rest_norm[:, None], np.zeros(len(rest_norm)))[0][:, 0]


def solve(input_dim, degree, width, kappa, **options):
    network = TwoLayerNetwork(input_dim=input_dim, width=width, kappa=kappa, **options)
    return MeanField().solve(network, SparseParity(input_dim, degree))


@pytest.mark.parametrize(("kappa", "expected"), [(0.0125, 0.0180), (0.01, 0.2106), (0.005, 0.6116)])
def test_order_parameter_at_degree_four(kappa, expected):
    point = solve(35, 4, 512, kappa)
    assert point.converged
    assert point.residual < 1e-9
    assert point.order_parameter == pytest.approx(expected, abs=5e-4)
    assert point.error < 1e-4
    assert point.effective_sample_size > 100


def test_a_wide_network_far_below_its_onset():
    # m rises from 1e-5 to 0.1 within 4 % in κ, where neurons align that were idle just before.
    point = solve(140, 4, 26_000, 0.002)
    assert point.order_parameter == pytest.approx(0.658135, abs=1e-5)  # tests/oracles.py


@pytest.mark.parametrize(
    ("input_dim", "kappa"),
    [
        (35, 0.0345),
        (280, 0.0130),
        *(pytest.param(*v, marks=pytest.mark.slow) for v in ((70, 0.0241), (140, 0.0178))),
    ],
)
def test_critical_noise_falls_with_the_input_dimension(input_dim, kappa):
    # κ at which m = 0.1, given to three digits; m changes by about 1 % for each unit in the last.
    assert solve(input_dim, 2, 512, kappa).order_parameter == pytest.approx(0.1, abs=2.5e-3)


@pytest.mark.parametrize(
    ("kappa", "gamma", "scale", "readout_scale"),
    [(0.2, 0.4, 1.3, 0.8), (0.05, 0.8, 1.0, 1.5), pytest.param(0.12, 0.5, 1.0, 1.0, marks=pytest.mark.slow)],
)
def test_against_importance_sampling_from_the_prior(kappa, gamma, scale, readout_scale):
    d, k, n = 6, 2, 8
    point = solve(d, k, n, kappa, gamma=gamma, prior=Isotropic(scale), readout_scale=readout_scale)
    m = point.order_parameter
    assert 0.02 < m < 0.9
    # The equations as the paper states them, with w drawn from its prior and no reduction of any
    # kind.
    rng = np.random.default_rng(1)
    w = rng.standard_normal((1_500_000, d)) * scale / math.sqrt(d)
    power = 0.5 * (w**2).sum(axis=1)
    overlap = parity_overlap(w[:, :k], np.linalg.norm(w[:, k:], axis=1))
    alpha = 0.5 / readout_scale**2 + power / (2 * kappa**2 * n ** (2 * gamma))
    beta = (1 - m) * overlap / (kappa**2 * n**gamma)
    weight = alpha**-0.5 * np.exp(beta**2 / (4 * alpha))
    update = n ** (1 - gamma) * beta / (2 * alpha) * overlap
    variance = n ** (1 - 2 * gamma) * (0.5 / alpha + (beta / (2 * alpha)) ** 2) * power
    for values, expected in (
        (update, m),
        ((1 - m) ** 2 + variance - m**2 / n, point.test_mse),
    ):
        ratio = np.average(values, weights=weight)
        error = np.sqrt(((weight * (values - ratio)) ** 2).sum()) / weight.sum()
        assert abs(ratio - expected) < 4 * error


@pytest.mark.parametrize(
    ("input_dim", "degree", "width", "kappa"),
    [
        pytest.param(35, 4, 512, 0.0125, marks=pytest.mark.slow),
        pytest.param(35, 4, 512, 0.002, marks=pytest.mark.slow),
        (16, 2, 64, 0.05),
        pytest.param(70, 2, 512, 0.0241, marks=pytest.mark.slow),
        (3, 2, 64, 0.02),
        pytest.param(5, 4, 64, 0.02, marks=pytest.mark.slow),
    ],
)
def test_error_estimate_is_honest(input_dim, degree, width, kappa):
    network = TwoLayerNetwork(input_dim=input_dim, width=width, kappa=kappa)
    teacher = SparseParity(input_dim, degree)
    point = MeanField().solve(network, teacher)
    problem = population_problem(network, teacher, "MeanField", Isotropic, max_order=0, target_only=True)
    fine = solve_with(MeanFieldEquations, problem, kappa, refinement=4).solutions[0]
    assert abs(fine.figures["order_parameter"] - point.order_parameter) < 3 * point.error
    assert point.error < 3e-4


def test_infinite_width_is_the_nngp():
    kappa, d = 0.05, 16
    gap = []
    for width in (10**6, 10**7):
        network = TwoLayerNetwork(input_dim=d, width=width, kappa=kappa)
        limit = NNGP().solve(network, SparseParity(d, 2)).order_parameter
        gap.append(abs(MeanField().solve(network, SparseParity(d, 2)).order_parameter - limit))
    assert gap[1] < 1e-6
    assert gap[0] / gap[1] == pytest.approx(10, rel=0.1)  # the correction is of order 1/N


def test_large_noise_leaves_nothing_learned():
    point = solve(16, 2, 64, 100.0)
    assert 0 < point.order_parameter < 1e-6
    # The prior's own error: 1 + N^(1-2γ) σ_a² σ_w²/2.
    assert point.test_mse == pytest.approx(1.5, abs=1e-3)
    assert point.test_mse_mean == pytest.approx(1.0, abs=1e-5)
    assert point.relevance_ratio == pytest.approx(1.0, abs=1e-4)


def test_order_parameter_rises_as_the_noise_falls():
    values = [solve(16, 2, 64, kappa).order_parameter for kappa in (0.2, 0.1, 0.05, 0.02, 0.01)]
    assert np.all(np.diff(values) > 0)


def test_scales_enter_only_through_their_product():
    first = solve(16, 2, 64, 0.05, prior=Isotropic(4.0), readout_scale=0.25)
    second = solve(16, 2, 64, 0.05)
    assert first.order_parameter == pytest.approx(second.order_parameter, abs=1e-8)
    assert first.test_mse == pytest.approx(second.test_mse, abs=1e-7)
    assert first.precisions.relevant == first.precisions.rest == 1.0


def test_unresolved_density_says_so():
    assert solve(6, 2, 16, 1e-7).error > 0.01  # all weight in one of the node sets
    point = solve(16, 4, 512, 1e-6)
    assert point.error > 0.01
    with pytest.raises(ValueError, match="raise kappa"):
        point.sample_networks(jax.random.key(0), 1)


def test_to_dict_is_strict_json():
    record = solve(16, 2, 64, 0.05).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert set(record) == {
        "theory", "start", "order_parameter", "test_mse", "test_mse_mean", "precisions", "relevance_ratio",
        "residual", "error", "effective_sample_size", "iterations", "converged", "branches",
        "num_data", "effective_ridge", "amplification", "test_mse_error", "folds",
    }  # fmt: skip
    assert record["branches"][0]["starts"] == ["prior", "aligned"]
    assert record["precisions"] == {"relevant": 16.0, "rest": 16.0}
