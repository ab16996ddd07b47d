"""Marginal densities of a relevant and an irrelevant weight."""

import arviz_stats
import numpy as np
from matplotlib.figure import Figure

from analysis.plots.style import colour, kappas_of, new_figure, priors_of, tidy, title
from analysis.schemes.compare import Comparison

# A kernel density of more values than this gains nothing visible.
_MOST_VALUES = 100_000


def plot_weight_marginals(comparison: Comparison) -> Figure:
    """Density of the weights of a relevant and of an irrelevant input, by scheme.

    All neurons and draws are pooled, since neurons are exchangeable: this is the density p(w) that the mean-field
    theories solve for. A row per κ and prior; left the first relevant input, right the first irrelevant one (the
    first two inputs, where the relevant ones are unknown).
    """
    panels = [
        (kappa, prior, comparison.select(kappa=kappa, prior=prior))
        for kappa in kappas_of(comparison.results)
        for prior in priors_of(comparison.results)
    ]
    panels = [panel for panel in panels if panel[2]]
    figure, grid = new_figure(len(panels), 2, 9.5, 0.4 + 2.3 * len(panels))
    for (kappa, prior, results), line in zip(panels, grid, strict=True):
        for axes, (j, kind) in zip(line, _inputs(results[0].tree), strict=True):
            for result in results:
                _density(
                    axes, result.tree["posterior"].w.isel(input=j).to_numpy().ravel(), result.row["scheme"]
                )
            axes.set_title(f"{prior}, κ = {kappa:g}: {kind}input {j}", loc="left", fontsize=10)
            axes.set_yscale("log")
            axes.set_ylim(1e-3, None)
            tidy(axes)
        line[0].set_ylabel("density")
        line[0].legend(frameon=False, fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("weight w")
    return figure


def _inputs(tree) -> list[tuple[int, str]]:
    """The two inputs to show, each with what is known of it."""
    last = tree["posterior"].sizes["input"] - 1
    if "relevant" not in tree["constant_data"]:
        return [(0, ""), (min(1, last), "")]
    relevant = tree["constant_data"].relevant.to_numpy().tolist()
    rest = [j for j in range(last + 1) if j not in relevant]
    return [(relevant[0], "relevant "), (rest[0], "irrelevant ") if rest else (relevant[-1], "relevant ")]


def _density(axes, values, scheme) -> None:
    values = values[:: max(1, len(values) // _MOST_VALUES)]
    grid, density, _ = arviz_stats.base.array_stats.kde(np.asarray(values, float))
    axes.plot(grid, density, color=colour(scheme), lw=1.2, label=title(scheme))
