"""Summaries of order parameters against hand computation, and their standard errors against known
cases."""

import numpy as np
import pytest
import xarray as xr

from analysis import order_parameters


def make_tree(m, f, y_test, second_moment, relevant, independent):
    """A result with given draws (chain, draw, ...)."""
    dims = ("chain", "draw")
    tree = xr.DataTree.from_dict(
        {
            "order_parameters": xr.Dataset(
                {
                    "order_parameter": (dims, m),
                    "test_mse": (dims, ((f - y_test) ** 2).mean(-1)),
                    "relevance_ratio": (dims, np.full(m.shape, np.nan)),
                    "second_moment": ((*dims, "input"), second_moment),
                }
            ),
            "predictions": xr.Dataset({"f": ((*dims, "test"), f)}),
            "constant_data": xr.Dataset({"relevant": (("r",), relevant)}),
            "predictions_constant_data": xr.Dataset({"y_test": (("test",), y_test)}),
        }
    )
    tree.attrs["independent_draws"] = int(independent)
    return tree


@pytest.fixture
def draws():
    rng = np.random.default_rng(0)
    m = rng.normal(0.3, 0.2, (4, 500))
    f = rng.normal(0.0, 1.0, (4, 500, 20)) + 0.5
    moments = rng.gamma(2.0, [1.0, 1.0, 0.1, 0.1], (4, 500, 4))
    return m, f, np.where(rng.random(20) < 0.5, -1.0, 1.0), moments, np.array([0, 1])


def test_independent_draws_have_the_plain_standard_error(draws):
    summary = order_parameters(make_tree(*draws, independent=True))
    m = draws[0]
    assert summary.order_parameter.sel(estimate="mean").item() == pytest.approx(m.mean())
    assert summary.order_parameter.sel(estimate="se").item() == pytest.approx(m.std(ddof=1) / np.sqrt(m.size))


def test_chains_have_a_standard_error_that_counts_autocorrelation():
    """AR(1) with coefficient 0.9: the variance of a mean is (1+0.9)/(1-0.9) = 19 times that of
    independent draws."""
    rng, phi = np.random.default_rng(1), 0.9
    noise, m = rng.normal(size=(4, 5000)), np.zeros((4, 5000))
    m[:, 0] = noise[:, 0] / np.sqrt(1 - phi**2)
    for t in range(1, 5000):
        m[:, t] = phi * m[:, t - 1] + noise[:, t]
    f, y = rng.normal(size=(4, 5000, 2)), np.array([1.0, -1.0])
    tree = make_tree(m, f, y, np.ones((4, 5000, 2)), np.array([0]), independent=False)
    exact = np.sqrt(19 / (1 - phi**2) / m.size)
    assert order_parameters(tree).order_parameter.sel(estimate="se").item() == pytest.approx(exact, rel=0.2)


def test_mse_of_the_mean_is_not_that_of_a_draw(draws):
    _, f, y_test, _, _ = draws
    summary = order_parameters(make_tree(*draws, independent=False)).sel(estimate="mean")
    assert summary.test_mse_draw.item() == pytest.approx(((f - y_test) ** 2).mean())
    assert summary.test_mse_mean.item() == pytest.approx(((f.mean((0, 1)) - y_test) ** 2).mean())
    # Their difference is the posterior variance, averaged over test points.
    gap = summary.test_mse_draw.item() - summary.test_mse_mean.item()
    assert gap == pytest.approx(f.var((0, 1)).mean())


def test_jackknife_of_a_nearly_linear_statistic_is_the_standard_error_over_chains():
    """Near f = 1/2 and y = 1 the MSE of the mean moves as -f, so that its error is that of the mean
    over chains."""
    f = 0.5 + 1e-4 * np.random.default_rng(3).normal(size=(4, 50, 1))
    tree = make_tree(f[..., 0], f, np.ones(1), np.ones((4, 50, 2)), np.array([0]), independent=False)
    exact = f.mean(1).std(ddof=1) / np.sqrt(4)
    assert order_parameters(tree).test_mse_mean.sel(estimate="se").item() == pytest.approx(exact, rel=1e-3)


def test_relevance_ratio_is_a_ratio_of_means(draws):
    summary = order_parameters(make_tree(*draws, independent=True)).relevance_ratio
    moments = draws[3]
    assert summary.sel(estimate="mean").item() == pytest.approx(
        moments[..., :2].mean() / moments[..., 2:].mean()
    )


def test_relevance_ratio_standard_error_matches_repetition():
    rng, ratios, errors = np.random.default_rng(2), [], []
    for _ in range(200):
        moments = rng.gamma(2.0, [1.0, 0.2], (2, 50, 2))
        f = np.zeros((2, 50, 1))
        tree = make_tree(f[..., 0], f, np.ones(1), moments, np.array([0]), independent=True)
        ratio = order_parameters(tree).relevance_ratio
        ratios.append(ratio.sel(estimate="mean").item())
        errors.append(ratio.sel(estimate="se").item())
    # The standard deviation of 200 repetitions is known to 5 %; allow four times that.
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.2)


def test_a_tree_without_the_group_is_refused():
    with pytest.raises(ValueError, match="tree has no group 'order_parameters'"):
        order_parameters(xr.DataTree())
