"""How the posterior is reached: samplers, guides and fixed points. Imports only `models`."""

from inference.kernels.divergence import DivergenceError
from inference.kernels.langevin import LangevinKernel
from inference.kernels.mala import MALA
from inference.kernels.psgld import PSGLD
from inference.kernels.sgld import SGLD
from inference.kernels.tempering import ParallelTempering
from inference.kernels.underdamped import SGHMC, UnderdampedLangevin
from inference.runs.annealing import annealed_start
from inference.runs.step_halving import check_step_size
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
    "DivergenceError",
    "MeanFieldARDGuide",
    "MeanFieldGuide",
    "ParallelTempering",
    "UnderdampedLangevin",
    "annealed_start",
    "check_step_size",
    "fit",
    "sample",
]

# kernel.check_step_size(network, data, key) runs chains, of which the kernels themselves know
# nothing.
LangevinKernel.check_step_size = check_step_size
