"""A global scale of the weights, learned from the data."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from models.priors.base import ScaleMixture, isotropic_scale


@dataclass(frozen=True)
class LearnedScale(ScaleMixture):
    """Gaussian weights with one common scale that is learned.

        σ ~ HalfNormal(σ_w),      w_ij | σ ~ Normal(0, σ²/d)

    Parameters
    ----------
    scale
        σ_w > 0; E[σ²] = σ_w², so that the variance of a weight is that of the isotropic prior,
        σ_w²/d.
    centered
        False (default): sample z = w√d/σ; True: sample w, which pins σ to 1/√(2Nd) of its value in
        every step.

    Notes
    -----
    Site ``weight_scale`` holds σ.

    Source: Gelman, *Prior distributions for variance parameters in hierarchical models*, Bayesian
    Analysis 1 (2006), the half-normal limit of his half-t family.

    Features: the scale of a ReLU layer and of its readouts trade off, so that σ learns how large f
    is; no input and no neuron is singled out.
    """

    scale: float = 1.0
    centered: bool = False

    name = "learned-scale"

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Site ``weight_scale``; s = σ/√d."""
        return isotropic_scale(numpyro.sample("weight_scale", dist.HalfNormal(self.scale)), input_dim)

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """σ at the root mean square of the weights, √d times."""
        sigma = jnp.sqrt(w.shape[-1] * (w**2).mean(axis=(-2, -1)))
        return {"weight_scale": sigma}, isotropic_scale(sigma, w.shape[-1])[..., None, None]
