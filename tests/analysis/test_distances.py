"""Distances against closed forms for Normal laws, against SciPy, and their noise floors."""

import numpy as np
import pytest
import synthetic_trees as synthetic
from scipy.stats import norm, wasserstein_distance

from analysis.diagnostics import distances
from analysis.diagnostics.distances import mean_rms, mmd2, total_variation, wasserstein


@pytest.mark.parametrize("sizes", [(50, 50), (50, 70), (200, 30)])
def test_wasserstein_is_that_of_scipy(sizes):
    rng = np.random.default_rng(0)
    f, g = (rng.normal(k, 1 + k, (size, 3)) for k, size in enumerate(sizes))
    wanted = np.mean([wasserstein_distance(a, b) for a, b in zip(f.T, g.T, strict=True)])
    assert wasserstein(f, g) == pytest.approx(wanted)


def test_mmd_of_normal_laws_has_its_closed_form():
    """For N(0, I) and N(μ, I) in n dimensions, E k = (h²/(h²+2))^(n/2) exp(-|μ|²/(2(h²+2)))."""
    rng = np.random.default_rng(0)
    shift, h, repeats = np.array([0.5, -0.3]), 1.5, 40
    estimates = [
        mmd2(rng.normal(size=(200, 2)), shift + rng.normal(size=(150, 2)), h) for _ in range(repeats)
    ]
    wanted = 2 * (h**2 / (h**2 + 2)) * (1 - np.exp(-shift @ shift / (2 * (h**2 + 2))))
    assert abs(np.mean(estimates) - wanted) < 4 * np.std(estimates) / repeats**0.5


def test_mmd_is_unbiased_where_the_laws_are_equal():
    rng = np.random.default_rng(1)
    estimates = [mmd2(rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), 1.0) for _ in range(300)]
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / 300**0.5
    assert min(estimates) < 0 < max(estimates)


def test_total_variation_and_means_of_shifted_normal_laws():
    rng = np.random.default_rng(2)
    f, g = 0.7 + rng.normal(size=(20_000, 2)), rng.normal(size=(20_000, 2))
    edges = norm.ppf(np.arange(11) / 10)
    wanted = 0.5 * np.sum(np.abs(np.diff(norm.cdf(edges - 0.7)) - 0.1))
    assert total_variation(f, g) == pytest.approx(wanted, abs=0.01)
    assert total_variation(f + 100, g) == pytest.approx(0.9)
    assert mean_rms(f, g) == pytest.approx(0.7, abs=0.03)


@pytest.fixture(scope="module")
def table():
    """Exact posterior draws three times: as they are, again, and a shrunk function; the first as
    reference."""
    data, params, tree = synthetic.good_run(0)
    again = synthetic.posterior_networks(np.random.default_rng(9), data)
    mean = params["a"].mean(axis=(0, 1))
    narrow = {"w": params["w"], "a": mean + 0.3 * (params["a"] - mean)}
    trees = {
        "nuts": tree,
        "same": synthetic.tree_of(data, again, "sgld"),
        "narrow": synthetic.tree_of(data, narrow, "mf-guide", independent=True),
    }
    return distances(trees), trees


@pytest.mark.parametrize("name", ["wasserstein", "total_variation", "mean_rms"])
def test_floors_are_what_equal_laws_give(table, name):
    ratio = (table[0][name] / table[0][f"{name}_floor"]).to_series()
    assert 0.5 < ratio["same"] < 2
    assert ratio["narrow"] > 2 or name == "mean_rms"
    assert table[0][name].sel(scheme="nuts") == 0


def test_the_narrow_scheme_is_over_confident(table):
    spread = table[0].spread.to_series()
    assert spread["nuts"] == 1
    assert spread["same"] == pytest.approx(1, abs=0.1)
    assert spread["narrow"] < 0.6
    assert table[0].mmd2.sel(scheme="narrow") > 5 * table[0].mmd2_floor.sel(scheme="narrow")
    assert abs(table[0].mmd2.sel(scheme="same")) < 4 * table[0].mmd2_floor.sel(scheme="same")


def test_differences_of_moments_carry_their_errors(table):
    values = table[0].sel(scheme="same")
    for name in ("order_parameter_difference", "second_moment_difference"):
        z = values[name] / values[f"{name}_se"]
        assert (abs(z) < 4.5).all()
        assert (values[f"{name}_se"] > 0).all()


def test_a_reference_is_a_converged_run_of_nuts(table):
    _, trees = table
    stuck = trees["nuts"].isel(draw=slice(0, 10))
    with pytest.raises(ValueError, match="no result of NUTS in trees has converged"):
        distances({"nuts": stuck, "same": trees["same"]})
    with pytest.raises(ValueError, match="reference 'x' is not among"):
        distances(trees, "x")
    other = synthetic.good_run(1)[2]
    with pytest.raises(ValueError, match="must share their test inputs"):
        distances({"nuts": trees["nuts"], "other": other}, "nuts")
