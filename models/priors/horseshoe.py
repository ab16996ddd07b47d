"""The regularised horseshoe over inputs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from models.priors.base import ScaleMixture, input_plate, isotropic_scale, record_precision


@dataclass(frozen=True)
class RegularisedHorseshoe(ScaleMixture):
    """Regularised horseshoe: a local scale per input for all neurons, under one global scale.

        τ ~ HalfCauchy(τ0),   λ_j ~ HalfCauchy(1),   c² ~ InverseGamma(ν/2, ν s²/2)
        1/ρ_j = λ̃_j² τ²,      λ̃_j² = c² λ_j²/(c² + τ² λ_j²),      w_ij | ρ ~ Normal(0, 1/ρ_j)

    Parameters
    ----------
    num_relevant
        p0 > 0: a guess of how many inputs are relevant. It sets τ0 = p0/(d - p0) · σ_w/√d (for p0 <
        d; else σ_w/√d) and the slab's scale s = σ_w/√p0 (at most p0 = d), at which p0 inputs give
        w·x the variance σ_w².
    slab_df
        ν > 0, the degrees of freedom of the Student-t slab: weights of relevant inputs are bounded
        by it.
    scale
        σ_w > 0.
    centered
        False (default): sample z = w√ρ; True: sample w.

    Notes
    -----
    Sites ``global_scale`` τ, ``local_scale`` λ (input), ``slab_variance`` c²; ρ (input) is recorded
    as ``rho``. In a linear model τ0 is p0/(D - p0) times the noise of one coefficient; a network
    has no such figure, and the isotropic scale of a weight stands in its place.

    Source: Piironen and Vehtari, *Sparsity information and regularization in the horseshoe and
    other shrinkage priors*, Electronic Journal of Statistics 11 (2017); shared by a layer as in
    Ghosh, Yao and Doshi-Velez, *Model selection in Bayesian neural networks via horseshoe priors*,
    JMLR 20 (2019).

    Features: irrelevant inputs are shrunk together by τ, and the few that the data ask for escape
    to the slab. On parity it shrinks the irrelevant inputs most of all priors here.

    Examples
    --------
    >>> RegularisedHorseshoe(num_relevant=4.0).slab_scale(16)
    0.5
    """

    num_relevant: float = 2.0
    slab_df: float = 4.0
    scale: float = 1.0
    centered: bool = False

    name = "regularised-horseshoe"

    def global_scale(self, input_dim: int) -> float:
        """τ0, the scale of the half-Cauchy density of τ."""
        odds = self.num_relevant / (input_dim - self.num_relevant) if self.num_relevant < input_dim else 1.0
        return odds * isotropic_scale(self.scale, input_dim)

    def slab_scale(self, input_dim: int) -> float:
        """s, the scale of the slab."""
        return isotropic_scale(self.scale, min(self.num_relevant, input_dim))

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Sites ``global_scale``, ``local_scale``, ``slab_variance``; s = τ λ̃."""
        tau = numpyro.sample("global_scale", dist.HalfCauchy(self.global_scale(input_dim)))
        half = self.slab_df / 2
        slab = numpyro.sample(
            "slab_variance", dist.InverseGamma(half, half * self.slab_scale(input_dim) ** 2)
        )
        with input_plate(input_dim):
            local = numpyro.sample("local_scale", dist.HalfCauchy(1.0))
        c = jnp.sqrt(slab)
        scale = tau * local * c / jnp.hypot(tau * local, c)
        record_precision(scale**-2, input_dim)
        return scale

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """λ from the columns' mean squares, τ at τ0, the slab twice the widest column."""
        square, d = (w**2).mean(axis=-2), w.shape[-1]
        tau = jnp.full(square.shape[:-1], self.global_scale(d))
        slab = jnp.maximum(self.slab_scale(d) ** 2, 2 * square.max(axis=-1))
        local = jnp.sqrt(1 / (1 / square - 1 / slab[..., None])) / tau[..., None]
        sites = {"global_scale": tau, "slab_variance": slab, "local_scale": local}
        return sites, jnp.sqrt(square)[..., None, :]
