"""Networks drawn from the theories have the order parameter, test error and second moments that
were solved for."""

import math

import jax
import numpy as np
import pytest

from inference.fixed_points import NNGP, MeanField, MeanFieldARD
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

RELEVANT = {2: (1, 5), 4: (0, 3, 4, 9)}


def solve(input_dim, degree, width, kappa, prior):
    network = TwoLayerNetwork(input_dim=input_dim, width=width, kappa=kappa, prior=prior)
    teacher = SparseParity(input_dim, degree, RELEVANT[degree])
    theory = MeanFieldARD() if isinstance(prior, ARD) else MeanField()
    return network, teacher, theory.solve(network, teacher)


@pytest.mark.parametrize(
    ("input_dim", "degree", "width", "kappa", "prior"),
    [
        (16, 2, 64, 0.05, Isotropic()),
        pytest.param(16, 2, 64, 0.1, Isotropic(), marks=pytest.mark.slow),
        (16, 2, 64, 0.05, ARD()),
        pytest.param(35, 4, 512, 0.005, Isotropic(), marks=pytest.mark.slow),
        (35, 4, 512, 0.005, ARD()),
    ],
)
def test_draws_have_the_solved_order_parameters(input_dim, degree, width, kappa, prior):
    network, teacher, point = solve(input_dim, degree, width, kappa, prior)
    num_draws = 200 if width == 64 else 25
    networks = point.sample_networks(jax.random.key(3), num_draws)
    assert networks["w"].shape == (num_draws, width, input_dim)
    assert networks["a"].shape == (num_draws, width)
    assert all(np.isfinite(v).all() and v.dtype == np.float32 for v in networks.values())

    # Gaussian inputs outside S make the closed forms exact.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, input_dim)).astype(np.float32)
    rest = np.setdiff1d(np.arange(input_dim), teacher.relevant)
    x[:, teacher.relevant] = rng.choice([-1, 1], (len(x), degree))
    y = x[:, teacher.relevant].prod(axis=1)
    f = np.asarray(network.apply(networks, x))
    m, mse = (f * y).mean(axis=1), ((f - y) ** 2).mean(axis=1)
    for values, expected in ((m, point.order_parameter), (mse, point.test_mse)):
        error = values.std(ddof=1) / math.sqrt(num_draws)
        # The finite test set adds its own share: relative 1/√4000 of the spread of f y.
        error = math.hypot(error, (f.mean(axis=0) * y - m.mean()).std() / math.sqrt(len(x)))
        assert abs(values.mean() - expected) < 4 * error

    squares = (networks["w"] ** 2).mean(axis=1)
    relevant, others = squares[:, list(teacher.relevant)].mean(axis=1), squares[:, rest].mean(axis=1)
    ratio = relevant.mean() / others.mean()
    error = ratio * relevant.std(ddof=1) / relevant.mean() / math.sqrt(num_draws)
    assert abs(ratio - point.relevance_ratio) < 4 * error


def test_binary_inputs_differ_by_the_replacement_only():
    network, teacher, point = solve(16, 2, 64, 0.05, Isotropic())
    networks = point.sample_networks(jax.random.key(1), 300)
    x = teacher.inputs(jax.random.key(2), 4000)
    f, y = np.asarray(network.apply(networks, x)), np.asarray(teacher(x))
    m = (f * y).mean(axis=1)
    assert m.mean() == pytest.approx(point.order_parameter, rel=0.1)


def test_draws_are_reproducible_and_independent():
    _, _, point = solve(16, 2, 64, 0.05, ARD())
    first, again, other = (point.sample_networks(jax.random.key(seed), 3) for seed in (7, 7, 8))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["w"], other["w"])
    assert len(np.unique(first["w"][..., 0])) == 3 * 64


def test_precisions_follow_their_gamma_posterior():
    _, teacher, point = solve(16, 2, 64, 0.05, ARD())
    rho = point.sample_networks(jax.random.key(0), 4000)["rho"]
    for index, expected in ((teacher.relevant[0], point.precisions.relevant), (0, point.precisions.rest)):
        error = rho[:, index].std() / math.sqrt(len(rho))
        assert abs(rho[:, index].mean() - expected) < 4 * error
        # Gamma(α0 + N/2, ·): relative variance 1/(α0 + N/2).
        assert rho[:, index].var() / expected**2 == pytest.approx(1 / 36, rel=0.1)


@pytest.mark.parametrize(
    "activation",
    ["erf", *(pytest.param(name, marks=pytest.mark.slow) for name in ("relu", "tanh", "identity"))],
)
def test_nngp_networks_are_the_readout_posterior(activation):
    teacher = SparseParity(6, 2)
    data = teacher.sample(jax.random.key(0), 40, 50)
    network = TwoLayerNetwork(input_dim=6, width=256, kappa=0.1, activation=activation, bias=True)
    point = NNGP().solve(network, data)
    networks = point.sample_networks(jax.random.key(1), 100)
    assert networks["b"].shape == (100, 256)
    f = np.asarray(network.apply(networks, data.x_test))
    # Random features at N = 256 are within a few per cent of the limit.
    gap = np.sqrt(np.mean((f.mean(axis=0) - point.predictions) ** 2))
    spread = np.sqrt(point.predictive_variance.mean() / 100)
    assert gap < 3 * spread + 0.03
    assert f.var(axis=0).mean() == pytest.approx(point.predictive_variance.mean(), rel=0.15)


def test_population_nngp_has_no_networks():
    network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
    point = NNGP().solve(network, SparseParity(6, 2))
    with pytest.raises(ValueError, match="solve it on a dataset"):
        point.sample_networks(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="num_draws"):
        point.sample_networks(jax.random.key(0), 0)
