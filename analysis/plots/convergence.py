"""Convergence of every function, by scheme; differences between runs; energies of NUTS."""

import arviz_stats
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.diagnostics.diagnose import ESS_LIMIT, R_HAT_LIMIT
from analysis.diagnostics.differences import BIAS_TOLERANCE, START_TOLERANCE
from analysis.diagnostics.energy import BFMI_LIMIT
from analysis.diagnostics.verdict import Verdict
from analysis.plots.style import colour, new_figure, tidy


def plot_convergence(verdicts: list[Verdict]) -> Figure:
    """R-hat and effective sample sizes of every label-free function, a row per sampler.

    Every dot is a function; the worst is named. Left of the line at the limit R-hat is fine, right of its own line
    ESS is. Results of independent draws, which have no R-hat, are left out.

    Raises
    ------
    ValueError
        Where no result is a sampler's.
    """
    verdicts = [v for v in verdicts if "r_hat" in v.tables["functions"]]
    if not verdicts:
        raise ValueError("verdicts hold no sampler's result: independent draws have no R-hat to plot.")
    figure, [[left, right]] = new_figure(1, 2, 10.5, 1.6 + 0.62 * len(verdicts))
    for y, verdict in enumerate(verdicts):
        table = verdict.tables["functions"]
        shade = colour(verdict.scheme)
        nested = "nested_r_hat" in table
        _strip(left, y, table["nested_r_hat" if nested else "r_hat"], shade, worst="largest")
        _strip(right, y - 0.12, table["ess_bulk"], shade, worst="smallest")
        right.plot(table["ess_tail"], np.full(len(table), y + 0.12), "|", color=shade, alpha=0.6)
    left.set_yticks(range(len(verdicts)), [v.label for v in verdicts])
    right.set_yticks(range(len(verdicts)), [""] * len(verdicts))
    left.axvline(R_HAT_LIMIT, color="0.4", lw=1, ls="--")
    right.axvline(ESS_LIMIT, color="0.4", lw=1, ls="--")
    left.set_xlabel("R-hat (nested where superchains were given)")
    right.set_xlabel("effective draws: • bulk   | tail")
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4)))
    right.xaxis.set_major_formatter("{x:.0f}")
    right.xaxis.set_minor_formatter(NullFormatter())
    for axes in (left, right):
        axes.set_ylim(len(verdicts) - 0.5, -0.6)
        axes.margins(x=0.12)
        tidy(axes)
    return figure


def plot_differences(verdict: Verdict) -> Figure:
    """Where the answer depends on the start or on the step size, with error bars.

    Left, where two starts were compared: difference of the means of every function in posterior standard
    deviations. Right, where two step sizes were: relative bias. Bars are two standard errors; the shaded range is
    what the checks let pass.

    Raises
    ------
    ValueError
        Where neither was compared.
    """
    tables = [name for name in ("start", "step_size") if name in verdict.tables]
    if not tables:
        raise ValueError(
            "the verdict compares no starts and no step sizes; give assess other_start or half_step."
        )
    rows = max(len(verdict.tables[name]) for name in tables)
    figure, [axes] = new_figure(1, len(tables), 5.2 * len(tables), 1.2 + 0.17 * max(rows, 6))
    for name, panel in zip(tables, axes, strict=True):
        table = verdict.tables[name]
        if name == "start":
            value, bar, limit = table["effect"], table["effect"] / table["z"], START_TOLERANCE
            panel.set_xlabel("difference between starts (posterior sd)")
        else:
            value, bar, limit = table["bias"] / table["scale"], table["se"] / table["scale"], BIAS_TOLERANCE
            panel.set_xlabel("relative bias of the step size")
        places = np.arange(len(table))
        panel.axvspan(-limit, limit, color="0.92", zorder=0)
        panel.axvline(0, color="0.6", lw=0.8)
        bars = 2 * np.nan_to_num(np.abs(bar))
        panel.errorbar(value, places, xerr=bars, fmt="o", ms=3.5, color=colour(verdict.scheme), capsize=1.5)
        panel.set_yticks(places, table.index, fontsize=7)
        panel.set_ylim(len(table) - 0.5, -0.5)
        tidy(panel)
    figure.suptitle(verdict.label)
    return figure


def plot_energy(tree: xr.DataTree, heading: str = "") -> Figure:
    """Energies of the draws of NUTS against the changes that one momentum draw makes (Betancourt 2016).

    A change distribution much narrower than that of the energies, chain by chain E-BFMI below 0.3, says that the
    chain moves too slowly between energies. Ticks below mark the energies of divergent trajectories.

    Raises
    ------
    ValueError
        For a result without energies.
    """
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else {}
    if "energy" not in stats:
        raise ValueError("tree holds no energies; pass a result of NUTS or HMC.")
    energy = stats["energy"].astype(float)
    figure, [[left, right]] = new_figure(1, 2, 9, 3, width_ratios=[2, 1])
    centred = (energy - energy.mean("draw")).to_numpy()
    change = np.diff(energy.to_numpy(), axis=1)
    bins = np.linspace(*np.quantile(np.concatenate([centred.ravel(), change.ravel()]), [0.001, 0.999]), 50)
    for values, shade, name in (
        (centred, "0.75", "energy E - mean"),
        (change, "#0072B2", "change E_t - E_{t-1}"),
    ):
        kind = "stepfilled" if shade == "0.75" else "step"
        left.hist(values.ravel(), bins, density=True, histtype=kind, color=shade, label=name, lw=1.5)
    if "diverging" in stats and stats["diverging"].any():
        hit = centred[stats["diverging"].to_numpy().astype(bool)]
        marks = left.plot(hit, np.zeros_like(hit), "|", ms=14, mew=1.5, color="#D55E00", clip_on=False)[0]
        marks.set_label(f"{hit.size} divergent")
    left.legend(frameon=False, fontsize=8)
    left.set_yticks([])
    left.set_xlabel("energy")
    values = np.asarray(arviz_stats.bfmi(energy.to_dataset(name="energy"))["energy"])
    right.plot(values, np.arange(len(values)), "o", color="#0072B2")
    right.axvline(BFMI_LIMIT, color="0.4", lw=1, ls="--")
    right.set_xlim(0, None)
    right.set_yticks(range(len(values)), [f"chain {c}" for c in range(len(values))])
    right.set_ylim(len(values) - 0.5, -0.5)
    right.set_xlabel("E-BFMI")
    for axes in (left, right):
        tidy(axes)
    if heading:
        figure.suptitle(heading)
    return figure


def _strip(axes: Axes, y: float, values, shade: str, worst: str) -> None:
    values = values.dropna()
    axes.plot(values, np.full(len(values), y), "o", ms=4, color=shade, alpha=0.4, mew=0)
    name = values.idxmax() if worst == "largest" else values.idxmin()
    axes.annotate(
        name, (values[name], y), (0, 5), textcoords="offset points", fontsize=7, ha="center", color="0.3"
    )
