"""How the posterior is reached: samplers, guides and fixed points. Imports only `models`."""

from inference.kernels.mala import MALA
from inference.kernels.psgld import PSGLD
from inference.kernels.schedules import Cyclical, PolynomialDecay, ThenConstant
from inference.kernels.sgld import SGLD, DivergenceError
from inference.kernels.tempering import ParallelTempering
from inference.kernels.underdamped import SGHMC, UnderdampedLangevin
from inference.runs.annealing import annealed_start
from inference.sampling import sample
from inference.variational.collapsed_guide import CollapsedGuide
from inference.variational.fit import fit
from inference.variational.guides import MeanFieldARDGuide, MeanFieldGuide

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
