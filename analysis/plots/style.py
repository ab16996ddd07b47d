"""Shared looks of the figures: one colour per scheme, one marker per prior."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with colour-vision deficiencies too.
COLOURS = {
    "nuts": "#000000",
    "sgld": "#0072B2",
    "mf-guide": "#E69F00",
    "mf-ard-guide": "#D55E00",
    "nngp": "#999999",
    "mean-field": "#009E73",
    "mean-field-ard": "#CC79A7",
    "adaptive-kernel": "#56B4E9",
    "block-adaptive-kernel": "#8C510A",
    "langevin": "#1B3A6B",
    "nuts-collapsed": "#5A5A5A",
    "collapsed-guide": "#7B3294",
}
FALLBACK_COLOUR = "#F0E442"

TITLES = {
    "nuts": "NUTS",
    "sgld": "SGLD",
    "mf-guide": "MF guide",
    "mf-ard-guide": "MF-ARD guide",
    "nngp": "NNGP",
    "mean-field": "MF theory",
    "mean-field-ard": "MF-ARD theory",
    "adaptive-kernel": "AK theory",
    "block-adaptive-kernel": "AKB theory",
    "langevin": "Langevin",
    "nuts-collapsed": "NUTS, collapsed",
    "collapsed-guide": "Collapsed guide",
}


def new_figure(
    rows: int, columns: int, width: float, height: float, **subplots
) -> tuple[Figure, list[list[Axes]]]:
    """A figure without pyplot's global state (safe in threads and servers), and its axes as rows."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots).tolist()


def colour(scheme: str) -> str:
    """The colour of a scheme."""
    return COLOURS.get(scheme, FALLBACK_COLOUR)


def title(scheme: str) -> str:
    """The name of a scheme in figures."""
    return TITLES.get(scheme, scheme)


def tidy(axes: Axes) -> None:
    """Drop the frame's upper and right lines."""
    axes.spines[["top", "right"]].set_visible(False)


def kappas_of(results) -> list[float]:
    """The noise levels of some results, in decreasing order: from the kernel regime to feature learning."""
    return sorted({r.row["kappa"] for r in results}, reverse=True)


def priors_of(results) -> list[str]:
    """The priors of some results, in order of appearance."""
    return list(dict.fromkeys(r.row["prior"] for r in results))
