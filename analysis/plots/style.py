"""Shared looks of the figures: one colour per scheme, one marker and one colour per prior."""

import zlib
from collections.abc import Iterable

import arviz_plots
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with colour-vision deficiencies too, and by name:
BLACK, BLUE, ORANGE, RED, GREEN = "#000000", "#0072B2", "#E69F00", "#D55E00", "#009E73"
PINK, SKY, YELLOW, BROWN = "#CC79A7", "#56B4E9", "#F0E442", "#8C510A"
CHAINS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BROWN, BLACK)

_SCHEMES = {
    "nuts": ("NUTS", BLACK),
    "sgld": ("SGLD", BLUE),
    "mf-guide": ("MF guide", ORANGE),
    "mf-ard-guide": ("MF-ARD guide", RED),
    "nngp": ("NNGP", "#999999"),
    "mean-field": ("MF theory", GREEN),
    "mean-field-ard": ("MF-ARD theory", PINK),
    "adaptive-kernel": ("AK theory", SKY),
    "block-adaptive-kernel": ("AKB theory", BROWN),
    "langevin": ("Langevin", "#1B3A6B"),
    "nuts-collapsed": ("NUTS, collapsed", "#5A5A5A"),
    "collapsed-guide": ("Collapsed guide", "#7B3294"),
    "kernel-renormalisation": ("Kernel renormalisation", "#999933"),
    "deep-linear": ("Deep linear, exact", "#332288"),
}
# Of schemes that are not ours, such as users' kernels: from Tol's muted palette, by the name.
_OTHER_SCHEMES = ("#882255", "#117733", "#999933", "#44AA99", "#AA4499")
# Of priors, with the name in figures.
_PRIORS = {
    "isotropic": (BLUE, "o", "isotropic prior"),
    "ard": (RED, "s", "ARD prior"),
    "regularised-horseshoe": (GREEN, "D", "regularised horseshoe prior"),
    "spike-and-slab": (PINK, "^", "spike-and-slab prior"),
    "student-t": (BROWN, "v", "Student-t prior"),
    "neuron-ard": (ORANGE, "P", "neuron ARD prior"),
    "grouped-ard": (SKY, "X", "grouped ARD prior"),
}
_OTHER_PRIORS = ("#882255", "h"), ("#117733", "p"), ("#999933", "*"), ("#44AA99", "<"), ("#AA4499", ">")


def new_figure(
    rows: int, columns: int, width: float, height: float, *, xlabel: str = "", ylabel: str = "", **subplots
) -> tuple[Figure, list[list[Axes]]]:
    """A figure without pyplot's global state (safe in threads), and its axes as rows."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **subplots)
    for axes in grid.flat:
        tidy(axes)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    return figure, grid.tolist()


def colour(scheme: str) -> str:
    """The colour of a scheme."""
    return _SCHEMES[scheme][1] if scheme in _SCHEMES else _by_name(scheme, _OTHER_SCHEMES)


def distinct_colours(schemes: Iterable[str]) -> list[str]:
    """A colour a line: a scheme's own where it comes first, one that is free where it comes again."""
    taken: list[str] = []
    for scheme in schemes:
        free = (shade for shade in (colour(scheme), *CHAINS, *_OTHER_SCHEMES) if shade not in taken)
        taken.append(next(free, "0.5"))
    return taken


def title(scheme: str) -> str:
    """The name of a scheme in figures."""
    return _SCHEMES.get(scheme, (scheme,))[0]


def prior_look(prior: str) -> tuple[str, str, str]:
    """Colour, marker and name of a prior."""
    return _PRIORS.get(prior) or (*_by_name(prior, _OTHER_PRIORS), f"{prior} prior")


def _by_name(name: str, looks: tuple):
    return looks[zlib.crc32(name.encode()) % len(looks)]


def tidy(axes: Axes) -> None:
    """Drop the frame's upper and right lines."""
    axes.spines[["top", "right"]].set_visible(False)


def heading(axes: Axes, text: str, fontsize: float = 10) -> None:
    """A heading above the left end of a panel."""
    axes.set_title(text, loc="left", fontsize=fontsize)


def legend(on: Axes | Figure, **options) -> None:
    """A small legend without a frame; below the panels, where it is that of a figure."""
    place = {"loc": "outside lower center"} if isinstance(on, Figure) else {}
    on.legend(**{"frameon": False, "fontsize": 8, **place, **options})


def rows_of_labels(axes: Axes, labels: Iterable[str], first: bool = True) -> None:
    """A row for each label from the top down, written out at the `first` of some panels."""
    labels = list(labels)
    axes.set_yticks(range(len(labels)), labels if first else [""] * len(labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)


def kappas_of(results) -> list[float]:
    """The values of κ of some results, decreasing: from the kernel regime to feature learning."""
    return sorted({r.row["kappa"] for r in results}, reverse=True)


def priors_of(results) -> list[str]:
    """The priors of some results, in order of appearance."""
    return list(dict.fromkeys(r.row["prior"] for r in results))


def for_arviz(figure: Figure, data: xr.Dataset, axes: dict[str, Axes] | xr.Dataset, **aes):
    """Panels of ours for a plot of ArviZ, which would draw by pyplot and pick a global backend.

    `axes` are the panels of every variable of `data`, or those of all as one variable ``plot``.
    """
    groups = {"/": xr.Dataset({"figure": _boxed(figure)})}
    if isinstance(axes, xr.Dataset):
        groups["/"] = groups["/"].merge(axes)
    else:
        panels = xr.Dataset({name: _boxed(panel) for name, panel in axes.items()})
        places = xr.Dataset(dict.fromkeys(axes, 0))
        groups |= {"plot": panels, "row_index": places, "col_index": places}
    return arviz_plots.PlotCollection(data, xr.DataTree.from_dict(groups), backend="matplotlib", **aes)


def _boxed(thing) -> xr.DataArray:
    box = np.empty((), object)
    box[()] = thing
    return xr.DataArray(box)
