"""What the answers say: order parameters, diagnostics, comparison, plots and the command line."""

from analysis.compare import Comparison, compare
from analysis.diagnose import Diagnosis, diagnose
from analysis.files import load_tree, save_tree
from analysis.order_parameters import order_parameters

__all__ = [
    "Comparison",
    "Diagnosis",
    "compare",
    "diagnose",
    "load_tree",
    "order_parameters",
    "save_tree",
]
