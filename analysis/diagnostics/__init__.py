"""Can a result be trusted, how far apart are two of them, and which inputs do they select?"""

from analysis.diagnostics.calibration import Calibration, calibrate
from analysis.diagnostics.check import Check
from analysis.diagnostics.convergence import convergence_table
from analysis.diagnostics.diagnose import Diagnosis, diagnose
from analysis.diagnostics.differences import mean_differences, start_dependence, step_bias
from analysis.diagnostics.distances import distances
from analysis.diagnostics.feature_selection import feature_selection, rank_inputs, selection_scores
from analysis.diagnostics.functions import functions_of
from analysis.diagnostics.neurons import match_neurons
from analysis.diagnostics.peers import assess_all, distances_by_problem, selection_by_scheme
from analysis.diagnostics.provenance import name_of, same_posterior
from analysis.diagnostics.sbc import SimulationBasedCalibration, simulation_based_calibration
from analysis.diagnostics.verdict import Verdict, assess

__all__ = [
    "Calibration",
    "Check",
    "Diagnosis",
    "SimulationBasedCalibration",
    "Verdict",
    "assess",
    "assess_all",
    "calibrate",
    "convergence_table",
    "diagnose",
    "distances",
    "distances_by_problem",
    "feature_selection",
    "functions_of",
    "match_neurons",
    "mean_differences",
    "name_of",
    "rank_inputs",
    "same_posterior",
    "selection_by_scheme",
    "selection_scores",
    "simulation_based_calibration",
    "start_dependence",
    "step_bias",
]
