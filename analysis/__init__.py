"""What the answers say: order parameters, diagnostics, comparison, plots and the command line."""

import sys
from importlib import import_module
from types import ModuleType

# Imported when they are first asked for (PEP 562): together they take seconds, and no command needs
# them all.
_PLACES = {
    "Comparison": "schemes.compare",
    "CriticalNoise": "theory.critical_noise",
    "Diagnosis": "diagnostics.diagnose",
    "ScalingExponent": "theory.critical_noise",
    "Score": "scoring.score",
    "Verdict": "diagnostics",
    "assess": "diagnostics",
    "assess_all": "diagnostics",
    "compare": "schemes.compare",
    "critical_noise": "theory.critical_noise",
    "diagnose": "diagnostics.diagnose",
    "distances": "diagnostics",
    "feature_selection": "diagnostics",
    "inclusion_probabilities": "results.inclusion",
    "load_tree": "results.files",
    "match_neurons": "diagnostics",
    "order_parameters": "results.order_parameters",
    "phase_diagram": "theory.phase_diagram",
    "predict": "results.predictions",
    "prior_predictive": "results.prior_predictive",
    "report": "report.page",
    "save_tree": "results.files",
    "scaling_exponent": "theory.critical_noise",
    "score": "scoring.score",
    "simulation_based_calibration": "diagnostics",
    "sweep": "sweep.grid",
}
__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps the import of the folders sweep and report from hiding the functions of these names."""

    def __setattr__(self, name, value):
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
