"""How the posterior is reached: samplers, guides and fixed points. Imports only `models`."""

from inference.sampling import sample
from inference.sgld import SGLD, DivergenceError

__all__ = ["SGLD", "DivergenceError", "sample"]
