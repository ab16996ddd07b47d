"""Posterior inclusion probabilities of the inputs."""

from matplotlib.figure import Figure

from analysis.plots.style import colour, kappas_of, new_figure, tidy, title
from analysis.results.inclusion import has_inclusion, inclusion_probabilities
from analysis.schemes.compare import Comparison


def plot_inclusion(comparison: Comparison) -> Figure:
    """P(γ_j = 1 | data) of every input, by scheme, with two standard errors; a row per κ; relevant inputs shaded.

    Parameters
    ----------
    comparison
        With results under a prior that has indicators, such as :class:`models.SpikeAndSlab`; others are left out.
    """
    results = [r for r in comparison.results if has_inclusion(r.tree)]
    kappas = kappas_of(results)
    figure, grid = new_figure(len(kappas), 1, 7.0, 0.4 + 2.3 * len(kappas), sharex=True)
    for kappa, (axes,) in zip(kappas, grid, strict=True):
        shown = [r for r in results if r.row["kappa"] == kappa]
        for place, result in enumerate(shown):
            table = inclusion_probabilities(result.tree)
            offset = 0.12 * (place - (len(shown) - 1) / 2)
            scheme = result.row["scheme"]
            axes.errorbar(
                table.input + offset,
                table.probability,
                yerr=2 * table.se,
                fmt="o",
                ms=4,
                lw=1,
                color=colour(scheme),
                label=title(scheme),
            )
        if "relevant" in table:
            for j in table.input[table.relevant]:
                axes.axvspan(j - 0.5, j + 0.5, color="#F0E442", alpha=0.35, lw=0, zorder=0)
        axes.set(ylim=(-0.03, 1.03), ylabel="P(included | data)")
        axes.set_title(f"{shown[0].row['prior']}, κ = {kappa:g}", loc="left", fontsize=10)
        axes.set_xlim(-0.6, len(table) - 0.4)
        if len(table) <= 20:
            axes.set_xticks(table.input)
        tidy(axes)
    grid[0][0].legend(frameon=False, fontsize=8)
    grid[-1][0].set_xlabel("input")
    return figure
