"""Ranks of simulation-based calibration."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binom

from analysis.diagnostics.sbc import NUM_BINS, SIGNIFICANCE, SimulationBasedCalibration
from analysis.plots.style import BLUE, RED, heading, new_figure, title
from analysis.results.headings import COMPARISON


def plot_sbc(results: Mapping[str, SimulationBasedCalibration]) -> Figure:
    """Histograms of the ranks, a row per scheme and a column per quantity.

    The band holds 99 % of each bin's counts under uniform ranks. ∪: the draws are over-confident;
    ∩: too broad; a slope: biased. The p-value is that of χ²; red where it fails.
    """
    names = list(dict.fromkeys(name for result in results.values() for name in result.ranks))
    size = (2.3 * len(names) + 0.6, 0.6 + 1.6 * len(results))
    options = {"sharex": True, "sharey": "row", "xlabel": "rank / number of draws"}
    figure, grid = new_figure(len(results), len(names), *size, **options)
    for (label, result), row in zip(results.items(), grid, strict=True):
        table, ranks = result.table(), result.fractional_ranks
        low, high = binom.ppf([0.005, 0.995], result.num_simulations, 1 / NUM_BINS)
        for axes, name in zip(row, names, strict=True):
            if name not in ranks:
                axes.set_axis_off()
                continue
            failed = table["p_value"][name] < SIGNIFICANCE / len(table)
            axes.axhspan(low, high, color="0.9", zorder=0)
            axes.hist(ranks[name], np.linspace(0, 1, NUM_BINS + 1), color=RED if failed else BLUE)
            chance = table["p_value"][name]
            p = f"p = {chance:.2g}" if chance >= 1e-4 else "p < 1e-4"
            heading(axes, f"{COMPARISON.get(name, name.replace('_', ' '))}   {p}", fontsize=8)
            axes.set_xticks([0, 0.5, 1])
        row[0].set_ylabel(title(label), fontsize=9)
    return figure
