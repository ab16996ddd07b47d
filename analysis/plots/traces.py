"""Traces, ranks and energies of one sampler's result, drawn by ArviZ."""

import arviz_plots
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.diagnostics.energy import BFMI_LIMIT
from analysis.diagnostics.functions import functions_of, stats_of
from analysis.plots.style import BLUE, CHAINS, ORANGE, RED, for_arviz, legend, new_figure, rows_of_labels

_FUNCTIONS = {
    "order_parameter": "order parameter m",
    "train_mse": "train MSE",
    "log_density": "log density",
    "f[0]": "f at a test point",
}
_FEWEST_DRAWS = 4


def plot_function_traces(tree: xr.DataTree, label: str = "") -> Figure:
    """Trace and rank plot of label-free functions of one sampler's result.

    The functions are the order parameter, the train MSE, the log density and f at the first test
    point. Ranks are shown as differences of the empirical cumulative distributions of each chain's
    fractional ranks from the uniform one, with the simultaneous 99 % band of Säilynoja, Bürkner and
    Vehtari (2022): a chain outside the band does not agree with the others. Chains that are too
    short, or do not move, have no ranks.
    """
    functions = functions_of(tree)
    names = {name: text for name, text in _FUNCTIONS.items() if name in functions}
    functions = functions[list(names)].rename(names)
    figure, grid = new_figure(len(names), 2, 11, 2.2 * len(names) + 0.6)
    moves = functions.sizes["draw"] >= _FEWEST_DRAWS and (functions.std() > 0).to_dataarray().all()
    ranks = {"method": "envelope", "envelope_prob": 0.99}
    posterior, colours = xr.DataTree.from_dict({"posterior": functions}), {"aes": {"color": ["chain"]}}
    for column, (plot, options) in enumerate(((arviz_plots.plot_trace, {}), (arviz_plots.plot_rank, ranks))):
        if column and not moves:
            continue
        panels = {name: row[column] for name, row in zip(functions, grid, strict=True)}
        collection = for_arviz(figure, functions, panels, color=CHAINS, **colours)
        plot(posterior, plot_collection=collection, backend="matplotlib", **options)
    figure.suptitle(label or None)
    return figure


def has_energies(tree: xr.DataTree) -> bool:
    """Whether there are energies enough for :func:`plot_energy`."""
    stats = stats_of(tree)
    return "energy" in stats and stats.sizes["draw"] > stats.sizes["chain"]


def plot_energy(tree: xr.DataTree, label: str = "") -> Figure:
    """Energies of the draws of NUTS against the changes that one momentum draw makes.

    A distribution of changes much narrower than that of the energies, chain by chain E-BFMI below
    0.3 (Betancourt 2016), says that the chain moves too slowly between energies. Ticks below mark
    the energies of divergent trajectories. ``ValueError`` without energies, or for too few draws.
    """
    if not has_energies(tree):
        raise ValueError("tree holds no energies to show; pass a result of NUTS or HMC, of more draws.")
    stats = stats_of(tree)
    figure, [[left, right]] = new_figure(1, 2, 9, 3, width_ratios=[2, 1])
    panels = xr.Dataset({"plot": ("column", [left, right])}, {"column": ["energy", "bfmi"]})
    kinds = xr.Dataset({"Energy": ("energy", [0.0, 0.0])}, {"energy": ["marginal", "transition"]})
    arviz_plots.plot_energy(
        tree,
        kind="hist",
        threshold=BFMI_LIMIT,
        plot_collection=for_arviz(figure, kinds, panels, aes={"color": ["energy"]}, color=[BLUE, ORANGE]),
        backend="matplotlib",
        visuals={"title": False, "ylabel": False, "legend": False},
    )
    names = {BLUE: "energy E - mean", ORANGE: "change E_t - E_{t-1}"}
    handles = [left.plot([], [], color=shade, label=name)[0] for shade, name in names.items()]
    if "diverging" in stats and stats["diverging"].any():
        energy = stats["energy"].astype(float)
        hit = (energy - energy.mean()).to_numpy()[stats["diverging"].to_numpy().astype(bool)]
        look = {"ms": 14, "mew": 1.5, "color": RED, "clip_on": False, "label": f"{hit.size} divergent"}
        handles += left.plot(hit, np.zeros_like(hit), "|", **look)
    legend(left, handles=handles)
    left.set_xlabel("energy")
    right.set(xlim=(0, None), xlabel="E-BFMI")
    rows_of_labels(right, (f"chain {c}" for c in range(stats.sizes["chain"])))
    figure.suptitle(label or None)
    return figure
