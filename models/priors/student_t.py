"""The Student-t prior: independent heavy-tailed weights."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from models import checks
from models.priors.base import WeightPrior, input_plate, isotropic_scale, neuron_plate


@dataclass(frozen=True)
class StudentT(WeightPrior):
    """Independent Student-t weights.

        w_ij = (σ_w/√d) t_ij,      t_ij ~ StudentT(ν)

    Parameters
    ----------
    df
        Degrees of freedom ν > 0; the variance of a weight, σ_w²/d · ν/(ν - 2), is finite for ν > 2.
    scale
        σ_w > 0: the core of the density is that of the isotropic prior, for every ν.

    Notes
    -----
    Site ``w_base`` holds t, so that one step size serves all input dimensions. The density is a
    Gaussian scale mixture with its scales integrated out: ``StudentT(df=2*shape)`` is
    ``NeuronARD(shape)`` without the precisions.

    Source: Geweke, *Bayesian treatment of the independent Student-t linear model*, Journal of
    Applied Econometrics 8 (1993); for weights of networks, Neal, *Bayesian Learning for Neural
    Networks* (1996).

    Features: single large weights are cheap, so that a neuron can pick out inputs; nothing is
    shared by neurons.

    Examples
    --------
    >>> StudentT(df=5.0).variance(16)
    0.10416666666666667
    """

    df: float = 4.0
    scale: float = 1.0

    name = "student-t"

    def __post_init__(self):
        checks.positive("df", self.df)
        checks.positive("scale", self.scale)

    def variance(self, input_dim: int) -> float:
        """Variance σ_w²/d · ν/(ν - 2) of one weight; infinite for ν ≤ 2."""
        return self.scale**2 / input_dim * self.df / (self.df - 2) if self.df > 2 else float("inf")

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """Site ``w_base`` (neuron, input); returns w (width, input_dim)."""
        with neuron_plate(width), input_plate(input_dim):
            t = numpyro.sample("w_base", dist.StudentT(self.df, 0.0, 1.0))
        return isotropic_scale(self.scale, input_dim) * t

    def sites_from_weights(self, w: ArrayLike) -> dict[str, jax.Array]:
        """``w_base`` = w √d/σ_w."""
        w = jnp.asarray(w)
        return {"w_base": w / isotropic_scale(self.scale, w.shape[-1])}
