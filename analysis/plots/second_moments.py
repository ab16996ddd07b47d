"""Which inputs a network uses: the second moment of every input's weights."""

import numpy as np
from matplotlib.figure import Figure

from analysis.plots.style import colour, kappas_of, new_figure, priors_of, tidy, title
from analysis.results.order_parameters import order_parameters
from analysis.schemes.compare import Comparison


def plot_second_moments(comparison: Comparison) -> Figure:
    """Second moment E[w_ij²] over neurons of every input coordinate, by scheme; relevant inputs shaded.

    A row per κ, a column per prior. Bars are two Monte-Carlo standard errors; schemes are set off sideways.
    """
    kappas, priors = kappas_of(comparison.results), priors_of(comparison.results)
    figure, grid = new_figure(
        len(kappas), len(priors), 5.2 * len(priors), 0.4 + 2.6 * len(kappas), sharex=True, sharey="row"
    )
    for kappa, line in zip(kappas, grid, strict=True):
        for prior, axes in zip(priors, line, strict=True):
            _panel(axes, comparison.select(kappa=kappa, prior=prior))
            axes.set_title(f"{prior}, κ = {kappa:g}", loc="left", fontsize=10)
        line[0].set_ylabel("second moment E[w²]")
    for prior, axes in zip(priors, grid[-1], strict=True):
        axes.set_xlabel("input")
        schemes = list(dict.fromkeys(r.row["scheme"] for r in comparison.select(prior=prior)))
        handles = [axes.plot([], [], "o", ms=4, color=colour(s), label=title(s))[0] for s in schemes]
        axes.legend(handles=handles, frameon=False, fontsize=8, ncols=3, loc="upper right")
    return figure


def _panel(axes, results) -> None:
    for place, result in enumerate(results):
        moments = order_parameters(result.tree).second_moment
        inputs = np.arange(moments.sizes["input"])
        offset = 0.12 * (place - (len(results) - 1) / 2)
        axes.errorbar(
            inputs + offset,
            moments.sel(estimate="mean"),
            yerr=2 * moments.sel(estimate="se"),
            fmt="o",
            ms=3,
            lw=1,
            color=colour(result.row["scheme"]),
        )
    if results and "relevant" in results[0].tree["constant_data"]:
        for j in results[0].tree["constant_data"].relevant.to_numpy():
            axes.axvspan(j - 0.5, j + 0.5, color="#F0E442", alpha=0.35, lw=0, zorder=0)
    if results:
        axes.set_yscale("log")
        axes.set_xlim(-0.6, moments.sizes["input"] - 0.4)
        if len(inputs) <= 20:
            axes.set_xticks(inputs)
    tidy(axes)
