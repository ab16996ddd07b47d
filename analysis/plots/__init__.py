"""Figures of a comparison. Every function returns a matplotlib figure and writes nothing."""

from analysis.plots.marginals import plot_weight_marginals
from analysis.plots.order_parameters import plot_order_parameters
from analysis.plots.second_moments import plot_second_moments
from analysis.plots.traces import plot_function_traces

__all__ = ["plot_function_traces", "plot_order_parameters", "plot_second_moments", "plot_weight_marginals"]
