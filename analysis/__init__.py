"""What the answers say: order parameters, diagnostics, comparison, plots and the command line."""

from analysis.compare import Comparison, compare
from analysis.critical_noise import CriticalNoise, ScalingExponent, critical_noise, scaling_exponent
from analysis.diagnose import Diagnosis, diagnose
from analysis.diagnostics import (
    Verdict,
    assess,
    assess_all,
    distances,
    feature_selection,
    match_neurons,
    simulation_based_calibration,
)
from analysis.files import load_tree, save_tree
from analysis.inclusion import inclusion_probabilities
from analysis.order_parameters import order_parameters
from analysis.phase_diagram import phase_diagram
from analysis.prior_predictive import prior_predictive
from analysis.report import report
from analysis.sweep import sweep

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
