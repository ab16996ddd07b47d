"""Coverage and LOO-PIT against closed forms of a network with fixed hidden weights, whose posterior
is Gaussian."""

import arviz_stats
import numpy as np
import pytest
import synthetic_trees as synthetic
import xarray as xr
from scipy.stats import kstest, norm

from analysis.diagnostics import calibrate
from analysis.diagnostics.calibration import check_calibration
from analysis.results.predictions import function_of_draws
from models import Dataset, TwoLayerNetwork

NETWORK = TwoLayerNetwork(input_dim=3, width=8, kappa=0.05)
NUM_DATA, NUM_TEST, NOISE = 60, 200, 0.05 * 60**0.5


def linear_problem(seed, shrink=1.0, target_noise=1.0):
    """Fixed w; readouts drawn from their exact posterior given w, their deviations times
    `shrink`."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(8, 3))
    x, x_test = rng.normal(size=(NUM_DATA, 3)), rng.normal(size=(NUM_TEST, 3))
    phi, phi_test = (np.maximum(w @ points.T, 0) / 8**0.5 for points in (x, x_test))
    truth = rng.normal(size=8)
    y = truth @ phi + target_noise * NOISE * rng.normal(size=NUM_DATA)
    y_test = truth @ phi_test + target_noise * NOISE * rng.normal(size=NUM_TEST)
    precision = np.eye(8) + phi @ phi.T / NOISE**2
    mean = np.linalg.solve(precision, phi @ y / NOISE**2)
    deviation = rng.normal(size=(4, 400, 8)) @ np.linalg.inv(np.linalg.cholesky(precision))
    data = Dataset(x, y, x_test, y_test)
    params = {"w": np.broadcast_to(w, (4, 400, 8, 3)), "a": mean + shrink * deviation}
    exact = {"precision": precision, "phi": phi, "phi_test": phi_test, "y": y, "y_test": y_test, "mean": mean}
    return synthetic.tree_of(data, params, network=NETWORK), exact


def test_pits_are_those_of_the_exact_posterior():
    tree, exact = linear_problem(0)
    calibration = calibrate(tree)
    covariance = np.linalg.inv(exact["precision"])
    sd = np.sqrt(np.sum(exact["phi_test"] * (covariance @ exact["phi_test"]), axis=0) + NOISE**2)
    wanted = norm.cdf((exact["y_test"] - exact["mean"] @ exact["phi_test"]) / sd)
    np.testing.assert_allclose(calibration.pit, wanted, atol=0.02)
    left_out = []
    for mu in range(NUM_DATA):
        phi, y = np.delete(exact["phi"], mu, axis=1), np.delete(exact["y"], mu)
        precision = np.eye(8) + phi @ phi.T / NOISE**2
        mean, one = np.linalg.solve(precision, phi @ y / NOISE**2), exact["phi"][:, mu]
        scale = np.sqrt(one @ np.linalg.solve(precision, one) + NOISE**2)
        left_out.append(norm.cdf((exact["y"][mu] - mean @ one) / scale))
    np.testing.assert_allclose(calibration.loo_pit, left_out, atol=0.05)


def test_loo_pit_agrees_with_arviz():
    """ArviZ takes draws of y in place of the exact integral over the noise."""
    tree, _ = linear_problem(1)
    f = function_of_draws(tree, tree["constant_data"].x.to_numpy()).reshape(4, 400, NUM_DATA)
    draws = f + NOISE * np.random.default_rng(0).normal(size=f.shape)
    tree["posterior_predictive"] = xr.Dataset({"y": (("chain", "draw", "data"), draws)})
    np.testing.assert_allclose(calibrate(tree).loo_pit, arviz_stats.loo_pit(tree).y, atol=0.06)


@pytest.fixture(scope="module")
def calibrations():
    """Calibrations of the exact posterior on data sets from the model."""
    return [calibrate(linear_problem(seed)[0]) for seed in range(16)]


def test_right_posteriors_pass_and_their_pits_are_uniform(calibrations):
    pits = np.concatenate([calibration.pit[:20] for calibration in calibrations])
    assert kstest(pits, "uniform").pvalue > 1e-3
    checks = [check for calibration in calibrations for check in check_calibration(calibration)]
    assert sum(check.status != "passed" for check in checks) <= 1


def test_the_expected_range_is_that_of_the_joint_law(calibrations):
    """Over data sets from the model the observed share falls where it is said to, mean and
    spread."""
    rows = [calibration.coverage.loc[0.8] for calibration in calibrations]
    y, low, high = np.array([row[["y", "expected_low", "expected_high"]] for row in rows]).T
    z = (2 * y - low - high) / (high - low)
    # The half width is 3.02 standard deviations.
    assert abs(np.mean(z)) < 4 / 3.02 / 16**0.5
    assert 0.5 / 3.02 < np.std(z) < 1.6 / 3.02


def test_intervals_hold_their_nominal_share(calibrations):
    """By two ways: what the posterior expects, and counting PITs between the tails."""
    for calibration in calibrations[:4]:
        for level, row in calibration.coverage.iterrows():
            assert row["expected_low"] < level <= row["expected_high"]
            inside = np.mean(np.abs(calibration.pit - 0.5) < level / 2)
            assert row["y"] == pytest.approx(inside, abs=0.03)


def test_targets_further_out_than_predicted_are_over_confident():
    """Residuals twice as large as the model's noise."""
    coverage, loo_pit = check_calibration(calibrate(linear_problem(0, target_noise=2.5)[0]))
    assert coverage.status == loo_pit.status == "failed"
    assert "over-confident" in coverage.message
    assert "over-confident" in loo_pit.message


def test_noise_that_the_targets_do_not_have_is_noted():
    coverage, loo_pit = check_calibration(calibrate(linear_problem(0, target_noise=0.2)[0]))
    assert coverage.status == loo_pit.status == "note"
    assert "wider than they need be" in coverage.message


def test_coverage_of_f_tells_an_over_confident_posterior():
    """Of targets without noise: the exact posterior covers them, one a tenth as wide does not."""
    wide, narrow = (
        np.mean([calibrate(linear_problem(s, shrink, 0.0)[0]).coverage["f"][0.9] for s in range(3)])
        for shrink in (1.0, 0.1)
    )
    assert wide > 0.9
    assert narrow < 0.5 * wide


def test_population_theories_have_no_loo_pit():
    tree, _ = linear_problem(0)
    tree.attrs["population"] = 1
    calibration = calibrate(tree)
    assert calibration.loo_pit is None
    assert [check.name for check in check_calibration(calibration)] == ["coverage"]
