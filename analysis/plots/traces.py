"""Traces and ranks of functions: how chains mix."""

import matplotlib

matplotlib.use("agg", force=False)  # ArviZ draws through pyplot; a figure for a file needs no display

import arviz_plots
import xarray as xr
from matplotlib.figure import Figure

from analysis.diagnostics.diagnose import functions_of

_FUNCTIONS = {
    "order_parameter": "order parameter m",
    "train_mse": "train MSE",
    "log_density": "log density",
    "f[0]": "f at a test point",
}


def plot_function_traces(tree: xr.DataTree, heading: str = "") -> Figure:
    """Trace and rank plot of label-free functions of one sampler's result.

    The functions are the order parameter, the train MSE, the log density and f at the first test point. Ranks are
    shown as differences of the empirical cumulative distributions of each chain's fractional ranks from the
    uniform one, with the simultaneous 99 % band of Säilynoja, Bürkner and Vehtari (2022): a chain outside the
    band does not agree with the others.

    Parameters
    ----------
    tree
        A result of :func:`inference.sample`.
    heading
        Title of the figure.
    """
    functions = functions_of(tree)
    picked = functions[[name for name in _FUNCTIONS if name in functions]].rename(_FUNCTIONS)
    collection = arviz_plots.combine_plots(
        xr.DataTree.from_dict({"posterior": picked}),
        plots=[
            (arviz_plots.plot_trace, {}),
            (arviz_plots.plot_rank, {"method": "envelope", "envelope_prob": 0.99}),
        ],
        backend="matplotlib",
    )
    figure = collection.viz["figure"].item()
    figure.set_size_inches(11, 2.2 * len(picked) + 0.6)
    figure.set_layout_engine("constrained")
    if heading:
        figure.suptitle(heading)
    return figure
