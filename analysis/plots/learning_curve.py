"""Learning curves of sampled networks with the theories over them."""

import math
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from analysis.plots.style import BLACK, legend, new_figure, prior_look, title

_LINES = {
    "block-adaptive-kernel": ("-", 1.6),
    "adaptive-kernel": ("--", 1.3),
    "nngp": ("-.", 1.3),
    "mean-field": (":", 1.5),
    "mean-field-ard": (":", 1.5),
}
_QUANTITIES = {"order_parameter": "order parameter m", "test_mse": "test MSE of a draw"}
# Markers of published points by their scheme. They are black, and joined by thin lines, to be told
# apart from ours where both meet.
_REFERENCE = {"SGLD": "*", "MF": "x", "MF-ARD": "+"}
_LABEL = 0.14  # width of a label as a share of a column


def plot_learning_curve(table: pd.DataFrame, reference: pd.DataFrame | None = None) -> Figure:
    """m and the test MSE of a draw against P: a column per κ, a colour per prior.

    Networks are marks with the standard error over the seeds, hollow where a seed's chains did not
    converge. Theories of infinite data are levels, from the start that gives the larger m too where
    there are two solutions. `table` is of :func:`analysis.sweep.reproduction_table.summary`,
    `reference`, points of other authors, of ``read_reference`` there.
    """
    networks, theories = (table[table.source == source] for source in ("networks", "theory"))
    kappas = sorted(networks.kappa.unique(), reverse=True)
    size, shared = (1.2 + 3.2 * len(kappas), 6.2), {"sharex": True, "sharey": "row"}
    figure, rows = new_figure(2, len(kappas), *size, xlabel="training points P", **shared)
    for (quantity, label), row in zip(_QUANTITIES.items(), rows, strict=True):
        row[0].set_ylabel(label)
        for axes, kappa in zip(row, kappas, strict=True):
            _theory_lines(axes, theories[np.isclose(theories.kappa, kappa)], quantity)
            _network_marks(axes, networks[networks.kappa == kappa], quantity)
            if reference is not None:
                _reference_marks(axes, reference[np.isclose(reference.kappa, kappa)], quantity)
            axes.set_xscale("log")
    for axes, kappa in zip(rows[0], kappas, strict=True):
        axes.set_title(f"κ = {kappa:g}", fontsize=10)
    rows[0][0].set_ylim(-0.04, 1.04)
    rows[1][0].set_yscale("log")
    _log_ticks(rows[1], sorted(networks.num_data.unique()))
    columns = min(4, int(figure.get_figwidth() / 2))
    legend(figure, handles=_legend(networks, theories, reference), ncols=columns)
    return figure


def _theory_lines(axes, part: pd.DataFrame, quantity: str) -> None:
    for (name, prior, start), points in part.groupby(["scheme", "prior", "start"], sort=False):
        shade = "0.45" if name == "nngp" else prior_look(prior)[0]
        style, width = _LINES[name]
        if start == "aligned":  # only where there is a second solution
            other = part[(part.scheme == name) & (part.prior == prior) & (part.start == "prior")]
            first = other.set_index("num_data")[quantity]
            apart = ~np.isclose(points[quantity], first.reindex(points.num_data), rtol=1e-3)
            points = points[apart]
        if len(points) == 0:
            continue
        finite = points[np.isfinite(points.num_data)].sort_values("num_data")
        if len(finite):
            axes.plot(finite.num_data, finite[quantity], style, lw=width, color=shade, zorder=2)
            if name == "block-adaptive-kernel":
                loose = finite[finite.num_converged == 0]
                axes.plot(loose.num_data, loose[quantity], "|", ms=6, color=shade, zorder=2)
        else:
            axes.axhline(points[quantity].iloc[0], ls=style, lw=width, color=shade, zorder=1)


def _network_marks(axes, part: pd.DataFrame, quantity: str) -> None:
    for prior, points in part.groupby("prior", sort=False):
        shade, marker, _ = prior_look(prior)
        bars = {"yerr": points[f"{quantity}_se"], "ecolor": shade, "capsize": 2.5, "lw": 1.2}
        axes.errorbar(points.num_data, points[quantity], fmt="none", zorder=3, **bars)
        for whole in (True, False):
            some = points[(points.num_converged == points.num_seeds) == whole]
            face = shade if whole else "white"
            axes.plot(some.num_data, some[quantity], marker, ms=6, mec=shade, mfc=face, mew=1.3, zorder=4)


def _reference_marks(axes, part: pd.DataFrame, quantity: str) -> None:
    for scheme, points in part.groupby("scheme", sort=False):
        look = {"yerr": points.get(f"{quantity}_sd"), "capsize": 2, "lw": 0.6, "zorder": 3}
        axes.errorbar(points.P, points[quantity], fmt=f"{_REFERENCE[scheme]}-", ms=6, color=BLACK, **look)


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
    line, mark, handles = partial(Line2D, [], []), partial(Line2D, [], [], ls=""), []
    for prior in networks.prior.unique():
        shade, marker, label = prior_look(prior)
        handles.append(mark(marker=marker, color=shade, label=f"networks, {label}"))
    if (networks.num_converged < networks.num_seeds).any():
        handles.append(mark(marker="o", mfc="white", mec="0.3", label="hollow: not converged"))
    names = theories.scheme.unique()
    finite = set(theories.scheme[np.isfinite(theories.num_data)])
    for name in (name for name in names if name in finite):
        (style, width), shade = _LINES[name], "0.45" if name == "nngp" else "0.2"
        handles.append(line(ls=style, lw=width, color=shade, label=title(name)))
    if levels := sorted(title(name).removesuffix(" theory") for name in names if name not in finite):
        handles.append(line(ls=":", lw=1.5, color="0.2", label=f"{', '.join(levels)}: P = ∞"))
    for scheme in () if reference is None else reference.scheme.unique():
        label = "published networks" if scheme == "SGLD" else f"published {scheme}"
        handles.append(line(marker=_REFERENCE[scheme], lw=0.6, color=BLACK, label=label))
    return handles
