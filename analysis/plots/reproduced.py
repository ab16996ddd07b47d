"""The phase diagram of sampled networks beside a theory's."""

from itertools import product

import numpy as np
import xarray as xr
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from analysis.plots.style import heading, legend, new_figure, prior_look, title
from analysis.sweep.reproduce import cell_edges

_ONSET = "#FF4D4D"


def plot_reproduced_phase_diagram(tree: xr.DataTree, quantity: str = "order_parameter") -> Figure:
    """m over κ and P: networks (mean over the seeds) beside a theory, a row per prior.

    The lines are the theory's onset (m = 0.1) from the prior's side (solid) and, where it has two
    solutions, from the aligned one's (dashed). Circles mark cells whose chains did not converge;
    cells without an answer are grey. `tree` is from :func:`analysis.sweep.reproduce.reproduce`; the
    other `quantity` is ``"test_mse"``, of a draw.
    """
    sortable = (tree[name].to_dataset() for name in ("networks", "theories"))
    networks, theories = (part.sortby(["kappa", "num_data"]) for part in sortable)
    priors, names = list(networks.prior.values), list(theories.theory.values)
    columns = 1 + len(names)
    size = (1.4 + 3.3 * columns, 0.5 + 2.6 * len(priors))
    options = {"sharex": True, "sharey": True, "xlabel": "noise κ", "ylabel": "training points P"}
    figure, rows = new_figure(len(priors), columns, *size, **options)
    m = quantity == "order_parameter"
    lowest = min(float(networks.test_mse_draw.min()), 0.5)
    look = {"norm": Normalize(0, 1) if m else LogNorm(lowest, 1.5), "cmap": "viridis" if m else "viridis_r"}
    limits = [cell_edges(networks[name].values)[[0, -1]] for name in ("kappa", "num_data")]
    for row, prior in zip(rows, priors, strict=True):
        cells = networks.sel(prior=prior)
        values = cells["test_mse_draw" if quantity == "test_mse" else quantity].mean("seed")
        image = _heat_map(row[0], values, look)
        _mark_loose(row[0], cells)
        for axes, name in zip(row[1:], names, strict=True):
            solved = theories.sel(theory=name, prior=prior)
            finite = np.isfinite(solved.num_data)
            _heat_map(axes, solved[quantity].sel(start="prior").isel(num_data=finite), look)
            heading(axes, f"{title(str(name))}, {prior_look(str(prior))[2]}", fontsize=9)
        heading(row[0], f"networks, {prior_look(str(prior))[2]}", fontsize=9)
        for axes in row:
            _onsets(axes, theories.sel(theory=names[0], prior=prior))
            axes.set(xlim=limits[0], ylim=limits[1])
            if networks.sizes["num_data"] <= 8:
                axes.set_yticks(networks.num_data.values)
            axes.yaxis.set_minor_formatter(NullFormatter())
    figure.colorbar(image, ax=figure.axes, label="order parameter m" if m else "test MSE of a draw")
    handles = [
        Line2D([], [], color=_ONSET, label=f"{title(names[0])}: m = 0.1, from the prior"),
        Line2D([], [], color=_ONSET, ls="--", label="from the aligned state, where another"),
        Line2D([], [], ls="", marker="o", mfc="white", mec="black", ms=5, label="not converged"),
    ]
    legend(figure, handles=handles, ncols=3)
    return figure


def _heat_map(axes, values: xr.DataArray, look: dict):
    axes.set_facecolor("#DDDDDD")
    kappa, size = cell_edges(values.kappa.values), cell_edges(values.num_data.values)
    masked = np.ma.masked_invalid(values.transpose("num_data", "kappa").to_numpy())
    image = axes.pcolormesh(kappa, size, masked, rasterized=True, **look)
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter("{x:g}")
    ticks = [t for t in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if kappa[0] <= t <= kappa[-1]]
    axes.set_xticks(ticks)
    axes.yaxis.set_major_formatter("{x:g}")
    return image


def _mark_loose(axes, cells: xr.Dataset) -> None:
    loose = ((cells.status == "done") & (cells.converged == 0)).any("seed")
    for kappa, size in product(cells.kappa.values, cells.num_data.values):
        if loose.sel(kappa=kappa, num_data=size):
            axes.plot([kappa], [size], "o", ms=5, mfc="white", mec="black", mew=1.0)


def _onsets(axes, solved: xr.Dataset) -> None:
    solved = solved.isel(num_data=np.isfinite(solved.num_data.values))
    for start, style in (("aligned", "--"), ("prior", "-")):
        if start in solved.start and solved.sizes["num_data"]:
            axes.plot(solved.onset.sel(start=start), solved.num_data, style, color=_ONSET, lw=1.6)
