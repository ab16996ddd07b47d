"""How the posterior is reached: samplers, guides and fixed points. Imports only `models`."""

from inference.annealing import annealed_start
from inference.fitting import fit
from inference.guides import MeanFieldARDGuide, MeanFieldGuide
from inference.guides_collapsed import CollapsedGuide
from inference.mala import MALA
from inference.psgld import PSGLD
from inference.sampling import sample
from inference.schedules import Cyclical, PolynomialDecay, ThenConstant
from inference.sgld import SGLD, DivergenceError
from inference.tempering import ParallelTempering
from inference.underdamped import SGHMC, UnderdampedLangevin

__all__ = [
    "MALA",
    "PSGLD",
    "SGHMC",
    "SGLD",
    "CollapsedGuide",
    "Cyclical",
    "DivergenceError",
    "MeanFieldARDGuide",
    "MeanFieldGuide",
    "ParallelTempering",
    "PolynomialDecay",
    "ThenConstant",
    "UnderdampedLangevin",
    "annealed_start",
    "fit",
    "sample",
]
