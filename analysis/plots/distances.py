"""How far the schemes are from the reference."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.style import new_figure, tidy

_PANELS = {
    "wasserstein": "Wasserstein of f (units of y)",
    "mmd2": "MMD² of f",
    "total_variation": "total variation of binned f",
    "mean_rms": "rms difference of E f",
    "order_parameter_difference": "difference of m",
}


def plot_distances(table: xr.Dataset) -> Figure:
    """Distances from the reference by scheme (:func:`analysis.diagnostics.distances`), with their noise floors.

    Open triangles mark the floor: a distance at its floor is none that can be seen. Bars at the difference of m are
    two standard errors.
    """
    shown = table.sel(scheme=[s for s in table.scheme.to_numpy() if s != table.attrs["reference"]])
    places = np.arange(shown.sizes["scheme"])
    figure, [row] = new_figure(1, len(_PANELS), 14, 1.4 + 0.3 * len(places))
    for axes, (name, title) in zip(row, _PANELS.items(), strict=True):
        if f"{name}_floor" in shown:
            axes.plot(shown[f"{name}_floor"], places, "^", mfc="none", color="0.2", ms=6, zorder=3)
            axes.plot(shown[name], places, "o", color="#0072B2")
        else:
            bars = 2 * shown[f"{name}_se"]
            axes.errorbar(shown[name], places, xerr=bars, fmt="o", color="#0072B2", capsize=2)
        axes.axvline(0, color="0.85", lw=0.8, zorder=0)
        axes.set_yticks(places, shown.scheme.to_numpy() if axes is row[0] else [""] * len(places))
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_xlabel(title, fontsize=9)
        axes.margins(x=0.12)
        tidy(axes)
    figure.suptitle(f"distance from {table.attrs['reference']}   △ floor of the estimate", fontsize=10)
    return figure
