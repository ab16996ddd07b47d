"""Which inputs a network uses: second moments, inclusion probabilities, ranks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.plots.style import (
    RED,
    YELLOW,
    colour,
    heading,
    kappas_of,
    legend,
    new_figure,
    prior_look,
    priors_of,
    title,
)
from analysis.results.inclusion import has_inclusion, inclusion_probabilities
from analysis.results.order_parameters import order_parameters
from analysis.schemes.compare import Comparison, SchemeResult

_MOST_NUMBERED = 20


def plot_second_moments(comparison: Comparison) -> Figure:
    """Second moment E[w_ij²] over neurons of every input, by scheme; relevant inputs shaded.

    A row per κ, a column per prior. Bars are two Monte-Carlo standard errors.
    """
    return _by_kappa_and_prior(
        comparison.results, _second_moments, 5.2, 2.6, "second moment E[w²]", yscale="log"
    )


def plot_inclusion(comparison: Comparison) -> Figure:
    """P(γ_j = 1 | data) of every input, by scheme, with two standard errors.

    A row per κ, a column per prior that has indicators, such as :class:`models.SpikeAndSlab`;
    results under others are left out. Relevant inputs are shaded.
    """
    results = [r for r in comparison.results if has_inclusion(r.tree)]
    return _by_kappa_and_prior(results, _inclusion, 7.0, 2.3, "P(included | data)", ylim=(-0.03, 1.03))


def _second_moments(result: SchemeResult) -> np.ndarray:
    return order_parameters(result.tree).second_moment.sel(estimate=["mean", "se"]).to_numpy()


def _inclusion(result: SchemeResult) -> np.ndarray:
    return inclusion_probabilities(result.tree)[["probability", "se"]].to_numpy().T


def _by_kappa_and_prior(results, means_and_errors, width, height, ylabel: str, **look) -> Figure:
    kappas, priors = kappas_of(results), priors_of(results)
    size = (width * len(priors), 0.4 + height * len(kappas))
    labels = {"xlabel": "input", "ylabel": ylabel}
    figure, grid = new_figure(len(kappas), len(priors), *size, sharex=True, sharey="row", **labels)
    for kappa, line in zip(kappas, grid, strict=True):
        for prior, axes in zip(priors, line, strict=True):
            shown = [r for r in results if r.row["kappa"] == kappa and r.row["prior"] == prior]
            _panel(axes, shown, means_and_errors)
            heading(axes, f"{prior}, κ = {kappa:g}")
            axes.set(**look)
    schemes = dict.fromkeys(r.row["scheme"] for r in results)
    handles = [grid[0][0].plot([], [], "o", ms=4, color=colour(s), label=title(s))[0] for s in schemes]
    legend(figure, handles=handles, ncols=2 + 2 * len(priors))
    return figure


def _panel(axes, results, means_and_errors) -> None:
    for place, result in enumerate(results):
        means, errors = means_and_errors(result)
        inputs, offset = np.arange(len(means)), 0.12 * (place - (len(results) - 1) / 2)
        look = {"fmt": prior_look(result.row["prior"])[1], "color": colour(result.row["scheme"])}
        axes.errorbar(inputs + offset, means, yerr=2 * errors, ms=3, lw=1, **look)
        axes.set_xlim(-0.6, len(means) - 0.4)
        if len(means) <= _MOST_NUMBERED:
            axes.set_xticks(inputs)
    if results and "relevant" in results[0].tree["constant_data"]:
        for j in results[0].tree["constant_data"].relevant.to_numpy():
            axes.axvspan(j - 0.5, j + 0.5, color=YELLOW, alpha=0.35, lw=0, zorder=0)


def plot_feature_selection(rankings: Mapping[str, pd.DataFrame]) -> Figure:
    """Inclusion probability of every input, from tables of :func:`rank_inputs` by label.

    Relevant inputs are framed, ranks written in.
    """
    tables = list(rankings.values())
    inclusion = np.array([table["inclusion"] for table in tables])
    count = inclusion.shape[1]
    figure, [[axes]] = new_figure(1, 1, min(14.0, 3.0 + 0.36 * count), 1.3 + 0.32 * len(tables))
    image = axes.imshow(inclusion, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (y, x), share in np.ndenumerate(inclusion if count <= 2 * _MOST_NUMBERED else np.empty((0, 0))):
        look = {"ha": "center", "va": "center", "fontsize": 7, "color": "white" if share > 0.5 else "0.3"}
        axes.text(x, y, tables[y]["rank"].iloc[x], **look)
    if "relevant" in tables[0]:
        for x in np.flatnonzero(tables[0]["relevant"]):
            look = {"fill": False, "edgecolor": RED, "lw": 2, "clip_on": False}
            axes.add_patch(Rectangle((x - 0.5, -0.5), 1, len(tables), **look))
    axes.set_yticks(range(len(tables)), rankings)
    axes.set_xlabel("input\n(number: rank, framed: relevant)")
    figure.colorbar(image, ax=axes, label="inclusion probability", shrink=0.9)
    return figure
