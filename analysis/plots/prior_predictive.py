"""What priors say before they have seen data."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.style import BLUE, heading, new_figure

_BINS = 40
_LABELS = {"order_parameter": "order parameter m", "relevance_ratio": "relevance ratio E[w²: S]/E[w²: rest]"}


def plot_prior_predictive(trees: xr.DataTree | Sequence[xr.DataTree]) -> Figure:
    """Functions, order parameter and relevance ratio under one prior or several, a row each.

    `trees` are of :func:`analysis.prior_predictive`. Left f of 12 draws on a line through two test
    points (dotted); the vertical axes are the same in all rows. In the middle the density of the
    order parameter m, right that of the relevance ratio on a logarithmic axis, with the medians
    (dashed): a prior that singles out inputs has a wide one. The last column is left out where the
    relevant inputs are unknown.
    """
    trees = [trees] if isinstance(trees, xr.DataTree) else list(trees)
    columns = 3 if all("relevance_ratio" in tree["order_parameters"] for tree in trees) else 2
    figure, grid = new_figure(len(trees), columns, 1.0 + 3.3 * columns, 0.6 + 1.55 * len(trees), sharex="col")
    reach = np.quantile(np.abs(np.concatenate([tree["line"].f.to_numpy() for tree in trees])), 0.99)
    for tree, (first, *_) in zip(trees, grid, strict=True):
        _functions(first, tree, reach)
    grid[-1][0].set_xlabel("position t on the line x(t) = (1 - t) x_A + t x_B")
    heading(grid[0][0], "f of 12 draws on a line")
    for column, name in enumerate(list(_LABELS)[: columns - 1], start=1):
        values = [tree["order_parameters"][name].to_numpy().ravel() for tree in trees]
        bins = _bins(np.concatenate(values), logarithmic=column == 2)
        for value, axes in zip(values, grid, strict=True):
            _density(axes[column], value, bins)
        if column == 2:
            grid[-1][column].set_xscale("log")
        grid[-1][column].set_xlabel(_LABELS[name])
        heading(grid[0][column], name.replace("_", " "))
    return figure


def _functions(axes, tree, reach: float) -> None:
    line = tree["line"].to_dataset()
    axes.plot(line.position, line.f.transpose("position", "function"), color=BLUE, lw=0.8, alpha=0.7)
    for point in (0.0, 1.0):
        axes.axvline(point, color="0.6", lw=0.8, ls=":")
    axes.set_ylim(-1.05 * reach, 1.05 * reach)
    axes.set_ylabel(tree.attrs["prior"], fontsize=8, fontweight="bold")


def _density(axes, values: np.ndarray, bins: np.ndarray) -> None:
    """The share of the draws per bin; what lies outside counts in the outermost bins."""
    values = np.clip(values, bins[0], bins[-1])
    share, _ = np.histogram(values, bins)
    axes.stairs(share / len(values), bins, fill=True, color=BLUE, alpha=0.5)
    axes.axvline(np.median(values), color="black", lw=1, ls="--")
    axes.set_ylabel("share of draws", fontsize=8)


def _bins(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    low, high = np.quantile(values, [0.005, 0.995])
    reach = max(-low, high)
    return np.geomspace(low, high, _BINS + 1) if logarithmic else np.linspace(-reach, reach, _BINS + 1)
