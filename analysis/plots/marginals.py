"""Marginal densities of a relevant and an irrelevant weight."""

from itertools import product

import numpy as np
from arviz_stats.base import array_stats
from matplotlib.figure import Figure

from analysis.plots.style import colour, heading, kappas_of, legend, new_figure, priors_of, title
from analysis.schemes.compare import Comparison

# A kernel density of more values than this gains nothing visible.
_MOST_VALUES = 100_000


def plot_weight_marginals(comparison: Comparison) -> Figure:
    """Density of the weights of a relevant and of an irrelevant input, by scheme.

    All neurons and draws are pooled, since neurons are exchangeable: this is the density p(w) that
    the mean-field theories solve for. A row per κ and prior; left the first relevant input, right
    the first irrelevant one (the first two inputs, where the relevant ones are unknown).
    """
    pairs = product(kappas_of(comparison.results), priors_of(comparison.results))
    rows = {pair: comparison.select(kappa=pair[0], prior=pair[1]) for pair in pairs}
    rows = {pair: results for pair, results in rows.items() if results}
    size = (9.5, 0.4 + 2.3 * len(rows))
    figure, grid = new_figure(len(rows), 2, *size, xlabel="weight w", ylabel="density")
    for ((kappa, prior), results), line in zip(rows.items(), grid, strict=True):
        for axes, (j, kind) in zip(line, _inputs(results[0].tree), strict=True):
            for result in results:
                values = result.tree["posterior"].w.isel(input=j).to_numpy().ravel().astype(float)
                points, density, _ = array_stats.kde(values[:: max(1, len(values) // _MOST_VALUES)])
                scheme = result.row["scheme"]
                axes.plot(points, density, color=colour(scheme), lw=1.2, label=title(scheme))
            heading(axes, f"{prior}, κ = {kappa:g}: {kind}input {j}")
            axes.set(yscale="log", ylim=(1e-3, None))
        legend(line[0])
    return figure


def _inputs(tree) -> list[tuple[int, str]]:
    """The two inputs to show, each with what is known of it."""
    inputs = np.arange(tree["posterior"].sizes["input"])
    if "relevant" not in tree["constant_data"]:
        return [(0, ""), (min(1, inputs[-1]), "")]
    relevant = tree["constant_data"].relevant.to_numpy()
    rest = np.setdiff1d(inputs, relevant)
    second = (rest[0], "irrelevant ") if rest.size else (relevant[-1], "relevant ")
    return [(relevant[0], "relevant "), second]
