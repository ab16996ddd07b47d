"""Spike and slab over inputs, with the indicators summed out."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from models.priors.base import ScaleMixture, input_plate


@dataclass(frozen=True)
class SpikeAndSlab(ScaleMixture):
    """Spike and slab per input: it is in with probability π, else its weights are r times smaller.

        γ_j ~ Bernoulli(π),   ρ_j | γ_j ~ Gamma(α0, β_γj),   w_ij | ρ ~ Normal(0, 1/ρ_j)
        β_1 = α0 v_1 (slab),  β_0 = r² β_1 (spike),          v_1 = (σ_w²/d)/(π + (1 - π) r²)

    γ is summed out: ρ_j has the mixture of the two Gamma densities, which has gradients, and given
    ρ_j the input is included with probability

        P(γ_j = 1 | ρ_j) = 1/(1 + (1 - π) Gamma(ρ_j; α0, β_0) / (π Gamma(ρ_j; α0, β_1))).

    Parameters
    ----------
    inclusion
        π, strictly between 0 and 1.
    ratio
        r, strictly between 0 and 1: scale of the spike over that of the slab.
    shape
        α0 > 0: given γ a weight is Student-t with 2α0 degrees of freedom. Small values join spike
        and slab, so that chains pass between them; large values part them.
    scale
        σ_w > 0; with 1/ρ at its typical value β/α0 the variance of a weight is σ_w²/d on average
        over γ.
    centered
        False (default): sample z = w√ρ; True: sample w.

    Notes
    -----
    Sites ``rho`` (input) and, recorded for every draw, ``inclusion`` (input) = P(γ_j = 1 | ρ_j);
    its posterior mean is the posterior inclusion probability, without the noise of drawing γ. The
    spike is not a point mass: that has no gradient. The mixture is put on the precision and not on
    the column of weights itself, whose two modes in N dimensions no gradient-based sampler joins.

    Source: Ishwaran and Rao, *Spike and slab variable selection: frequentist and Bayesian
    strategies*, Annals of Statistics 33 (2005); George and McCulloch, *Variable selection via Gibbs
    sampling*, JASA 88 (1993).

    Features: inputs are sorted into used and unused ones, each with a probability, and those in use
    are hardly shrunk. Of the priors here its scales mix most slowly, as chains seldom pass between
    spike and slab.

    Examples
    --------
    >>> prior = SpikeAndSlab(inclusion=0.5)
    >>> [round(float(p), 3) for p in prior.inclusion_probability([10.0, 37.0, 50.0], input_dim=16)]
    [0.999, 0.536, 0.046]
    """

    inclusion: float = 0.25
    ratio: float = 0.1
    shape: float = 2.0
    scale: float = 1.0
    centered: bool = False

    name = "spike-and-slab"

    def __post_init__(self):
        super().__post_init__()
        for name in ("inclusion", "ratio"):
            if getattr(self, name) >= 1:
                raise ValueError(
                    f"{name} must lie between 0 and 1, both left out, got {getattr(self, name)!r}."
                )

    def rates(self, input_dim: int) -> tuple[float, float]:
        """(β_0, β_1), the rates of the spike and of the slab."""
        share = self.inclusion + (1 - self.inclusion) * self.ratio**2
        slab = self.shape * self.scale**2 / input_dim / share
        return self.ratio**2 * slab, slab

    def precision_density(self, input_dim: int) -> dist.Distribution:
        """The mixture density of one precision."""
        odds = dist.Categorical(probs=jnp.array([1 - self.inclusion, self.inclusion]))
        return dist.MixtureSameFamily(odds, dist.Gamma(self.shape, jnp.array(self.rates(input_dim))))

    def inclusion_probability(self, rho: ArrayLike, input_dim: int) -> jax.Array:
        """P(γ_j = 1 | ρ_j), elementwise."""
        spike, slab = self.rates(input_dim)
        log_odds = jnp.log(self.inclusion / (1 - self.inclusion)) + self.shape * jnp.log(slab / spike)
        return jax.nn.sigmoid(log_odds - (slab - spike) * jnp.asarray(rho))

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Site ``rho`` (input), and ``inclusion`` (input) recorded; s = 1/√ρ."""
        with input_plate(input_dim):
            rho = numpyro.sample("rho", self.precision_density(input_dim))
            numpyro.deterministic("inclusion", self.inclusion_probability(rho, input_dim))
        return rho**-0.5

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """ρ at its conditional mean given w under the more likely of spike and slab."""
        half, sums = w.shape[-2] / 2, 0.5 * (w**2).sum(axis=-2)
        spike, slab = self.rates(w.shape[-1])
        evidence = jnp.log(self.inclusion / (1 - self.inclusion)) + self.shape * jnp.log(slab / spike)
        evidence -= (self.shape + half) * jnp.log((slab + sums) / (spike + sums))
        rho = (self.shape + half) / (jnp.where(evidence > 0, slab, spike) + sums)
        return {"rho": rho}, rho[..., None, :] ** -0.5
