"""What priors say before they have seen data."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.style import BLUE, heading, new_figure

_BINS = 40


def plot_prior_predictive(trees: xr.DataTree | Sequence[xr.DataTree]) -> Figure:
    """Functions, order parameter and relevance ratio under one prior or several, a row each.

    Left f of 12 draws on a line through two test points (dotted); the vertical axes are the same in all rows. In the
    middle the density of the order parameter m, right that of the relevance ratio on a logarithmic axis, with the
    medians (dashed): a prior that singles out inputs has a wide one. The last column is left out where the relevant
    inputs are unknown.

    Parameters
    ----------
    trees
        Results of :func:`analysis.results.prior_predictive`.
    """
    trees = [trees] if isinstance(trees, xr.DataTree) else list(trees)
    columns = 3 if all("relevance_ratio" in tree["order_parameters"] for tree in trees) else 2
    figure, grid = new_figure(len(trees), columns, 1.0 + 3.3 * columns, 0.6 + 1.55 * len(trees), sharex="col")
    values = [tree["order_parameters"].to_dataset() for tree in trees]
    reach = np.quantile(np.abs(np.concatenate([tree["line"].f.to_numpy() for tree in trees])), 0.99)
    m_bins = _bins(np.concatenate([v.order_parameter.to_numpy().ravel() for v in values]), np.linspace)
    for tree, value, axes in zip(trees, values, grid, strict=True):
        _functions(axes[0], tree, reach)
        _density(axes[1], value.order_parameter, m_bins)
    if columns == 3:
        ratios = np.concatenate([v.relevance_ratio.to_numpy().ravel() for v in values])
        ratio_bins = _bins(ratios, np.geomspace)
        for value, axes in zip(values, grid, strict=True):
            _density(axes[2], value.relevance_ratio, ratio_bins)
            axes[2].set_xscale("log")
        grid[-1][2].set_xlabel("relevance ratio E[w²: S]/E[w²: rest]")
        heading(grid[0][2], "relevance ratio")
    grid[-1][0].set_xlabel("position t on the line x(t) = (1 - t) x_A + t x_B")
    grid[-1][1].set_xlabel("order parameter m")
    heading(grid[0][0], "f of 12 draws on a line")
    heading(grid[0][1], "order parameter")
    return figure


def _functions(axes, tree, reach: float) -> None:
    line = tree["line"].to_dataset()
    axes.plot(line.position, line.f.transpose("position", "function"), color=BLUE, lw=0.8, alpha=0.7)
    for point in (0.0, 1.0):
        axes.axvline(point, color="0.6", lw=0.8, ls=":")
    axes.set_ylim(-1.05 * reach, 1.05 * reach)
    axes.set_ylabel(tree.attrs["prior"], fontsize=8, fontweight="bold")


def _density(axes, values: xr.DataArray, bins: np.ndarray) -> None:
    """The share of the draws per bin; what lies outside counts in the outermost bins."""
    values = np.clip(values.to_numpy().ravel(), bins[0], bins[-1])
    share, _ = np.histogram(values, bins)
    axes.stairs(share / len(values), bins, fill=True, color=BLUE, alpha=0.5)
    axes.axvline(np.median(values), color="black", lw=1, ls="--")
    axes.set_ylabel("share of draws", fontsize=8)


def _bins(values: np.ndarray, space) -> np.ndarray:
    low, high = np.quantile(values, [0.005, 0.995])
    if space is np.linspace:
        low, high = -max(-low, high), max(-low, high)
    return space(low, high, _BINS + 1)
