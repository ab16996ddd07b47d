"""The isotropic Gaussian prior."""

from dataclasses import dataclass

import jax
import numpyro
import numpyro.distributions as dist

from models import checks
from models.priors.base import WeightPrior, input_plate, neuron_plate


@dataclass(frozen=True)
class Isotropic(WeightPrior):
    """Isotropic Gaussian prior.

        w_ij ~ Normal(0, σ_w²/d)

    Parameters
    ----------
    scale
        σ_w > 0.

    Notes
    -----
    The precision of every weight is d/σ_w², so that w·x is of order 1 for |x|² = d.

    Source: Göring, Mingard, Nam and Louis, *A simple mean field model of feature learning*,
    arXiv:2510.15174.

    Features: the prior singles out no input; a few neurons align with the relevant ones below a
    critical noise.

    Examples
    --------
    >>> Isotropic(scale=2.0).precision(16)
    4.0
    """

    scale: float = 1.0

    def __post_init__(self):
        checks.positive("scale", self.scale)

    def precision(self, input_dim: int) -> float:
        """Prior precision d/σ_w² of one weight."""
        return input_dim / self.scale**2

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """Site ``w`` ~ Normal(0, σ_w²/d), shape (width, input_dim)."""
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("w", dist.Normal(0.0, self.precision(input_dim) ** -0.5))
