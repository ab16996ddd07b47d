"""Convergence of every function, by scheme; differences between runs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.diagnostics.convergence import ESS_LIMIT, R_HAT_LIMIT
from analysis.diagnostics.differences import BIAS_TOLERANCE, START_TOLERANCE
from analysis.diagnostics.verdict import Verdict
from analysis.plots.style import colour, new_figure, rows_of_labels


def plot_convergence(verdicts: list[Verdict]) -> Figure:
    """R-hat and effective sample sizes of every label-free function, a row per sampler.

    Every dot is a function; the worst is named. Left of the line at the limit R-hat is fine, right
    of its own line ESS is. Results of independent draws, which have no R-hat, are left out;
    ``ValueError`` where none is left.
    """
    verdicts = [v for v in verdicts if "r_hat" in v.tables["functions"]]
    if not verdicts:
        raise ValueError("verdicts hold no sampler's result: independent draws have no R-hat to plot.")
    figure, [[left, right]] = new_figure(1, 2, 10.5, 1.6 + 0.62 * len(verdicts))
    for y, verdict in enumerate(verdicts):
        table, shade = verdict.tables["functions"], colour(verdict.scheme)
        r_hat = table["nested_r_hat" if "nested_r_hat" in table else "r_hat"].dropna()
        bulk = table["ess_bulk"].dropna()
        if len(r_hat):
            _strip(left, y, r_hat, r_hat.idxmax(), shade)
        if len(bulk):
            _strip(right, y - 0.12, bulk, bulk.idxmin(), shade)
        right.plot(table["ess_tail"], np.full(len(table), y + 0.12), "|", color=shade, alpha=0.6)
    left.set_xlabel("R-hat (nested where superchains were given)")
    right.set(xlabel="effective draws: • bulk   | tail", xscale="log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4)))
    right.xaxis.set_major_formatter("{x:.0f}")
    right.xaxis.set_minor_formatter(NullFormatter())
    for axes, limit in ((left, R_HAT_LIMIT), (right, ESS_LIMIT)):
        axes.axvline(limit, color="0.4", lw=1, ls="--")
        rows_of_labels(axes, (v.label for v in verdicts), axes is left)
        axes.set_ylim(len(verdicts) - 0.5, -0.6)
        axes.margins(x=0.12)
    return figure


def _strip(axes: Axes, y: float, values, worst: str, shade: str) -> None:
    axes.plot(values, np.full(len(values), y), "o", ms=4, color=shade, alpha=0.4, mew=0)
    look = {"textcoords": "offset points", "fontsize": 7, "ha": "center", "color": "0.3"}
    axes.annotate(worst, (values[worst], y), (0, 5), **look)


def plot_differences(verdict: Verdict) -> Figure:
    """Where the answer depends on the start or on the step size, with error bars.

    Left, where two starts were compared: difference of the means of every function in posterior
    standard deviations. Right, where two step sizes were: relative bias. Bars are two standard
    errors; the shaded range is what the checks let pass. ``ValueError`` where neither was compared.
    """
    shown = {}
    if "start" in verdict.tables:
        table = verdict.tables["start"]
        bar = table["effect"] / table["z"]
        shown["difference between starts (posterior sd)"] = (table["effect"], bar, START_TOLERANCE)
    if "step_size" in verdict.tables:
        table = verdict.tables["step_size"]
        value, bar = table["bias"] / table["scale"], table["se"] / table["scale"]
        shown["relative bias of the step size"] = (value, bar, BIAS_TOLERANCE)
    if not shown:
        raise ValueError(
            "the verdict compares no starts and no step sizes; give assess other_start or half_step."
        )
    most = max(len(value) for value, _, _ in shown.values())
    figure, [row] = new_figure(1, len(shown), 5.2 * len(shown), 1.2 + 0.17 * max(most, 6))
    for axes, (name, (value, bar, limit)) in zip(row, shown.items(), strict=True):
        axes.axvspan(-limit, limit, color="0.92", zorder=0)
        axes.axvline(0, color="0.6", lw=0.8)
        bars = 2 * np.nan_to_num(np.abs(bar))
        look = {"fmt": "o", "ms": 3.5, "color": colour(verdict.scheme), "capsize": 1.5}
        axes.errorbar(value, np.arange(len(value)), xerr=bars, **look)
        rows_of_labels(axes, value.index)
        axes.tick_params("y", labelsize=7)
        axes.set_xlabel(name)
    figure.suptitle(verdict.label)
    return figure
