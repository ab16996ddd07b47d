"""Order parameters of a result, with Monte-Carlo standard errors."""

import arviz_stats
import numpy as np
import xarray as xr


def order_parameters(tree: xr.DataTree) -> xr.Dataset:
    """Posterior means of the order parameters and their Monte-Carlo standard errors (estimate).

    ``order_parameter`` m = E_test[f y]/E_test[y²]; ``test_mse_draw``, the test MSE of one draw, and
    ``test_mse_mean``, that of the posterior mean (never to be mixed: the second is smaller by the
    posterior variance); ``train_mse``; ``second_moment`` of w_ij over neurons (input);
    ``neuron_norm`` |a_i||w_i| in decreasing order (neuron_rank); where the relevant inputs are
    known ``num_specialised`` and ``relevance_ratio``, the ratio of the mean second moments on and
    off them. ``ValueError`` for a tree without the group ``order_parameters``.

    The standard error divides the standard deviation by √ESS for Markov chains, by √draws for
    independent draws; that of ``test_mse_mean`` is a jackknife over chains (for independent draws,
    over blocks of them), that of the ratio of second moments follows by the delta method.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD, sample
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = sample(network, data, SGLD(step_size=1e-3), jax.random.key(1), num_warmup=100, num_samples=200)
    >>> summary = order_parameters(tree)
    >>> abs(float(summary.order_parameter.sel(estimate="mean"))) < 0.5
    True
    """
    draws = group(tree, "order_parameters")
    independent = is_independent(tree)
    summary = {name: mean_and_se(draws[name], independent) for name in draws.data_vars}
    summary["test_mse_draw"] = summary.pop("test_mse")
    summary["test_mse_mean"] = _test_mse_of_mean(tree)
    if "relevance_ratio" in summary:
        summary["relevance_ratio"] = _relevance_ratio(tree, draws.second_moment, independent)
    return xr.Dataset(summary)


def start_difference(values: xr.DataArray) -> tuple[float, float]:
    """Mean over the chains from the aligned state minus that over the prior's, with its error.

    `values` (chain, draw) are of a run with ``start="both"``, in the order of
    :func:`inference.starts.start_params`.

    Examples
    --------
    >>> import numpy, xarray
    >>> values = xarray.DataArray(numpy.random.default_rng(0).normal(size=(4, 500)), dims=("chain", "draw"))
    >>> values[2:] += 3
    >>> difference, se = start_difference(values)
    >>> bool(abs(difference - 3) < 4 * se), bool(0.03 < se < 0.07)  # √2/√1000 = 0.045
    (True, True)
    """
    from_prior = values.sizes["chain"] - values.sizes["chain"] // 2
    halves = values.isel(chain=slice(from_prior)), values.isel(chain=slice(from_prior, None))
    (prior, prior_se), (aligned, aligned_se) = (mean_and_se(half, False).values for half in halves)
    return float(aligned - prior), float(np.hypot(prior_se, aligned_se))


def group(tree: xr.DataTree, name: str) -> xr.Dataset:
    """A group of a result as a dataset; ``ValueError`` where the tree does not have it."""
    if name not in tree.children:
        raise ValueError(
            f"tree has no group {name!r}; pass a result of sample(...), fit(...) or a fixed point."
        )
    return tree[name].to_dataset()


def is_independent(tree: xr.DataTree) -> bool:
    """Whether the draws of a result are independent (guides, fixed points) and no Markov chains."""
    return bool(tree.attrs.get("independent_draws", 0))


def _stack(mean, se) -> xr.DataArray:
    return xr.concat([mean, se], dim=xr.Variable("estimate", ["mean", "se"]))


def standard_errors(draws, independent: bool):
    """Monte-Carlo errors of the means: sd/√ESS of Markov chains, sd/√draws of independent draws."""
    if independent:
        sd = draws.std(("chain", "draw"), ddof=1)
        return sd / np.sqrt(draws.sizes["chain"] * draws.sizes["draw"])
    return arviz_stats.mcse(draws)


def mean_and_se(draws: xr.DataArray, independent: bool) -> xr.DataArray:
    """Mean over the draws and its Monte-Carlo standard error, dimension ``estimate``."""
    return _stack(draws.mean(("chain", "draw")), standard_errors(draws.astype(float), independent))


def _test_mse_of_mean(tree: xr.DataTree) -> xr.DataArray:
    f = group(tree, "predictions").f.to_numpy()
    y_test = group(tree, "predictions_constant_data").y_test.to_numpy()
    # Blocks of a single chain stand in for chains.
    blocks = f if len(f) > 1 else np.array_split(f[0], min(10, f.shape[1]))
    means = np.stack([block.mean(axis=0) for block in blocks])
    full, count = np.mean((f.mean(axis=(0, 1)) - y_test) ** 2), len(means)
    if count < 2:
        return _stack(xr.DataArray(full), xr.DataArray(np.nan))
    without = (means.sum(axis=0) - means) / (count - 1)
    mse = np.mean((without - y_test) ** 2, axis=1)
    return _stack(xr.DataArray(full), xr.DataArray(np.sqrt((count - 1) * mse.var())))


def _relevance_ratio(tree: xr.DataTree, second_moment: xr.DataArray, independent: bool) -> xr.DataArray:
    inside = np.isin(np.arange(second_moment.sizes["input"]), group(tree, "constant_data").relevant)
    on = second_moment.isel(input=inside).mean("input")
    off = second_moment.isel(input=~inside).mean("input")
    ratio = on.mean() / off.mean()
    # Delta method: the influence of a draw on on/off is (on - ratio·off)/E[off].
    influence = mean_and_se((on - ratio * off) / off.mean(), independent)
    return _stack(ratio, influence.sel(estimate="se", drop=True))
