"""Order parameter and test MSE by scheme."""

from matplotlib.figure import Figure

from analysis.plots.style import colour, kappas_of, new_figure, priors_of, tidy, title
from analysis.results.order_parameters import order_parameters
from analysis.schemes.compare import Comparison


def plot_order_parameters(comparison: Comparison) -> Figure:
    """Order parameter m and test MSE of every scheme, with error bars; a row per κ.

    Bars are two Monte-Carlo standard errors; the fixed points' are two error estimates of the solver. The test
    MSE of one draw (filled) and of the posterior mean (open) are told apart.
    """
    kappas = kappas_of(comparison.results)
    rows = max(len(comparison.select(kappa=k)) for k in kappas)
    figure, grid = new_figure(len(kappas), 2, 9.5, 0.8 + (0.8 + 0.27 * rows) * len(kappas), sharex="col")
    for kappa, (left, right) in zip(kappas, grid, strict=True):
        results = comparison.select(kappa=kappa)
        priors = priors_of(results)
        results = sorted(results, key=lambda r: priors.index(r.row["prior"]))
        for y, result in enumerate(results):
            _draw(left, right, y, result)
        for axes in (left, right):
            axes.set_ylim(len(results) - 0.5, -0.5)
            for y in range(1, len(results)):
                if results[y].row["prior"] != results[y - 1].row["prior"]:
                    axes.axhline(y - 0.5, color="0.8", lw=0.8)
            tidy(axes)
        left.set_yticks(
            range(len(results)), [f"{title(r.row['scheme'])} ({r.row['prior']})" for r in results]
        )
        right.set_yticks(range(len(results)), [""] * len(results))
        left.set_title(f"κ = {kappa:g}", loc="left", fontsize=10)
        left.axvline(0, color="0.85", lw=0.8, zorder=0)
        left.axvline(1, color="0.85", lw=0.8, zorder=0)
    grid[-1][0].set_xlabel("order parameter m")
    grid[-1][1].set_xlabel("test MSE")
    handles = [
        grid[0][1].plot([], [], "o", color="0.3", label="one draw")[0],
        grid[0][1].plot([], [], "o", mfc="white", color="0.3", label="posterior mean")[0],
    ]
    grid[0][1].legend(
        handles=handles, frameon=False, ncols=2, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1)
    )
    return figure


def _draw(left, right, y, result) -> None:
    row, shade = result.row, colour(result.row["scheme"])
    se = order_parameters(result.tree).sel(estimate="se")
    exact = result.point is not None
    left.errorbar(
        row["order_parameter"], y, xerr=2 * (row["order_parameter_se"] or 0), fmt="o", color=shade, capsize=2
    )
    for column, face in (("test_mse_draw", shade), ("test_mse_mean", "white")):
        bar = 0.0 if exact else 2 * float(se[column])
        right.errorbar(row[column], y, xerr=bar, fmt="o", mfc=face, color=shade, capsize=2)
