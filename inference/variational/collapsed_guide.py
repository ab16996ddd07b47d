"""Guides over the hidden layer alone: the readouts follow their exact Gaussian posterior."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.infer import TraceMeanField_ELBO

from inference.variational.correlated_normal import LowRankNormal, NeuronNormal
from inference.variational.elbo import ConjugateARDELBO
from inference.variational.guides import MeanFieldGuide, precision_factor
from inference.variational.latent_sites import LatentSites
from models import ARD, TwoLayerNetwork, checks

COVARIANCES = ("diagonal", "neuron", "low-rank")


class CollapsedGuide(MeanFieldGuide):
    """Variational hidden layer with the readouts integrated out exactly.

        q(w, a) = q(w) p(a | w, y),       p(a | w, y) = Normal(M⁻¹Φy/(κ²P N^γ), M⁻¹)

    so that only q(w) is fitted, to the collapsed posterior (:class:`models.CollapsedNetwork`):

        ELBO = E_q(w)[log Normal(y; 0, A(w))] - KL(q(w) ‖ prior),       A = κ²P I + c ΦᵀΦ

    By the chain rule KL(q(w) p(a|w,y) ‖ p(w,a|y)) = KL(q(w) ‖ p(w|y)): nothing is lost in the readouts, and for
    the same q(w) no guide with another law of a has a larger bound. The first term is estimated by Monte Carlo with
    reparametrised gradients, the second is in closed form for Normal priors and by Monte Carlo for others.

    With the ARD prior the default is the prior's own parametrisation, non-centred as a rule: q(z) q(ρ) with w = z/√ρ.
    Most neurons stay near the prior *given* ρ, z ~ Normal(0, 1), whatever ρ is, and these factors say just that.
    With `conjugate` the guide is over the centred w, beside the Gamma factor of :class:`MeanFieldARDGuide`,

        q(ρ_j) = Gamma(α0 + N/2, β0 + ½ Σ_i E_q[w_ij²]),

    the exact optimum given any q(w), since log p(w|ρ) is linear in the w_ij². It needs no gradient in ρ, but then
    q(w) q(ρ) holds the weights' scale and ρ independent, at a price of (Nd/2)(log a - ψ(a)), a = α0 + N/2, in the
    bound for weights at the prior given ρ.

    Parameters
    ----------
    model
        A :class:`models.TwoLayerNetwork` with any prior; :attr:`model` is its collapsed form.
    init_scale
        As for :class:`inference.MeanFieldGuide`.
    covariance
        Of q over a weight matrix: ``"diagonal"``, independent Normals; ``"neuron"``, a full covariance for each
        neuron, see :class:`inference.variational.correlated_normal.NeuronNormal`; ``"low-rank"``, common factors of all
        weights, :class:`inference.variational.correlated_normal.LowRankNormal`.
    rank
        Number of common factors, for ``"low-rank"``.
    conjugate
        With the ARD prior: centred weights and the exact Gamma factor; other priors are not affected.

    Raises
    ------
    ValueError
        For a model that is not a network, for an unknown covariance, for a scale or rank out of range.

    Notes
    -----
    Found on the default problem (d = 16, k = 2, N = 64, P = 300; seed 0) with the diagonal covariance, one draw a
    gradient, against NUTS: m, test MSE of a draw; gradient evaluations are steps × restarts.

    =========  ====  =========  ==============================  ===========  ===========
    prior      κ     conjugate  steps × restarts                guide        NUTS
    =========  ====  =========  ==============================  ===========  ===========
    isotropic  0.1              1000 × 4                        0.048 1.100  0.056 1.091
    isotropic  0.05             600 × 2                         0.654 0.250  0.647 0.258
    ARD        0.1   no         1200 × 1                        0.779 0.284  0.789 0.273
    ARD        0.1   yes        600 × 2                         0.659 0.340  0.789 0.273
    ARD        0.05  yes        600 × 2                         0.945 0.097  0.950 0.097
    =========  ====  =========  ==============================  ===========  ===========

    The guides of the joint posterior collapse to m = 0 at κ = 0.1. What they lack is not correlation between weights:
    factorised q(w) suffices once the readouts are exact. Of the many permutations and signs of a mode a restart
    takes one, which costs the bound but no function of the network. With the isotropic prior 2.7 neurons align at
    κ = 0.05 (NUTS 3.7). With ARD at κ = 0.1, where ρ is small on the relevant inputs, 44 do (NUTS 41), and the
    parametrisation matters: the bound is -482.5 for the non-centred guide and -499.8 for the conjugate one, which
    has had half the steps and may not have ended. Pareto k̂ of the former is 0.60, below 0.7.
    ``benchmarks/guides.py`` lays more guides beside NUTS.

    Examples
    --------
    >>> import jax
    >>> from models import SparseParity, TwoLayerNetwork
    >>> from inference import CollapsedGuide, fit
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = fit(network, data, CollapsedGuide(), jax.random.key(1), num_steps=50)
    >>> tree["posterior/a"].dims
    ('chain', 'draw', 'neuron')
    """

    scheme = "collapsed-guide"

    def __init__(
        self,
        model=None,
        init_scale: float = 0.1,
        covariance: str = "diagonal",
        rank: int = 8,
        conjugate: bool = False,
    ):
        checks.one_of("covariance", covariance, COVARIANCES)
        checks.whole("rank", rank, 1)
        self.covariance, self.rank, self.conjugate = covariance, rank, bool(conjugate)
        super().__init__(model, init_scale)

    def elbo(self, num_particles: int = 1) -> TraceMeanField_ELBO:
        """The bound with readouts, and ARD's ρ, integrated out exactly."""
        if self._conjugate:
            return ConjugateARDELBO(num_particles=num_particles)
        return super().elbo(num_particles)

    def settings(self) -> dict:
        """JSON-able settings of the guide."""
        rank = {"rank": self.rank} if self.covariance == "low-rank" else {}
        return {**super().settings(), "covariance": self.covariance, **rank, "conjugate": self.conjugate}

    def __call__(self, *args, **kwargs) -> dict[str, jax.Array]:
        """Sample statements of the hidden layer's sites, for the arguments of the network; returns their values."""
        if not self._conjugate:
            return super().__call__(*args, **kwargs)
        latent = self._latent_sites(args, kwargs)
        factors = {name: self._factor(name, latent) for name in latent.sites if name != "rho"}
        factors["rho"] = precision_factor(self.model, factors["w"])
        return {name: numpyro.sample(name, factors[name]) for name in latent.sites}

    def complete(self, key: jax.Array, params: dict, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        """The readouts of one draw of the hidden layer, from their exact posterior."""
        return {"a": self.model.draw_readouts(key, params, x, y)}

    @property
    def _conjugate(self) -> bool:
        return self.conjugate and self.model is not None and isinstance(self.model.prior, ARD)

    def _bind(self, model):
        if model is not None:
            if not isinstance(model, TwoLayerNetwork):
                raise ValueError(
                    f"CollapsedGuide covers a TwoLayerNetwork, got {type(model).__name__}; "
                    "use MeanFieldGuide for other models."
                )
            model = model.collapsed()
            if self.conjugate and isinstance(model.prior, ARD):
                model = replace(model, prior=replace(model.prior, centered=True))
        super()._bind(model)

    def _factor(self, name: str, latent: LatentSites) -> dist.Distribution:
        site = latent.sites[name]["fn"]
        is_weights = site.shape() == (self.model.width, self.model.input_dim) and site.event_dim == 0
        if self.covariance == "diagonal" or not is_weights or site.support is not constraints.real:
            return super()._factor(name, latent)
        loc = numpyro.param(f"{name}_loc", lambda _: latent.start(name))
        if self.covariance == "neuron":
            tril = numpyro.param(
                f"{name}_scale_tril",
                lambda _: jnp.broadcast_to(
                    self.init_scale * jnp.eye(loc.shape[1]), (*loc.shape, loc.shape[1])
                ),
                constraint=constraints.lower_cholesky,
            )
            return NeuronNormal(loc, tril)
        scale = numpyro.param(
            f"{name}_scale", lambda _: jnp.full_like(loc, self.init_scale), constraint=constraints.positive
        )
        # Small, not zero: at zero the bound's gradient in the factor vanishes.
        small = 0.1 * self.init_scale / self.rank**0.5
        factor = numpyro.param(
            f"{name}_factor", lambda key: small * jax.random.normal(key, (*loc.shape, self.rank))
        )
        return LowRankNormal(loc, scale, factor)
