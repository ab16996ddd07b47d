"""How the posterior is reached: samplers, guides and fixed points. Imports only `models`."""

from inference.fitting import fit
from inference.guides import MeanFieldARDGuide, MeanFieldGuide
from inference.sampling import sample
from inference.sgld import SGLD, DivergenceError

__all__ = ["SGLD", "DivergenceError", "MeanFieldARDGuide", "MeanFieldGuide", "fit", "sample"]
