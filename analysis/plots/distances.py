"""How far the schemes are from the reference."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.style import BLUE, new_figure, rows_of_labels

_PANELS = {
    "wasserstein": "Wasserstein of f (units of y)",
    "mmd2": "MMD² of f",
    "total_variation": "total variation of binned f",
    "mean_rms": "rms difference of E f",
    "order_parameter_difference": "difference of m",
}


def plot_distances(table: xr.Dataset) -> Figure:
    """Distances from the reference by scheme, see :func:`analysis.diagnostics.distances`.

    Open triangles mark the floor: a distance at its floor is none that can be seen. Bars at the
    difference of m are two standard errors.
    """
    shown = table.sel(scheme=[s for s in table.scheme.to_numpy() if s != table.attrs["reference"]])
    places = np.arange(shown.sizes["scheme"])
    figure, [row] = new_figure(1, len(_PANELS), 14, 1.4 + 0.3 * len(places))
    for axes, (name, text) in zip(row, _PANELS.items(), strict=True):
        bars = 2 * shown[f"{name}_se"] if f"{name}_se" in shown else None
        axes.errorbar(shown[name], places, xerr=bars, fmt="o", color=BLUE, capsize=2)
        if f"{name}_floor" in shown:
            axes.plot(shown[f"{name}_floor"], places, "^", mfc="none", color="0.2", ms=6, zorder=3)
        axes.axvline(0, color="0.85", lw=0.8, zorder=0)
        rows_of_labels(axes, shown.scheme.to_numpy(), axes is row[0])
        axes.set_xlabel(text, fontsize=9)
        axes.margins(x=0.12)
    figure.suptitle(f"distance from {table.attrs['reference']}   △ floor of the estimate", fontsize=10)
    return figure
