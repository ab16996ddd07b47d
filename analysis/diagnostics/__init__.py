"""Can a result be trusted, how far apart are two of them, and which inputs do they select?"""

from analysis.diagnostics.calibration import Calibration, calibrate
from analysis.diagnostics.check import Check
from analysis.diagnostics.convergence import convergence_table
from analysis.diagnostics.differences import mean_differences, start_dependence, step_bias
from analysis.diagnostics.distances import distances
from analysis.diagnostics.feature_selection import feature_selection, rank_inputs, selection_scores
from analysis.diagnostics.neurons import match_neurons
from analysis.diagnostics.sbc import SimulationBasedCalibration, simulation_based_calibration
from analysis.diagnostics.verdict import Verdict, assess

__all__ = [
    "Calibration",
    "Check",
    "SimulationBasedCalibration",
    "Verdict",
    "assess",
    "calibrate",
    "convergence_table",
    "distances",
    "feature_selection",
    "match_neurons",
    "mean_differences",
    "rank_inputs",
    "selection_scores",
    "simulation_based_calibration",
    "start_dependence",
    "step_bias",
]
