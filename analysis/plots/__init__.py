"""Figures: every function here returns a matplotlib figure and writes nothing."""
# ruff: noqa: F401  (what is imported here is what the folder offers)

from analysis.plots.calibration import plot_calibration
from analysis.plots.convergence import plot_convergence, plot_differences
from analysis.plots.distances import plot_distances
from analysis.plots.importance import plot_pareto_k, plot_restarts
from analysis.plots.inputs import plot_feature_selection, plot_inclusion, plot_second_moments
from analysis.plots.marginals import plot_weight_marginals
from analysis.plots.neurons import plot_neurons
from analysis.plots.order_parameters import plot_order_parameters
from analysis.plots.phase import plot_noise_curves, plot_phase_diagram
from analysis.plots.prior_predictive import plot_prior_predictive
from analysis.plots.sbc import plot_sbc
from analysis.plots.scaling import plot_critical_noise
from analysis.plots.traces import plot_energy, plot_function_traces
from analysis.plots.verdicts import plot_together, plot_verdict, plot_verdicts
