"""Calibration of predictions, and Pareto k̂ of leave-one-out and of guides."""

import numpy as np
import xarray as xr
from arviz_stats.ecdf_utils import ecdf_pit
from matplotlib.figure import Figure

from analysis.diagnostics.calibration import LEVELS
from analysis.diagnostics.verdict import Verdict
from analysis.plots.style import colour, new_figure, tidy

_LARGEST_K = 1.5  # in the figure; above 1 the importance ratios have no mean


def plot_calibration(verdicts: list[Verdict]) -> Figure:
    """Coverage of the predictive intervals of y at test points, and LOO-PIT at training points, by scheme.

    Left: share of test targets inside the central intervals less the nominal share (dots); bars are the 99 % range
    in which it lies if the result is right. Below them the intervals are too narrow, above too wide. Right: empirical
    distribution of LOO-PIT less the uniform one, with the simultaneous 99 % band of Säilynoja, Bürkner and Vehtari
    (2022) for independent values. A line that rises, crosses and falls back (∽, above then below) is
    over-confident; the opposite is too wide.
    """
    figure, [[left, right]] = new_figure(1, 2, 10, 3.6)
    for place, verdict in enumerate(verdicts):
        shade, table = colour(verdict.scheme), verdict.calibration.coverage
        x = np.arange(len(LEVELS)) + 0.7 * ((place + 1) / (len(verdicts) + 1) - 0.5)
        nominal = table.index.to_numpy()
        left.vlines(
            x, table["expected_low"] - nominal, table["expected_high"] - nominal, color=shade, lw=5, alpha=0.3
        )
        left.plot(x, table["y"] - nominal, "o", ms=4.5, color=shade, label=verdict.label)
        if verdict.calibration.loo_pit is not None:
            points, ecdf, low, high = ecdf_pit(
                verdict.calibration.loo_pit, 0.99, 1000, rng=np.random.default_rng(0)
            )
            right.fill_between(points, low - points, high - points, color="0.93", step="mid", zorder=0)
            right.plot(points, ecdf - points, color=shade, lw=1.3)
    left.axhline(0, color="0.6", lw=0.8)
    left.set_xticks(range(len(LEVELS)), [f"{level:.0%}" for level in LEVELS])
    left.set_xlabel("predictive interval of y = f + noise")
    left.set_ylabel("coverage - nominal")
    right.axhline(0, color="0.6", lw=0.8)
    right.set_xlabel("LOO-PIT")
    right.set_ylabel("distribution - uniform")
    for axes in (left, right):
        tidy(axes)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    return figure


def plot_pareto_k(verdicts: list[Verdict]) -> Figure:
    """Pareto k̂ of every left-out point, sorted, by scheme; a guide's own k̂ in the legend.

    Above the dashed line, or lines, where the numbers of draws differ, leave-one-out by reweighting is not safe.

    Raises
    ------
    ValueError
        Where leave-one-out has no meaning for any of the results.
    """
    verdicts = [v for v in verdicts if v.diagnosis.loo is not None]
    if not verdicts:
        raise ValueError("verdicts hold no leave-one-out: population theories have seen no data.")
    figure, [[axes]] = new_figure(1, 1, 7.5, 3.8)
    for verdict in verdicts:
        k = np.asarray(verdict.diagnosis.loo.pareto_k, float)
        k = np.sort(np.clip(np.nan_to_num(k, nan=np.inf), None, _LARGEST_K))
        guide = verdict.diagnosis.pareto_k
        label = verdict.label if guide is None else f"{verdict.label} (guide k̂ {guide:.1f})"
        axes.plot(np.arange(1, len(k) + 1) / len(k), k, color=colour(verdict.scheme), label=label)
    for limit in {float(v.diagnosis.loo.good_k) for v in verdicts}:  # it grows with the number of draws
        axes.axhline(limit, color="0.4", lw=1, ls="--")
    axes.set_xlabel("share of training points")
    axes.set_ylabel("Pareto k̂ of leave-one-out")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    tidy(axes)
    return figure


def plot_restarts(tree: xr.DataTree, heading: str = "") -> Figure:
    """Evidence lower bound of every restart of a guide over the steps; the one that was kept drawn heavily.

    Raises
    ------
    ValueError
        For a result that is not a guide's.
    """
    if "restarts" not in tree.children:
        raise ValueError("tree holds no restarts; pass a result of fit(...).")
    restarts, best = tree["restarts"].to_dataset(), tree.attrs.get("best_restart", 0)
    history = restarts.elbo_history.to_numpy()
    figure, [[axes]] = new_figure(1, 1, 6, 3)
    for number, line in enumerate(history):
        bold = number == best
        axes.plot(
            restarts.step,
            line,
            lw=2 if bold else 1,
            color="#0072B2" if bold else "0.6",
            zorder=2 if bold else 1,
        )
    finite = history[np.isfinite(history)]
    axes.set_ylim(np.quantile(finite, 0.1), finite.max() + 0.05 * np.ptp(finite))
    axes.set_xlabel("step")
    axes.set_ylabel("ELBO")
    axes.set_title(heading, loc="left", fontsize=10)
    tidy(axes)
    return figure
