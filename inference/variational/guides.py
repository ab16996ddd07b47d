"""Mean-field guides: factorised approximations of a posterior."""

import copy
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions.transforms import biject_to
from numpyro.distributions.util import periodic_repeat
from numpyro.handlers import block, seed, trace
from numpyro.infer import TraceMeanField_ELBO, init_to_sample
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import constrain_fn
from scipy import stats

from inference.variational.elbo import ConjugateARDELBO, ard_layers
from models import Network, checks
from models.layer import Layer


class MeanFieldGuide(AutoNormal):
    """Factorised Normal approximation of any NumPyro model's posterior.

        q(θ) = Π_sites Π_elements Normal(u; loc, scale²),        u = the site in unconstrained space

    This is NumPyro's ``AutoNormal`` that starts from a draw of the prior and can be bound to a
    model later: a site on the real line gets a plain ``Normal``, so that ``TraceMeanField_ELBO``
    uses the analytic KL against a Normal prior; a constrained site gets the Normal pushed through
    ``biject_to(support)``. Every latent site counts, whatever its name, so that a user's own prior
    needs nothing further.

    Source: Kucukelbir and others, *Automatic differentiation variational inference*,
    arXiv:1603.00788.

    Parameters
    ----------
    model
        Python callable containing NumPyro primitives; without one, :meth:`bind` supplies it later.
    init_scale
        Initial scale > 0 of every factor, in unconstrained units. At 0.1 the guide finds the
        feature-learning solutions of a two-layer network where the bound prefers them; at 1 the
        noise of the start drowns the signal and it stays at the prior.

    Raises
    ------
    ValueError
        For a scale that is not positive, for a discrete site, for a call before there is a model.

    Notes
    -----
    Each latent site ``name`` has the parameters ``name_auto_loc`` and ``name_auto_scale``, of the
    shape of the site's unconstrained value. The latent sites are those of the first call: later
    ones may leave out the observations (``Predictive``). ``median(params)``, ``quantiles(params,
    quantiles)`` and ``sample_posterior(rng_key, params, sample_shape=())`` are NumPyro's, with the
    values of deterministic sites (``w`` of a non-centred prior) beside those of the latent ones. Of
    a model that is no :class:`models.Network` they need a first call outside ``jax.jit``.

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
    ['a_auto_loc', 'a_auto_scale', 'w_auto_loc', 'w_auto_scale']
    >>> guide.sample_posterior(jax.random.key(2), params, sample_shape=(5,))["w"].shape
    (5, 8, 6)
    """

    scheme = "mf-guide"

    def __init__(self, model=None, init_scale: float = 0.1):
        checks.positive("init_scale", init_scale)
        self.init_scale = init_scale
        super().__init__(None, init_loc_fn=init_to_sample, init_scale=init_scale)
        self._bind(model)

    def bind(self, model) -> "MeanFieldGuide":
        """A copy of this guide for `model`."""
        guide = copy.copy(self)
        guide._bind(model)
        return guide

    def elbo(self, num_particles: int = 1) -> TraceMeanField_ELBO:
        """The evidence lower bound with the fewest Monte-Carlo terms for this guide."""
        return TraceMeanField_ELBO(num_particles=num_particles)

    def complete(self, key: jax.Array, params: dict, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        """Sites that a draw of the guide and the model's deterministic sites lacks; none here."""
        return {}

    def settings(self) -> dict:
        """JSON-able settings of the guide."""
        return {"guide": type(self).__name__, "init_scale": float(self.init_scale)}

    def _bind(self, model):
        if model is not None and not callable(model):
            raise ValueError(f"model must be a NumPyro model, got {type(model).__name__}.")
        self.model = model
        self.prototype_trace = None

    def _setup_prototype(self, *args, **kwargs):
        """What ``AutoNormal`` knows of the model, from one draw of the prior.

        NumPyro's own looks for a draw at which the density has a gradient, whose compilation takes
        longer than many a fit; and it takes no plate that is counted by one of NumPy's integers.
        """
        if self.model is None:
            raise ValueError(f"{type(self).__name__} has no model; pass one to it or use guide.bind(model).")
        key = numpyro.prng_key()
        with block():  # hidden from the handlers of whoever calls the guide
            sites = trace(seed(self.model, key)).get_trace(*args, **kwargs)
        sizes = {name: int(site["args"][0]) for name, site in sites.items() if site["type"] == "plate"}
        self.prototype_trace = {
            n: s for n, s in sites.items() if s["type"] == "sample" and not s["is_observed"]
        }
        self._prototype_frame_full_sizes, self._prototype_frames = sizes, {}
        self._init_locs, self._event_dims = {}, {}
        for name, site in self.prototype_trace.items():
            if site["fn"].support.is_discrete:
                raise ValueError(
                    f"{type(self).__name__} covers continuous sites, and site {name!r} is discrete; "
                    "sum it out of the model first."
                )
            transform = biject_to(site["fn"].support)
            loc, event_dim = transform.inv(site["value"]), transform.domain.event_dim
            for frame in site["cond_indep_stack"]:
                self._prototype_frames[frame.name] = frame
                if frame.size != sizes[frame.name]:  # a minibatch: spread over the whole of the plate
                    loc = periodic_repeat(loc, sizes[frame.name], frame.dim - event_dim)
            self._init_locs[name], self._event_dims[name] = loc, event_dim
        if isinstance(self.model, Network):
            # No site depends on the inputs, and those of a first call under jit are gone
            # afterwards.
            args, kwargs = (np.zeros((1, self.model.input_dim)),), {}
        self._arguments = args, kwargs

    def _postprocess_fn(self, unconstrained: dict) -> dict:
        model = seed(self.model, 0)  # for the sites of the data
        return constrain_fn(model, *self._arguments, unconstrained, return_deterministic=True)


class MeanFieldARDGuide(MeanFieldGuide):
    """Mean-field guide of a network with the ARD prior, conjugate in the precisions of every layer.

        q = Π_ij Normal(w_ij; loc_ij, scale_ij²) · Π_i Normal(a_i; …) Π_j Gamma(ρ_j; α0 + N/2, b_j)
        b_j = β0 + ½ Σ_i E_q[w_ij²] = β0 + ½ Σ_i (loc_ij² + scale_ij²)

    The Gamma factor is the exact coordinate optimum given q(w), see :class:`models.ARD`, and has no
    parameter of its own. It needs the centred parametrisation, so :attr:`model` is the network with
    ``ARD(centered=True)``, whichever was given: ``SVI(guide.model, guide, ...)``. With
    :class:`inference.variational.elbo.ConjugateARDELBO` ρ adds no Monte-Carlo noise. Of a
    :class:`models.DeepNetwork` the layers with the ARD prior have such a factor each, and layers
    with another prior those of :class:`MeanFieldGuide`.

    ``ValueError`` for a model that is not a network with the ARD prior in a layer. Source: Bishop, *Pattern
    Recognition and Machine Learning* (2006), section 10.3.

    Examples
    --------
    >>> from models import ARD, TwoLayerNetwork
    >>> from inference import MeanFieldARDGuide
    >>> guide = MeanFieldARDGuide(TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=ARD()))
    >>> guide.model.prior.centered
    True
    """

    scheme = "mf-ard-guide"

    def elbo(self, num_particles: int = 1) -> ConjugateARDELBO:
        """The bound with ρ integrated out exactly."""
        return ConjugateARDELBO(num_particles=num_particles)

    def __call__(self, *args, **kwargs) -> dict[str, jax.Array]:
        """Sample statements of ρ, w, a (and b); returns their values."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        values = {}
        for layer, sites in self._parts:
            if layer is not None:
                rho = layer.site("rho")
                values[rho] = numpyro.sample(rho, self.precision_factor(self._weights_factor(layer), layer))
            normal = copy.copy(self)
            normal.prototype_trace = sites
            values |= super(MeanFieldARDGuide, normal).__call__(*args, **kwargs)
        return values

    def _weights_factor(self, layer: Layer) -> dist.Normal:
        """q(w), before its turn: ρ has to come first, as in the model."""
        name = layer.site("w")
        loc = self._init_locs[name]
        scale = jnp.full(jnp.shape(loc), self.init_scale)
        return dist.Normal(
            numpyro.param(f"{name}_auto_loc", loc),
            numpyro.param(f"{name}_auto_scale", scale, constraint=self.scale_constraint),
        )

    def precision_factor(self, weights: dist.Distribution, layer: Layer | None = None) -> dist.Gamma:
        """q(ρ_j) = Gamma(α0 + N/2, β0 + ½ Σ_i E_q[w_ij²]), the optimum given q(w) = `weights`.

        In the first layer that has the ARD prior, or in `layer`.
        """
        layer = ard_layers(self.model)[0] if layer is None else layer
        rate = layer.prior.rate_for(layer.input_dim)
        rate += 0.5 * (weights.mean**2 + weights.variance).sum(axis=-2)
        return dist.Gamma(layer.prior.shape + layer.width / 2, rate)

    def sample_posterior(self, rng_key, params, *args, sample_shape=(), **kwargs) -> dict[str, jax.Array]:
        """Independent draws of every site, as of :class:`MeanFieldGuide`."""
        key_rho, key_rest = jax.random.split(rng_key)
        draws = super().sample_posterior(key_rest, params, *args, sample_shape=sample_shape, **kwargs)
        for layer, (name, factor) in enumerate(self._fitted_precisions(params).items()):
            key = jax.random.fold_in(key_rho, layer) if layer else key_rho
            draws[name] = factor.sample(key, sample_shape)
        return draws

    def median(self, params) -> dict[str, jax.Array]:
        """The median of every site."""
        rho = self._precision_quantiles(params, [0.5])
        return super().median(params) | {name: value[0] for name, value in rho.items()}

    def quantiles(self, params, quantiles) -> dict[str, jax.Array]:
        """Quantiles of every site, those of `quantiles` leading."""
        return super().quantiles(params, quantiles) | self._precision_quantiles(params, quantiles)

    def _fitted_precisions(self, params) -> dict[str, dist.Gamma]:
        factors = {}
        for layer in ard_layers(self.model):
            name = layer.site("w")
            weights = dist.Normal(params[f"{name}_auto_loc"], params[f"{name}_auto_scale"])
            factors[layer.site("rho")] = self.precision_factor(weights, layer)
        return factors

    def _precision_quantiles(self, params, quantiles) -> dict[str, jax.Array]:
        quantiles = np.reshape(quantiles, (-1, 1))
        # NumPyro's Gamma has no quantile function.
        return {
            name: jnp.asarray(stats.gamma.ppf(quantiles, factor.concentration, scale=1 / factor.rate))
            for name, factor in self._fitted_precisions(params).items()
        }

    def _setup_prototype(self, *args, **kwargs):
        super()._setup_prototype(*args, **kwargs)
        # ρ has the Gamma factor, and after it come the Normal ones, up to the next layer with ARD.
        layers = {layer.site("rho"): layer for layer in ard_layers(self.model)}
        self._parts = [(None, {})]
        for name, site in self.prototype_trace.items():
            if name in layers:
                self._parts.append((layers[name], {}))
            else:
                self._parts[-1][1][name] = site
        for name in layers:
            del self.prototype_trace[name], self._init_locs[name]

    def _bind(self, model):
        if model is not None:
            if not isinstance(model, Network) or not ard_layers(model):
                kind = model.prior if isinstance(model, Network) else model
                raise ValueError(
                    "MeanFieldARDGuide covers a TwoLayerNetwork with the prior ARD(...), or a DeepNetwork with it "
                    f"in a layer, got {type(kind).__name__}; use MeanFieldGuide for other models."
                )
            model = centred(model)
        super()._bind(model)


def centred(network: Network) -> Network:
    """`network` with its ARD priors in the centred form."""
    ard = {layer.number for layer in ard_layers(network)}
    priors = [
        replace(layer.prior, centered=True) if layer.number in ard else layer.prior
        for layer in network.layers
    ]
    return replace(network, prior=priors[0] if len(priors) == 1 else tuple(priors))
