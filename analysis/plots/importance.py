"""Pareto k̂ of leave-one-out and of guides, and the restarts of a guide."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.diagnostics.verdict import Verdict
from analysis.plots.style import BLUE, distinct_colours, heading, legend, new_figure

_LARGEST_K = 1.5  # in the figure; above 1 the importance ratios have no mean


def plot_pareto_k(verdicts: list[Verdict]) -> Figure:
    """Pareto k̂ of every left-out point, sorted, by scheme; a guide's own k̂ in the legend.

    Above the dashed line, or lines, where the numbers of draws differ, leave-one-out by reweighting
    is not safe; ``ValueError`` where it has no meaning for any of the results. (ArviZ's
    ``plot_khat`` shows one result, and which point each k̂ is of.)
    """
    verdicts = [v for v in verdicts if v.diagnosis.loo is not None]
    if not verdicts:
        raise ValueError("verdicts hold no leave-one-out: population theories have seen no data.")
    figure, [[axes]] = new_figure(1, 1, 7.5, 3.8)
    shades = distinct_colours(verdict.scheme for verdict in verdicts)
    for verdict, shade in zip(verdicts, shades, strict=True):
        k = np.asarray(verdict.diagnosis.loo.pareto_k, float)
        k = np.sort(np.clip(np.nan_to_num(k, nan=np.inf), None, _LARGEST_K))
        guide = verdict.diagnosis.pareto_k
        label = verdict.label if guide is None else f"{verdict.label} (guide k̂ {guide:.1f})"
        axes.plot(np.arange(1, len(k) + 1) / len(k), k, color=shade, label=label)
    for limit in {float(v.diagnosis.loo.good_k) for v in verdicts}:  # it grows with the number of draws
        axes.axhline(limit, color="0.4", lw=1, ls="--")
    axes.set(xlabel="share of training points", ylabel="Pareto k̂ of leave-one-out")
    legend(figure, ncols=2)
    return figure


def plot_restarts(tree: xr.DataTree, label: str = "") -> Figure:
    """Evidence lower bound of every restart of a guide over the steps; the one kept is heavy."""
    if "restarts" not in tree.children:
        raise ValueError("tree holds no restarts; pass a result of fit(...).")
    restarts, best = tree["restarts"].to_dataset(), tree.attrs.get("best_restart", 0)
    history = restarts.elbo_history.to_numpy()
    figure, [[axes]] = new_figure(1, 1, 6, 3)
    for number, line in enumerate(history):
        look = {"lw": 2, "color": BLUE, "zorder": 2} if number == best else {"lw": 1, "color": "0.6"}
        axes.plot(restarts.step, line, **look)
    finite = history[np.isfinite(history)]
    axes.set_ylim(np.quantile(finite, 0.1), finite.max() + 0.05 * np.ptp(finite))
    axes.set(xlabel="step", ylabel="ELBO")
    heading(axes, label)
    return figure
