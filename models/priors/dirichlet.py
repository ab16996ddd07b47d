"""A fixed budget of variance that the inputs share: the Dirichlet scale mixture."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from models.priors.base import ScaleMixture, input_plate, record_precision


@dataclass(frozen=True)
class DirichletScaleMixture(ScaleMixture):
    """Dirichlet scale mixture: the inputs share a fixed total variance, for all neurons alike.

        φ ~ Dirichlet(α, …, α),      w_ij | φ ~ Normal(0, σ_w² φ_j)

    Parameters
    ----------
    concentration
        α ≥ 0.2: small values give the budget to a few inputs, α → ∞ is the isotropic prior. Below
        0.2 the smallest shares underflow in single precision.
    scale
        σ_w > 0. Σ_j φ_j = 1, so that for |x_j| = 1 the prior variance of w·x is σ_w² in every draw,
        and the prior variance of a weight is σ_w²/d as E[φ_j] = 1/d.
    centered
        False (default): sample z = w/(σ_w√φ); True: sample w.

    Notes
    -----
    φ_j = g_j/Σ_l g_l with g_j ~ Gamma(α, 1), site ``share_base`` (input): unlike NumPyro's
    stick-breaking of the simplex this treats all inputs alike, for one more dimension, Σ_l g_l,
    that is independent of φ. The precision ρ_j = 1/(σ_w² φ_j) is recorded as ``rho`` (input).

    Source: Bhattacharya, Pati, Pillai and Dunson, *Dirichlet-Laplace priors for optimal shrinkage*,
    JASA 110 (2015); Zhang, Naughton, Bondell and Reich, *Bayesian regression using a prior on the
    model fit: the R2-D2 shrinkage prior*, JASA 117 (2022), whose total variance is random and here
    fixed.

    Features: inputs compete. What one gains the others lose, so that irrelevant inputs vanish when
    a feature is learned while the size of the preactivations stays.
    """

    concentration: float = 0.5
    scale: float = 1.0
    centered: bool = False

    name = "dirichlet-scale-mixture"

    def __post_init__(self):
        super().__post_init__()
        if self.concentration < 0.2:
            raise ValueError(
                f"concentration must be at least 0.2, got {self.concentration!r}: smaller shares underflow."
            )

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Site ``share_base`` (input); s = σ_w√φ."""
        with input_plate(input_dim):
            base = numpyro.sample("share_base", dist.Gamma(self.concentration, 1.0))
        variance = self.scale**2 * base / base.sum(axis=-1, keepdims=True)
        record_precision(1 / variance, input_dim)
        return jnp.sqrt(variance)

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """φ in proportion to the columns' mean squares plus one neuron's prior share."""
        share = (w**2).sum(axis=-2) + self.scale**2 / w.shape[-1]
        share = share / share.sum(axis=-1, keepdims=True)
        # The total of the g's sits at its prior mean dα.
        sites = {"share_base": share * self.concentration * w.shape[-1]}
        return sites, (self.scale * jnp.sqrt(share))[..., None, :]
