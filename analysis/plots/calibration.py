"""Calibration of predictions, side by side."""

import numpy as np
from arviz_stats.ecdf_utils import ecdf_pit
from matplotlib.figure import Figure

from analysis.diagnostics.calibration import LEVELS
from analysis.diagnostics.verdict import Verdict
from analysis.plots.style import distinct_colours, legend, new_figure


def plot_calibration(verdicts: list[Verdict]) -> Figure:
    """Coverage of the predictive intervals of y at test points, LOO-PIT at training points.

    Left: share of test targets inside the central intervals less the nominal share (dots); bars are
    the 99 % range in which it lies if the result is right. Below them the intervals are too narrow,
    above too wide. Right: empirical distribution of LOO-PIT less the uniform one, with the
    simultaneous 99 % band of Säilynoja, Bürkner and Vehtari (2022) for independent values. A line
    that rises, crosses and falls back (∽, above then below) is over-confident; the opposite is too
    wide.
    """
    figure, [[left, right]] = new_figure(1, 2, 10, 3.6)
    shades = distinct_colours(verdict.scheme for verdict in verdicts)
    for place, (verdict, shade) in enumerate(zip(verdicts, shades, strict=True)):
        table = verdict.calibration.coverage
        x = np.arange(len(LEVELS)) + 0.7 * ((place + 1) / (len(verdicts) + 1) - 0.5)
        nominal = table.index.to_numpy()
        low, high = table["expected_low"] - nominal, table["expected_high"] - nominal
        left.vlines(x, low, high, color=shade, lw=5, alpha=0.3)
        left.plot(x, table["y"] - nominal, "o", ms=4.5, color=shade, label=verdict.label)
        if verdict.calibration.loo_pit is not None:
            rng = np.random.default_rng(0)
            points, ecdf, low, high = ecdf_pit(verdict.calibration.loo_pit, 0.99, 1000, rng=rng)
            right.fill_between(points, low - points, high - points, color="0.93", step="mid", zorder=0)
            right.plot(points, ecdf - points, color=shade, lw=1.3)
    left.set_xticks(range(len(LEVELS)), [f"{level:.0%}" for level in LEVELS])
    left.set(xlabel="predictive interval of y = f + noise", ylabel="coverage - nominal")
    right.set(xlabel="LOO-PIT", ylabel="distribution - uniform")
    for axes in (left, right):
        axes.axhline(0, color="0.6", lw=0.8)
    legend(figure, handles=left.get_legend_handles_labels()[0], ncols=3)
    return figure
