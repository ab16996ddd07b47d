"""The order parameter over the grid of a sweep."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.style import RED, heading, new_figure, prior_look, title

# Above this many cells a panel shows colours alone, and about this many of its ticks.
_MOST_NUMBERS = 60
_MOST_TICKS = 8


def plot_sweep(grid: xr.Dataset) -> Figure:
    """Mean of m over the seeds, κ across and P up; a column per scheme, a row per prior.

    Cells without an answer stay grey, with a cross where one failed.
    """
    grid = grid.sortby(["kappa", "num_data"])
    priors, schemes = grid.prior.values, grid.scheme.values
    width = max(2.6, 0.55 * min(grid.sizes["kappa"], 10))
    height = max(1.8, 0.4 * min(grid.sizes["num_data"], 10))
    size = (1.4 + width * len(schemes), 0.6 + height * len(priors))
    options = {"sharex": True, "sharey": True, "xlabel": "noise κ", "ylabel": "training points P"}
    figure, rows = new_figure(len(priors), len(schemes), *size, **options)
    for row, prior in zip(rows, priors, strict=True):
        for axes, scheme in zip(row, schemes, strict=True):
            image = _panel(axes, grid.sel(prior=prior, scheme=scheme))
            under = prior_look(str(prior))[2].removesuffix(" prior")
            heading(axes, f"{title(str(scheme))}, {under}", fontsize=9)
    figure.colorbar(image, ax=figure.axes, label="order parameter m")
    return figure


def _panel(axes, part: xr.Dataset):
    # Cells side by side, whatever the spacing of κ and P: a grid may be coarse, or have one row.
    m = part.order_parameter.mean("seed").transpose("num_data", "kappa").to_numpy()
    failed = (part.status == "failed").any("seed").transpose("num_data", "kappa").to_numpy()
    axes.set_facecolor("#DDDDDD")
    if (part.status == "skipped").all():
        axes.text(0.5, 0.5, "does not apply", ha="center", va="center", fontsize=8, transform=axes.transAxes)
    image = axes.pcolormesh(np.ma.masked_invalid(m), vmin=0, vmax=1, cmap="viridis")
    for (i, j), value in np.ndenumerate(m):
        if np.isfinite(value) and m.size <= _MOST_NUMBERS:
            shade = "white" if value < 0.6 else "black"
            axes.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=7, color=shade)
        if failed[i, j]:
            axes.plot([j + 0.9], [i + 0.85], "x", color=RED, ms=5, mew=1.5)
    _ticks(axes.xaxis, part.kappa.values, "{:.2g}")
    _ticks(axes.yaxis, part.num_data.values, "{:d}")
    return image


def _ticks(axis, values: np.ndarray, form: str) -> None:
    shown = np.arange(0, len(values), -(-len(values) // _MOST_TICKS))
    axis.set_ticks(shown + 0.5, [form.format(values[i].item()) for i in shown], fontsize=8)
