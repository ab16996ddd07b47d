"""Functions of a draw that do not depend on the labels of the neurons; all diagnostics are of them.

Weights are exchangeable between neurons and flip sign together, so that R-hat, ESS and means of
single weights say nothing.
"""

import numpy as np
import xarray as xr

from analysis.results.order_parameters import group


def functions_of(tree: xr.DataTree) -> xr.Dataset:
    """The label-free functions of every draw, one scalar variable (chain, draw) each.

    They are the order parameter m, train and test MSE, f at ten test points, the second moment of
    every input's weights, the largest neuron norms, the log density, and log ρ_j where the prior
    has precisions; of the precisions of a deep network's upper layers the mean of the logarithm.
    """
    functions = group(tree, "functions").astype(float)
    return xr.Dataset(dict(part for name in functions for part in _components(functions[name])))


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


def _components(values: xr.DataArray) -> list[tuple[str, xr.DataArray]]:
    """``name[0]``, ``name[1]``, … by the coordinate, or ``name`` itself, each (chain, draw)."""
    dims = [dim for dim in values.dims if dim not in ("chain", "draw")]
    if not dims:
        return [(values.name, values)]
    parts = (values.isel({dims[0]: j}, drop=True) for j in range(values.sizes[dims[0]]))
    return [
        (f"{values.name}[{label}]", p) for label, p in zip(values[dims[0]].to_numpy(), parts, strict=True)
    ]
