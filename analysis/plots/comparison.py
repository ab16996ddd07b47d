"""The figures that lay all results of a comparison side by side."""

from matplotlib.figure import Figure

from analysis.plots.inputs import plot_inclusion, plot_second_moments
from analysis.plots.marginals import plot_weight_marginals
from analysis.plots.order_parameters import plot_order_parameters
from analysis.results.inclusion import has_inclusion
from analysis.schemes.compare import Comparison


def plot_comparison(comparison: Comparison) -> dict[str, Figure]:
    """The figures by name; that of inclusion probabilities where a prior has them."""
    drawn = {
        "order_parameters": plot_order_parameters(comparison),
        "second_moments": plot_second_moments(comparison),
        "weight_marginals": plot_weight_marginals(comparison),
    }
    if any(has_inclusion(result.tree) for result in comparison.results):
        drawn["inclusion"] = plot_inclusion(comparison)
    return drawn
