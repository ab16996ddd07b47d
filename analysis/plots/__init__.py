"""Figures of comparisons and of phase diagrams. Every function returns a matplotlib figure and writes nothing."""

from analysis.plots.marginals import plot_weight_marginals
from analysis.plots.order_parameters import plot_order_parameters
from analysis.plots.phase import plot_noise_curves, plot_phase_diagram
from analysis.plots.prior_predictive import plot_prior_predictive
from analysis.plots.scaling import plot_critical_noise
from analysis.plots.second_moments import plot_second_moments
from analysis.plots.traces import plot_function_traces

__all__ = [
    "plot_critical_noise",
    "plot_function_traces",
    "plot_noise_curves",
    "plot_order_parameters",
    "plot_phase_diagram",
    "plot_prior_predictive",
    "plot_second_moments",
    "plot_weight_marginals",
]
