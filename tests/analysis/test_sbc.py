"""Simulation-based calibration: uniform ranks for exact draws, and what each fault looks like."""

from functools import partial

import jax
import numpy as np
import pytest
import xarray as xr
from numpyro.infer import NUTS
from scipy.stats import kstest

from analysis.diagnostics import SimulationBasedCalibration, simulation_based_calibration
from analysis.diagnostics.sbc_runs import quantities, sample_all, simulate
from inference import MALA, SGLD, MeanFieldGuide, ParallelTempering
from models import ARD, TwoLayerNetwork

SMALL = TwoLayerNetwork(input_dim=2, width=3, kappa=0.15)
LONG = 256  # data sets of the slow tests


def ranks_of(draws_scale, shift=0.0, num_simulations=400, num_draws=63, seed=0):
    """Truth and draws Normal; the draws' scale and mean are off by `draws_scale` and `shift`."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(num_simulations, 1))
    draws = shift + draws_scale * rng.normal(size=(num_simulations, num_draws))
    ranks = xr.Dataset({"g": ("simulation", np.sum(draws < truth, axis=1))})
    return SimulationBasedCalibration(ranks, num_draws, {})


def test_exact_draws_pass_at_the_stated_rate():
    p_values = [ranks_of(1.0, seed=seed).p_values["g"] for seed in range(100)]
    assert kstest(p_values, "uniform").pvalue > 1e-3
    assert sum(p < 0.01 for p in p_values) <= 5


@pytest.mark.parametrize(
    ("scale", "shift", "word"),
    [(0.6, 0.0, "over-confident"), (1.7, 0.0, "too broad"), (1.0, 0.4, "too high"), (1.0, -0.4, "too low")],
)
def test_each_fault_is_named(scale, shift, word):
    result = ranks_of(scale, shift)
    assert not result.passed
    assert word in result.message
    assert result.table()["outside"]["g"]


def test_simulations_are_from_the_joint_law():
    x = np.random.default_rng(0).normal(size=(6, 2))
    params, y = simulate(SMALL, jax.random.split(jax.random.key(0), 4000), x)
    f = SMALL.apply(params, x)
    residual = (np.asarray(y) - np.asarray(f)) / (SMALL.kappa * 6**0.5)
    assert kstest(residual.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.var(np.asarray(params["w"]), axis=0), 0.5, rtol=0.15)


@pytest.mark.parametrize(
    ("kernel", "num_warmup"),
    [
        (SGLD(step_size=5e-3), 500),
        # Its chains exchange places over κ.
        (ParallelTempering(SGLD(step_size=5e-3), kappas=[0.1, 0.2], steps_per_swap=2), 250),
    ],
)
def test_each_chain_samples_the_posterior_of_its_own_targets(kernel, num_warmup):
    """Two data sets of opposite targets, at small noise: f takes the sign of its own."""
    network = TwoLayerNetwork(input_dim=1, width=4, kappa=0.1)
    x = np.ones((5, 1), np.float32)
    y = np.array([[1.0] * 5, [-1.0] * 5], np.float32)
    draws = sample_all(network, kernel.bind(network), jax.random.key(0), x, y, num_warmup, 50, 5)
    values = quantities(network, draws, x, x[:1], y)
    np.testing.assert_allclose(np.asarray(values["f[0]"]).mean(axis=1), [1, -1], atol=0.15)
    assert (np.asarray(values["train_mse"]).mean(axis=1) < 0.1).all()


@pytest.mark.parametrize(("name", "value"), [("num_simulations", 5), ("num_draws", 0), ("thinning", 0)])
def test_arguments_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        simulation_based_calibration(SMALL, SGLD(), jax.random.key(0), **{name: value})
    with pytest.raises(ValueError, match="kernel must be"):
        simulation_based_calibration(SMALL, "nuts", jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["isotropic", "ard"])
def test_nuts_is_calibrated(prior):
    network = SMALL if prior == "isotropic" else TwoLayerNetwork(2, 3, 0.15, prior=ARD())
    kernel = partial(NUTS, max_tree_depth=5)
    result = simulation_based_calibration(
        network, kernel, jax.random.key(1), LONG, num_warmup=150, thinning=2
    )
    assert result.passed, result.message
    assert ("log_rho[0]" in result.ranks) == (prior == "ard")


@pytest.mark.slow
def test_sgld_is_calibrated_at_a_small_step_and_not_at_a_large_one():
    small = simulation_based_calibration(
        SMALL, SGLD(step_size=0.005), jax.random.key(1), LONG, num_warmup=1000, thinning=100
    )
    assert small.passed, small.message
    large = simulation_based_calibration(
        SMALL, SGLD(step_size=0.05), jax.random.key(1), LONG, num_warmup=200, thinning=20
    )
    assert not large.passed


@pytest.mark.slow
def test_the_mean_field_guide_is_over_confident():
    result = simulation_based_calibration(SMALL, MeanFieldGuide(), jax.random.key(1), LONG, num_steps=1500)
    assert not result.passed


@pytest.mark.slow
def test_parallel_tempering_is_calibrated():
    kernel = ParallelTempering(MALA(step_size=0.02), kappas=[0.15, 0.3], steps_per_swap=5)
    result = simulation_based_calibration(SMALL, kernel, jax.random.key(1), LONG, num_warmup=200, thinning=10)
    assert result.passed, result.message
