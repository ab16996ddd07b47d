"""Learning curves of sampled networks with the theories over them, and their phase diagram beside a theory's."""

import math
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from analysis.plots.style import new_figure, tidy, title
from analysis.sweep.reproduce import cell_edges

_PRIORS = {"isotropic": ("#0072B2", "o", "isotropic prior"), "ard": ("#D55E00", "s", "ARD prior")}
_OTHERS = ("#009E73", "D"), ("#CC79A7", "^"), ("#8C510A", "v")
_LINES = {
    "block-adaptive-kernel": ("-", 1.6),
    "adaptive-kernel": ("--", 1.3),
    "nngp": ("-.", 1.3),
    "mean-field": (":", 1.5),
    "mean-field-ard": (":", 1.5),
}
_QUANTITIES = {
    "order_parameter": ("order_parameter", "order parameter m"),
    "test_mse": ("test_mse", "test MSE of a draw"),
}
_ONSET = "#FF4D4D"
# Markers of the authors' points by their scheme, and the prior whose colour they take.
_REFERENCE = {"SGLD": ("*", "isotropic"), "MF": ("x", "isotropic"), "MF-ARD": ("+", "ard")}
_LABEL = 0.14  # width of a label as a share of a column


def plot_learning_curve(table: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """m and the test MSE of a draw against P: a column per κ, a colour per prior, a line style per theory.

    Networks are marks with the standard error over the seeds, hollow where a seed's chains did not converge.
    Theories of infinite data are levels, from the start that gives the larger m too where there are two solutions.

    Parameters
    ----------
    table
        From :func:`analysis.sweep.reproduction_table.summary`.
    reference
        Points of other authors, from :func:`analysis.sweep.reproduction_table.read_reference`.
    """
    networks, theories = (table[table.source == source] for source in ("networks", "theory"))
    kappas = sorted(networks.kappa.unique(), reverse=True)
    figure, rows = new_figure(2, len(kappas), 1.2 + 3.2 * len(kappas), 6.2, sharex=True, sharey="row")
    for (quantity, label), row in zip(_QUANTITIES.values(), rows, strict=True):
        for axes, kappa in zip(row, kappas, strict=True):
            _theory_lines(axes, theories[np.isclose(theories.kappa, kappa)], quantity)
            _network_marks(axes, networks[networks.kappa == kappa], quantity)
            if reference is not None:
                _reference_marks(axes, reference[np.isclose(reference.kappa, kappa)], quantity)
            axes.set_xscale("log")
            tidy(axes)
        row[0].set_ylabel(label)
    for axes, kappa in zip(rows[0], kappas, strict=True):
        axes.set_title(f"κ = {kappa:g}", fontsize=10)
        axes.set_ylim(-0.04, 1.04)
    for axes in rows[1]:
        axes.set(yscale="log", xlabel="training points P")
    _log_ticks(rows[1], sorted(networks.num_data.unique()))
    figure.legend(
        handles=_legend(networks, theories, reference),
        loc="outside lower center",
        ncols=min(4, int(figure.get_figwidth() / 2)),
        frameon=False,
        fontsize=8,
    )
    return figure


def _look(prior: str, priors) -> tuple[str, str, str]:
    if prior in _PRIORS:
        return _PRIORS[prior]
    others = [name for name in priors if name not in _PRIORS]
    return (*_OTHERS[others.index(prior) % len(_OTHERS)], f"{prior} prior")


def _theory_lines(axes, part: pd.DataFrame, quantity: str) -> None:
    for (name, prior, start), points in part.groupby(["scheme", "prior", "start"], sort=False):
        shade = "0.45" if name == "nngp" else _look(prior, part.prior.unique())[0]
        style, width = _LINES[name]
        finite = points[np.isfinite(points.num_data)].sort_values("num_data")
        if start == "aligned":  # only where there is a second solution
            other = part[(part.scheme == name) & (part.prior == prior) & (part.start == "prior")]
            first = other.set_index("num_data")[quantity]
            apart = ~np.isclose(points[quantity], first.reindex(points.num_data), rtol=1e-3)
            points = points[apart]
            finite = points[np.isfinite(points.num_data)].sort_values("num_data")
        if len(points) == 0:
            continue
        if len(finite):
            axes.plot(finite.num_data, finite[quantity], style, lw=width, color=shade, zorder=2)
            if name == "block-adaptive-kernel":
                loose = finite[finite.num_converged == 0]
                axes.plot(loose.num_data, loose[quantity], "|", ms=6, color=shade, zorder=2)
        else:
            axes.axhline(points[quantity].iloc[0], ls=style, lw=width, color=shade, zorder=1)


def _network_marks(axes, part: pd.DataFrame, quantity: str) -> None:
    for prior, points in part.groupby("prior", sort=False):
        shade, marker, _ = _look(prior, part.prior.unique())
        axes.errorbar(
            points.num_data,
            points[quantity],
            yerr=points[f"{quantity}_se"],
            fmt="none",
            ecolor=shade,
            capsize=2.5,
            lw=1.2,
            zorder=3,
        )
        for whole in (True, False):
            some = points[(points.num_converged == points.num_seeds) == whole]
            face = shade if whole else "white"
            axes.plot(some.num_data, some[quantity], marker, ms=6, mec=shade, mfc=face, mew=1.3, zorder=4)


def _reference_marks(axes, part: pd.DataFrame, quantity: str) -> None:
    for scheme, points in part.groupby("scheme", sort=False):
        marker, prior = _REFERENCE[scheme]
        error = points.get(f"{quantity}_sd")
        axes.errorbar(
            points.P, points[quantity], yerr=error, fmt=marker, ms=7, capsize=2, lw=0.8,
            color=_PRIORS[prior][0], mec="black", mew=0.6 if marker == "*" else 1.2, alpha=0.7, zorder=3,
        )  # fmt: skip


def _log_ticks(row, sizes: list[float]) -> None:
    for axes in row:
        if len(sizes) <= 8:  # the networks' own, of which decades would name one or two
            axes.set_xticks(_apart(sizes, *axes.get_xlim()))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = row[0].get_ylim()
    if high / low < 100:  # decades alone would leave one or two labels
        ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low <= t <= high]
        row[0].set_yticks(ticks, [f"{t:g}" for t in ticks])
        row[0].yaxis.set_minor_formatter(NullFormatter())


def _apart(sizes: list[float], low: float, high: float) -> list[float]:
    """Those of `sizes` whose labels do not touch on a logarithmic axis from `low` to `high`."""
    kept = sizes[:1]
    for size in sizes[1:]:
        if math.log(size / kept[-1]) > _LABEL * math.log(high / low):
            kept.append(size)
    return kept


def _legend(networks: pd.DataFrame, theories: pd.DataFrame, reference) -> list[Line2D]:
    priors = networks.prior.unique()
    handles = []
    for prior in priors:
        shade, marker, label = _look(prior, priors)
        handles.append(Line2D([], [], ls="", marker=marker, color=shade, label=f"networks, {label}"))
    if (networks.num_converged < networks.num_seeds).any():
        look = {"ls": "", "marker": "o", "mfc": "white", "mec": "0.3"}
        handles.append(Line2D([], [], **look, label="hollow: not converged"))
    levels = set()
    for name in theories.scheme.unique():
        style, width = _LINES[name]
        level = not np.isfinite(theories.num_data[theories.scheme == name]).any()
        if level:
            levels.add(title(name).removesuffix(" theory"))
            continue
        shade = "0.45" if name == "nngp" else "0.2"
        handles.append(Line2D([], [], ls=style, lw=width, color=shade, label=title(name)))
    if levels:
        label = f"{', '.join(sorted(levels))}: P = ∞"
        handles.append(Line2D([], [], ls=":", lw=1.5, color="0.2", label=label))
    if reference is not None:
        for scheme in reference.scheme.unique():
            marker, prior = _REFERENCE[scheme]
            label = "published networks" if scheme == "SGLD" else f"published {scheme}"
            handles.append(Line2D([], [], ls="", marker=marker, color=_PRIORS[prior][0], label=label))
    return handles


def plot_reproduced_phase_diagram(tree: xr.DataTree, quantity: str = "order_parameter") -> Figure:
    """m over κ and P: networks (mean over the seeds) beside a theory, a row per prior, onset lines over both.

    The lines are the theory's onset (m = 0.1) from the prior's side (solid) and, where it has two solutions, from the
    aligned one's (dashed). Circles mark cells whose chains did not converge; cells without an answer are grey.

    Parameters
    ----------
    tree
        From :func:`analysis.sweep.reproduce.reproduce`.
    quantity
        ``"order_parameter"`` or ``"test_mse"``, of a draw.
    """
    networks, theories = (tree[name].to_dataset() for name in ("networks", "theories"))
    networks, theories = networks.sortby(["kappa", "num_data"]), theories.sortby(["kappa", "num_data"])
    priors, names = list(networks.prior.values), list(theories.theory.values)
    columns = 1 + len(names)
    figure, rows = new_figure(
        len(priors), columns, 1.4 + 3.3 * columns, 0.5 + 2.6 * len(priors), sharex=True, sharey=True
    )
    norm, label = _scale(networks, quantity)
    limits = [cell_edges(networks[name].values)[[0, -1]] for name in ("kappa", "num_data")]
    for row, prior in zip(rows, priors, strict=True):
        cells = networks.sel(prior=prior)
        values = cells["test_mse_draw" if quantity == "test_mse" else quantity].mean("seed")
        image = _heat_map(row[0], values, norm)
        _mark_loose(row[0], cells)
        for axes, name in zip(row[1:], names, strict=True):
            solved = theories.sel(theory=name, prior=prior)
            finite = np.isfinite(solved.num_data)
            _heat_map(axes, solved[quantity].sel(start="prior").isel(num_data=finite), norm)
            axes.set_title(f"{title(str(name))}, {_look(str(prior), priors)[2]}", loc="left", fontsize=9)
        for axes, name in product(row, names[:1]):
            _onsets(axes, theories.sel(theory=name, prior=prior))
        row[0].set_title(f"networks, {_look(str(prior), priors)[2]}", loc="left", fontsize=9)
        row[0].set_ylabel("training points P")
        for axes in row:
            axes.set(xlim=limits[0], ylim=limits[1])
            if networks.sizes["num_data"] <= 8:
                axes.set_yticks(networks.num_data.values)
            axes.yaxis.set_minor_formatter(NullFormatter())
    for axes in rows[-1]:
        axes.set_xlabel("noise κ")
    figure.colorbar(image, ax=[axes for row in rows for axes in row], label=label)
    handles = [
        Line2D([], [], color=_ONSET, label=f"{title(names[0])}: m = 0.1, from the prior"),
        Line2D([], [], color=_ONSET, ls="--", label="from the aligned state, where another"),
        Line2D([], [], ls="", marker="o", mfc="white", mec="black", ms=5, label="not converged"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _scale(networks: xr.Dataset, quantity: str):
    if quantity == "order_parameter":
        return {"vmin": 0, "vmax": 1, "cmap": "viridis"}, "order parameter m"
    lowest = float(networks.test_mse_draw.min())
    return {"norm": LogNorm(min(lowest, 0.5), 1.5), "cmap": "viridis_r"}, "test MSE of a draw"


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
    for start, style in (("aligned", "--"), ("prior", "-")):
        onset = solved.onset.sel(start=start) if start in solved.start else solved.onset.isel(start=[])
        onset = onset.isel(num_data=np.isfinite(solved.num_data.values))
        if onset.size:
            axes.plot(onset, onset.num_data, style, color=_ONSET, lw=1.6)
