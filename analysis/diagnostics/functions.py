"""Functions of a draw that do not depend on the labels of the neurons; all diagnostics are of them.

Weights are exchangeable between neurons and flip sign together, so that R-hat, ESS and means of
single weights say nothing.
"""

import numpy as np
import xarray as xr

from analysis.results.order_parameters import group

_TEST_POINTS = 10
_LARGEST_NEURONS = 5


def functions_of(tree: xr.DataTree) -> xr.Dataset:
    """The label-free functions of every draw, one scalar variable (chain, draw) each.

    They are the order parameter m, train and test MSE, f at ten test points, the second moment of
    every input's weights, the largest neuron norms, the log density, and log ρ_j where the prior
    has precisions; of the precisions of a deep network's upper layers the mean of the logarithm.
    """
    values = group(tree, "order_parameters").astype(float)
    picked = {name: values[name] for name in ("order_parameter", "train_mse", "test_mse")}
    picked |= _components("f", group(tree, "predictions").f, "test", _TEST_POINTS)
    picked |= _components("second_moment", values.second_moment, "input")
    picked |= _components("neuron_norm", values.neuron_norm, "neuron_rank", _LARGEST_NEURONS)
    if (density := log_density_of(tree)) is not None:
        picked["log_density"] = density
    if "rho" in tree["posterior"]:
        log_rho = np.log(tree["posterior"].rho.astype(float))
        if "neuron" in log_rho.dims:  # a precision for every weight: neurons have no order
            log_rho = log_rho.mean("neuron")
        picked |= _components("log_rho", log_rho, "input")
    for name in tree["posterior"].data_vars:  # of neurons, which have no order
        if str(name).removeprefix("rho").isdigit():
            values = np.log(tree["posterior"][name].astype(float))
            picked[f"log_{name}"] = values.mean([dim for dim in values.dims if dim not in ("chain", "draw")])
    return xr.Dataset(picked)


def stats_of(tree: xr.DataTree) -> xr.Dataset:
    """The statistics that came with the draws; empty where none did."""
    return group(tree, "sample_stats") if "sample_stats" in tree.children else xr.Dataset()


def outgoing_strength(posterior: xr.Dataset) -> xr.DataArray:
    """|a_i| of every neuron of the first layer, or with layers above it √(Σ_k w2_ki²)."""
    if "w2" in posterior:
        return np.sqrt((posterior.w2.astype(float) ** 2).sum("neuron2"))
    return np.abs(posterior.a.astype(float))


def log_density_of(tree: xr.DataTree) -> xr.DataArray | None:
    """log p(y, θ) of every draw up to a constant, where the scheme kept it."""
    stats = stats_of(tree)
    return next((stats[name].astype(float) for name in ("log_p", "lp") if name in stats), None)


def all_draws(values: xr.DataArray) -> np.ndarray:
    """Values of every draw, the chains one after the other: (chain, draw, ...) as (draw, ...)."""
    array = values.transpose("chain", "draw", ...).to_numpy().astype(float)
    return array.reshape(-1, *array.shape[2:])


def _components(name: str, values: xr.DataArray, dim: str, most: int | None = None) -> dict:
    """``name[0]``, ``name[1]``, …, the first `most` components of `values` along `dim`."""
    places = range(values.sizes[dim])[:most]
    return {f"{name}[{j}]": values.isel({dim: j}, drop=True).astype(float) for j in places}
