"""What the answers say: order parameters, diagnostics, comparison, plots and the command line."""

from analysis.diagnostics import (
    Verdict,
    assess,
    assess_all,
    distances,
    feature_selection,
    match_neurons,
    simulation_based_calibration,
)
from analysis.diagnostics.diagnose import Diagnosis, diagnose
from analysis.report.page import report
from analysis.results.files import load_tree, save_tree
from analysis.results.inclusion import inclusion_probabilities
from analysis.results.order_parameters import order_parameters
from analysis.results.prior_predictive import prior_predictive
from analysis.schemes.compare import Comparison, compare
from analysis.sweep.grid import sweep
from analysis.theory.critical_noise import CriticalNoise, ScalingExponent, critical_noise, scaling_exponent
from analysis.theory.phase_diagram import phase_diagram

__all__ = [
    "Comparison",
    "CriticalNoise",
    "Diagnosis",
    "ScalingExponent",
    "Verdict",
    "assess",
    "assess_all",
    "compare",
    "critical_noise",
    "diagnose",
    "distances",
    "feature_selection",
    "inclusion_probabilities",
    "load_tree",
    "match_neurons",
    "order_parameters",
    "phase_diagram",
    "prior_predictive",
    "report",
    "save_tree",
    "scaling_exponent",
    "simulation_based_calibration",
    "sweep",
]
