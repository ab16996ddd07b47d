"""Mean-field guides: factorised approximations of a posterior for stochastic variational inference."""

import copy
from contextlib import ExitStack
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import biject_to
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import TraceMeanField_ELBO

from inference.tracing import TRACE_LOCK
from inference.variational.elbo import ConjugateARDELBO
from inference.variational.latent_sites import LatentSites
from models import ARD, TwoLayerNetwork, checks
from models.priors import has_weights_of

_BATCH = 8  # draws completed at once by sample_posterior: bounds its memory


class MeanFieldGuide:
    """Factorised Normal approximation of any NumPyro model's posterior.

        q(θ) = Π_sites Π_elements Normal(u; loc, scale²),        u = the site's value in unconstrained space

    A site on the real line gets a plain ``Normal``, so that ``TraceMeanField_ELBO`` uses the analytic KL against
    a Normal prior; a constrained site gets the Normal pushed through ``biject_to(support)``. Every latent site
    counts, whatever its name, so that a user's own prior needs nothing further.

    Source: Kucukelbir and others, *Automatic differentiation variational inference*, arXiv:1603.00788.

    Parameters
    ----------
    model
        Python callable containing NumPyro primitives; without one, :meth:`bind` supplies it later.
    init_scale
        Initial scale > 0 of every factor, in unconstrained units. Locations start from a draw of the prior.
        At 0.1 the guide finds the feature-learning solutions of a two-layer network where the bound prefers them;
        at 1 the noise of the start drowns the signal and it stays at the prior.

    Raises
    ------
    ValueError
        For a scale that is not positive, for a discrete site, for a call before there is a model.

    Notes
    -----
    Each latent site ``name`` has the parameters ``name_loc`` and ``name_scale``, of the shape of the site's
    unconstrained value. The latent sites are those of the first call: later ones may leave out the observations
    (``Predictive``). A plate with a ``subsample_size`` is entered only where a latent site lies in it.

    Examples
    --------
    >>> import jax, numpyro
    >>> from numpyro.infer import SVI, TraceMeanField_ELBO
    >>> from models import SparseParity, TwoLayerNetwork
    >>> from inference import MeanFieldGuide
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> guide = MeanFieldGuide(network)
    >>> svi = SVI(network, guide, numpyro.optim.Adam(0.01), TraceMeanField_ELBO())
    >>> params = svi.run(jax.random.key(1), 10, data.x, data.y, progress_bar=False).params
    >>> sorted(params)
    ['a_loc', 'a_scale', 'w_loc', 'w_scale']
    >>> guide.sample_posterior(jax.random.key(2), params, 5)["w"].shape
    (5, 8, 6)
    """

    scheme = "mf-guide"

    def __init__(self, model=None, init_scale: float = 0.1):
        checks.positive("init_scale", init_scale)
        self.init_scale = init_scale
        self._bind(model)

    @property
    def model(self):
        """The model that the guide approximates; the one to pass to ``SVI``."""
        return self._model

    def bind(self, model) -> "MeanFieldGuide":
        """A copy of this guide for `model`."""
        guide = copy.copy(self)
        guide._bind(model)
        return guide

    def elbo(self, num_particles: int = 1) -> TraceMeanField_ELBO:
        """The evidence lower bound with the fewest Monte-Carlo terms for this guide."""
        return TraceMeanField_ELBO(num_particles=num_particles)

    def complete(self, key: jax.Array, params: dict, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        """Sites that `params`, a draw of the guide and of the model's deterministic sites, lacks; none here."""
        return {}

    def settings(self) -> dict:
        """JSON-able settings of the guide."""
        return {"guide": type(self).__name__, "init_scale": float(self.init_scale)}

    def __call__(self, *args, **kwargs) -> dict[str, jax.Array]:
        """Sample statements of all latent sites, for the arguments of the model; returns their values."""
        latent = self._latent_sites(args, kwargs)
        values, plates = {}, {}
        for name in latent.sites:
            with ExitStack() as stack:
                for frame in latent.subsampled_plates(name):
                    if frame.name not in plates:
                        plates[frame.name] = numpyro.plate(
                            frame.name, latent.plate_sizes[frame.name], frame.size, frame.dim
                        )
                    stack.enter_context(plates[frame.name])
                values[name] = numpyro.sample(name, self._factor(name, latent))
        return values

    def sample_posterior(
        self, rng_key, params: dict, num_draws: int, *args, **kwargs
    ) -> dict[str, jax.Array]:
        """`num_draws` independent draws from the guide with the fitted `params` (those of ``SVI.get_params``).

        The further arguments are the model's; a :class:`models.TwoLayerNetwork` needs none. Returns constrained
        values of latent sites and of deterministic ones (such as ``w`` of a non-centred prior), each with leading
        dimension `num_draws`.
        """
        checks.whole("num_draws", num_draws, 1)
        if not args and not kwargs and isinstance(self.model, TwoLayerNetwork):
            args = (jnp.zeros((1, self.model.input_dim)),)

        def draw(key):
            key_guide, key_model = jax.random.split(key)
            latent = seed(substitute(self, data=params), key_guide)(*args, **kwargs)
            completed = trace(seed(substitute(self.model, data=latent), key_model)).get_trace(*args, **kwargs)
            return latent | {n: s["value"] for n, s in completed.items() if s["type"] == "deterministic"}

        keys = jax.random.split(rng_key, num_draws)
        with TRACE_LOCK:
            return jax.jit(lambda keys: jax.lax.map(draw, keys, batch_size=_BATCH))(keys)

    def _bind(self, model):
        if model is not None and not callable(model):
            raise ValueError(f"model must be a NumPyro model, got {type(model).__name__}.")
        self._model = model
        self._latent_names = None

    def _latent_sites(self, args, kwargs) -> LatentSites:
        if self._model is None:
            raise ValueError(f"{type(self).__name__} has no model; pass one to it or use guide.bind(model).")
        latent = LatentSites(self._model, args, kwargs, self._latent_names)
        for name, site in latent.sites.items():
            if site["fn"].support.is_discrete:
                raise ValueError(
                    f"{type(self).__name__} covers continuous sites, and site {name!r} is discrete; "
                    "sum it out of the model first."
                )
        self._latent_names = frozenset(latent.sites)
        return latent

    def _factor(self, name: str, latent: LatentSites) -> dist.Distribution:
        """q of one site; its parameters span the whole of every plate."""
        support = latent.sites[name]["fn"].support
        transform = biject_to(support)
        event_dim = transform.domain.event_dim
        loc = numpyro.param(f"{name}_loc", lambda _: latent.start(name), event_dim=event_dim)
        scale = numpyro.param(
            f"{name}_scale",
            lambda _: jnp.full_like(latent.start(name), self.init_scale),
            constraint=constraints.positive,
            event_dim=event_dim,
        )
        normal = dist.Normal(loc, scale).to_event(event_dim)
        base = support.base_constraint if isinstance(support, constraints.independent) else support
        return normal if base is constraints.real else dist.TransformedDistribution(normal, transform)


class MeanFieldARDGuide(MeanFieldGuide):
    """Factorised approximation of a two-layer network with the ARD prior, conjugate in the precisions.

        q = Π_ij Normal(w_ij; loc_ij, scale_ij²) · Π_i Normal(a_i; ...) · Π_j Gamma(ρ_j; α0 + N/2, b_j)
        b_j = β0 + ½ Σ_i E_q[w_ij²] = β0 + ½ Σ_i (loc_ij² + scale_ij²)

    The Gamma factor is the exact coordinate optimum given q(w), see :class:`models.ARD`. It needs the centred
    parametrisation, so :attr:`model` is the network with ``ARD(centered=True)``, whichever was given:
    ``SVI(guide.model, guide, ...)``. With :class:`inference.variational.elbo.ConjugateARDELBO` ρ adds no Monte-Carlo noise.

    Source: Bishop, *Pattern Recognition and Machine Learning* (2006), section 10.3.

    Parameters
    ----------
    model
        A :class:`models.TwoLayerNetwork` with an :class:`models.ARD` prior.
    init_scale
        As for :class:`MeanFieldGuide`.
    rate
        ``"closed-form"``: b_j as above, no parameter. ``"learned"``: b_j is the parameter ``rho_rate`` (d,),
        which the bound drives to the same value.

    Raises
    ------
    ValueError
        For a model that is not a network with the ARD prior, for an unknown `rate`.

    Examples
    --------
    >>> from models import ARD, TwoLayerNetwork
    >>> from inference import MeanFieldARDGuide
    >>> guide = MeanFieldARDGuide(TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=ARD()))
    >>> guide.model.prior.centered
    True
    """

    scheme = "mf-ard-guide"

    def __init__(self, model=None, init_scale: float = 0.1, rate: str = "closed-form"):
        checks.one_of("rate", rate, ("closed-form", "learned"))
        self.rate = rate
        super().__init__(model, init_scale)

    def elbo(self, num_particles: int = 1) -> ConjugateARDELBO:
        """The bound with ρ integrated out exactly."""
        return ConjugateARDELBO(num_particles=num_particles)

    def settings(self) -> dict:
        """JSON-able settings of the guide."""
        return {**super().settings(), "rate": self.rate}

    def _bind(self, model):
        if model is not None:
            if not isinstance(model, TwoLayerNetwork) or not has_weights_of(model.prior, ARD):
                kind = model.prior if isinstance(model, TwoLayerNetwork) else model
                raise ValueError(
                    "MeanFieldARDGuide covers a TwoLayerNetwork with the prior ARD(...), "
                    f"got {type(kind).__name__}; use MeanFieldGuide for other models."
                )
            model = replace(model, prior=replace(model.prior, centered=True))
        super()._bind(model)

    def __call__(self, *args, **kwargs) -> dict[str, jax.Array]:
        """Sample statements of ρ, w, a (and b), for the arguments of the network; returns their values."""
        latent = self._latent_sites(args, kwargs)
        factors = {name: self._factor(name, latent) for name in latent.sites if name != "rho"}
        factors["rho"] = self._precision_factor(factors["w"])
        return {name: numpyro.sample(name, factors[name]) for name in latent.sites}

    def _precision_factor(self, weights: dist.Normal) -> dist.Gamma:
        factor = precision_factor(self.model, weights)
        if self.rate == "closed-form":
            return factor
        rate = numpyro.param("rho_rate", factor.rate, constraint=constraints.positive)
        return dist.Gamma(factor.concentration, rate)


def precision_factor(network: TwoLayerNetwork, weights: dist.Distribution) -> dist.Gamma:
    """q(ρ_j) = Gamma(α0 + N/2, β0 + ½ Σ_i E_q[w_ij²]), the exact coordinate optimum given q(w) = `weights`."""
    shape, rate = network.prior.shape, network.prior.rate_for(network.input_dim)
    second_moment = weights.mean**2 + weights.variance
    return dist.Gamma(shape + network.width / 2, rate + 0.5 * second_moment.sum(axis=-2))
