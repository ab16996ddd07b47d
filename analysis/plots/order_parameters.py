"""Order parameter and test MSE by scheme."""

from matplotlib.figure import Figure

from analysis.plots.style import (
    colour,
    heading,
    kappas_of,
    legend,
    new_figure,
    prior_look,
    priors_of,
    rows_of_labels,
    title,
)
from analysis.results.order_parameters import order_parameters
from analysis.schemes.compare import Comparison


def plot_order_parameters(comparison: Comparison) -> Figure:
    """Order parameter m and test MSE of every scheme, with error bars; a row per κ.

    Bars are two Monte-Carlo standard errors; the fixed points' are two error estimates of the
    solver. The test MSE of one draw (filled) and of the posterior mean (open) are told apart.
    """
    kappas = kappas_of(comparison.results)
    most = max(len(comparison.select(kappa=k)) for k in kappas)
    size = (9.5, 0.8 + (0.8 + 0.27 * most) * len(kappas))
    figure, grid = new_figure(len(kappas), 2, *size, sharex="col")
    for kappa, (left, right) in zip(kappas, grid, strict=True):
        results = comparison.select(kappa=kappa)
        priors = priors_of(results)
        results = sorted(results, key=lambda r: priors.index(r.row["prior"]))
        for y, result in enumerate(results):
            _row(left, right, y, result)
        for axes in (left, right):
            names = (f"{title(r.row['scheme'])} ({r.row['prior']})" for r in results)
            rows_of_labels(axes, names, axes is left)
            for y in range(1, len(results)):
                if results[y].row["prior"] != results[y - 1].row["prior"]:
                    axes.axhline(y - 0.5, color="0.8", lw=0.8)
        heading(left, f"κ = {kappa:g}")
        for value in (0, 1):
            left.axvline(value, color="0.85", lw=0.8, zorder=0)
    grid[-1][0].set_xlabel("order parameter m")
    grid[-1][1].set_xlabel("test MSE")
    top = grid[0][1]
    for kind, face in {"one draw": "0.3", "posterior mean": "white"}.items():
        top.plot([], [], "o", mfc=face, color="0.3", label=kind)
    legend(top, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def _row(left, right, y: int, result) -> None:
    row, shade = result.row, colour(result.row["scheme"])
    look = {"fmt": prior_look(row["prior"])[1], "ms": 5, "color": shade, "capsize": 2}
    left.errorbar(row["order_parameter"], y, xerr=2 * (row["order_parameter_se"] or 0), **look)
    se = order_parameters(result.tree).sel(estimate="se")
    for column, face in (("test_mse_draw", shade), ("test_mse_mean", "white")):
        bar = 0.0 if result.point is not None else 2 * float(se[column])
        right.errorbar(row[column], y, xerr=bar, mfc=face, **look)
