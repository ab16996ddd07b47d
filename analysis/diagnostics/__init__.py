"""Can a result be trusted, how far apart are two of them, and which inputs do they select?"""
# ruff: noqa: F401  (what is imported here is what the folder offers)

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
